//! UNIX sockets: what is listed, by exactly its address, and nothing that leads to the same place by another way.

use std::{
    io::Write as _,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram, UnixListener},
    },
    path::Path,
};

use portcullis::redirect::{bpf::Outcome, guard::UnixAddress};
use portcullis_abi::{Tag, guard::flag};

use crate::{
    escapes::{Attempt, attempt},
    guard::{Cgroup, Pins, count, healthy, isolated},
};

/// A listener that says its name to whoever comes.
fn listener(at: &str, name: &'static str) {
    let listener = match at.strip_prefix('@') {
        Some(abstract_name) => {
            let address = SocketAddr::from_abstract_name(abstract_name).unwrap();
            UnixListener::bind_addr(&address).unwrap()
        }
        None => UnixListener::bind(at).unwrap(),
    };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _gone = stream.unwrap().write_all(name.as_bytes());
        }
    });
}

fn said(attempt: &Attempt) -> &str {
    match attempt {
        Attempt::Said(said) => said,
        Attempt::Killed => "killed",
    }
}

fn allow(path: &str) -> UnixAddress {
    UnixAddress {
        path: path.into(),
        redirect: None,
    }
}

#[test]
fn only_what_is_listed_is_reached_and_only_by_its_own_name() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| format!("{}/{name}", dir.path().display());
        let unique = format!("@portcullis-test-{}", std::process::id());
        let other = format!("{unique}-other");
        listener(&at("listed"), "listed");
        listener(&at("docker.sock"), "docker");
        listener(&unique, "abstract");
        listener(&other, "other");
        let datagrams = UnixDatagram::bind(at("log")).unwrap();
        datagrams.set_nonblocking(true).unwrap();
        let _notify = UnixDatagram::bind(at("notify")).unwrap();
        control
            .set_unix(id, &[allow(&at("listed")), allow(&unique), allow(&at("log"))])
            .unwrap();

        for (words, wanted) in [
            (["unix", &at("listed")], "listed ok"),
            (["unix-whole", &at("listed")], "listed ok"),
            (["unix", &unique], "abstract ok"),
            (["unix-send", &at("log")], "ok 1"),
        ] {
            let attempt = attempt(&cgroup.0, &words);
            assert!(said(&attempt).starts_with(wanted), "{words:?}: {attempt:?}");
        }
        assert_eq!(datagrams.recv(&mut [0; 8]).unwrap(), 1);
        assert_eq!(count(&control, id, Outcome::UnixAllowed), 4);

        std::os::unix::fs::symlink(at("docker.sock"), at("symlink")).unwrap();
        std::fs::hard_link(at("docker.sock"), at("hardlink")).unwrap();
        let here = dir.path().to_str().unwrap();
        let tricks: Vec<Vec<String>> = vec![
            vec!["unix".into(), at("docker.sock")],
            vec!["unix".into(), at("symlink")],
            vec!["unix".into(), at("hardlink")],
            vec!["unix".into(), at("./listed")],
            vec!["unix".into(), at("/listed")],
            vec!["unix".into(), at("../docker.sock")],
            vec!["unix-in".into(), here.into(), "listed".into()],
            vec!["unix-in".into(), here.into(), "docker.sock".into()],
            vec!["unix-by-fd".into(), here.into(), "docker.sock".into()],
            vec!["unix".into(), other.clone()],
            vec!["unix".into(), format!("{unique}x")],
            vec!["unix-send".into(), at("notify")],
            vec!["unix".into(), "/run/dbus/system_bus_socket".into()],
            vec!["unix".into(), "/run/systemd/private".into()],
            vec!["unix".into(), "/run/containerd/containerd.sock".into()],
        ];
        // Hooks on names know nothing else; those on sockets know whose it is, by whatever name it was reached, and are not
        // asked where there is none.
        let by_name = control
            .unavailable()
            .iter()
            .all(|one| one.program != "connect_unix");
        let is_there = |address: &str| match address.strip_prefix('@') {
            Some(_) => *address == unique || *address == other,
            None => dir.path().join(address).exists(),
        };
        let mut denied = 0;
        for words in &tricks {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let address = *words.last().unwrap();
            let listed = address.ends_with("listed");
            let wanted = if by_name || is_there(address) && !listed {
                "err EPERM"
            } else if listed {
                "listed ok"
            } else if address.starts_with('@') {
                "err ECONNREFUSED"
            } else {
                "err ENOENT"
            };
            let attempt = attempt(&cgroup.0, &words);
            denied += u64::from(wanted == "err EPERM");
            assert!(said(&attempt).starts_with(wanted), "{words:?}: {attempt:?}");
            assert_eq!(count(&control, id, Outcome::UnixDenied), denied, "{words:?}");
        }
        // Within the workload nothing is asked.
        assert!(said(&attempt(&cgroup.0, &["socketpair", "1"])).starts_with("ok"));
        // Nobody else is concerned.
        assert!(said(&attempt(Path::new(""), &["unix", &at("docker.sock")])).starts_with("docker"));
        // What is listed no more is denied.
        control.set_unix(id, &[]).unwrap();
        assert!(said(&attempt(&cgroup.0, &["unix", &at("listed")])).starts_with("err EPERM"));
        control.tag_as(&cgroup.0, Tag { flags: flag::UNIX }).unwrap();
        assert!(said(&attempt(&cgroup.0, &["unix", &at("docker.sock")])).starts_with("docker"));
        healthy(&control);
    });
}

#[test]
fn a_redirected_path_leads_to_the_agent_whether_or_not_it_is_there() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| format!("{}/{name}", dir.path().display());
        listener(&at(".s.PGSQL.5432"), "database");
        let redirect = UnixAddress {
            path: at(".s.PGSQL.5432"),
            redirect: Some(at("agent").into()),
        };
        control.set_unix(id, &[redirect]).unwrap();
        if control
            .unavailable()
            .iter()
            .any(|one| one.program == "connect_unix")
        {
            // Hooks on sockets cannot send elsewhere: denied, then.
            let denied = attempt(&cgroup.0, &["unix", &at(".s.PGSQL.5432")]);
            assert!(said(&denied).starts_with("err EPERM"), "{denied:?}");
            return;
        }
        let refused = attempt(&cgroup.0, &["unix", &at(".s.PGSQL.5432")]);
        assert!(said(&refused).starts_with("err ENOENT"), "{refused:?}");
        listener(&at("agent"), "agent");
        let redirected = attempt(&cgroup.0, &["unix", &at(".s.PGSQL.5432")]);
        assert!(said(&redirected).starts_with("agent ok"), "{redirected:?}");
        // The agent's own socket is no address of the workload's.
        let direct = attempt(&cgroup.0, &["unix", &at("agent")]);
        assert!(said(&direct).starts_with("err EPERM"), "{direct:?}");
        assert_eq!(count(&control, id, Outcome::UnixRedirected), 2);
        healthy(&control);
    });
}

/// Where the guard kills for a mount and cannot refuse it, the mount is there for whoever shares the namespace.
#[test]
fn in_a_user_namespace_of_its_own_a_workload_has_no_paths() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| format!("{}/{name}", dir.path().display());
        listener(&at("listed"), "listed");
        listener(&at("docker.sock"), "docker");
        control.set_unix(id, &[allow(&at("listed"))]).unwrap();
        let listed = attempt(&cgroup.0, &["unix", &at("listed")]);
        assert!(said(&listed).starts_with("listed ok"), "{listed:?}");
        let there = attempt(&cgroup.0, &["mounted-unix", &at("docker.sock"), &at("listed")]);
        let lacks = |program| control.unavailable().iter().any(|one| one.program == program);
        // Hooks on sockets know whose it is, and are there only together with those that refuse the mount.
        if lacks("connect_unix") {
            assert!(said(&there).starts_with("listed ok"), "{there:?}");
        } else {
            assert!(said(&there).starts_with("err EPERM"), "{there:?}");
            assert_eq!(count(&control, id, Outcome::UnixDenied), 1);
        }
        healthy(&control);
    });
}

/// What this kernel does not load is said by name, and the rest goes on.
#[test]
fn optional_programs_are_loaded_or_named() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        control.tag(&cgroup.0).unwrap();
        let unavailable = control.unavailable();
        let attached = control.attached().unwrap();
        for program in [
            "connect_unix",
            "sendmsg_unix",
            "lsm_socket_create",
            "lsm_ptrace",
            "lsm_mount",
        ] {
            let named = unavailable.iter().find(|one| one.program == program);
            let there = attached.iter().any(|one| one.program == program && one.ok);
            println!("{program}: {named:?}");
            assert!(there != named.is_some_and(|one| !one.why.is_empty()), "{program}");
        }
    });
}
