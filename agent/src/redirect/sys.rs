//! The system calls that neither std nor nix nor aya offers: the only `unsafe` of the agent.
#![allow(unsafe_code)]

pub(super) mod load;
pub(super) mod peer;
pub(super) mod perf;
pub(super) mod process;

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use tokio::io::{Interest, unix::AsyncFd};

/// `BPF_OBJ_GET`
const OBJ_GET: libc::c_int = 7;
/// `BPF_OBJ_GET_INFO_BY_FD`
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
/// `BPF_LINK_UPDATE`
const LINK_UPDATE: libc::c_int = 29;
/// `BPF_LINK_DETACH`
const LINK_DETACH: libc::c_int = 34;
/// `SO_NETNS_COOKIE` (asm-generic/socket.h); libc has it for some targets only.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// `SO_RCVMARK` (asm-generic/socket.h, since Linux 5.19); libc has it for some targets only.
const SO_RCVMARK: libc::c_int = 75;

/// What the kernel says of a cgroup link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkInfo {
    /// The link's id.
    pub id: u32,
    /// The id of the program behind it.
    pub program: u32,
    /// The cgroup's id; 0 once the cgroup is gone, when the link no longer does anything.
    pub cgroup: u64,
}

/// bpf(2). `attr` is a prefix of `union bpf_attr`; the kernel takes the rest as zero.
fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_int> {
    // Safety: `attr` is valid for reads and writes of its size, which is what the kernel is told.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    libc::c_int::try_from(result)
        .ok()
        .filter(|fd| *fd >= 0)
        .ok_or_else(io::Error::last_os_error)
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// Opens a pinned object.
pub(super) fn obj_get(path: &Path) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        pathname: u64,
        bpf_fd: u32,
        file_flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Attr {
        pathname: path.as_ptr() as u64,
        bpf_fd: 0,
        file_flags: 0,
    };
    let fd = bpf(OBJ_GET, &mut attr)?;
    // Safety: the kernel has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts another program behind a link: atomically, so that no event meets none. aya has this for XDP and TC only.
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        link_fd: u32,
        new_prog_fd: u32,
        flags: u32,
        old_prog_fd: u32,
    }
    let mut attr = Attr {
        link_fd: raw(link),
        new_prog_fd: raw(program),
        flags: 0,
        old_prog_fd: 0,
    };
    bpf(LINK_UPDATE, &mut attr).map(drop)
}

/// Takes a link's program off its cgroup before this returns. Closing or unpinning a link does so at some later time.
pub(super) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        link_fd: u32,
    }
    bpf(LINK_DETACH, &mut Attr { link_fd: raw(link) }).map(drop)
}

/// Reads `struct bpf_link_info` of a cgroup link; aya leaves out the cgroup.
pub(super) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        program: u32,
        reserved: u32,
        cgroup: u64,
        attach_type: u32,
        rest: [u32; 9],
    }
    #[repr(C)]
    struct Attr {
        bpf_fd: u32,
        info_len: u32,
        info: u64,
    }
    let mut info = Info::default();
    let mut attr = Attr {
        bpf_fd: raw(link),
        info_len: u32::try_from(size_of::<Info>()).unwrap_or(0),
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(LinkInfo {
        id: info.id,
        program: info.program,
        cgroup: info.cgroup,
    })
}

/// The cookie of the network namespace that a socket belongs to.
pub(super) fn netns_cookie(socket: impl AsFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length: libc::socklen_t = 8;
    // Safety: the buffer is eight bytes, as `length` says.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The network namespace that a socket belongs to, as a file of /proc/PID/ns is (`SIOCGSKNS`).
pub(super) fn netns_of(socket: impl AsFd) -> io::Result<std::fs::File> {
    /// linux/sockios.h; libc does not have it.
    const SIOCGSKNS: libc::Ioctl = 0x894c;
    // Safety: the request has no argument.
    let fd = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCGSKNS) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // Safety: the kernel has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into())
}

/// Asks for each datagram's mark, as a control message of `SO_MARK`.
pub(super) fn receive_marks(socket: impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // Safety: the kernel reads one int from where it is told.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_RCVMARK,
            (&raw const on).cast(),
            libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(0),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Waits for a descriptor to be readable, on the runtime of the caller.
///
/// `T` must keep its descriptor for as long as it lives, as the types that are given here do: an inotify instance, aya's
/// log reader, and its ring buffers.
pub(super) fn readable<T: AsFd + AsRawFd>(inner: T) -> io::Result<AsyncFd<T>> {
    // Safety: `AsFd` vouches for an open descriptor, and see above.
    unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE) }.map_err(Into::into)
}

/// Waits for the mounts of /proc/self/mountinfo to change (proc_pid_mountinfo(5)): then it has priority.
pub(super) fn changing(mounts: std::fs::File) -> io::Result<AsyncFd<std::fs::File>> {
    // Safety: a file keeps its descriptor for as long as it lives.
    unsafe { AsyncFd::register_with_interest(mounts, Interest::PRIORITY) }.map_err(Into::into)
}

/// `SIOCOUTQ`: bytes that were written to a TCP socket and that the peer's kernel has not acknowledged yet.
pub fn unacknowledged(socket: impl AsFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // Safety: the kernel writes one int to where it is told.
    let result = unsafe {
        libc::ioctl(
            socket.as_fd().as_raw_fd(),
            libc::TIOCOUTQ,
            std::ptr::from_mut(&mut bytes),
        )
    };
    if result == 0 {
        Ok(u64::try_from(bytes).unwrap_or_default())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Takes over a descriptor that this process was started with; nothing else here may use its number.
pub(super) fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    // Safety: fcntl(2) takes any number, and fails for one that is not open.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // Safety: it is open, and by the protocol of sd_listen_fds(3) it is this process's, whose only taker this is.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
