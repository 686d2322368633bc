//! The programs on raw tracepoints, each attached once for the host.

use std::{fs, io, os::fd::OwnedFd, path::Path};

use aya::{
    Ebpf,
    programs::{Program, ProgramError, RawTracePoint, links::FdLink},
};

use crate::redirect::{RedirectError, bpf::open_link};

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
    let program = ebpf.program_mut(name).ok_or(RedirectError::Missing(name))?;
    let program: &mut RawTracePoint = program.try_into().map_err(refused)?;
    let link = program.attach(tracepoint).map_err(refused)?;
    let link = FdLink::from(program.take_link(link).map_err(refused)?);
    replace(pin, |at| link.pin(at).map(drop).map_err(io::Error::other))?;
    Ok(before)
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
