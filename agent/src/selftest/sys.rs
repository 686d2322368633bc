//! The raw system calls of the self-test.
//!
//! The one place of the self-test with `unsafe`. Why there is any: what it tries is what no library offers a program that
//! means well (any socket family, addresses as bytes, io_uring without a runtime, another process's memory), and what a
//! hostile program would do is exactly these calls. Every function takes slices and owned descriptors, and gives the
//! kernel the lengths that they have.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

fn checked(result: i64) -> io::Result<i64> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn owned(result: i64) -> io::Result<OwnedFd> {
    let fd = i32::try_from(checked(result)?).map_err(io::Error::other)?;
    // Safety: the kernel has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A descriptor that came with a message, which nobody else has.
pub(super) fn adopt(fd: i32) -> OwnedFd {
    // Safety: the kernel has made it for this process when the message was received.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn length(bytes: &[u8]) -> libc::socklen_t {
    libc::socklen_t::try_from(bytes.len()).unwrap_or(0)
}

/// socket(2), of any family.
pub(super) fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // Safety: takes numbers.
    owned(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) }.into())
}

/// connect(2), with an address as bytes.
pub(super) fn connect(fd: BorrowedFd<'_>, address: &[u8]) -> io::Result<()> {
    // Safety: the kernel reads as many bytes as it is told.
    checked(unsafe { libc::connect(fd.as_raw_fd(), address.as_ptr().cast(), length(address)) }.into())
        .map(drop)
}

/// bind(2).
pub(super) fn bind(fd: BorrowedFd<'_>, address: &[u8]) -> io::Result<()> {
    // Safety: as above.
    checked(unsafe { libc::bind(fd.as_raw_fd(), address.as_ptr().cast(), length(address)) }.into()).map(drop)
}

/// sendto(2); an empty address is none.
pub(super) fn send(fd: BorrowedFd<'_>, data: &[u8], flags: i32, address: &[u8]) -> io::Result<()> {
    let to = if address.is_empty() {
        ptr::null()
    } else {
        address.as_ptr().cast()
    };
    // Safety: the kernel reads as many bytes of both as it is told.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            data.as_ptr().cast(),
            data.len(),
            flags,
            to,
            length(address),
        )
    };
    checked(sent as i64).map(drop)
}

/// recv(2), without waiting when nothing is there.
pub(super) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // Safety: the kernel writes at most as many bytes as it is told.
    let got = unsafe {
        libc::recv(
            fd.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            libc::MSG_DONTWAIT,
        )
    };
    checked(got as i64).map(|n| usize::try_from(n).unwrap_or(0))
}

/// setsockopt(2).
pub(super) fn set(fd: BorrowedFd<'_>, level: i32, option: i32, value: &[u8]) -> io::Result<()> {
    // Safety: as for connect.
    let set = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            value.as_ptr().cast(),
            length(value),
        )
    };
    checked(set.into()).map(drop)
}

/// Reads a byte of another process (process_vm_readv(2)).
pub(super) fn peek(pid: i32, at: usize) -> io::Result<()> {
    let mut byte = 0_u8;
    let local = libc::iovec {
        iov_base: ptr::from_mut(&mut byte).cast(),
        iov_len: 1,
    };
    let remote = libc::iovec {
        iov_base: at as *mut libc::c_void,
        iov_len: 1,
    };
    // Safety: the kernel writes one byte to `byte`; what is at `remote` is the other process's.
    checked(unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) } as i64)
        .map(drop)
}

/// pidfd_open(2), then pidfd_getfd(2): another process's descriptor.
pub(super) fn take_descriptor(pid: i32, fd: i32) -> io::Result<OwnedFd> {
    // Safety: both take numbers.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) })
}

/// bpf(2) BPF_MAP_GET_NEXT_ID: asks for the host's maps, and changes nothing.
pub(super) fn bpf_maps() -> io::Result<()> {
    let mut attr = [0_u32; 4];
    // Safety: the kernel reads and writes at most the 16 bytes that it is told.
    checked(unsafe { libc::syscall(libc::SYS_bpf, 12, attr.as_mut_ptr(), size_of_val(&attr)) }).map(drop)
}

/// One submission of io_uring(7), as far as it is used here.
#[repr(C)]
#[derive(Default)]
struct Entry {
    opcode: u8,
    flags: u8,
    priority: u16,
    fd: i32,
    offset: u64,
    address: u64,
    length: u32,
    operation: u32,
    user_data: u64,
    rest: [u64; 3],
}

/// `struct io_uring_params`: sizes, flags, and where in the rings what is.
#[repr(C)]
#[derive(Default)]
struct Params {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    sq_thread_cpu: u32,
    sq_thread_idle: u32,
    features: u32,
    wq_fd: u32,
    resv: [u32; 3],
    sq: [u32; 10],
    cq: [u32; 10],
}

/// `IORING_SETUP_SQPOLL`
pub(super) const SQPOLL: u32 = 2;
const ENTER_GETEVENTS: u32 = 1;
const ENTER_SQ_WAKEUP: u32 = 2;
const SINGLE_MMAP: u32 = 1;
/// Both rings have one entry or two, and fit; the kernel refuses a mapping that is larger than they are.
const RING: usize = 4096;

/// IORING_OP_CONNECT.
pub(super) fn uring_connect(fd: BorrowedFd<'_>, address: &[u8], flags: u32) -> io::Result<()> {
    let entry = Entry {
        opcode: 16,
        fd: fd.as_raw_fd(),
        address: address.as_ptr() as u64,
        offset: address.len() as u64,
        ..Entry::default()
    };
    result(uring(entry, flags)?).map(drop)
}

/// IORING_OP_SENDMSG, with an address.
pub(super) fn uring_send(fd: BorrowedFd<'_>, data: &[u8], address: &[u8], flags: u32) -> io::Result<()> {
    let mut vector = libc::iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len(),
    };
    // Safety: all zero is a message of nothing.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = address.as_ptr().cast_mut().cast();
    message.msg_namelen = length(address);
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    let entry = Entry {
        opcode: 9,
        fd: fd.as_raw_fd(),
        address: (&raw const message) as u64,
        length: 1,
        ..Entry::default()
    };
    result(uring(entry, flags)?).map(drop)
}

/// IORING_OP_SOCKET.
pub(super) fn uring_socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    let entry = Entry {
        opcode: 45,
        fd: family,
        offset: u64::try_from(kind).unwrap_or(0),
        length: u32::try_from(protocol).unwrap_or(0),
        ..Entry::default()
    };
    owned(result(uring(entry, 0)?)?.into())
}

fn result(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::from_raw_os_error(-result))
    } else {
        Ok(result)
    }
}

/// Does one operation by a ring of its own, with `flags` for its set-up: what it results in, a negative errno included.
/// The ring's memory is left to the end of the process, which is near.
fn uring(entry: Entry, flags: u32) -> io::Result<i32> {
    let mut params = Params {
        flags,
        sq_thread_idle: 100,
        ..Params::default()
    };
    // Safety: the kernel reads and writes one `Params`.
    let ring = owned(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut params) })?;
    if params.features & SINGLE_MMAP == 0 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let map = |length: usize, offset: i64| {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let share = libc::MAP_SHARED | libc::MAP_POPULATE;
        // Safety: a new mapping of the ring, at a place that the kernel chooses.
        let at = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                protection,
                share,
                ring.as_raw_fd(),
                offset,
            )
        };
        if at == libc::MAP_FAILED {
            Err(io::Error::last_os_error())
        } else {
            Ok(at.cast::<u8>())
        }
    };
    let rings = map(RING, 0)?;
    let entries = map(size_of::<Entry>(), 0x1000_0000)?;
    let at = |offset: u32| rings.wrapping_add(offset as usize);
    // Safety: the offsets are the kernel's own, within the mapping of the rings, and aligned for what is there; the one
    // submission entry is in the second mapping.
    unsafe {
        entries.cast::<Entry>().write(entry);
        at(params.sq[6]).cast::<u32>().write(0);
        let tail = &*at(params.sq[1]).cast::<AtomicU32>();
        tail.store(tail.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        let mut enter = ENTER_GETEVENTS;
        if flags & SQPOLL != 0 {
            enter |= ENTER_SQ_WAKEUP;
        }
        checked(libc::syscall(
            libc::SYS_io_uring_enter,
            ring.as_raw_fd(),
            1,
            1,
            enter,
            ptr::null::<u8>(),
            0,
        ))?;
        // `io_cqring_offsets.cqes`; in an entry, the result follows the eight bytes of user data.
        Ok(at(params.cq[5]).wrapping_add(8).cast::<i32>().read_volatile())
    }
}
