//! UNIX sockets: what is listed by its exact address passes, or is sent to the agent; everything else is denied.
//!
//! The address is the one that the caller gave, already in the kernel's memory: no other thread can change it. It is not
//! resolved here, so a relative path, a symbolic link, `/proc/self/fd` or a hard link is another address than the one
//! that is listed, and denied as such. What a listed path leads to is decided by who may write its directories.
//!
//! aya knows neither this kind of program nor calls of kernel functions: the agent loads these two itself and puts the
//! functions' ids in place of the made-up helpers below (`redirect/guard/load.rs`).

use aya_ebpf::{
    cty::c_void,
    helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str},
    programs::SockAddrContext,
};
use portcullis_abi::{
    Outcome, Site,
    guard::{UNIX_PATH, UnixKey, flag},
};

use crate::{
    connect::{ALLOW, DENY},
    errors::failed,
    kernel, maps,
    tagged::{self, Tagged},
};

/// Stands for `bpf_cast_to_kern_ctx`.
const CAST_TO_KERN_CTX: usize = 0x7f00_0001;
/// Stands for `bpf_sock_addr_set_sun_path`.
const SET_SUN_PATH: usize = 0x7f00_0002;

/// `bpf_sock_addr_kern.uaddr` and `uaddrlen`; the loader looks whether they are there.
const UADDR: u64 = 8;
const UADDRLEN: u64 = 32;
/// `sockaddr_un.sun_path` comes behind the family.
const FAMILY: u32 = 2;

#[inline(always)]
unsafe fn cast_to_kern_ctx(ctx: *mut c_void) -> *mut c_void {
    let call: unsafe extern "C" fn(*mut c_void) -> *mut c_void =
        unsafe { core::mem::transmute(CAST_TO_KERN_CTX) };
    unsafe { call(ctx) }
}

#[inline(always)]
unsafe fn set_sun_path(ctx: *mut c_void, path: *const u8, len: u32) -> i32 {
    let call: unsafe extern "C" fn(*mut c_void, *const u8, u32) -> i32 =
        unsafe { core::mem::transmute(SET_SUN_PATH) };
    unsafe { call(ctx, path, len) }
}

/// Which call it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// connect(2)
    Connect,
    /// sendto(2), sendmsg(2) with an address
    Send,
}

/// Decides a connect or a send.
#[inline(always)]
pub fn decide(ctx: &SockAddrContext, call: Call) -> i32 {
    let Some(tagged) = tagged::of_current() else {
        failed(ctx, Site::UnixUntagged);
        return DENY;
    };
    let flags = match maps::TAGGED.get_ptr(tagged.0) {
        Some(tag) => unsafe { (*tag).flags },
        None => 0,
    };
    if flags & flag::UNIX != 0 {
        return ALLOW;
    }
    let kernel_ctx = unsafe { cast_to_kern_ctx(ctx.sock_addr.cast()) };
    let outcome = by_rule(ctx, kernel_ctx, tagged, call);
    tagged::count(ctx, tagged, outcome);
    match outcome {
        Outcome::UnixAllowed | Outcome::UnixRedirected => ALLOW,
        _ => DENY,
    }
}

#[inline(always)]
fn by_rule(ctx: &SockAddrContext, kernel_ctx: *mut c_void, tagged: Tagged, call: Call) -> Outcome {
    let mut key = UnixKey {
        tagged: tagged.0,
        abstract_len: 0,
        path: [0; UNIX_PATH],
    };
    if !address(kernel_ctx as u64, &mut key) {
        failed(ctx, Site::UnixAddress);
        return Outcome::Failed;
    }
    let Some(rule) = maps::UNIX_RULES.get_ptr_mut(key) else {
        return Outcome::UnixDenied;
    };
    let len = unsafe { (*rule).len };
    if len == 0 {
        return Outcome::UnixAllowed;
    }
    // A datagram sent elsewhere would have no answer.
    if call == Call::Send || len as usize >= UNIX_PATH {
        return Outcome::UnixDenied;
    }
    let to = unsafe { (&raw const (*rule).to).cast() };
    if unsafe { set_sun_path(kernel_ctx, to, len) } != 0 {
        failed(ctx, Site::UnixRedirect);
        return Outcome::Failed;
    }
    Outcome::UnixRedirected
}

/// Reads the address into `key`, which is zero: a path to its first zero, an abstract name as long as it is.
#[inline(always)]
fn address(kernel_ctx: u64, key: &mut UnixKey) -> bool {
    let (Some(at), Some(len)) = (
        kernel::read(kernel_ctx + UADDR),
        kernel::read::<u32>(kernel_ctx + UADDRLEN),
    ) else {
        return false;
    };
    if len > FAMILY + UNIX_PATH as u32 {
        return false;
    }
    address_at(at, len, key)
}

/// The same of a `sockaddr_un` of `len` bytes.
#[inline(always)]
pub fn address_at(at: u64, len: u32, key: &mut UnixKey) -> bool {
    if len <= FAMILY || len > FAMILY + UNIX_PATH as u32 + 1 {
        return false;
    }
    let from = (at + u64::from(FAMILY)) as *const c_void;
    let to = key.path.as_mut_ptr();
    let mut first = 0_u8;
    if unsafe { bpf_probe_read_kernel((&raw mut first).cast(), 1, from) } != 0 {
        return false;
    }
    let room = UNIX_PATH as u32;
    let len = (len - FAMILY) & 0x7f;
    if first == 0 {
        key.abstract_len = len;
        return len <= room && unsafe { bpf_probe_read_kernel(to.cast(), len, from) == 0 };
    }
    // A path may end with the address: the zero behind it is put there later, and what is there now is somebody else's.
    if len >= room {
        // One without any zero has another byte than that of the key.
        let mut last = 0_u8;
        let at = (at + u64::from(FAMILY) + UNIX_PATH as u64 - 1) as *const c_void;
        let got = unsafe { bpf_probe_read_kernel_str(to.cast(), room, from) };
        let read = unsafe { bpf_probe_read_kernel((&raw mut last).cast(), 1, at) };
        return got > 0 && read == 0 && (got < i64::from(room) || last == 0);
    }
    let size = len + 1;
    size <= room && unsafe { bpf_probe_read_kernel_str(to.cast(), size, from) } > 0
}
