//! Another process, and the descriptors that it has open.

use std::{
    ffi::CString,
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// `SIOCGSKNS` (linux/sockios.h)
const SIOCGSKNS: libc::Ioctl = 0x894C;
/// `TUNGETDEVNETNS` (linux/if_tun.h)
const TUNGETDEVNETNS: libc::Ioctl = 0x54E3;
/// `NS_GET_USERNS` (linux/nsfs.h)
const NS_GET_USERNS: libc::Ioctl = 0xB701;
/// `KCMP_FILE`, `KCMP_FILES` (linux/kcmp.h)
const KCMP_FILE: libc::c_int = 0;
const KCMP_FILES: libc::c_int = 2;

/// The descriptor that a system call has just made.
pub(super) fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
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

/// What is known of a file without a question to whoever serves it.
#[derive(Clone, Copy, Debug)]
pub(in crate::redirect) struct Shown {
    /// The device, as the kernel has it inside.
    pub dev: u32,
    /// Inode number.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// When its inode changed last, seconds since 1970 and nanoseconds.
    pub changed: (i64, u32),
    /// Whether it is a regular file.
    pub regular: bool,
}

/// statx(2) of an open file, with AT_STATX_DONT_SYNC.
pub(in crate::redirect) fn shown(file: impl AsFd) -> io::Result<Shown> {
    let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    let fd = file.as_fd().as_raw_fd();
    // Safety: the name is empty, and there is room for the answer.
    let done = unsafe {
        libc::statx(
            fd,
            c"".as_ptr(),
            flags,
            libc::STATX_BASIC_STATS,
            found.as_mut_ptr(),
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // Safety: plain integers, zero before the kernel wrote them.
    let found = unsafe { found.assume_init() };
    Ok(Shown {
        dev: (found.stx_dev_major << 20) | found.stx_dev_minor,
        ino: found.stx_ino,
        size: found.stx_size,
        changed: (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
        regular: u32::from(found.stx_mode) & libc::S_IFMT == libc::S_IFREG,
    })
}

/// Whether descriptors of two processes are of one open file. What the kernel does not say is no.
pub(in crate::redirect) fn same_file(one: (u32, RawFd), other: (u32, RawFd)) -> bool {
    // Safety: takes numbers.
    unsafe { libc::syscall(libc::SYS_kcmp, one.0, other.0, KCMP_FILE, one.1, other.1) == 0 }
}

/// The network namespace of the device that a descriptor of /dev/net/tun is of.
pub(in crate::redirect) fn namespace_of_tun(tun: impl AsFd) -> io::Result<OwnedFd> {
    // Safety: takes numbers.
    owned(unsafe { libc::ioctl(tun.as_fd().as_raw_fd(), TUNGETDEVNETNS) }.into())
}

/// The user namespace that a namespace belongs to.
pub(in crate::redirect) fn user_namespace(namespace: impl AsFd) -> io::Result<OwnedFd> {
    // Safety: takes numbers.
    owned(unsafe { libc::ioctl(namespace.as_fd().as_raw_fd(), NS_GET_USERNS) }.into())
}

/// The major and minor number of a character device; `None` for anything else. Who serves the file system is not asked: he
/// might be slow to answer.
pub(in crate::redirect) fn device(path: &Path) -> Option<(u32, u32)> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    // Safety: the path ends with a zero, and there is room for the answer; all zero is a valid one.
    let (done, found) = unsafe {
        let (flags, mask) = (libc::AT_STATX_DONT_SYNC, libc::STATX_TYPE);
        let done = libc::statx(libc::AT_FDCWD, path.as_ptr(), flags, mask, found.as_mut_ptr());
        (done, found.assume_init())
    };
    let is_device = done == 0 && u32::from(found.stx_mode) & libc::S_IFMT == libc::S_IFCHR;
    is_device.then_some((found.stx_rdev_major, found.stx_rdev_minor))
}
