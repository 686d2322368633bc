//! The door `setuid`: nobody, in the workload, runs a helper that the file's owner, root, lets run as root.
//!
//! The helper is a copy of this program, which a user of this host must not be able to run: its directory lets in one
//! group, which the attempt has and nobody else.

use std::{
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{sys::prctl::set_no_new_privs, unistd::geteuid};

use super::{
    COMMAND, Order,
    attempts::{Seen, Targets, raw, send_udp, stream},
};

/// Whom the attempt runs as.
const NOBODY: u32 = 65_534;
/// A group that is in use nowhere: beyond what users, services and subordinate ids get (login.defs(5)).
const GROUP: u32 = 4_294_901_111;

/// What the helper is asked to do, as root, or as whoever runs it.
pub(super) const AS_ROOT: &str = "setuid-root";
pub(super) const AS_NOBODY: &str = "setuid-nobody";

/// The helper, removed when dropped.
pub(super) struct Helper(tempfile::TempDir);

impl Helper {
    /// Copies `program`.
    pub(super) fn make(program: &Path) -> io::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("portcullis-selftest-")
            .tempdir()?;
        let helper = Self(directory);
        fs::copy(program, helper.path())?;
        fs::set_permissions(helper.path(), Permissions::from_mode(0o4755))?;
        chown(helper.0.path(), None, Some(GROUP))?;
        fs::set_permissions(helper.0.path(), Permissions::from_mode(0o710))?;
        Ok(helper)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.0.path().join("helper")
    }
}

/// Has the helper try, first as it is, then with no_new_privs, by which it gets nothing.
///
/// # Errors
/// What the first was refused with; `ENOTSUP` where it did not become root: no attempt, then.
pub(super) fn through_helper(t: &Targets) -> io::Result<()> {
    let root = run(AS_ROOT, t)?;
    set_no_new_privs()?;
    let nobody = run(AS_NOBODY, t)?;
    for seen in [root, nobody] {
        if let Seen::Refused(errno) = seen {
            return Err(io::Error::from_raw_os_error(errno));
        }
    }
    Ok(())
}

fn run(door: &str, t: &Targets) -> io::Result<Seen> {
    let mut helper = Command::new(&t.helper)
        .arg(COMMAND)
        .uid(NOBODY)
        .gid(GROUP)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let order = Order {
        door: door.into(),
        targets: t.clone(),
    };
    if let Some(mut stdin) = helper.stdin.take() {
        writeln!(stdin, "{}", serde_json::to_string(&order)?)?;
    }
    let said = helper.wait_with_output()?;
    // Without a word, it was ended.
    Ok(serde_json::from_slice(&said.stdout).unwrap_or(Seen::Refused(libc::EPERM)))
}

/// What the helper does.
///
/// # Errors
/// The first call's that was refused; `ENOTSUP` where it is not who it should be.
pub(super) fn helped(door: &str, t: &Targets) -> io::Result<()> {
    if (door == AS_ROOT) != geteuid().is_root() {
        return Err(io::Error::from_raw_os_error(libc::ENOTSUP));
    }
    let connected = stream((t.v4, 92).into()).map(drop);
    let sent = send_udp((t.v4, 5009).into());
    raw(t).and(sent).and(connected)
}
