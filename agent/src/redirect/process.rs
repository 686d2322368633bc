//! Which program a connection belongs to, for the record.

use std::{fs, path::PathBuf, sync::Arc};

use super::cgroup;
use crate::model::{Origin, Process};

/// Reads /proc while the process still is the one that connected: what is read of one that has gone, or of another that
/// has its pid now, is left out.
///
/// Three small reads, which block for some 20 us but never on a disk.
#[must_use]
pub fn resolve(origin: &Origin) -> Process {
    let exe = fs::read_link(format!("/proc/{}/exe", origin.pid)).ok();
    let cgroup = cgroup::of_process(&origin.pid.to_string()).ok();
    // Last: if it is the same process now, it was the same above.
    let same = same_start(origin);
    let process = Process {
        pid: origin.pid,
        tid: origin.tid,
        uid: origin.uid,
        gid: origin.gid,
        start_ns: origin.start_ns,
        exe: None,
        cgroup: None,
        sha256: None,
        parents: Vec::new(),
    };
    if !same {
        return process;
    }
    Process {
        exe: exe.map(Arc::<PathBuf>::new),
        cgroup: cgroup.map(Arc::from),
        ..process
    }
}

/// The process of a thread, and when that started: nanoseconds since boot, to a clock tick. `None` when it is gone.
#[must_use]
pub(super) fn of_thread(tid: u32) -> Option<(u32, u64)> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let tgid: u32 = status
        .lines()
        .find_map(|line| line.strip_prefix("Tgid:"))?
        .trim()
        .parse()
        .ok()?;
    let stat = fs::read_to_string(format!("/proc/{tgid}/stat")).ok()?;
    Some((tgid, start_ticks(&stat)?.checked_mul(tick_ns()?)?))
}

/// Whether the process that has this pid started when the one that connected did, to a clock tick (10 ms).
fn same_start(origin: &Origin) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", origin.pid)) else {
        return false;
    };
    match (start_ticks(&stat), tick_ns()) {
        (Some(ticks), Some(tick)) => origin.start_ns / tick == ticks,
        _ => false,
    }
}

/// Whether two starts are of the same process: one of them is known to a clock tick only.
pub(super) fn same_tick(exact_ns: u64, ticks_ns: u64) -> bool {
    tick_ns().is_some_and(|tick| exact_ns / tick == ticks_ns / tick)
}

/// A clock tick, nanoseconds.
pub(super) fn tick_ns() -> Option<u64> {
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
        .ok()
        .flatten()?;
    1_000_000_000_u64.checked_div(u64::try_from(per_second).ok()?)
}

/// Field 22 of proc_pid_stat(5). The name, field 2, is in parentheses and may itself hold blanks and parentheses.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CgroupId;

    #[test]
    fn reads_the_start_behind_a_hostile_name() {
        let stat = "7 (a) R 1 (b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21";
        assert_eq!(start_ticks(stat), Some(4242));
        for bad in [
            "",
            "7",
            "7 (a",
            "7 (a) S",
            "7 (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x",
        ] {
            assert_eq!(start_ticks(bad), None);
        }
    }

    #[test]
    fn only_the_same_process_is_described() {
        let pid = std::process::id();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let mut origin = Origin {
            tagged: CgroupId(1),
            cgroup: CgroupId(1),
            pid,
            tid: pid,
            uid: 0,
            gid: 0,
            start_ns: start_ticks(&stat).unwrap() * 10_000_000,
            netns: 1,
            socket: 1,
        };
        assert_eq!(
            resolve(&origin).exe.as_deref(),
            std::env::current_exe().ok().as_ref()
        );
        origin.start_ns += 10_000_000;
        assert_eq!(resolve(&origin).exe, None);
        origin.pid = u32::MAX;
        assert_eq!(resolve(&origin).cgroup, None);
    }
}
