//! Which processes belong to workloads.

use std::time::Instant;

use aya::maps::{HashMap, Map, MapData};
use portcullis_abi::{MAX_PROCESSES, Proc, Site, VERSION};

use crate::guard::{Cgroup, DEADLINE, Pins, Workload, healthy, isolated};

/// No process has a number from here on (`PID_MAX_LIMIT`).
const NOBODY: u32 = 1 << 22;

/// The number in an answer.
fn id(answer: &str) -> u32 {
    answer.strip_prefix("ok ").unwrap().parse().unwrap()
}

#[test]
fn processes_are_known_from_their_first_instruction_to_their_last() {
    isolated(are_known);
}

pub async fn are_known() {
    let (pins, cgroup, other) = (Pins::new(), Cgroup::new(), Cgroup::new());
    let (_agent, control) = pins.start();
    let mut before = Workload::new(&cgroup.0);
    let old = id(&before.ask("child"));
    let outside = Workload::new(&other.0);
    assert!(control.members().unwrap().is_empty());

    let tag = control.tag(&cgroup.0).unwrap();
    let known = control.members().unwrap();
    assert_eq!(known[&before.pid()].tagged, tag.0);
    assert_eq!(known[&old].tagged, tag.0, "it was there before the tag");
    assert!(!known.contains_key(&outside.pid()));

    let child = id(&before.ask("child"));
    let thread = id(&before.ask("thread"));
    let known = control.members().unwrap();
    assert_eq!(known[&child].tagged, tag.0);
    assert!(known[&child].execs > 0, "its exec was seen");
    assert!(!known.contains_key(&thread), "a thread is its process's");

    // A descendant with a tag of its own, and back.
    let below = Cgroup::below(&cgroup.0, "below");
    let inner = control.tag(&below.0).unwrap();
    let mut within = Workload::new(&below.0);
    let of_inner = id(&within.ask("child"));
    assert_eq!(control.members().unwrap()[&of_inner].tagged, inner.0);
    control.untag(inner).unwrap();
    assert_eq!(control.members().unwrap()[&of_inner].tagged, tag.0);

    // Out of it, and in again.
    std::fs::write(other.0.join("cgroup.procs"), child.to_string()).unwrap();
    assert!(!control.members().unwrap().contains_key(&child));
    std::fs::write(cgroup.0.join("cgroup.procs"), child.to_string()).unwrap();
    assert_eq!(control.members().unwrap()[&child].tagged, tag.0);

    before.ask(&format!("kill {child}"));
    drop(within);
    let began = Instant::now();
    while control
        .members()
        .unwrap()
        .keys()
        .any(|pid| [child, of_inner].contains(pid))
    {
        assert!(began.elapsed() < DEADLINE, "a process that ended is still known");
        std::thread::yield_now();
    }
    control.untag(tag).unwrap();
    assert!(control.members().unwrap().is_empty());
    healthy(&control);
}

/// Takes all the room that there is for processes, in the name of nobody.
fn fill(pins: &Pins) -> HashMap<MapData, u32, Proc> {
    let pinned = pins.0.join(format!("maps-{VERSION}/PROCESSES"));
    let map = Map::HashMap(MapData::from_pin(pinned).unwrap());
    let mut processes: HashMap<_, u32, Proc> = map.try_into().unwrap();
    let most = u32::try_from(MAX_PROCESSES).unwrap();
    let taken = (0..most).take_while(|n| processes.insert(NOBODY + n, Proc::default(), 0).is_ok());
    assert!(taken.count() > MAX_PROCESSES / 2);
    processes
}

#[test]
fn what_cannot_be_followed_does_not_run() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        let tag = control.tag(&cgroup.0).unwrap();
        let mut maker = Workload::new(&cgroup.0);
        let mut processes = fill(&pins);
        assert_eq!(maker.ask("child"), "", "it was ended before it could tell");
        let began = Instant::now();
        let there = || std::fs::read_to_string(cgroup.0.join("cgroup.procs")).unwrap();
        // Its own end is waited for by this test alone.
        while there().lines().any(|pid| pid != maker.pid().to_string()) {
            assert!(began.elapsed() < DEADLINE, "what it started runs: {}", there());
            std::thread::yield_now();
        }
        let full = control.errors().unwrap();
        let full = full.iter().find(|(site, _)| *site == Site::ProcsFull);
        assert!(full.is_some_and(|(_, count)| *count > 0), "{full:?}");

        // With room again, another one starts what it likes.
        for n in 0..u32::try_from(MAX_PROCESSES).unwrap() {
            let _absent = processes.remove(&(NOBODY + n));
        }
        let mut next = Workload::new(&cgroup.0);
        let child = id(&next.ask("child"));
        assert_eq!(control.members().unwrap()[&child].tagged, tag.0);
    });
}
