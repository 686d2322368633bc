//! Another process, and the descriptors that it has open.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

/// `SIOCGSKNS` (linux/sockios.h)
const SIOCGSKNS: libc::Ioctl = 0x894C;
/// `KCMP_FILES` (linux/kcmp.h)
const KCMP_FILES: libc::c_int = 2;

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(result).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // Safety: the kernel has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// pidfd_open(2): the process that has this number now, whoever has it later.
pub(in crate::redirect) fn open(pid: u32) -> io::Result<OwnedFd> {
    // Safety: takes numbers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// pidfd_getfd(2): what a descriptor of the process is of, for this process as well.
pub(in crate::redirect) fn descriptor(process: impl AsFd, fd: RawFd) -> io::Result<OwnedFd> {
    let process = process.as_fd().as_raw_fd();
    // Safety: takes numbers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process, fd, 0) })
}

/// Sends a signal to the process. SIGKILL and SIGSTOP reach all of its threads, before any of them comes back from the
/// kernel.
pub(in crate::redirect) fn signal(process: impl AsFd, signal: libc::c_int) -> io::Result<()> {
    let process = process.as_fd().as_raw_fd();
    let nothing = std::ptr::null::<u8>();
    // Safety: takes numbers, and no `siginfo_t`.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process, signal, nothing, 0) };
    if sent == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Whether two threads use one table of descriptors. What the kernel does not say is no.
pub(in crate::redirect) fn share_descriptors(one: u32, other: u32) -> bool {
    // Safety: takes numbers.
    unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_FILES, 0, 0) == 0 }
}

/// The network namespace of a socket.
pub(in crate::redirect) fn namespace(socket: impl AsFd) -> io::Result<OwnedFd> {
    // Safety: takes numbers.
    owned(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCGSKNS) }.into())
}

/// Closes all descriptors of the calling thread but one. The thread must have a table of its own, in which nothing else
/// counts on what is closed.
pub(in crate::redirect) fn keep_only(kept: impl AsFd) -> io::Result<()> {
    let kept = kept.as_fd().as_raw_fd().cast_unsigned();
    for (first, last) in [(0, kept.checked_sub(1)), (kept.saturating_add(1), Some(u32::MAX))] {
        let Some(last) = last else { continue };
        // Safety: takes numbers; whose descriptors they are, the caller answers for.
        if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
