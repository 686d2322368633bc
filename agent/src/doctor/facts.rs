//! What is true of this host, as far as it says.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::redirect::{self, bpf::Tried, doors};

/// How cgroups are laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cgroups {
    /// No cgroup2 file system is mounted.
    None,
    /// cgroup2 alone, here.
    Unified(PathBuf),
    /// cgroup2 here, beside v1 hierarchies.
    Hybrid(PathBuf),
}

/// What was found; `None` is what could not be read.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `uname -r`
    pub release: String,
    /// `uname -m`
    pub machine: String,
    /// The effective capabilities of this process, as capget(2) counts them.
    pub capabilities: u64,
    /// Why the kernel's type information is of no use, if it is not.
    pub btf: Option<String>,
    /// Why tracepoints cannot be had as perf events, where this kernel makes that necessary.
    pub tracepoints: Option<String>,
    /// The layout of cgroups.
    pub cgroups: Cgroups,
    /// Whether there is, or can be, a bpf file system for pins.
    pub bpffs: Option<bool>,
    /// Every program by itself, or why it did not come to that.
    pub programs: Result<Vec<Tried>, String>,
    /// Whether sockets tell which network namespace they are of.
    pub netns: bool,
    /// The security modules in force.
    pub lsms: Option<Vec<String>>,
    /// Whether an LSM program can be loaded and attached; the error otherwise.
    pub lsm_programs: Result<bool, String>,
    /// Lockdown's mode: `none`, `integrity` or `confidentiality`.
    pub lockdown: Option<String>,
    /// `kernel.io_uring_disabled`; `None` where there is no such switch.
    pub io_uring_disabled: Option<u32>,
    /// `kernel.unprivileged_bpf_disabled`
    pub unprivileged_bpf_disabled: Option<u32>,
    /// `net.core.bpf_jit_enable`
    pub jit: Option<u32>,
    /// Name servers of resolv.conf(5).
    pub resolvers: Vec<String>,
    /// The version of systemd, where it runs this host.
    pub systemd: Option<u32>,
    /// Whether sockets that are older than a tag can be found and destroyed.
    pub destroys: bool,
    /// What doors are judged by, without programs.
    pub doors: doors::Facts,
}

impl Facts {
    /// Looks, and tries every program. `pin_dir` is where links and maps would be pinned.
    #[must_use]
    pub fn gather(pin_dir: &Path) -> Self {
        let (release, machine) = nix::sys::utsname::uname().map_or_else(
            |_| ("unknown".to_owned(), "unknown".to_owned()),
            |u| (text(u.release()), text(u.machine())),
        );
        let doors = doors::Facts::of_kernel();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            release,
            machine,
            capabilities: capabilities(&status),
            btf: redirect::features::btf().err().map(|e| e.to_string()),
            tracepoints: redirect::features::tracepoints().err(),
            cgroups: cgroups(),
            bpffs: redirect::features::bpffs(pin_dir),
            programs: programs(),
            netns: redirect::features::netns_cookies(),
            lsms: read("/sys/kernel/security/lsm").map(|t| list(&t, ',')),
            lsm_programs: redirect::features::lsm_programs(),
            lockdown: read("/sys/kernel/security/lockdown").and_then(|t| chosen(&t)),
            io_uring_disabled: number("/proc/sys/kernel/io_uring_disabled"),
            unprivileged_bpf_disabled: number("/proc/sys/kernel/unprivileged_bpf_disabled"),
            jit: number("/proc/sys/net/core/bpf_jit_enable"),
            resolvers: resolvers(&read("/etc/resolv.conf").unwrap_or_default()),
            systemd: systemd(),
            destroys: doors.destroys(),
            doors,
        }
    }
}

fn text(word: &std::ffi::OsStr) -> String {
    word.to_string_lossy().into_owned()
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn number(path: &str) -> Option<u32> {
    read(path)?.trim().parse().ok()
}

fn list(text: &str, by: char) -> Vec<String> {
    text.trim().split(by).map(str::to_owned).collect()
}

/// The word in brackets: `none [integrity] confidentiality`.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// `CapEff` of proc_pid_status(5); none where it cannot be read.
fn capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

/// resolv.conf(5)
fn resolvers(text: &str) -> Vec<String> {
    let words = text.lines().map(|line| line.split_whitespace());
    words
        .filter_map(|mut words| (words.next()? == "nameserver").then(|| words.next())?)
        .map(str::to_owned)
        .collect()
}

fn cgroups() -> Cgroups {
    let Ok(mount) = redirect::cgroup::find_mount() else {
        return Cgroups::None;
    };
    let mounts = read("/proc/mounts").unwrap_or_default();
    // fstab(5): the third word is the type.
    let v1 = mounts.lines().any(|l| l.split(' ').nth(2) == Some("cgroup"));
    if v1 {
        Cgroups::Hybrid(mount)
    } else {
        Cgroups::Unified(mount)
    }
}

fn programs() -> Result<Vec<Tried>, String> {
    let mut all = redirect::bpf::try_each().map_err(|e| e.to_string())?;
    all.sort_by(|a, b| a.program.cmp(&b.program));
    Ok(all)
}

/// sd_booted(3), and the first line of `systemctl --version`: `systemd 252 (252.39-1~deb12u1)`.
fn systemd() -> Option<u32> {
    fs::symlink_metadata("/run/systemd/system").ok()?;
    let said = Command::new("systemctl").arg("--version").output().ok()?;
    version(&String::from_utf8_lossy(&said.stdout))
}

fn version(said: &str) -> Option<u32> {
    let word = said.split_whitespace().nth(1)?;
    // Some builds say `255~rc1` or `254.5`.
    let digits = word.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_their_pages_say() {
        assert_eq!(
            chosen("none [integrity] confidentiality\n").as_deref(),
            Some("integrity")
        );
        assert_eq!(chosen("none integrity"), None);
        assert_eq!(
            capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"),
            0x1ff_ffff_ffff
        );
        assert_eq!(capabilities("nothing"), 0);
        assert_eq!(
            list("lockdown,capability,bpf\n", ','),
            ["lockdown", "capability", "bpf"]
        );
        assert_eq!(
            resolvers("# nameserver 192.0.2.9\nnameserver 192.0.2.1\nsearch example.org\nnameserver\t::1\n"),
            ["192.0.2.1", "::1"]
        );
        assert_eq!(version("systemd 252 (252.39-1~deb12u1)\n+PAM\n"), Some(252));
        assert_eq!(version("systemd 257~rc2 (x)"), Some(257));
        assert_eq!(version(""), None);
    }
}
