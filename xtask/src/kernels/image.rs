//! The root file system: Debian with systemd and what the tests use, made once.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::archive::{Archive, RELEASE};
use crate::step::{run, say};

/// What the guest has beyond Debian's essential packages.
const PACKAGES: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "udev",
    "dbus",
    "kmod",
    "iproute2",
    "procps",
    "util-linux",
    "curl",
    "ca-certificates",
    "openssl",
    "python3",
    "nginx-light",
    "sqlite3",
    "adduser",
    // The redirect tests build hostile programs, and run a container of busybox.
    "gcc",
    "libc6-dev",
    "crun",
    "busybox-static",
];

/// Changes when what follows makes another image of the same packages.
const LAYOUT: u32 = 2;

/// The image, on which nothing is ever written: machines run on copies.
pub struct Image {
    pub path: PathBuf,
}

impl Image {
    /// Makes the image, unless it is there with the same packages.
    pub fn ensure(work: &Path, archive: &Archive) -> anyhow::Result<Self> {
        let path = work.join("root.ext4");
        let stamp = work.join("root.made-of");
        let made_of = format!("{LAYOUT} {RELEASE} {}\n", PACKAGES.join(" "));
        if path.exists() && fs::read_to_string(&stamp).is_ok_and(|s| s == made_of) {
            return Ok(Self { path });
        }
        say("image", "a Debian root with systemd, made once; a minute or two");
        let tree = work.join("root");
        if tree.exists() {
            fs::remove_dir_all(&tree)?;
        }
        let sources = work.join("root.list");
        fs::write(&sources, archive.sources())?;
        run(Command::new("mmdebstrap")
            .args(["--quiet", "--mode=root", "--variant=minbase"])
            .arg(format!("--include={}", PACKAGES.join(",")))
            .args([RELEASE.as_ref(), tree.as_os_str(), sources.as_os_str()]))?;
        configure(&tree)?;
        let partial = work.join("root.partial");
        if partial.exists() {
            fs::remove_file(&partial)?;
        }
        run(Command::new("mkfs.ext4")
            .args(["-q", "-L", "root", "-d"])
            .args([tree.as_os_str(), partial.as_os_str()])
            .arg("3G"))?;
        fs::remove_dir_all(&tree)?;
        fs::rename(&partial, &path)?;
        fs::write(&stamp, made_of)?;
        Ok(Self { path })
    }
}

fn configure(tree: &Path) -> anyhow::Result<()> {
    fs::write(tree.join("etc/hostname"), "guest\n")?;
    fs::write(
        tree.join("etc/hosts"),
        "127.0.0.1 localhost guest\n::1 localhost\n",
    )?;
    fs::create_dir_all(tree.join("payload"))?;
    fs::create_dir_all(tree.join("lib/modules"))?;
    let units = tree.join("etc/systemd/system");
    fs::write(units.join("guest.service"), include_str!("guest/guest.service"))?;
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants)?;
    std::os::unix::fs::symlink("../guest.service", wants.join("guest.service"))?;
    // What takes time under emulation, or would wait for what a guest does not have.
    for unit in [
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "dpkg-db-backup.timer",
        "e2scrub_all.timer",
        "e2scrub_reap.service",
        "fstrim.timer",
        "getty@tty1.service",
        "nginx.service",
        "serial-getty@ttyS0.service",
        "systemd-timesyncd.service",
    ] {
        let mask = units.join(unit);
        std::os::unix::fs::symlink("/dev/null", mask)?;
    }
    for unit in ["nginx.service", "e2scrub_reap.service"] {
        let wanted = wants.join(unit);
        if wanted.is_symlink() {
            fs::remove_file(wanted)?;
        }
    }
    Ok(())
}
