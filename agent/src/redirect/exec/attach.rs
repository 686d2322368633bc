//! Programs on tracepoints, pinned so that they outlive the agent.

use std::path::Path;

use aya::{
    Ebpf,
    programs::{Program, RawTracePoint, links::FdLink},
};

use crate::redirect::{
    RedirectError,
    bpf::{open_link, pin_failed},
};

/// The programs, and the tracepoints that they are on.
pub(in crate::redirect) const PROGRAMS: [(&str, &str); 5] = [
    ("sched_exit", "sched_process_exit"),
    ("sched_fork", "sched_process_fork"),
    ("sched_exec", "sched_process_exec"),
    ("netns_fork", "sched_process_fork"),
    ("netns_exec", "sched_process_exec"),
];

/// The program that ends held processes which someone has woken; on every system call of the host, and so only where a
/// workload's execs are held.
pub(in crate::redirect) const HELD_CALLS: (&str, &str) = ("held_calls", "sys_enter");

/// Puts a program on its tracepoint, by a link pinned at `pin`.
///
/// The kernel cannot replace the program behind such a link: the new link takes the old one's pin when it is in force
/// already, so that there is a moment with both and none with neither. What both would do, they do once (`execs` in
/// `PROCS`).
pub(in crate::redirect) fn ensure(
    ebpf: &mut Ebpf,
    program: &'static str,
    tracepoint: &str,
    pin: &Path,
) -> Result<(), RedirectError> {
    let refused = |error| RedirectError::program(program, &error);
    let loaded = ebpf.program_mut(program).ok_or(RedirectError::Missing(program))?;
    let loaded: &mut RawTracePoint = loaded.try_into().map_err(refused)?;
    let link = loaded
        .attach(tracepoint)
        .and_then(|id| loaded.take_link(id))
        .map_err(refused)?;
    // No dot: this file system keeps names with one for itself.
    let mut next = pin.as_os_str().to_owned();
    next.push("-next");
    let next = std::path::PathBuf::from(next);
    match std::fs::remove_file(&next) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(pin_failed(&next)(error)),
        _ => {}
    }
    FdLink::from(link)
        .pin(&next)
        .map_err(|error| pin_failed(&next)(std::io::Error::other(error)))?;
    std::fs::rename(&next, pin).map_err(pin_failed(pin))
}

/// The link's id and its program's, both 0 where it is not there, and whether it is the loaded program's.
pub(in crate::redirect) fn describe(
    ebpf: &Ebpf,
    program: &str,
    pin: &Path,
) -> Result<(u32, u32, bool), RedirectError> {
    let found = open_link(pin)?.map(|(_, info)| info);
    let own = ebpf.program(program).map(Program::info);
    let own = own.and_then(Result::ok).map(|info| info.id());
    let (link, id) = found.map_or((0, 0), |info| (info.id, info.program));
    Ok((link, id, found.is_some() && own == Some(id)))
}
