//! Tracepoints as perf events, for programs that are run with preemption off.

use std::{
    ffi::CStr,
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use super::process::owned;

/// Where tracefs is mounted.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
/// `PERF_TYPE_TRACEPOINT`, `PERF_FLAG_FD_CLOEXEC` (linux/perf_event.h)
const TRACEPOINT: u32 = 2;
const CLOEXEC: libc::c_ulong = 8;
/// `FSCONFIG_CMD_CREATE` (linux/mount.h)
const CREATE: libc::c_uint = 6;

/// An event of a tracepoint, `category/name`, to which a program is linked for all CPUs (perf_event_open(2)).
///
/// # Errors
/// When there is no such tracepoint, or no tracefs to look it up in.
pub(in crate::redirect) fn tracepoint(name: &str) -> io::Result<OwnedFd> {
    #[repr(C)]
    #[derive(Default)]
    struct Attr {
        kind: u32,
        size: u32,
        config: u64,
        sample_period: u64,
        sample_type: u64,
        read_format: u64,
        flags: u64,
        wakeup_events: u32,
        bp_type: u32,
        config1: u64,
    }
    // PERF_ATTR_SIZE_VER0
    const { assert!(size_of::<Attr>() == 64) };
    let attr = Attr {
        kind: TRACEPOINT,
        size: 64,
        config: id(name)?,
        ..Attr::default()
    };
    let (all, cpu, alone) = (-1, 0, -1);
    // Safety: the kernel reads as many bytes as `size` says.
    owned(unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            all,
            cpu,
            alone,
            CLOEXEC,
        )
    })
}

fn id(name: &str) -> io::Result<u64> {
    let mounted = TRACEFS.iter().find(|at| Path::new(at).join("events").exists());
    let own;
    let tracefs = match mounted {
        Some(at) => (*at).to_owned(),
        None => {
            own = detached(c"tracefs")?;
            format!("/proc/self/fd/{}", own.as_raw_fd())
        }
    };
    let text = fs::read_to_string(Path::new(&tracefs).join("events").join(name).join("id"))?;
    text.trim().parse().map_err(io::Error::other)
}

/// A file system that is mounted nowhere (fsopen(2)).
fn detached(kind: &CStr) -> io::Result<OwnedFd> {
    // Safety: takes a string that ends with NUL.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), 1) })?;
    let nothing = std::ptr::null::<u8>();
    let context = context.as_raw_fd();
    // Safety: this command takes neither key nor value.
    if unsafe { libc::syscall(libc::SYS_fsconfig, context, CREATE, nothing, nothing, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // Safety: takes numbers.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context, 1, 0) })
}
