//! The agent goes and comes; tags stay.

use std::path::Path;

use portcullis::redirect::{BpfRedirector, RedirectError, bpf::Outcome, verify};

use crate::guard::{Cgroup, Pins, Workload, count, healthy, isolated, next};

#[test]
fn without_an_agent_connects_are_refused() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (agent, control) = pins.start();
        control.tag(&cgroup.0).unwrap();
        drop((agent, control));
        let mut workload = Workload::new(&cgroup.0);
        for address in ["203.0.113.9:80", "[2001:db8::7]:80", "127.0.0.1:80"] {
            assert_eq!(
                workload.ask(&format!("tcp {address}")),
                "err ECONNREFUSED",
                "{address}"
            );
        }
        assert_eq!(workload.ask("udp-send 203.0.113.9:443"), "err EPERM");
        assert_eq!(workload.ask("socket 2 3 1"), "err EPERM");
    });
}

#[test]
fn the_next_agent_takes_over_links_and_counts() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let before = control.attached().unwrap();
        assert!(before.iter().all(|program| program.ok), "{before:?}");
        let mut workload = Workload::new(&cgroup.0);
        assert!(workload.ask("tcp 203.0.113.9:80").starts_with("ok"));
        drop((agent, control));
        assert_eq!(workload.ask("tcp 203.0.113.9:81"), "err ECONNREFUSED");

        let (mut agent, control) = pins.start();
        assert_eq!(control.tagged(), [(id, cgroup.0.clone())]);
        assert_eq!(control.tag(&cgroup.0).unwrap(), id);
        control.keep_only(&[id]).unwrap();
        let after = control.attached().unwrap();
        assert_eq!(before.len(), after.len());
        for (before, after) in before.iter().zip(&after) {
            assert!(after.ok, "{after:?}");
            // The kernel cannot replace the program of a tracepoint, nor of a security hook.
            let of_the_host = ["task_", "sys_enter", "lsm_"];
            let replaced = !of_the_host.iter().any(|name| after.program.starts_with(name));
            assert_eq!(before.link == after.link, replaced, "{}: the link", after.program);
            assert_ne!(
                before.program_id, after.program_id,
                "{}: a new program",
                after.program
            );
        }
        assert!(workload.ask("tcp 203.0.113.9:82").starts_with("ok"));
        // The connects of before are not inherited: the first's listener is gone, and the second was refused.
        assert_eq!(next(&mut agent).await.original_dst.0.port(), 82);
        assert_eq!(count(&control, id, Outcome::TcpRedirected), 3);
        healthy(&control);
    });
}

/// What the workload connects to is really there, one missed hook away.
#[test]
fn nothing_escapes_while_agents_come_and_go() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let escaped = std::net::TcpListener::bind("127.9.9.9:8080").unwrap();
        escaped.set_nonblocking(true).unwrap();
        let (agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        drop((agent, control));
        let mut workload = Workload::new(&cgroup.0);
        workload.tell("hammer 127.9.9.9:8080");
        let mut arrived = 0;
        for _ in 0..10 {
            let (mut agent, _control) = pins.start();
            for _ in 0..100 {
                assert_eq!(
                    next(&mut agent).await.original_dst.0.to_string(),
                    "127.9.9.9:8080"
                );
                arrived += 1;
            }
        }
        let answer = workload.ask("");
        println!("{arrived} arrived; taken and refused: {answer}");
        let (taken, refused) = answer.strip_prefix("ok ").unwrap().split_once(' ').unwrap();
        let (taken, refused): (u64, u64) = (taken.parse().unwrap(), refused.parse().unwrap());
        assert!(taken >= arrived && refused > 0, "{answer}");
        assert!(escaped.accept().is_err(), "escaped");
        let (_agent, control) = pins.start();
        assert_eq!(count(&control, id, Outcome::TcpRedirected), taken + refused);
    });
}

#[test]
fn a_tag_that_was_only_begun_is_finished() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        for program in ["connect4", "egress"] {
            std::fs::remove_file(pins.link(id, program)).unwrap();
        }
        control.tag(&cgroup.0).unwrap();
        assert!(control.attached().unwrap().iter().all(|program| program.ok));
        drop((agent, control));
        std::fs::remove_dir_all(pins.link(id, "").parent().unwrap()).unwrap();
        let (_agent, control) = pins.start();
        assert_eq!(control.tagged(), [(id, cgroup.0.clone())]);
        assert!(control.attached().unwrap().iter().all(|program| program.ok));
    });
}

#[test]
fn what_is_no_longer_wanted_is_removed() {
    isolated(|| async {
        let (pins, kept, dropped, gone) = (Pins::new(), Cgroup::new(), Cgroup::new(), Cgroup::new());
        let (agent, control) = pins.start();
        let kept_id = control.tag(&kept.0).unwrap();
        let dropped_id = control.tag(&dropped.0).unwrap();
        let gone_id = control.tag(&gone.0).unwrap();
        drop((agent, control, gone));

        let (_agent, control) = pins.start();
        assert!(!pins.link(gone_id, "egress").exists(), "its cgroup is gone");
        assert!(pins.link(dropped_id, "egress").exists(), "nobody has said so yet");
        control.keep_only(&[kept_id]).unwrap();
        assert!(!pins.link(dropped_id, "egress").exists());
        assert_eq!(control.tagged(), [(kept_id, kept.0.clone())]);
        let mut free = Workload::new(&dropped.0);
        assert_eq!(free.ask("udp-send 127.0.0.1:9999"), "ok 1");
        let mut workload = Workload::new(&kept.0);
        assert_eq!(workload.ask("udp-send 127.0.0.1:9999"), "err EPERM");
    });
}

#[test]
fn a_removed_and_tagged_again_cgroup_is_another() {
    isolated(|| async {
        let (pins, first) = (Pins::new(), Cgroup::new());
        let (mut agent, control) = pins.start();
        let id = control.tag(&first.0).unwrap();
        let path = first.0.clone();
        drop(first);
        // Its links are on a cgroup that is no more: status must not call that healthy.
        assert!(control.attached().unwrap().iter().any(|program| !program.ok));
        control.untag(id).unwrap();
        let again = Cgroup(path);
        std::fs::create_dir(&again.0).unwrap();
        let new = control.tag(&again.0).unwrap();
        assert_ne!(id, new);
        assert!(control.attached().unwrap().iter().all(|program| program.ok));
        let mut workload = Workload::new(&again.0);
        assert!(workload.ask("tcp 203.0.113.9:80").starts_with("ok"));
        assert_eq!(next(&mut agent).await.origin.tagged, new);
    });
}

#[test]
fn what_cannot_be_tagged_is_said() {
    isolated(|| async {
        let pins = Pins::new();
        let options = pins.options();
        let (_agent, control) = pins.start();
        let own = options.cgroup_mount.join(&options.agent_cgroup);
        for path in [
            options.cgroup_mount.as_path(),
            own.as_path(),
            own.parent().unwrap(),
            Path::new("/tmp"),
        ] {
            let refused = control.tag(path);
            assert!(
                matches!(refused, Err(RedirectError::NotTaggable { .. })),
                "{}: {refused:?}",
                path.display()
            );
        }
        assert!(control.tag(&own.join("nowhere")).is_err());
    });
}

#[test]
fn two_agents_on_one_port_are_told() {
    isolated(|| async {
        let (first, second) = (Pins::new(), Pins::new());
        let _agent = first.start();
        let refused = BpfRedirector::start(&second.options()).err();
        assert!(
            matches!(refused, Some(RedirectError::PortUsed { .. })),
            "{refused:?}"
        );
    });
}

#[test]
fn the_kernel_takes_every_program() {
    let programs = verify().unwrap();
    assert!(programs.len() >= 18, "{}", programs.len());
    for program in programs {
        println!("{program:?}");
        let instructions = program.verified_instructions.unwrap_or(0);
        assert!(
            instructions < 100_000,
            "{}: {instructions} of a million",
            program.name
        );
    }
}
