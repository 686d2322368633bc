//! From one layout of the maps to the next, and not back.

use std::{fs, path::Path};

use portcullis::redirect::{BpfRedirector, RedirectError, bpf::Outcome};

use crate::guard::{Cgroup, Pins, Workload, count, healthy, isolated, next};

/// Makes of what an agent left what version 1 would have left: its maps, and its links.
fn as_version_1(pins: &Path) {
    let (now, then) = (pins.join("maps-2"), pins.join("maps-1"));
    fs::remove_file(&then).expect("the pin that keeps version 1 from starting");
    fs::create_dir(&then).unwrap();
    for map in ["TAGGED", "ORIGINAL_DST", "INFLIGHT", "ACCEPTED"] {
        fs::hard_link(now.join(map), then.join(map)).unwrap();
    }
    fs::remove_dir_all(&now).unwrap();
    for tag in fs::read_dir(pins.join("tags")).unwrap().map(Result::unwrap) {
        for link in ["ingress", "bind4", "bind6", "recvmsg4", "recvmsg6"] {
            let _not_a_hooked_one = fs::remove_file(tag.path().join(format!("link_{link}")));
        }
    }
}

#[test]
fn tags_links_and_connections_outlive_an_upgrade() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let inner = Cgroup::below(&cgroup.0, "inner");
        let (mut agent, control) = pins.start();
        let outer_id = control.tag(&cgroup.0).unwrap();
        // Has no links of its own, only its mark in the map.
        let inner_id = control.tag(&inner.0).unwrap();
        let mut workload = Workload::new(&inner.0);
        assert!(workload.ask("tcp 203.0.113.9:80").starts_with("ok"));
        let connection = next(&mut agent).await;
        let before = control.attached().unwrap();
        drop((agent, control));
        as_version_1(&pins.0);

        let (mut agent, control) = pins.start();
        let mut tagged: Vec<_> = control.tagged().into_iter().map(|(id, _)| id).collect();
        tagged.sort();
        let mut expected = [outer_id, inner_id];
        expected.sort();
        assert_eq!(tagged, expected);
        let after = control.attached().unwrap();
        assert!(after.iter().all(|program| program.ok), "{after:?}");
        for program in ["egress", "connect4", "sock_create"] {
            let link = |all: &[portcullis::redirect::bpf::AttachedProgram]| {
                all.iter().find(|found| found.program == program).unwrap().link
            };
            assert_eq!(link(&before), link(&after), "{program}: the same link");
        }
        assert_eq!(connection.origin.tagged, inner_id);
        assert!(
            workload
                .ask("tcp 203.0.113.9:81")
                .starts_with("ok 203.0.113.9:81")
        );
        assert_eq!(next(&mut agent).await.origin.tagged, inner_id);
        assert!(!pins.0.join("maps-1").is_dir());
        healthy(&control);
    });
}

/// Other programs, with maps of their own, followed processes before: they go on until this agent's know who there is.
#[test]
fn members_outlive_a_change_of_what_follows_them() {
    isolated(|| async {
        let (pins, cgroup, outside) = (Pins::new(), Cgroup::new(), Cgroup::new());
        let inner = Cgroup::below(&cgroup.0, "inner");
        let (agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let inner_id = control.tag(&inner.0).unwrap();
        let mut workload = Workload::new(&cgroup.0);
        let within = Workload::new(&inner.0);
        drop((agent, control));
        let maps = pins.0.join("maps-2");
        fs::rename(maps.join("PROCESSES"), maps.join("MEMBERS")).unwrap();
        fs::rename(pins.host_link("task_executed"), pins.host_link("sched_exec")).unwrap();
        let mut early = Workload::new(&cgroup.0);

        let (_agent, control) = pins.start();
        let known = control.members().unwrap();
        assert_eq!(known[&workload.pid()].tagged, id.0);
        assert_eq!(known[&early.pid()].tagged, id.0);
        assert_eq!(known[&within.pid()].tagged, inner_id.0);
        let old = [maps.join("MEMBERS"), pins.host_link("sched_exec")];
        assert!(old.iter().all(|pin| !pin.exists()), "what was before is let go");
        assert!(control.attached().unwrap().iter().all(|program| program.ok));
        for workload in [&mut workload, &mut early] {
            let said = workload.ask(&format!("join {}", outside.0.display()));
            assert_eq!(said, "", "who leaves is killed");
        }
        assert_eq!(count(&control, id, Outcome::EscapeKilled), 2);
        healthy(&control);
    });
}

#[test]
fn there_is_no_way_back_beside_attached_programs() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (agent, control) = pins.start();
        control.tag(&cgroup.0).unwrap();
        drop((agent, control));
        // What version 1 does first.
        let refused = fs::create_dir_all(pins.0.join("maps-1"));
        assert!(refused.is_err(), "version 1 would start");
        // And this version, beside a later one.
        let later = pins.0.join("maps-3");
        fs::create_dir(&later).unwrap();
        let refused = BpfRedirector::start(&pins.options()).err();
        assert!(matches!(refused, Some(RedirectError::Newer(_))), "{refused:?}");
        let mut workload = Workload::new(&cgroup.0);
        assert_eq!(workload.ask("tcp 203.0.113.9:80"), "err ECONNREFUSED");
        fs::remove_dir(&later).unwrap();
        let _agent = pins.start();
    });
}
