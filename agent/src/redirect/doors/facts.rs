//! What is found in place on this host.

use std::{collections::BTreeSet, fs};

use super::Need;
use crate::redirect::{bpf::AttachedProgram, older};

/// What doors are judged by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    programs: BTreeSet<String>,
    /// The names in /proc/net/protocols; `None` when it cannot be read.
    protocols: Option<BTreeSet<String>>,
    /// Whether the kernel can load modules, and so have tomorrow what it has not today.
    modules: bool,
    io_uring_disabled: Option<u8>,
    /// Whether sockets are destroyed by who asks for it, and processes can be asked for theirs.
    destroys: bool,
}

impl Facts {
    /// Asks the kernel, without making it load anything but the modules of sock_diag(7), by which two sockets of this
    /// process's own are destroyed. No program is in place yet: see [`Self::with_programs`].
    #[must_use]
    pub fn of_kernel() -> Self {
        let protocols = fs::read_to_string("/proc/net/protocols").ok();
        let disabled = fs::read_to_string("/proc/sys/kernel/modules_disabled").ok();
        // With 3 nobody may look at what another process has open.
        let yama = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok();
        let io_uring = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
        Self {
            programs: BTreeSet::new(),
            protocols: protocols.map(|text| names(&text)),
            modules: fs::exists("/proc/modules").unwrap_or(true)
                && disabled.as_deref().map(str::trim) != Some("1"),
            io_uring_disabled: io_uring.and_then(|text| text.trim().parse().ok()),
            destroys: older::destroys() && yama.as_deref().map(str::trim) != Some("3"),
        }
    }

    /// Whether sockets can be destroyed.
    #[must_use]
    pub fn destroys(&self) -> bool {
        self.destroys
    }

    /// With these programs in place.
    #[must_use]
    pub fn with_programs<'a>(mut self, programs: impl IntoIterator<Item = &'a str>) -> Self {
        self.programs = programs.into_iter().map(str::to_owned).collect();
        self
    }

    /// With what a running agent has attached: a program counts when it is in place wherever it should be, and is not
    /// skipped where another is interrupted. `else_these` where no cgroup is tagged: what would be attached.
    #[must_use]
    pub fn with_attached(self, attached: &[AttachedProgram], else_these: &[&'static str]) -> Self {
        let cgroups: BTreeSet<u64> = attached.iter().map(|program| program.cgroup.0).collect();
        // The agent's own cgroup has one program; with no other cgroup nothing is tagged.
        let tagged = cgroups.len() > 1;
        let missing: BTreeSet<&str> = attached.iter().filter(|p| !p.ok).map(|p| p.program).collect();
        let there = attached.iter().filter(|p| p.ok && !p.unsteady).map(|p| p.program);
        let would = else_these.iter().copied().filter(|_| !tagged);
        let programs = there.chain(would).filter(|name| !missing.contains(name));
        self.with_programs(programs.collect::<BTreeSet<_>>())
    }

    pub(super) fn has(&self, need: Need) -> bool {
        match need {
            Need::Program(name) => self.programs.contains(name),
            Need::Destroys => self.destroys,
            Need::IoUringOff => self.io_uring_disabled == Some(2),
            Need::NoProtocol(name) => {
                !self.modules && self.protocols.as_ref().is_some_and(|known| !known.contains(name))
            }
        }
    }
}

/// The first word of each line; the first line is a heading.
fn names(text: &str) -> BTreeSet<String> {
    let lines = text.lines().skip(1);
    lines
        .filter_map(|line| line.split_ascii_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CgroupId;

    fn program(cgroup: u64, program: &'static str, ok: bool) -> AttachedProgram {
        AttachedProgram {
            cgroup: CgroupId(cgroup),
            path: "/".into(),
            program,
            link: 1,
            program_id: 1,
            ok,
            unsteady: false,
        }
    }

    #[test]
    fn a_program_counts_only_where_no_cgroup_lacks_it() {
        let attached = [
            program(1, "agent_ops", true),
            program(2, "egress", true),
            program(2, "connect4", true),
            program(3, "egress", true),
            program(3, "connect4", false),
        ];
        let facts = Facts::default().with_attached(&attached, &["sock_create"]);
        assert!(facts.has(Need::Program("egress")));
        assert!(!facts.has(Need::Program("connect4")));
        assert!(
            !facts.has(Need::Program("sock_create")),
            "it should be attached, and is not"
        );
        let mut skipped = attached.clone();
        for program in skipped.iter_mut().filter(|p| p.program == "egress") {
            program.unsteady = true;
        }
        let facts = Facts::default().with_attached(&skipped, &[]);
        assert!(
            !facts.has(Need::Program("egress")),
            "what is skipped closes nothing"
        );
        let idle = Facts::default().with_attached(&attached[..1], &["sock_create"]);
        assert!(idle.has(Need::Program("sock_create")));
    }

    #[test]
    fn a_protocol_is_absent_only_where_no_module_can_bring_it() {
        let heading = "protocol  size sockets\nTCP 1 2\nPACKET 1 2\n";
        let mut facts = Facts {
            protocols: Some(names(heading)),
            ..Facts::default()
        };
        assert!(facts.has(Need::NoProtocol("SCTP")));
        assert!(!facts.has(Need::NoProtocol("PACKET")) && !facts.has(Need::NoProtocol("TCP")));
        facts.modules = true;
        assert!(!facts.has(Need::NoProtocol("SCTP")));
        facts.modules = false;
        facts.protocols = None;
        assert!(!facts.has(Need::NoProtocol("SCTP")), "unknown is not absent");
    }

    #[test]
    fn io_uring_is_off_only_for_everybody() {
        for (value, off) in [(Some(2), true), (Some(1), false), (Some(0), false), (None, false)] {
            let facts = Facts {
                io_uring_disabled: value,
                ..Facts::default()
            };
            assert_eq!(facts.has(Need::IoUringOff), off, "{value:?}");
        }
    }
}
