//! Which threads belong to workloads.

use std::time::Instant;

use crate::guard::{Cgroup, DEADLINE, Pins, Workload, healthy, isolated};

/// The number in an answer.
fn id(answer: &str) -> u32 {
    answer.strip_prefix("ok ").unwrap().parse().unwrap()
}

#[test]
fn threads_are_known_from_their_first_instruction_to_their_last() {
    isolated(|| async {
        let (pins, cgroup, other) = (Pins::new(), Cgroup::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        let mut before = Workload::new(&cgroup.0);
        let old = id(&before.ask("thread"));
        let outside = Workload::new(&other.0);
        assert!(control.threads().unwrap().is_empty());

        let tag = control.tag(&cgroup.0).unwrap();
        let known = control.threads().unwrap();
        assert_eq!(known[&before.pid()].tgid, before.pid());
        assert_eq!(
            known[&old].tgid,
            before.pid(),
            "a thread that was there before the tag"
        );
        assert!(!known.contains_key(&outside.pid()));

        let child = id(&before.ask("child"));
        let new = id(&before.ask("thread"));
        let known = control.threads().unwrap();
        assert_eq!((known[&child].tgid, known[&child].tagged), (child, tag.0));
        assert!(known[&child].start_ns > known[&before.pid()].start_ns);
        assert_eq!(known[&new].tgid, before.pid());

        // A descendant with a tag of its own, and back.
        let below = Cgroup::below(&cgroup.0, "below");
        let inner = control.tag(&below.0).unwrap();
        let mut within = Workload::new(&below.0);
        let of_inner = id(&within.ask("child"));
        assert_eq!(control.threads().unwrap()[&of_inner].tagged, inner.0);
        control.untag(inner).unwrap();
        assert_eq!(control.threads().unwrap()[&of_inner].tagged, tag.0);

        before.ask(&format!("kill {child}"));
        drop(within);
        let began = Instant::now();
        while control
            .threads()
            .unwrap()
            .keys()
            .any(|tid| [child, of_inner].contains(tid))
        {
            assert!(began.elapsed() < DEADLINE, "a thread that ended is still known");
            std::thread::yield_now();
        }
        control.untag(tag).unwrap();
        assert!(control.threads().unwrap().is_empty());
        healthy(&control);
    });
}
