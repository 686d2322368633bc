//! The programs on tracepoints, each attached once for the host.
//!
//! They are on raw tracepoints, which run them with preemption off, until Linux 7.0: from then on a task that is interrupted
//! within one blinds it on its CPU for as long as it waits. There, and from 6.19 on to be sure, those that can be
//! interrupted are on perf events of the same tracepoints (`ebpf/src/tracepoint.rs`).

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::Path,
};

use aya::{
    Ebpf,
    programs::{Program, ProgramError, RawTracePoint, links::FdLink},
};

use super::interrupted;
use crate::redirect::{RedirectError, bpf::open_link, sys};

/// `BPF_PERF_EVENT`
const PERF_EVENT: u32 = 41;
/// Programs on raw tracepoints that are run with preemption on there; in their places, and where those sit. All others of
/// this kind are run with interrupts off.
const STEADY: &[(&str, &str, &str)] = &[
    ("sys_enter", "steady_sys_enter", "raw_syscalls/sys_enter"),
    ("task_forked", "steady_task_forked", "sched/sched_process_fork"),
    (
        "task_executed",
        "steady_task_executed",
        "sched/sched_process_exec",
    ),
    ("task_exited", "steady_task_exited", "sched/sched_process_exit"),
];

/// The programs that follow processes, and their tracepoints. What tells of processes comes before what asks.
pub const TRACEPOINTS: &[(&str, &str)] = &[
    ("task_exited", "sched_process_exit"),
    ("task_forked", "sched_process_fork"),
    ("task_executed", "sched_process_exec"),
    ("task_moved", "cgroup_attach_task"),
];

/// The guard of system calls. Every one of the host pays for it: it is attached only while something is tagged.
pub const CALLS: (&str, &str) = ("sys_enter", "sys_enter");

/// What ends a held process that someone has woken, before it runs: attached only while processes can be held. Where there
/// is none, the guard of system calls ends it at its first.
pub(in crate::redirect) const HELD: &[(&str, &str)] = &[
    #[cfg(target_arch = "x86_64")]
    ("held_runs", "x86_fpu_regs_activated"),
];

/// The program that does on this kernel what the one of this name does, and the perf event that it sits on.
fn steady(name: &str) -> Option<(&'static str, &'static str)> {
    let found = STEADY.iter().find(|(raw, ..)| *raw == name);
    let found = found.filter(|_| interrupted::on_tracepoints())?;
    Some((found.1, found.2))
}

/// The name, in the object, of the program that does on this kernel what the one of this name does.
pub(in crate::redirect) fn in_object(name: &str) -> &str {
    steady(name).map_or(name, |(steady, _)| steady)
}

/// Whether a program of the object is for other kernels than this one.
pub(in crate::redirect) fn is_for_others(program: &str) -> bool {
    let pair = STEADY
        .iter()
        .find(|(raw, steady, _)| [*raw, *steady].contains(&program));
    pair.is_some_and(|(raw, ..)| in_object(raw) != program)
}

/// Asks for every perf event that programs of this kernel sit on, and lets it go.
pub(in crate::redirect) fn try_tracepoints() -> Result<(), RedirectError> {
    let wanted = STEADY.iter().filter_map(|(raw, ..)| steady(raw));
    for (_, event) in wanted {
        sys::perf::tracepoint(event).map_err(|source| RedirectError::Tracepoint { event, source })?;
    }
    Ok(())
}

/// Puts a program on its tracepoint, by a link pinned at `pin`: returns the link of the program that was there, which goes
/// on until that is dropped.
///
/// The kernel cannot replace the program behind such a link: the new link takes the old one's pin when it is in force
/// already, so that there is a moment with both and none with neither. What both would do, they do once, by what
/// `PROCESSES` says.
pub(in crate::redirect) fn attach(
    ebpf: &mut Ebpf,
    (name, tracepoint): (&'static str, &str),
    pin: &Path,
) -> Result<Option<OwnedFd>, RedirectError> {
    let refused = |error: ProgramError| RedirectError::program(name, &error);
    let before = open_link(pin)?.map(|(link, _)| link);
    if let Some((steady, event)) = steady(name) {
        let program = ebpf.program(steady).ok_or(RedirectError::Missing(name))?;
        let program = program.fd().map_err(refused)?.as_fd();
        let told = |error: io::Error| RedirectError::Tracepoint { event, source: error };
        let event = sys::perf::tracepoint(event).map_err(told)?;
        let link = sys::load::link_create(program, event.as_fd(), PERF_EVENT).map_err(told)?;
        replace(pin, |at| sys::load::obj_pin(link.as_fd(), at))?;
        return Ok(before);
    }
    let program = ebpf.program_mut(name).ok_or(RedirectError::Missing(name))?;
    let program: &mut RawTracePoint = program.try_into().map_err(refused)?;
    let link = program.attach(tracepoint).map_err(refused)?;
    let link = FdLink::from(program.take_link(link).map_err(refused)?);
    replace(pin, |at| link.pin(at).map(drop).map_err(io::Error::other))?;
    Ok(before)
}

/// How often a program did not run because another task was interrupted within it, or within a change of a map, on the
/// same CPU: what came by was not seen.
pub(in crate::redirect) fn missed(program: &OwnedFd) -> u64 {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd()));
    info.as_deref().map_or(0, misses)
}

/// What does the work of the program of this name here, if it is loaded.
pub(in crate::redirect) fn loaded(ebpf: &Ebpf, name: &str) -> Option<OwnedFd> {
    let program = ebpf.program(in_object(name))?.fd().ok()?;
    program.as_fd().try_clone_to_owned().ok()
}

fn misses(info: &str) -> u64 {
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("recursion_misses:"));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// The link's id and its program's, both 0 where it is not there, and whether it is the loaded program's.
pub(in crate::redirect) fn describe(
    ebpf: &Ebpf,
    program: &str,
    pin: &Path,
) -> Result<(u32, u32, bool), RedirectError> {
    let found = open_link(pin)?.map(|(_, info)| info);
    let own = ebpf.program(in_object(program)).map(Program::info);
    let own = own.and_then(Result::ok).map(|info| info.id());
    let (link, id) = found.map_or((0, 0), |info| (info.id, info.program));
    Ok((link, id, found.is_some() && own == Some(id)))
}

/// Pins a link in the place of the one before, which ends with its pin: links of tracepoints cannot be updated.
pub(super) fn replace(
    pin: &Path,
    pin_link: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), RedirectError> {
    let failed = |source| RedirectError::Pin {
        path: pin.to_path_buf(),
        source,
    };
    // No dot: this file system keeps names with one for itself.
    let mut name = pin.as_os_str().to_owned();
    name.push("_new");
    // What an agent left that ended just here.
    let _absent = fs::remove_file(&name);
    pin_link(Path::new(&name)).map_err(failed)?;
    fs::rename(&name, pin).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_run_is_told_by_the_kernel() {
        assert_eq!(misses("prog_type:\t17\nrun_cnt:\t4\nrecursion_misses:\t12\n"), 12);
        assert_eq!(misses("prog_type:\t17\n"), 0);
    }
}
