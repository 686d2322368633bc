//! `portcullis enter` (hidden): the last steps before a workload's command, in the process that becomes it.
//!
//! Order is what makes it safe: inherited descriptors are closed first, so that nothing after it has a socket from
//! outside. Mounts are made before the cgroup is entered, whose guard may forbid them to everybody: they are the plan's,
//! which root wrote, and nothing of the command has run. It has one thread and opens no socket of its own. The filter of
//! system calls comes last: it would forbid what comes before.

use std::{
    ffi::{CString, OsString},
    fs, io,
    os::{fd::AsFd, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        signal::SigSet,
        socket::{AddressFamily, SockaddrLike as _, SockaddrStorage, getsockname},
        stat::{SFlag, fstat},
    },
    unistd::{self, Gid, Uid},
};
use serde::{Deserialize, Serialize};

use super::{control::chain, seccomp, trust::Mount};

/// Exit status when the command could not be started for a reason of ours; as env(1) and container tools have it.
pub const FAILED: u8 = 125;
/// Exit status when the command is there but cannot be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// Exit status when the command is not found.
pub const NOT_FOUND: u8 = 127;

/// Arguments of `portcullis enter`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The plan that `portcullis run` wrote.
    #[arg(long)]
    plan: PathBuf,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// What is to be done before the command; written by the parent.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The cgroup's path below the mount, for the check that the process is really in it.
    pub cgroup: String,
    /// Its `cgroup.procs`.
    pub procs: PathBuf,
    /// Bind mounts, in this order.
    pub mounts: Vec<Mount>,
    /// Whom to become.
    pub user: Option<User>,
    /// The workload's switches ([`crate::config::Guard::flags`]).
    pub guard: u64,
}

/// A user to become, for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Login name, for the supplementary groups.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
}

/// Does everything and becomes the command. Returns only when that failed, having said why.
#[must_use]
pub fn enter(args: &Args) -> ExitCode {
    if let Err(why) = prepare(&args.plan) {
        eprintln!("portcullis run: {}\nThe command was not started.", chain(&why));
        return ExitCode::from(FAILED);
    }
    let Some((program, rest)) = args.command.split_first() else {
        return ExitCode::from(FAILED);
    };
    // The parent had blocked what it forwards, and a mask survives exec.
    if let Err(e) = SigSet::empty().thread_set_mask() {
        eprintln!("portcullis run: cannot unblock signals: {e}");
        return ExitCode::from(FAILED);
    }
    let error = Command::new(program).args(rest).exec();
    eprintln!("portcullis run: {}: {error}", program.display());
    ExitCode::from(match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    })
}

fn prepare(file: &Path) -> anyhow::Result<()> {
    use anyhow::Context as _;
    close_inherited()?;
    refuse_sockets(&[
        ("standard input", &io::stdin()),
        ("standard output", &io::stdout()),
        ("standard error", &io::stderr()),
    ])?;
    let plan: Plan = serde_json::from_slice(&fs::read(file)?).context("cannot read the plan")?;
    mount_all(&plan.mounts)?;
    // "0" is the writing process.
    fs::write(&plan.procs, "0").with_context(|| format!("cannot enter {}", plan.procs.display()))?;
    let now = fs::read_to_string("/proc/self/cgroup")?;
    if !now
        .lines()
        .any(|line| line.strip_prefix("0::") == Some(&plan.cgroup))
    {
        anyhow::bail!("the kernel did not put this process into {}", plan.cgroup);
    }
    if let Some(user) = &plan.user {
        become_user(user).with_context(|| format!("cannot become {}", user.name))?;
    }
    seccomp::apply(plan.guard, unistd::geteuid().is_root())
}

/// Closes every descriptor above standard error: a socket opened before would not be redirected.
fn close_inherited() -> io::Result<()> {
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in open {
        // The listing's own descriptor is among them, closed already.
        let _ = unistd::close(fd);
    }
    Ok(())
}

/// Refuses standard streams that are network sockets; Unix ones (a supervisor's, a parent's) pass.
fn refuse_sockets(streams: &[(&str, &dyn AsFd)]) -> anyhow::Result<()> {
    use std::os::fd::AsRawFd as _;
    for (name, stream) in streams {
        let fd = stream.as_fd();
        let Ok(stat) = fstat(fd) else { continue };
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFSOCK {
            continue;
        }
        let address = getsockname::<SockaddrStorage>(fd.as_raw_fd());
        if address.ok().and_then(|a| a.family()) != Some(AddressFamily::Unix) {
            anyhow::bail!("{name} is a network socket, which nothing would gate: use a pipe instead");
        }
    }
    Ok(())
}

/// Leaves the host's mount namespace and mounts; nothing of it is seen outside.
fn mount_all(mounts: &[Mount]) -> anyhow::Result<()> {
    use anyhow::Context as _;
    const NONE: Option<&Path> = None;
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    // "Slave": what the host mounts later still appears here, nothing made here appears there.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE).context("cannot detach the mounts")?;
    for Mount { source, target } in mounts {
        let what = || format!("cannot mount the CA bundle over {}", target.display());
        mount(Some(source), target, NONE, MsFlags::MS_BIND, NONE).with_context(what)?;
        let flags = MsFlags::MS_BIND
            | MsFlags::MS_REMOUNT
            | MsFlags::MS_RDONLY
            | MsFlags::MS_NOSUID
            | MsFlags::MS_NODEV;
        mount(NONE, target, NONE, flags, NONE).with_context(what)?;
    }
    // A working directory below a target is still the hidden one.
    if let Ok(here) = std::env::current_dir() {
        let _ = std::env::set_current_dir(here);
    }
    Ok(())
}

/// Groups, then group, then user, for each step takes away the right to the one before; and then no way back.
fn become_user(user: &User) -> anyhow::Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    unistd::initgroups(&CString::new(user.name.as_str())?, gid)?;
    unistd::setresgid(gid, gid, gid)?;
    unistd::setresuid(uid, uid, uid)?;
    if !uid.is_root() {
        if unistd::setuid(Uid::from_raw(0)).is_ok() {
            anyhow::bail!("root could be had back");
        }
        // No set-user-id program gives it back either.
        prctl::set_no_new_privs()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_sockets_are_refused() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(
            refuse_sockets(&[("standard input", &tcp)])
                .unwrap_err()
                .to_string()
                .contains("standard input")
        );
        let udp = std::net::UdpSocket::bind("[::1]:0").unwrap();
        assert!(refuse_sockets(&[("standard output", &udp)]).is_err());
        let (unix, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let (pipe, _writer) = io::pipe().unwrap();
        refuse_sockets(&[("a", &unix), ("b", &pipe)]).unwrap();
    }

    /// In a thread, whose mount namespace is its own from then on. Needs root.
    #[test]
    fn mounts_are_seen_inside_alone() {
        if !unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("made/dir")).unwrap();
        fs::create_dir_all(path("etc/certs")).unwrap();
        for (name, text) in [
            ("made/bundle", "new"),
            ("made/dir/x", "new"),
            ("etc/bundle", "old"),
            ("etc/certs/x", "old"),
        ] {
            fs::write(path(name), text).unwrap();
        }
        let mount = |source: &str, target: &str| Mount {
            source: path(source),
            target: path(target),
        };
        // The last one hides the sources of the others, as the real plan does.
        let mounts = [
            mount("made/bundle", "etc/bundle"),
            mount("made/dir", "etc/certs"),
            mount("made/dir", "made"),
        ];
        let (bundle, cert, hidden) = (path("etc/bundle"), path("etc/certs/x"), path("made/bundle"));
        let inside = std::thread::spawn(move || {
            mount_all(&mounts).unwrap();
            let texts = (
                fs::read_to_string(&bundle).unwrap(),
                fs::read_to_string(&cert).unwrap(),
            );
            (texts, fs::write(&cert, "x").unwrap_err().kind(), hidden.exists())
        });
        let (texts, kind, hidden) = inside.join().unwrap();
        assert_eq!(texts, ("new".into(), "new".into()));
        assert_eq!((kind, hidden), (io::ErrorKind::ReadOnlyFilesystem, false));
        assert_eq!(fs::read_to_string(path("etc/bundle")).unwrap(), "old");
        assert_eq!(fs::read_to_string(path("etc/certs/x")).unwrap(), "old");
    }
}
