//! More than the agent is told of: counted, and by policy fatal.

use portcullis::redirect::{EXEC_AUDIT, EXEC_LOSS_KILLS, Happened, bpf::Outcome};
use portcullis_abi::EVENT_BYTES;

use crate::{
    execs::{next, tag},
    guard::{Cgroup, Pins, Workload, count, healthy, isolated},
};

/// Runs with as many arguments as are kept until the buffer is full; nobody reads it meanwhile.
#[test]
fn what_does_not_fit_is_counted_and_by_policy_fatal() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        let mut workload = Workload::new(&cgroup.0);
        let id = tag(&control, &cgroup.0, EXEC_AUDIT);
        let runs = EVENT_BYTES / 4096 + 100;
        let command = format!("run {runs} /bin/true {}", "x".repeat(4096));
        assert_eq!(workload.ask(&command), format!("ok {runs}xexit_status:_0"));
        let lost = count(&control, id, Outcome::ExecLost);
        assert!(lost > 0, "the buffer is not full");
        // What is known of processes does not depend on it.
        assert!(control.members().unwrap().contains_key(&workload.pid()));

        tag(&control, &cgroup.0, EXEC_AUDIT | EXEC_LOSS_KILLS);
        let after = format!("run 5 /bin/true {}", "x".repeat(4096));
        assert_eq!(workload.ask(&after), "ok 5xsignal:_9_(SIGKILL)");
        assert!(count(&control, id, Outcome::ExecLost) >= lost + 5);

        // What was told before is there, and when there is room again more is.
        let processes = control.processes();
        let mut told = 0;
        while let Ok(happened) =
            tokio::time::timeout(std::time::Duration::from_millis(500), processes.next()).await
        {
            told += usize::from(matches!(happened, Happened::Executed(_)));
        }
        assert!(told > 0 && told < runs, "{told} of {runs}");
        assert_eq!(workload.ask("run 1 /bin/true"), "ok 1xexit_status:_0");
        while !matches!(next(&processes).await, Happened::Executed(_)) {}
        healthy(&control);
    });
}
