//! The same doors where the host has LSM programs, or may change what its security hooks return: there the answer is
//! EPERM, with the kernel's own objects in hand, and the caller lives.
//!
//! Each is written once and loaded either way (`redirect/guard/load.rs`). Arguments are those of the hook, as words.

use aya_ebpf::programs::LsmContext;
use portcullis_abi::{
    Outcome,
    guard::{UNIX_PATH, UnixKey, flag},
};

use crate::{
    kernel, maps,
    tagged::{self, Tagged},
    unix,
};

const EPERM: i32 = -1;
const AF_UNIX: u32 = 1;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const AF_NETLINK: u32 = 16;

/// The workload of the caller where the door is shut for it.
#[inline(always)]
fn shut(door: u64) -> Option<(Tagged, u64)> {
    let tagged = tagged::of_current()?;
    let flags = match maps::TAGGED.get_ptr(tagged.0) {
        Some(tag) => unsafe { (*tag).flags },
        None => 0,
    };
    (flags & door == 0).then_some((tagged, flags))
}

/// `socket_create(family, type, protocol, kern)`: also for io_uring, which no system call tells of.
#[inline(always)]
pub fn socket_create(ctx: &LsmContext) -> i32 {
    let (family, by_kernel): (u32, u32) = (ctx.arg(0), ctx.arg(3));
    if by_kernel != 0 || matches!(family, AF_UNIX | AF_INET | AF_INET6 | AF_NETLINK) {
        return 0;
    }
    let Some((tagged, _)) = shut(flag::FAMILIES) else {
        return 0;
    };
    tagged::count(ctx, tagged, Outcome::FamilyDenied);
    EPERM
}

/// `ptrace_access_check(child, mode)`: ptrace, process_vm_*, pidfd_getfd, `/proc/PID/mem` and whatever else asks so.
#[inline(always)]
pub fn ptrace_access_check(ctx: &LsmContext) -> i32 {
    let Some((tagged, _)) = shut(flag::TRACE) else {
        return 0;
    };
    let (child, mode): (u64, u32) = (ctx.arg(0), ctx.arg(1));
    // PTRACE_MODE_NOAUDIT: ps(1) asks so what it may show, and goes on without.
    if mode & 4 != 0 {
        return 0;
    }
    if let Some(cgroup) = kernel::cgroup(child)
        && let Some(above) = kernel::climb(cgroup, tagged.0)
        && above.nearest == tagged.0
    {
        return 0;
    }
    tagged::count(ctx, tagged, Outcome::TraceDenied);
    EPERM
}

/// `sb_mount`, `sb_umount`, `sb_pivotroot`, `move_mount`: whatever changes what paths mean.
#[inline(always)]
pub fn mounts(ctx: &LsmContext) -> i32 {
    let Some((tagged, flags)) = shut(flag::MOUNT) else {
        return 0;
    };
    if flags & flag::MOUNT_STRICT == 0 && kernel::is_host_admin() == Some(true) {
        return 0;
    }
    tagged::count(ctx, tagged, Outcome::MountDenied);
    EPERM
}

/// `unix_stream_connect(sock, other, newsk)` and, with its sockets' own structs, `unix_may_send(sock, other)`: in place of
/// the hooks of UNIX sockets where there are none. What counts here is whose socket it is and how that one is called, by
/// whatever way it was reached: a workload's own sockets need no rule.
#[inline(always)]
pub fn unix(ctx: &LsmContext, other: Option<u64>) -> i32 {
    let Some((tagged, _)) = shut(flag::UNIX) else {
        return 0;
    };
    let allowed = match other {
        Some(other) => is_own(other, tagged) || is_listed(other, tagged),
        None => false,
    };
    let outcome = if allowed {
        Outcome::UnixAllowed
    } else {
        Outcome::UnixDenied
    };
    tagged::count(ctx, tagged, outcome);
    if allowed { 0 } else { EPERM }
}

/// Whether a socket was made in the same workload.
#[inline(always)]
fn is_own(sock: u64, tagged: Tagged) -> bool {
    let Some(cgroup) = kernel::member::<u64>(sock, &kernel::SOCK_CGROUP) else {
        return false;
    };
    match kernel::climb(cgroup, tagged.0) {
        Some(above) => above.nearest == tagged.0,
        None => false,
    }
}

/// Whether the address that a socket is bound to is listed. What is to be redirected cannot be: it is denied.
#[inline(always)]
fn is_listed(sock: u64, tagged: Tagged) -> bool {
    let mut key = UnixKey {
        tagged: tagged.0,
        abstract_len: 0,
        path: [0; UNIX_PATH],
    };
    let Some(address) = kernel::member::<u64>(sock, &kernel::UNIX_SOCK_ADDR) else {
        return false;
    };
    if address == 0 {
        return false;
    }
    let Some(len) = kernel::member::<u32>(address, &kernel::UNIX_ADDRESS_LEN) else {
        return false;
    };
    if !unix::address_at(
        address + u64::from(kernel::UNIX_ADDRESS_NAME.load()),
        len,
        &mut key,
    ) {
        return false;
    }
    match maps::UNIX_RULES.get_ptr(key) {
        Some(rule) => unsafe { (*rule).len == 0 },
        None => false,
    }
}
