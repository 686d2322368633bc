//! The service manager's part, played by a test: `NOTIFY_SOCKET` with descriptors to keep (`sd_notify(3)`), and
//! `LISTEN_FDS` to give them back (`sd_listen_fds(3)`).

use std::{
    fs,
    io::IoSliceMut,
    os::{
        fd::{AsRawFd as _, BorrowedFd, RawFd},
        unix::net::{UnixDatagram, UnixListener},
    },
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    cmsg_space,
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
};

/// Moves descriptors to 3 and on, first to numbers that nothing has, as one that is moved could be in the way of what is
/// not yet; closes all others, and becomes the program. Not a shell's work, which has descriptors of its own there.
const PASS: &str = r#"
import fcntl, os, sys
aside = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 1000) for fd in sys.argv[1].split(",")]
for n, fd in enumerate(aside):
    os.dup2(fd, 3 + n)
os.closerange(3 + len(aside), 4096)
os.environ["LISTEN_PID"] = os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execvp(sys.argv[2], sys.argv[2:])
"#;

/// What it was told and given so far.
pub struct Manager {
    notify: UnixDatagram,
    path: PathBuf,
    /// Made by the manager, as a socket unit's is.
    control: UnixListener,
    /// By name. Descriptors of this process, which the daemon alone inherits.
    kept: Vec<(String, RawFd)>,
    /// How often the daemon may be silent before it is restarted; tells it so only.
    watchdog: Duration,
    /// Descriptors that it has room for, as `FileDescriptorStoreMax=` says of a unit.
    room: usize,
    /// Every assignment that was received, in order.
    said: Vec<String>,
}

impl Manager {
    /// Makes the control socket and the one for messages.
    ///
    /// # Errors
    /// When either cannot be made.
    pub fn new(directory: &Path, control: &Path, watchdog: Duration) -> Result<Self> {
        let path = directory.join("manager.sock");
        let notify = UnixDatagram::bind(&path)?;
        notify.set_nonblocking(true)?;
        fs::create_dir_all(control.parent().context("no directory")?)?;
        let _not_there = fs::remove_file(control);
        let control = UnixListener::bind(control)?;
        Ok(Self {
            notify,
            path,
            control,
            kept: Vec::new(),
            watchdog,
            room: 1040,
            said: Vec::new(),
        })
    }

    /// From now on it keeps so many descriptors at most, and says so to what it starts.
    pub fn limit(&mut self, room: usize) {
        self.room = room;
    }

    /// Whether what is started now inherits what is kept: a workload that did would bring it along.
    ///
    /// # Errors
    /// When a descriptor is gone.
    pub fn hand_on(&self, whether: bool) -> Result<()> {
        let flag = if whether {
            FdFlag::empty()
        } else {
            FdFlag::FD_CLOEXEC
        };
        for fd in self
            .kept
            .iter()
            .map(|(_, fd)| *fd)
            .chain([self.control.as_raw_fd()])
        {
            #[expect(
                unsafe_code,
                reason = "these are closed by `hear` alone, which changes the list, too"
            )]
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            fcntl(fd, FcntlArg::F_SETFD(flag))?;
        }
        Ok(())
    }

    /// `command` with everything that is kept, from descriptor 3 on.
    #[must_use]
    pub fn start(&mut self, mut command: Command) -> Command {
        self.said.clear();
        let mut all = vec![("control".to_owned(), self.control.as_raw_fd())];
        all.extend(self.kept.iter().cloned());
        let numbers: Vec<String> = all.iter().map(|(_, fd)| fd.to_string()).collect();
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        let mut shell = crate::world::dying("python3");
        shell
            .args(["-c", PASS, &numbers.join(",")])
            .arg(command.get_program())
            .args(command.get_args())
            .envs(
                command
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .env("NOTIFY_SOCKET", &self.path)
            .env("LISTEN_FDS", all.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .env("FDSTORE", self.room.to_string())
            .env("WATCHDOG_USEC", self.watchdog.as_micros().to_string());
        for (name, value) in command.get_envs() {
            if value.is_none() {
                shell.env_remove(name);
            }
        }
        std::mem::swap(&mut command, &mut shell);
        command
    }

    /// Takes in what has been said since.
    ///
    /// # Errors
    /// When a message cannot be read.
    pub fn hear(&mut self) -> Result<()> {
        loop {
            let mut text = [0; 4096];
            let mut space = cmsg_space!([RawFd; 16]);
            let mut into = [IoSliceMut::new(&mut text)];
            let fd = self.notify.as_raw_fd();
            let message = match recvmsg::<()>(fd, &mut into, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
                Err(nix::errno::Errno::EAGAIN) => return Ok(()),
                message => message?,
            };
            let mut passed = Vec::new();
            for part in message.cmsgs()? {
                if let ControlMessageOwned::ScmRights(fds) = part {
                    passed.extend(fds);
                }
            }
            let length = message.bytes;
            let lines = String::from_utf8_lossy(&text[..length]).into_owned();
            let lines: Vec<String> = lines.lines().map(str::to_owned).collect();
            let name = lines.iter().find_map(|line| line.strip_prefix("FDNAME="));
            let name = name.unwrap_or("stored").to_owned();
            let has = |wanted: &str| lines.iter().any(|line| line == wanted);
            if has("FDSTORE=1") || has("FDSTOREREMOVE=1") {
                // The same ones again, or none: what was there under the name is replaced.
                for (_, fd) in self.kept.extract_if(.., |(kept, _)| *kept == name) {
                    nix::unistd::close(fd)?;
                }
            }
            for fd in passed {
                if self.kept.len() < self.room {
                    self.kept.push((name.clone(), fd));
                } else {
                    nix::unistd::close(fd)?;
                }
            }
            self.said.extend(lines);
        }
    }

    /// How often this was said since the last start.
    #[must_use]
    pub fn heard(&self, line: &str) -> usize {
        self.said.iter().filter(|said| *said == line).count()
    }

    /// The names of what is kept.
    #[must_use]
    pub fn kept(&self) -> Vec<&str> {
        self.kept.iter().map(|(name, _)| name.as_str()).collect()
    }
}
