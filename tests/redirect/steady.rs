//! The same as elsewhere, where the kernel interrupts programs on raw tracepoints (from Linux 7.0 on): there they are on
//! perf events. This process takes its kernel for such a one, whichever it is.

use std::sync::atomic::Ordering;

use portcullis::redirect::guard::testing::FORCED;

use crate::{
    escapes, execs,
    guard::{Cgroup, Pins, Workload, isolated},
    processes,
};

#[test]
fn processes_are_known_there() {
    FORCED.store(true, Ordering::Relaxed);
    isolated(processes::are_known);
}

#[test]
fn what_is_denied_there_never_runs_an_instruction() {
    FORCED.store(true, Ordering::Relaxed);
    isolated(execs::denied);
}

#[test]
fn what_runs_is_told_by_what_it_is_there() {
    FORCED.store(true, Ordering::Relaxed);
    isolated(execs::told);
}

#[test]
fn calls_are_guarded_there() {
    FORCED.store(true, Ordering::Relaxed);
    isolated(escapes::io_uring);
}

/// As after an upgrade of the kernel's live patches, or of an agent that did not know better: each takes over what the other
/// has attached, and what runs stays known.
#[test]
fn one_kind_takes_over_from_the_other() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let id = {
            let (_agent, control) = pins.start();
            control.tag(&cgroup.0).unwrap()
        };
        let mut workload = Workload::new(&cgroup.0);
        for forced in [true, false, true] {
            FORCED.store(forced, Ordering::Relaxed);
            let (_agent, control) = pins.start();
            assert!(control.attached().unwrap().iter().all(|program| program.ok));
            let child = workload.ask("child");
            let child: u32 = child.strip_prefix("ok ").unwrap().parse().unwrap();
            let known = control.members().unwrap();
            assert_eq!(known[&child].tagged, id.0);
            assert!(known[&child].execs > 0, "its exec was seen");
            assert_eq!(known[&workload.pid()].tagged, id.0);
        }
    });
}
