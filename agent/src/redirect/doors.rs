//! Doors: every way by which a process could reach what is outside of its workload, and what closes each on this host.
//!
//! Invariant: a door is closed only by something that is found in place (a program, a setting of the kernel); whatever
//! is not found leaves it open, with the reason. So a door can be wrongly called open, and never wrongly closed.
//!
//! A new program that closes a door is one more [`Way`] in `catalog.rs`, named as the program is.

mod catalog;
mod facts;

pub use catalog::DOORS;
pub use facts::Facts;

/// A way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    /// A stable name, in lower case.
    pub id: &'static str,
    /// What a process would do, for a person.
    pub what: &'static str,
    /// Whether only root gets through, or who has a capability in the host's own namespaces.
    pub root: bool,
    /// What can close it; the first that is in place is what does.
    pub ways: &'static [Way],
    /// What it means when nothing does, and what an admin can do about it.
    pub open: &'static str,
}

/// One way to close a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Of what kind it is.
    pub mechanism: Mechanism,
    /// What has to be in place, all of it.
    pub needs: &'static [Need],
}

/// What closes a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// It is sent to the agent, where policy decides.
    Redirect,
    /// A hook on the cgroup refuses it (EPERM).
    Cgroup,
    /// Its packets are dropped by the guard on the cgroup.
    Guard,
    /// An LSM program refuses it (EPERM).
    Lsm,
    /// A program on a tracepoint ends the process before it takes effect.
    Kill,
    /// The agent destroys it, and ends the process that could make it anew.
    Destroy,
    /// A setting of the kernel refuses it to everybody.
    Sysctl,
    /// This kernel has no such thing, and can load no module that has.
    Absent,
}

impl Mechanism {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redirect => "redirect",
            Self::Cgroup => "cgroup",
            Self::Guard => "guard",
            Self::Lsm => "lsm",
            Self::Kill => "kill",
            Self::Destroy => "destroy",
            Self::Sysctl => "sysctl",
            Self::Absent => "absent",
        }
    }
}

/// What a way needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// This eBPF program.
    Program(&'static str),
    /// The kernel lists and destroys sockets (CONFIG_INET_DIAG_DESTROY), and lets those of processes be looked at.
    Destroys,
    /// `kernel.io_uring_disabled` is 2.
    IoUringOff,
    /// No such protocol in /proc/net/protocols, and no modules.
    NoProtocol(&'static str),
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Program(name) => write!(f, "program {name}"),
            Self::Destroys => f.write_str("sock_diag destroy"),
            Self::IoUringOff => f.write_str("kernel.io_uring_disabled=2"),
            Self::NoProtocol(name) => write!(f, "no {name} in this kernel"),
        }
    }
}

/// What is true of a door on this host.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Judged {
    /// The door's name.
    pub door: &'static str,
    /// What a process would do.
    pub what: &'static str,
    /// Whether only root gets through.
    pub root: bool,
    /// What closes it; `None` when nothing does.
    pub closed: Option<Mechanism>,
    /// What that is exactly, or why it is open and what to do.
    pub why: String,
}

/// Every door, in the catalog's order, as things stand.
#[must_use]
pub fn judge(facts: &Facts) -> Vec<Judged> {
    DOORS.iter().map(|door| door.judge(facts)).collect()
}

/// The doors that a workload's switches ([`portcullis_abi::guard::flag`]) open for it, by name.
#[must_use]
pub fn opened(flags: u64) -> Vec<&'static str> {
    let switches = catalog::SWITCHES.iter();
    let set = switches.filter(|(switch, _)| flags & switch != 0);
    set.flat_map(|(_, doors)| doors.iter().copied()).collect()
}

impl Door {
    /// The one with this name.
    #[must_use]
    pub fn named(id: &str) -> Option<&'static Self> {
        DOORS.iter().find(|door| door.id == id)
    }

    /// What closes it, if anything does.
    #[must_use]
    pub fn judge(&self, facts: &Facts) -> Judged {
        let way = self
            .ways
            .iter()
            .find(|way| !way.needs.is_empty() && way.needs.iter().all(|need| facts.has(*need)));
        Judged {
            door: self.id,
            what: self.what,
            root: self.root,
            closed: way.map(|way| way.mechanism),
            why: way.map_or_else(|| self.open.to_owned(), |way| list(way.needs)),
        }
    }
}

fn list(needs: &[Need]) -> String {
    let words: Vec<String> = needs.iter().map(ToString::to_string).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::redirect::bpf;

    /// What every host with the core programs closes.
    const CORE: [&str; 19] = [
        "tcp",
        "tcp-fastopen",
        "tcp-repair",
        "tcp-reconnect",
        "tcp-bind-device",
        "ip-transparent",
        "udp",
        "udp-connected",
        "quic",
        "raw",
        "ping",
        "mptcp",
        "sctp",
        "udplite",
        "io-uring-connect",
        "network-namespace",
        "rdma",
        "tap",
        "vhost-vsock",
    ];

    #[test]
    fn a_door_is_closed_by_what_is_there_and_else_open() {
        let nothing = Facts::default();
        for judged in judge(&nothing) {
            assert_eq!(judged.closed, None, "{}", judged.door);
            assert!(!judged.why.is_empty(), "{}", judged.door);
        }
        let facts = Facts::default().with_programs(bpf::programs().iter().copied());
        for id in CORE {
            assert!(Door::named(id).unwrap().judge(&facts).closed.is_some(), "{id}");
        }
        // One hook less, and what it closed is open, or left to the guard below it.
        let without = bpf::programs().iter().copied();
        let without = without.filter(|name| !matches!(*name, "sock_create" | "egress"));
        let facts = Facts::default().with_programs(without);
        for id in ["raw", "ping", "sctp", "udplite"] {
            assert_eq!(Door::named(id).unwrap().judge(&facts).closed, None, "{id}");
        }
    }

    #[test]
    fn the_first_way_in_place_is_named() {
        let raw = Door::named("raw").unwrap();
        let guard = Facts::default().with_programs(["egress"]);
        assert_eq!(raw.judge(&guard).closed, Some(Mechanism::Guard));
        let both = Facts::default().with_programs(["egress", "sock_create"]);
        let judged = raw.judge(&both);
        assert_eq!(judged.closed, Some(Mechanism::Cgroup));
        assert_eq!(judged.why, "program sock_create");
    }

    #[test]
    fn unix_sockets_are_closed_by_either_kind_of_program_but_only_by_both_of_it() {
        for id in [
            "unix-path",
            "unix-abstract",
            "unix-dgram",
            "unix-known",
            "fd-passing",
        ] {
            let closed = |programs: [&'static str; 2]| {
                let facts = Facts::default().with_programs(programs);
                Door::named(id).unwrap().judge(&facts).closed
            };
            assert_eq!(
                closed(["connect_unix", "sendmsg_unix"]),
                Some(Mechanism::Cgroup),
                "{id}"
            );
            assert_eq!(
                closed(["lsm_unix_connect", "lsm_unix_send"]),
                Some(Mechanism::Lsm),
                "{id}"
            );
            assert_eq!(closed(["lsm_unix_connect", "sendmsg_unix"]), None, "{id}");
        }
    }

    #[test]
    fn a_switch_opens_doors_that_there_are() {
        use portcullis_abi::guard::flag;
        assert!(opened(flag::MOUNT_STRICT | flag::MOVED_ENDS).is_empty());
        assert_eq!(opened(flag::IO_URING), ["io-uring-socket"]);
        let all = opened(u64::MAX);
        assert_eq!(
            all.iter().filter(|id| Door::named(id).is_some()).count(),
            all.len()
        );
        assert!(all.contains(&"unix-path") && all.contains(&"packet") && all.contains(&"ptrace"));
    }

    #[test]
    fn doors_have_names_of_their_own_and_words() {
        let names: BTreeSet<_> = DOORS.iter().map(|door| door.id).collect();
        assert_eq!(names.len(), DOORS.len());
        for door in DOORS {
            assert!(!door.what.is_empty() && !door.open.is_empty(), "{}", door.id);
            for way in door.ways {
                assert!(!way.needs.is_empty(), "{}: closed by nothing", door.id);
            }
        }
    }
}
