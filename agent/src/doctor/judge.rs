//! What the facts mean, and what to do about them.

use super::{Cgroups, Facts};
use crate::redirect::bpf::Tried;

/// How it stands with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Good,
    /// Something is enforced less, or is worth knowing.
    Limited,
    /// Without it nothing is enforced.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// A stable name, in lower case.
    pub id: &'static str,
    /// How it stands.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to change; `None` where there is nothing to.
    pub advice: Option<String>,
}

fn good(id: &'static str, found: impl Into<String>) -> Finding {
    Finding {
        id,
        state: State::Good,
        found: found.into(),
        advice: None,
    }
}

fn bad(id: &'static str, state: State, found: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding {
        id,
        state,
        found: found.into(),
        advice: Some(advice.into()),
    }
}

/// What the daemon needs, by capabilities(7): the bit, and the name.
const CAPABILITIES: [(u32, &str); 5] = [
    (12, "CAP_NET_ADMIN"),
    (19, "CAP_SYS_PTRACE"),
    (21, "CAP_SYS_ADMIN"),
    (38, "CAP_PERFMON"),
    (39, "CAP_BPF"),
];
/// systemd keeps descriptors over a stop and a start from this version on (`FileDescriptorStorePreserve=`).
const KEEPS_DESCRIPTORS: u32 = 254;

/// Every finding, in the order in which things build upon each other.
#[must_use]
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut all = vec![
        privileges(facts),
        btf(facts),
        tracepoints(facts),
        cgroups(facts),
        bpffs(facts),
        hooks(facts),
    ];
    all.extend(optional(facts));
    all.extend([
        netns(facts),
        lsm(facts),
        lockdown(facts),
        io_uring(facts),
        older(facts),
        unprivileged(facts),
        jit(facts),
        resolver(facts),
        systemd(facts),
    ]);
    all
}

fn privileges(facts: &Facts) -> Finding {
    let lacks: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(bit, _)| facts.capabilities >> bit & 1 == 0)
        .map(|(_, name)| *name)
        .collect();
    if lacks.is_empty() {
        return good("privileges", "every capability that the daemon needs");
    }
    let found = format!("this process lacks {}", lacks.join(", "));
    bad(
        "privileges",
        State::Missing,
        found,
        "run this as root of the host",
    )
}

fn btf(facts: &Facts) -> Finding {
    match &facts.btf {
        None => good("btf", "the kernel describes its own types"),
        Some(why) => bad(
            "btf",
            State::Missing,
            why.clone(),
            "boot a kernel built with CONFIG_DEBUG_INFO_BTF",
        ),
    }
}

fn tracepoints(facts: &Facts) -> Finding {
    match &facts.tracepoints {
        None => good(
            "tracepoints",
            "the guard's programs run for every process that comes by",
        ),
        Some(why) => bad(
            "tracepoints",
            State::Missing,
            why.clone(),
            "mount -t tracefs none /sys/kernel/tracing, and boot a kernel built with CONFIG_PERF_EVENTS",
        ),
    }
}

fn cgroups(facts: &Facts) -> Finding {
    match &facts.cgroups {
        Cgroups::Unified(at) => good("cgroups", format!("unified, at {}", at.display())),
        Cgroups::Hybrid(at) => bad(
            "cgroups",
            State::Limited,
            format!("hybrid: cgroup2 at {}, beside v1 hierarchies", at.display()),
            "enforced all the same; container runtimes on v1 leave containers in the root of cgroup2, where they cannot be tagged: boot with systemd.unified_cgroup_hierarchy=1",
        ),
        Cgroups::None => bad(
            "cgroups",
            State::Missing,
            "no cgroup2 file system is mounted",
            "mount -t cgroup2 none /sys/fs/cgroup, or boot with systemd.unified_cgroup_hierarchy=1",
        ),
    }
}

fn bpffs(facts: &Facts) -> Finding {
    match facts.bpffs {
        Some(true) => good("bpffs", "what is attached outlives the daemon"),
        Some(false) => bad(
            "bpffs",
            State::Missing,
            "[redirect] pin_dir is not on a bpf file system",
            "mount -t bpf bpf /sys/fs/bpf, or set [redirect] pin_dir below it",
        ),
        None => bad(
            "bpffs",
            State::Missing,
            "this kernel has no bpf file system",
            "boot a kernel built with CONFIG_BPF_SYSCALL",
        ),
    }
}

/// The programs without which the agent does not start.
fn hooks(facts: &Facts) -> Finding {
    let trials = match &facts.programs {
        Ok(trials) => trials,
        Err(why) => {
            return bad(
                "hooks",
                State::Missing,
                why.clone(),
                "see btf and privileges above",
            );
        }
    };
    let (needed, refused) = refused(trials, false);
    if refused.is_empty() {
        return good("hooks", format!("all {needed} load"));
    }
    bad("hooks", State::Missing, refused, "boot a newer kernel")
}

/// The programs that close more doors where the kernel takes them.
fn optional(facts: &Facts) -> Option<Finding> {
    let (all, refused) = refused(facts.programs.as_ref().ok()?, true);
    if all == 0 {
        return None;
    }
    if refused.is_empty() {
        return Some(good("more-hooks", format!("all {all} load")));
    }
    let advice = "other mechanisms answer for some of them; the doors below say what stays open";
    Some(bad("more-hooks", State::Limited, refused, advice))
}

/// How many there are of a kind, and those that are refused.
fn refused(trials: &[Tried], optional: bool) -> (usize, String) {
    let of_kind: Vec<_> = trials.iter().filter(|t| t.optional == optional).collect();
    let refused = of_kind
        .iter()
        .filter_map(|t| Some(format!("{}: {}", t.program, last_line(t.refused.as_deref()?))));
    (of_kind.len(), refused.collect::<Vec<_>>().join("; "))
}

/// A verifier's log says at its end why, and then what it cost to find out.
fn last_line(log: &str) -> String {
    let cost = |l: &str| {
        let words = ["processed ", "verification time ", "stack depth "];
        words.iter().any(|w| l.starts_with(w))
    };
    let mut lines = log.lines().map(str::trim);
    let line = lines.rfind(|l| !l.is_empty() && !cost(l));
    line.unwrap_or_default().to_owned()
}

fn netns(facts: &Facts) -> Finding {
    if facts.netns {
        return good("network-namespaces", "sockets say which they belong to");
    }
    bad(
        "network-namespaces",
        State::Missing,
        "sockets do not say which they belong to (SO_NETNS_COOKIE)",
        "boot Linux 5.14 or later",
    )
}

fn lsm(facts: &Facts) -> Finding {
    match (&facts.lsm_programs, &facts.lsms) {
        (Ok(true), Some(lsms)) if !lsms.iter().any(|l| l == "bpf") => bad(
            "lsm",
            State::Limited,
            format!(
                "LSM programs attach, and are not asked: in force are {}",
                lsms.join(",")
            ),
            format!("boot with lsm={},bpf", lsms.join(",")),
        ),
        (Ok(true), Some(_)) => good(
            "lsm",
            "LSM programs attach, and bpf is among the modules in force",
        ),
        (Ok(true), None) => bad(
            "lsm",
            State::Limited,
            "LSM programs attach; whether they are asked cannot be read",
            "mount -t securityfs securityfs /sys/kernel/security",
        ),
        (Ok(false), _) => bad(
            "lsm",
            State::Limited,
            "LSM programs are not attached by this kernel",
            "boot a kernel built with CONFIG_BPF_LSM, with bpf in lsm= on its command line; until then other mechanisms answer",
        ),
        (Err(why), _) => bad(
            "lsm",
            State::Limited,
            format!("LSM programs are refused: {why}"),
            "until this kernel takes them, other mechanisms answer",
        ),
    }
}

fn lockdown(facts: &Facts) -> Finding {
    match facts.lockdown.as_deref() {
        Some("confidentiality") => bad(
            "lockdown",
            State::Missing,
            "confidentiality: programs may not read the kernel's structures",
            "boot with lockdown=integrity",
        ),
        Some(mode) => good("lockdown", mode),
        None => good("lockdown", "not built in, or securityfs is not mounted"),
    }
}

fn io_uring(facts: &Facts) -> Finding {
    match facts.io_uring_disabled {
        Some(2) => good("io_uring", "off for everybody"),
        Some(_) => bad(
            "io_uring",
            State::Limited,
            "on: sockets can be made unseen by what watches system calls",
            "sysctl kernel.io_uring_disabled=2, where nothing on this host needs it",
        ),
        None => bad(
            "io_uring",
            State::Limited,
            "this kernel cannot switch it off",
            "boot Linux 6.6 or later, which has kernel.io_uring_disabled",
        ),
    }
}

fn older(facts: &Facts) -> Finding {
    if facts.destroys {
        return good("older-sockets", "sockets older than a tag are destroyed");
    }
    bad(
        "older-sockets",
        State::Limited,
        "the kernel destroys no sockets, or lets nobody look at another process's: those older than a tag go on",
        "boot a kernel built with CONFIG_INET_DIAG_DESTROY, with its module tcp_diag and udp_diag at hand, and kernel.yama.ptrace_scope below 3; or tag before anything runs",
    )
}

fn unprivileged(facts: &Facts) -> Finding {
    match facts.unprivileged_bpf_disabled {
        Some(0) => bad(
            "unprivileged-bpf",
            State::Limited,
            "bpf(2) is open to every user",
            "sysctl kernel.unprivileged_bpf_disabled=2",
        ),
        _ => good("unprivileged-bpf", "bpf(2) is for the privileged"),
    }
}

fn jit(facts: &Facts) -> Finding {
    match facts.jit {
        Some(0) => bad(
            "jit",
            State::Limited,
            "programs are interpreted, which is slower",
            "sysctl net.core.bpf_jit_enable=1",
        ),
        _ => good("jit", "programs are compiled"),
    }
}

fn resolver(facts: &Facts) -> Finding {
    if facts.resolvers.is_empty() {
        return bad(
            "resolver",
            State::Limited,
            "/etc/resolv.conf names no server",
            "name one: workloads' names are asked of it",
        );
    }
    good("resolver", facts.resolvers.join(", "))
}

fn systemd(facts: &Facts) -> Finding {
    match facts.systemd {
        Some(version) if version >= KEEPS_DESCRIPTORS => good("systemd", version.to_string()),
        Some(version) => bad(
            "systemd",
            State::Limited,
            format!("{version}: keeps the listeners over a restart, and not over a stop and a start"),
            "use systemctl restart and not stop and start; 254 and later keep them over both",
        ),
        None => bad(
            "systemd",
            State::Limited,
            "does not run this host",
            "start portcullis daemon yourself, before any workload",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::report,
        redirect::{bpf, doors},
    };

    fn facts() -> Facts {
        let needed = bpf::programs().iter().map(|name| (*name, false));
        let trial = |(name, optional): (&str, bool)| Tried {
            program: name.to_owned(),
            optional,
            refused: None,
            unsteady: false,
        };
        Facts {
            release: "6.12.0".into(),
            machine: "x86_64".into(),
            capabilities: u64::MAX,
            btf: None,
            tracepoints: None,
            cgroups: Cgroups::Unified("/sys/fs/cgroup".into()),
            bpffs: Some(true),
            programs: Ok(needed.chain([("one_more", true)]).map(trial).collect()),
            netns: true,
            lsms: Some(vec!["lockdown".into(), "bpf".into()]),
            lsm_programs: Ok(true),
            lockdown: Some("integrity".into()),
            io_uring_disabled: Some(2),
            unprivileged_bpf_disabled: Some(2),
            jit: Some(1),
            resolvers: vec!["192.0.2.1".into()],
            systemd: Some(257),
            destroys: true,
            doors: doors::Facts::default(),
        }
    }

    fn refuse(facts: &mut Facts, program: &str) {
        let trials = facts.programs.as_mut().unwrap();
        let trial = trials.iter_mut().find(|t| t.program == program).unwrap();
        trial.refused = Some("0: R1=ctx()\nunknown func\nprocessed 1 insns (limit 1000000)\n\n".into());
    }

    /// The finding that is not good when `change` is made to a host on which all is.
    fn found(id: &str, change: impl FnOnce(&mut Facts)) -> (State, String) {
        let mut facts = facts();
        assert!(judge(&facts).iter().all(|f| f.state == State::Good), "{facts:?}");
        change(&mut facts);
        let findings = judge(&facts);
        let wrong: Vec<_> = findings.iter().filter(|f| f.state != State::Good).collect();
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert_eq!(wrong[0].id, id);
        assert!(wrong[0].advice.is_some());
        assert_eq!(report(&facts).enforceable, wrong[0].state != State::Missing);
        (wrong[0].state, wrong[0].found.clone())
    }

    /// What is wrong with a host.
    type Change = fn(&mut Facts);

    #[test]
    fn without_what_enforcement_stands_on_it_is_missing() {
        let missing: [(&str, Change); 9] = [
            ("privileges", |f| f.capabilities &= !(1 << 39)),
            ("btf", |f| f.btf = Some("cannot be read".into())),
            ("tracepoints", |f| f.tracepoints = Some("no tracefs".into())),
            ("cgroups", |f| f.cgroups = Cgroups::None),
            ("bpffs", |f| f.bpffs = Some(false)),
            ("bpffs", |f| f.bpffs = None),
            ("hooks", |f| refuse(f, "connect6")),
            ("network-namespaces", |f| f.netns = false),
            ("lockdown", |f| f.lockdown = Some("confidentiality".into())),
        ];
        for (id, change) in missing {
            assert_eq!(found(id, change).0, State::Missing, "{id}");
        }
    }

    #[test]
    fn what_lessens_it_is_limited() {
        let limited: [(&str, Change); 12] = [
            ("cgroups", |f| f.cgroups = Cgroups::Hybrid("/x".into())),
            ("more-hooks", |f| refuse(f, "one_more")),
            ("lsm", |f| f.lsm_programs = Ok(false)),
            ("lsm", |f| f.lsm_programs = Err("not permitted".into())),
            ("lsm", |f| f.lsms = Some(vec!["lockdown".into()])),
            ("io_uring", |f| f.io_uring_disabled = Some(1)),
            ("io_uring", |f| f.io_uring_disabled = None),
            ("older-sockets", |f| f.destroys = false),
            ("unprivileged-bpf", |f| f.unprivileged_bpf_disabled = Some(0)),
            ("jit", |f| f.jit = Some(0)),
            ("resolver", |f| f.resolvers.clear()),
            ("systemd", |f| f.systemd = Some(252)),
        ];
        for (id, change) in limited {
            assert_eq!(found(id, change).0, State::Limited, "{id}");
        }
    }

    #[test]
    fn a_refused_program_is_named_and_its_door_open() {
        let (_, said) = found("more-hooks", |f| refuse(f, "one_more"));
        assert_eq!(said, "one_more: unknown func");
        let closed = |facts: &Facts, id: &str| {
            let judged = report(facts).doors;
            judged.iter().find(|d| d.door == id).unwrap().closed
        };
        let mut facts = facts();
        assert_eq!(closed(&facts, "tcp"), Some(doors::Mechanism::Redirect));
        refuse(&mut facts, "connect6");
        assert_eq!(closed(&facts, "tcp"), Some(doors::Mechanism::Guard));
        refuse(&mut facts, "egress");
        assert_eq!(closed(&facts, "tcp"), None);
    }
}
