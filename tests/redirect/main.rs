//! Real eBPF, in cgroups and network namespaces of the test's own. Needs root; being unable to run is a failure.

mod guard;

use guard::{Cgroup, Pins, Workload, isolated, next};

#[test]
fn a_connect_arrives_with_who_and_where() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (mut agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let mut workload = Workload::new(&cgroup.0);
        for address in ["127.5.6.7:443", "203.0.113.9:80"] {
            let answer = workload.ask(&format!("tcp {address}"));
            assert!(
                answer.starts_with(&format!("ok {address} 127.0.0.1:")),
                "{answer}"
            );
            let redirected = next(&mut agent).await;
            assert_eq!(redirected.original_dst.0.to_string(), address);
            assert_eq!(redirected.origin.tagged, id);
            assert_eq!(redirected.origin.pid, workload.pid());
        }
    });
}
