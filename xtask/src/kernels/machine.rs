//! An emulated machine: started, listened to, and ended by its own deadline.

use std::{
    fmt, fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::kernel::Kernel;

/// The guest's last word.
const EXIT: &str = "guest: exit ";
/// The guest asks to be started again on the same disk.
const AGAIN: &str = "guest: again";
/// The kernel's command line.
const BOOT: &str =
    "console=ttyS0 panic=1 no_timer_check mitigations=off net.ifnames=0 systemd.show_status=0 loglevel=6";
/// Starts of one machine; more than a stage asks for.
const MAX_STARTS: u32 = 4;
/// Lines of the kernel's log that are shown when the guest said nothing.
const LOG_TAIL: usize = 40;

/// How a stage ended.
pub enum Outcome {
    /// The guest's exit status.
    Exit(i32),
    /// The machine stopped, and the guest had not said how it ended.
    Silent,
    /// It took longer than it may.
    TimedOut(Duration),
}

impl Outcome {
    /// Whether that is success.
    pub fn good(&self) -> bool {
        matches!(self, Self::Exit(0))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(0) => write!(f, "ok"),
            Self::Exit(status) => write!(f, "FAILED, exit status {status}"),
            Self::Silent => write!(f, "FAILED, the machine stopped"),
            Self::TimedOut(limit) => write!(f, "FAILED, not done after {} s", limit.as_secs()),
        }
    }
}

/// A machine's disks, removed when it goes.
pub struct Machine<'a> {
    pub kernel: &'a Kernel,
    pub root: PathBuf,
    pub payload: PathBuf,
    pub log: PathBuf,
    /// More for the kernel's command line.
    pub boot: &'a str,
}

impl Machine<'_> {
    /// Runs the machine until the guest has said how it ended, and has gone.
    pub fn run(&self, limit: Duration) -> anyhow::Result<Outcome> {
        let until = Instant::now() + limit;
        for _ in 0..MAX_STARTS {
            let mut qemu = Qemu(self.start()?);
            let lines = qemu.lines()?;
            let mut said = None;
            loop {
                let left = until.saturating_duration_since(Instant::now());
                match lines.recv_timeout(left) {
                    Ok(line) => {
                        eprintln!("    | {line}");
                        if line.starts_with(EXIT) || line.starts_with(AGAIN) {
                            said = Some(line);
                        }
                    }
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        self.show_log();
                        return Ok(Outcome::TimedOut(limit));
                    }
                    Err(mpsc::RecvTimeoutError::Disconnected) => break,
                }
            }
            match said {
                Some(line) if line.starts_with(AGAIN) => {}
                Some(line) => {
                    let status = line.trim_start_matches(EXIT).trim().parse();
                    return Ok(status.map_or(Outcome::Silent, Outcome::Exit));
                }
                None => {
                    self.show_log();
                    return Ok(Outcome::Silent);
                }
            }
        }
        Ok(Outcome::Silent)
    }

    fn start(&self) -> anyhow::Result<Child> {
        let disk = |path: &Path, more: &str| format!("file={},format=raw,if=virtio{more}", path.display());
        Command::new("qemu-system-x86_64")
            .args([
                "-accel",
                "tcg,thread=multi",
                "-cpu",
                "max",
                "-smp",
                "2",
                "-m",
                "2048",
            ])
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .args(["-nic", "none", "-device", "virtio-rng-pci"])
            .args(["-drive", &disk(&self.root, ",cache=unsafe")])
            .args(["-drive", &disk(&self.payload, ",readonly=on")])
            .args(["-serial", &format!("file:{}", self.log.display())])
            .args(["-chardev", "stdio,id=out,signal=off", "-serial", "chardev:out"])
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(&self.kernel.initramfs)
            .args(["-append", &format!("{BOOT} {}", self.boot)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("qemu-system-x86_64")
    }

    fn show_log(&self) {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let lines: Vec<&str> = log.lines().collect();
        eprintln!("    the end of the kernel's log:");
        for line in lines.iter().skip(lines.len().saturating_sub(LOG_TAIL)) {
            eprintln!("    # {}", line.trim_end());
        }
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.root);
        let _ = fs::remove_file(&self.payload);
    }
}

/// The emulator's process, ended with its owner.
struct Qemu(Child);

impl Qemu {
    /// What the guest says, line by line, from a thread that ends with it.
    fn lines(&mut self) -> anyhow::Result<mpsc::Receiver<String>> {
        let out = self.0.stdout.take().context("qemu has no output")?;
        let (send, receive) = mpsc::sync_channel(1024);
        thread::spawn(move || {
            for line in BufReader::new(out).split(b'\n') {
                let Ok(line) = line else { return };
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(receive)
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
