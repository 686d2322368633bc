//! Listeners that outlive the agent and the cgroup that it made them in, as a service manager keeps them.

use std::{fs, os::fd::OwnedFd, path::Path, sync::Arc};

use portcullis::redirect::{BpfRedirector, Control, Kept, Nobody, Options, bpf::Outcome};

use crate::guard::{Cgroup, Pins, Workload, count, healthy, isolated, next};

/// An agent that is in `slice` already, so that its program is on that; as systemd has it with a service in its slice.
fn in_slice(pins: &Pins, slice: &Cgroup) -> Options {
    let options = pins.options();
    let name = slice.0.strip_prefix(&options.cgroup_mount).unwrap();
    Options {
        agent_cgroup: name.display().to_string(),
        ..options
    }
}

/// This process joins a cgroup, as a service's process is in the one that systemd made for it.
fn join(cgroup: &Path) {
    fs::write(cgroup.join("cgroup.procs"), "0").unwrap();
}

/// What the service manager would keep: the same descriptors, under the name that was given.
fn keep(agent: &BpfRedirector) -> Kept {
    let (name, listeners) = agent.to_keep();
    let fds = listeners.iter().map(|fd| fd.try_clone_to_owned().unwrap());
    Kept::of(fds.map(|fd: OwnedFd| (name.to_owned(), fd)).collect())
}

fn start(options: &Options, kept: &mut Kept) -> (BpfRedirector, Control) {
    let agent =
        BpfRedirector::start_with(options, kept, Arc::new(Nobody)).expect("these tests need root and eBPF");
    let control = agent.control();
    (agent, control)
}

/// The service stops, its cgroup is removed, and a workload connects: it is accepted by a listener whose cgroup is gone,
/// and the next agent, in another cgroup of the same slice, knows who it was and where to.
#[test]
fn connections_of_before_are_served_after() {
    isolated(|| async {
        let (pins, cgroup, slice) = (Pins::new(), Cgroup::new(), Cgroup::new());
        let options = in_slice(&pins, &slice);
        let service = Cgroup::below(&slice.0, "x.service");
        join(&service.0);
        let (agent, control) = start(&options, &mut Kept::default());
        let id = control.tag(&cgroup.0).unwrap();
        let mut kept = keep(&agent);
        drop((agent, control));

        for round in 0..3 {
            // As systemd does between two runs of a service: everything leaves, the directory is removed and made again.
            join(&options.cgroup_mount);
            fs::remove_dir(&service.0).unwrap();
            let mut workload = Workload::new(&cgroup.0);
            for (n, address) in ["203.0.113.9", "[2001:db8::7]"].iter().enumerate() {
                let answer = workload.ask(&format!("tcp {address}:{}", 8000 + 10 * round + n));
                assert!(answer.starts_with("ok"), "round {round}: {answer}");
            }
            fs::create_dir(&service.0).unwrap();
            join(&service.0);
            let (mut agent, control) = start(&options, &mut kept);
            assert!(kept.left().is_empty(), "all sockets are taken");
            let mut ports = Vec::new();
            for _ in 0..2 {
                let redirected = next(&mut agent).await;
                assert_eq!(redirected.origin.pid, workload.pid());
                assert_eq!(redirected.origin.tagged, id);
                ports.push(usize::from(redirected.original_dst.0.port()));
            }
            ports.sort_unstable();
            assert_eq!(ports, [8000 + 10 * round, 8001 + 10 * round]);
            assert_eq!(agent.refused().load(std::sync::atomic::Ordering::Relaxed), 0);
            assert_eq!(
                count(&control, id, Outcome::TcpRedirected),
                2 * (round as u64 + 1)
            );
            healthy(&control);
            kept = keep(&agent);
        }
        join(&options.cgroup_mount);
    });
}

/// Without its program on the listener's cgroup the agent would not know who connects: such a listener is left.
#[test]
fn a_listener_of_another_slice_is_not_taken() {
    isolated(|| async {
        let (pins, first, second) = (Pins::new(), Cgroup::new(), Cgroup::new());
        let (agent, control) = start(&in_slice(&pins, &first), &mut Kept::default());
        let mut kept = keep(&agent);
        drop((agent, control));
        // The port is not free while it is kept, which `start` would say.
        let refused = BpfRedirector::start_with(&in_slice(&pins, &second), &mut kept, Arc::new(Nobody)).err();
        assert!(refused.is_some_and(|e| e.to_string().contains("15001")));
        assert_eq!(kept.left().len(), 1, "one name for all: {kept:?}");
        join(&pins.options().cgroup_mount);
    });
}

/// Nobody's connect is refused while one agent after another comes and goes, and nobody is left without an answer.
#[test]
fn not_one_connect_is_refused() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let options = pins.options();
        let (agent, control) = start(&options, &mut Kept::default());
        let id = control.tag(&cgroup.0).unwrap();
        let mut kept = keep(&agent);
        let mut workload = Workload::new(&cgroup.0);
        workload.tell("hammer 203.0.113.9:8080");
        drop((agent, control));
        for _ in 0..10 {
            let (mut agent, _control) = start(&options, &mut kept);
            for _ in 0..100 {
                next(&mut agent).await;
            }
            kept = keep(&agent);
        }
        let answer = workload.ask("");
        let (taken, refused) = answer.strip_prefix("ok ").unwrap().split_once(' ').unwrap();
        assert_eq!(refused, "0", "taken {taken}");
        let (_agent, control) = start(&options, &mut kept);
        assert_eq!(count(&control, id, Outcome::TcpRedirected).to_string(), taken);
    });
}
