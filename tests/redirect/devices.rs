//! Devices by which something leaves past every socket: nodes of them are opened and made, by root.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::stat::{Mode, SFlag, makedev, mknod},
};
use portcullis::redirect::{Switches, bpf::Outcome};
use portcullis_abi::guard::flag;
use tempfile::TempDir;

use crate::guard::{Cgroup, Pins, Workload, count, healthy, isolated};

/// What leads out, and what does not, by kind and numbers.
const DENIED: [(&str, u64, u64); 5] = [
    ("umad0", 231, 0),
    ("uverbs0", 231, 192),
    ("uverbs31", 231, 223),
    ("tun", 10, 200),
    ("vhost-vsock", 10, 241),
];
const OTHERS: [(&str, SFlag, u64, u64); 4] = [
    ("null", SFlag::S_IFCHR, 1, 3),
    ("misc", SFlag::S_IFCHR, 10, 255),
    ("neighbour", SFlag::S_IFCHR, 230, 192),
    ("disk", SFlag::S_IFBLK, 231, 192),
];

/// In /dev: elsewhere a node may be of no effect (nodev).
struct Nodes(TempDir);

impl Nodes {
    fn make() -> Self {
        let nodes = Self(tempfile::tempdir_in("/dev").unwrap());
        let leads_out = DENIED.map(|(name, major, minor)| (name, SFlag::S_IFCHR, major, minor));
        for (name, kind, major, minor) in leads_out.into_iter().chain(OTHERS) {
            mknod(&nodes.path(name), kind, Mode::S_IRWXU, makedev(major, minor)).unwrap();
        }
        nodes
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// What the kernel answers outside of a workload, in the workload's words.
fn outside(path: &Path) -> String {
    match File::open(path) {
        Ok(_) => "ok".into(),
        Err(error) => format!("err {:?}", Errno::from_raw(error.raw_os_error().unwrap())),
    }
}

fn opened(workload: &mut Workload, path: &Path) -> String {
    workload.ask(&format!("open {}", path.display()))
}

#[test]
fn devices_that_lead_out_are_denied_and_counted() {
    isolated(|| async {
        let (pins, cgroup, nodes) = (Pins::new(), Cgroup::new(), Nodes::make());
        let (_agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let mut workload = Workload::new(&cgroup.0);
        for (name, ..) in DENIED {
            assert_ne!(outside(&nodes.path(name)), "err EPERM", "{name}");
            assert_eq!(opened(&mut workload, &nodes.path(name)), "err EPERM", "{name}");
        }
        let denied = DENIED.len() as u64;
        assert_eq!(count(&control, id, Outcome::DeviceDenied), denied);
        let made = nodes.path("made");
        let make = format!("make-node {} 231 193", made.display());
        assert_eq!(workload.ask(&make), "err EPERM");
        assert!(!made.exists());
        assert_eq!(count(&control, id, Outcome::DeviceDenied), denied + 1);
        for (name, ..) in OTHERS {
            let path = nodes.path(name);
            assert_eq!(opened(&mut workload, &path), outside(&path), "{name}");
        }
        assert_eq!(count(&control, id, Outcome::DeviceDenied), denied + 1);
        control
            .tag_as(&cgroup.0, Switches { flags: flag::DEVICES })
            .unwrap();
        for (name, ..) in DENIED {
            let path = nodes.path(name);
            assert_eq!(opened(&mut workload, &path), outside(&path), "{name}");
        }
        assert_eq!(count(&control, id, Outcome::DeviceDenied), denied + 1);
        healthy(&control);
    });
}

/// As containers without root make one; there it leads to sockets of the workload only.
#[test]
fn a_tap_of_a_network_of_its_own_may_be_made_in_a_sandbox() {
    isolated(|| async {
        let (pins, cgroup, nodes) = (Pins::new(), Cgroup::new(), Nodes::make());
        let (_agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let mut workload = Workload::new(&cgroup.0);
        let tun = nodes.path("tun");
        assert_eq!(workload.ask("unshare"), "ok exit status: 0");
        assert_eq!(
            opened(&mut workload, &tun),
            "err EPERM",
            "root's own, still the host's users'"
        );
        let ran = workload.ask("sandbox");
        assert!(ran.starts_with("ok"), "{ran}");
        assert_eq!(opened(&mut workload, &tun), outside(&tun));
        assert_eq!(count(&control, id, Outcome::DeviceDenied), 1);
        healthy(&control);
    });
}
