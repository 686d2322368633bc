//! Signals of a command that is supervised: passed on to it, until it has ended.

use std::process::{Child, ExitStatus};

use nix::{
    sys::{
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd, siginfo},
    },
    unistd::Pid,
};

/// Signals for the command, read from a descriptor. Blocked from before the command starts, so none is lost;
/// `enter` unblocks them, and one that was ignored (nohup) stays ignored there.
pub struct Signals {
    set: SigSet,
    fd: SignalFd,
}

const FORWARDED: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];
/// `si_code` of a signal that the kernel made, not a process: Ctrl-C.
const SI_KERNEL: i32 = 0x80;

impl Signals {
    /// Blocks what will be forwarded, and SIGCHLD, in this thread and those it starts. There must be no other yet:
    /// the kernel would give it SIGCHLD, and the command's end would be missed.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn block() -> anyhow::Result<Self> {
        let mut set = SigSet::empty();
        set.extend(FORWARDED);
        set.add(Signal::SIGCHLD);
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { set, fd })
    }

    /// A signal that came before the command was started.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn pending(&self) -> anyhow::Result<Option<Signal>> {
        let now = SignalFd::with_flags(&self.set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        while let Some(info) = now.read_signal()? {
            if let Some(signal) = number(&info).filter(|s| *s != Signal::SIGCHLD) {
                return Ok(Some(signal));
            }
        }
        Ok(None)
    }

    /// Passes signals on until the command has ended.
    ///
    /// # Errors
    /// When the command cannot be waited for.
    pub fn forward_until_end(&self, child: &mut Child) -> anyhow::Result<ExitStatus> {
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            let Some(info) = self.fd.read_signal()? else {
                continue;
            };
            let Some(signal) = number(&info) else { continue };
            // The terminal sent Ctrl-C and Ctrl-\ to the command as well, which is in the same process group.
            let from_terminal =
                info.ssi_code == SI_KERNEL && matches!(signal, Signal::SIGINT | Signal::SIGQUIT);
            if signal != Signal::SIGCHLD && !from_terminal {
                let _ = kill(pid, signal);
            }
        }
    }
}

fn number(info: &siginfo) -> Option<Signal> {
    Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_wait_to_be_read() {
        // The mask is this thread's, and the harness gives every test its own.
        let signals = Signals::block().unwrap();
        assert_eq!(signals.pending().unwrap(), None);
        nix::sys::signal::raise(Signal::SIGUSR1).unwrap();
        assert_eq!(signals.pending().unwrap(), Some(Signal::SIGUSR1));
        assert_eq!(signals.pending().unwrap(), None);
    }
}
