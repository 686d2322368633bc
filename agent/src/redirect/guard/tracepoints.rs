//! The programs on raw tracepoints: attached once for the host.

use std::{fs, io, path::Path};

use aya::{
    Ebpf,
    programs::{ProgramError, RawTracePoint, links::FdLink},
};

use crate::redirect::RedirectError;

/// The programs and their tracepoints. What tells of processes comes before what asks.
pub const TRACEPOINTS: &[(&str, &str)] = &[
    ("task_exited", "sched_process_exit"),
    ("task_forked", "sched_process_fork"),
    ("task_moved", "cgroup_attach_task"),
    // System calls have other numbers and registers elsewhere.
    #[cfg(target_arch = "x86_64")]
    ("sys_enter", "sys_enter"),
];

/// Attaches them, and lets those of an earlier agent go: `pin` gives the path of a program's pin.
pub(in crate::redirect) fn attach(
    ebpf: &mut Ebpf,
    pin: impl Fn(&str) -> std::path::PathBuf,
) -> Result<(), RedirectError> {
    for (name, tracepoint) in TRACEPOINTS {
        let refused = |error: ProgramError| RedirectError::program(name, &error);
        let program = ebpf.program_mut(name).ok_or(RedirectError::Missing(name))?;
        let program: &mut RawTracePoint = program.try_into().map_err(refused)?;
        let link = program.attach(tracepoint).map_err(refused)?;
        let link = FdLink::from(program.take_link(link).map_err(refused)?);
        replace(&pin(name), |at| link.pin(at).map(drop).map_err(io::Error::other))?;
    }
    Ok(())
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
    let mut name = pin.as_os_str().to_owned();
    name.push("_new");
    // What an agent left that ended just here.
    let _absent = fs::remove_file(&name);
    pin_link(Path::new(&name)).map_err(failed)?;
    fs::rename(&name, pin).map_err(failed)
}
