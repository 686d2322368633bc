//! Who is at the other end of a UNIX socket.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// `SO_PEERPIDFD` (asm-generic/socket.h), Linux 6.5
const SO_PEERPIDFD: libc::c_int = 77;

/// A descriptor of the process that connected: of that one, whoever has its number now.
pub(in crate::redirect) fn pidfd(socket: impl AsFd) -> io::Result<OwnedFd> {
    let mut fd: libc::c_int = -1;
    let mut length: libc::socklen_t = 4;
    // Safety: the kernel writes one int to where it is told.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut length,
        )
    };
    if result != 0 || fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // Safety: the kernel has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
