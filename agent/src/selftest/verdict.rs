//! What an attempt came to.

use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus};

use nix::{errno::Errno, sys::signal::Signal};
use serde::{Deserialize, Serialize};

use super::attempts::Seen;
use crate::redirect::doors::{Judged, Mechanism};

/// Doors that lead to frames: open when one arrived, and only then.
const BY_FRAMES: [&str; 24] = [
    "tcp",
    "tcp-fastopen",
    "tcp-repair",
    "tcp-reconnect",
    "tcp-bind-device",
    "ip-transparent",
    "udp",
    "udp-connected",
    "quic",
    "dns",
    "raw",
    "ping",
    "mptcp",
    "sctp",
    "udplite",
    "io-uring-connect",
    "io-uring-send",
    "fd-passing",
    "older-sockets",
    "leave-cgroup",
    "moved-out",
    "user-namespace",
    "network-namespace",
    "setuid",
];

/// Whether a door let something through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing came of the attempt.
    Closed,
    /// Something did.
    Open,
    /// It was not tried: see what is said of it.
    Untried,
}

/// One door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The door.
    pub door: String,
    /// What closes it by the catalog; nothing when it is said to be open.
    pub mechanism: Option<String>,
    /// What came of it.
    pub result: Verdict,
    /// How that was seen.
    pub how: String,
    /// Whether it let something through that the catalog says it does not.
    pub failed: bool,
}

/// All of them, as they are recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When, RFC 3339.
    pub at: String,
    /// The kernel's release.
    pub kernel: String,
    /// Every door.
    pub doors: Vec<Row>,
}

impl Report {
    /// Doors that let something through although the catalog says that they are closed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.doors.iter().filter(|row| row.failed).count()
    }

    /// Doors with this verdict.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.doors.iter().filter(|row| row.result == verdict).count()
    }
}

/// The worse of two attempts on one door.
pub(super) fn both(one: Row, other: Row) -> Row {
    let badness = |row: &Row| match row.result {
        Verdict::Open => 2,
        Verdict::Untried => 1,
        Verdict::Closed => 0,
    };
    if badness(&one) == 0 && badness(&other) == 0 {
        let how = format!("brought: {}; made inside: {}", one.how, other.how);
        return Row { how, ..one };
    }
    if badness(&other) > badness(&one) {
        other
    } else {
        one
    }
}

/// Judges one attempt: `name` is the door's, or that of one of several ways through it.
pub(super) fn judge(
    door: &Judged,
    name: &str,
    seen: Option<&Seen>,
    status: ExitStatus,
    frames: usize,
) -> Row {
    let (result, how) = came_to(door, name, seen, status, frames);
    Row {
        door: door.door.into(),
        mechanism: door.closed.map(|mechanism| mechanism.as_str().into()),
        result,
        failed: result == Verdict::Open && door.closed.is_some(),
        how,
    }
}

fn came_to(
    door: &Judged,
    name: &str,
    seen: Option<&Seen>,
    status: ExitStatus,
    frames: usize,
) -> (Verdict, String) {
    // To a server, frames come from this test's own knocking.
    if frames > 0 && !door.door.starts_with("listen-") {
        return (Verdict::Open, format!("{frames} frames arrived"));
    }
    if let Some(signal) = status.signal() {
        let name = Signal::try_from(signal).map_or("a signal", Signal::as_str);
        return (Verdict::Closed, format!("the process was ended ({name})"));
    }
    match seen {
        None => (Verdict::Untried, format!("the attempt said nothing ({status})")),
        Some(Seen::Refused(0)) => (Verdict::Untried, "there is no attempt for it".into()),
        Some(Seen::Refused(libc::ENOTSUP)) if door.door == "setuid" => (
            Verdict::Untried,
            "set-user-id has no effect in the directory for temporary files".into(),
        ),
        Some(Seen::Refused(errno)) => {
            let errno = Errno::from_raw(*errno);
            let absent = matches!(
                errno,
                Errno::EAFNOSUPPORT
                    | Errno::EPROTONOSUPPORT
                    | Errno::ESOCKTNOSUPPORT
                    | Errno::ENOSYS
                    | Errno::ENXIO
                    | Errno::ENODEV
            );
            let of = if absent { "not in this kernel" } else { "refused" };
            (Verdict::Closed, format!("{of} ({errno:?})"))
        }
        Some(Seen::Done) if !BY_FRAMES.contains(&name) => (Verdict::Open, "no call was refused".into()),
        Some(Seen::Done) if door.closed == Some(Mechanism::Redirect) => (
            Verdict::Closed,
            "it came to the agent, and no frame arrived".into(),
        ),
        Some(Seen::Done) => (Verdict::Closed, "no frame arrived".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(id: &'static str, closed: Option<Mechanism>) -> Judged {
        Judged {
            door: id,
            what: "",
            root: false,
            closed,
            why: String::new(),
        }
    }

    fn verdict(id: &'static str, seen: Option<&Seen>, status: i32, frames: usize) -> Row {
        judge(
            &door(id, Some(Mechanism::Cgroup)),
            id,
            seen,
            ExitStatus::from_raw(status),
            frames,
        )
    }

    #[test]
    fn frames_say_more_than_calls() {
        let eperm = Seen::Refused(libc::EPERM);
        assert!(
            verdict("udp", Some(&eperm), 0, 1).failed,
            "refused, and yet it arrived"
        );
        assert_eq!(verdict("udp", Some(&eperm), 0, 0).result, Verdict::Closed);
        assert_eq!(verdict("udp", Some(&Seen::Done), 0, 0).result, Verdict::Closed);
        assert!(verdict("ptrace", Some(&Seen::Done), 0, 0).failed);
        assert_eq!(verdict("packet", None, libc::SIGKILL, 0).result, Verdict::Closed);
        assert_eq!(verdict("packet", None, 0, 0).result, Verdict::Untried);
        let not_root = Seen::Refused(libc::ENOTSUP);
        assert_eq!(verdict("setuid", Some(&not_root), 0, 0).result, Verdict::Untried);
        assert!(verdict("setuid", Some(&not_root), 0, 1).failed);
        assert_eq!(verdict("setuid", Some(&eperm), 0, 0).result, Verdict::Closed);
    }

    #[test]
    fn a_door_that_is_said_to_be_open_does_not_fail() {
        let row = judge(
            &door("packet", None),
            "packet",
            Some(&Seen::Done),
            ExitStatus::from_raw(0),
            1,
        );
        assert_eq!((row.result, row.failed), (Verdict::Open, false));
    }

    #[test]
    fn the_worse_of_two_counts() {
        let (closed, open) = (verdict("udp", None, libc::SIGKILL, 0), verdict("udp", None, 0, 1));
        assert!(both(closed.clone(), open.clone()).failed && both(open, closed.clone()).failed);
        let untried = verdict("udp", None, 0, 0);
        assert_eq!(both(closed.clone(), untried).result, Verdict::Untried);
        assert_eq!(both(closed.clone(), closed).result, Verdict::Closed);
    }
}
