//! System calls that open a door which no hook of sockets sees: other families, io_uring, other processes' memory and
//! descriptors, and what paths mean; and those of processes that must end.
//!
//! A tracepoint cannot refuse a system call: the caller is killed, and with it every thread that could use what the call
//! gives. Attached while a cgroup is tagged, it runs for every system call of the host, so its first question is the call's number: a comparison or two,
//! and no helper, for all but those listed here. Arguments are read from registers, never from the caller's memory,
//! which another thread could change meanwhile; a call whose arguments are in memory is denied as such.
//!
//! x86-64, with its 32-bit and x32 kinds, which have numbers of their own. Where an LSM program answers a door, with
//! EPERM, it is left to that.

use aya_ebpf::EbpfContext;
use portcullis_abi::{
    EXEC_ENFORCE, Outcome, Site,
    guard::{GUARD_HOST, flag},
};

use crate::{
    errors::failed,
    exec, kernel, maps,
    tagged::{self, Tagged},
    task,
};

/// `__X32_SYSCALL_BIT`
const X32: u32 = 0x4000_0000;

const AF_UNIX: u32 = 1;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const AF_NETLINK: u32 = 16;

const PTRACE_ATTACH: u64 = 16;
const PTRACE_SEIZE: u64 = 0x4206;
const CLONE_NEWNS: u64 = 0x0002_0000;
/// `socketcall`: SYS_SOCKET and SYS_SOCKETPAIR.
const SOCKETCALL: [u64; 2] = [1, 8];

/// What a number stands for; which registers it has its arguments in is the kind's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    None,
    /// socket, socketpair: family, ...
    Socket,
    /// i386: number, pointer
    Socketcall,
    IoUring,
    /// request, pid, ...
    Ptrace,
    /// pid, ...
    Memory,
    /// attributes, pid, ...
    Perf,
    Getfd,
    /// namespace, flags
    Setns,
    Mount,
}

/// arch/x86/entry/syscalls/syscall_64.tbl
#[inline(always)]
fn native(number: u32) -> Call {
    match number {
        41 | 53 => Call::Socket,
        101 => Call::Ptrace,
        155 | 161 | 165 | 166 => Call::Mount,
        298 => Call::Perf,
        308 => Call::Setns,
        310 | 311 => Call::Memory,
        _ => common(number),
    }
}

/// The numbers that x32 has for itself; the others are the native ones.
#[inline(always)]
fn x32(number: u32) -> Call {
    match number {
        521 => Call::Ptrace,
        539 | 540 => Call::Memory,
        _ => native(number),
    }
}

/// arch/x86/entry/syscalls/syscall_32.tbl
#[inline(always)]
fn compat(number: u32) -> Call {
    match number {
        102 => Call::Socketcall,
        359 | 360 => Call::Socket,
        26 => Call::Ptrace,
        21 | 22 | 52 | 61 | 217 => Call::Mount,
        336 => Call::Perf,
        346 => Call::Setns,
        347 | 348 => Call::Memory,
        _ => common(number),
    }
}

/// Numbers above 402 are the same everywhere.
#[inline(always)]
fn common(number: u32) -> Call {
    match number {
        425..=427 => Call::IoUring,
        429 => Call::Mount,
        438 => Call::Getfd,
        _ => Call::None,
    }
}

/// Whether any kind of call has this number: what is asked for every system call of the host.
#[inline(always)]
fn is_listed(number: u32) -> bool {
    compat(number) != Call::None || native(number) != Call::None || number & X32 != 0
}

/// A call's first two arguments.
pub struct Arguments(pub [u64; 2]);

/// A tracepoint at which a system call is entered.
pub trait Entering: EbpfContext {
    /// The call's number.
    fn number(&self) -> u32;
    /// Its arguments; `None` where they cannot be read.
    fn arguments(&self, is_compat: bool) -> Option<Arguments>;
}

/// A system call is entered.
#[inline(always)]
pub fn entered(ctx: &impl Entering) -> i32 {
    if must_end() {
        task::kill(ctx);
        return 0;
    }
    if kernel::TASK_STATUS.load() == 0 {
        return 0;
    }
    let number = ctx.number();
    if !is_listed(number) {
        return 0;
    }
    let Some(is_compat) = kernel::is_compat() else {
        failed(ctx, Site::GuardTask);
        return 0;
    };
    let call = match (is_compat, number & X32) {
        (true, _) => compat(number),
        (false, 0) => native(number),
        (false, _) => x32(number & !X32),
    };
    if call == Call::None {
        return 0;
    }
    let Some(tagged) = tagged::of_current() else {
        return 0;
    };
    decide(ctx, call, is_compat, tagged, number);
    0
}

/// Whether the caller is condemned, or held and yet running.
#[inline(always)]
pub fn must_end() -> bool {
    let host = match maps::GUARD.get_ptr(GUARD_HOST) {
        Some(host) => unsafe { core::ptr::read_volatile(host) },
        None => 0,
    };
    task::must_end(task::caller()) || host & EXEC_ENFORCE != 0 && exec::is_woken()
}

#[inline(always)]
fn decide(ctx: &impl Entering, call: Call, is_compat: bool, tagged: Tagged, number: u32) {
    let flags = maps::TAGGED
        .get_ptr(tagged.0)
        .map_or(0, |tag| unsafe { (*tag).flags });
    let by_lsm = maps::GUARD
        .get_ptr(GUARD_HOST)
        .map_or(0, |doors| unsafe { *doors });
    let (door, outcome) = match call {
        Call::None => return,
        Call::Socket | Call::Socketcall => (flag::FAMILIES, Outcome::FamilyDenied),
        Call::IoUring => (flag::IO_URING, Outcome::IoUringDenied),
        Call::Ptrace | Call::Memory | Call::Perf | Call::Getfd => (flag::TRACE, Outcome::TraceDenied),
        // Whoever has the host's CAP_SYS_ADMIN could take the programs away; what starts containers and services has it.
        Call::Setns | Call::Mount => (flag::MOUNT, Outcome::MountDenied),
    };
    // No hook of LSM programs is asked for these as they are asked here.
    let by_lsm = if matches!(call, Call::Setns | Call::Perf) {
        0
    } else {
        by_lsm
    };
    if (flags | by_lsm) & door != 0 {
        return;
    }
    let pass = match ctx.arguments(is_compat) {
        Some(arguments) => passes(call, &arguments, tagged, flags),
        None => {
            failed(ctx, Site::GuardArguments);
            false
        }
    };
    if !pass {
        task::kill(ctx);
        tagged::count(ctx, tagged, outcome);
        task::tell(
            ctx,
            tagged,
            outcome,
            (kernel::current(), task::caller()),
            (0, number),
        );
    }
}

#[inline(always)]
fn passes(call: Call, arguments: &Arguments, tagged: Tagged, flags: u64) -> bool {
    let Arguments([first, second]) = *arguments;
    let target = match call {
        Call::None => return true,
        Call::Socket => return matches!(first as u32, AF_UNIX | AF_INET | AF_INET6 | AF_NETLINK),
        // Which family is in memory.
        Call::Socketcall => return !SOCKETCALL.contains(&first),
        Call::IoUring | Call::Getfd => return false,
        // Other namespaces than those of mounts, and of none unknown.
        Call::Setns if second as u32 != 0 && second & CLONE_NEWNS == 0 => return true,
        // Whoever has the host's CAP_SYS_ADMIN could take the programs away; what starts containers and services has it.
        Call::Setns | Call::Mount => {
            return flags & flag::MOUNT_STRICT == 0 && kernel::is_host_admin() == Some(true);
        }
        // Every other request needs that one of these was granted, or is PTRACE_TRACEME, by which a process gives itself
        // to the one that started it.
        Call::Ptrace if !matches!(first, PTRACE_ATTACH | PTRACE_SEIZE) => return true,
        // 0 is the caller.
        Call::Perf if second as u32 == 0 => return true,
        // -1 is everybody, whom no number names.
        Call::Ptrace | Call::Perf => second,
        Call::Memory => first,
    };
    // Once: the verifier walks every copy of the climb.
    is_within(target as u32, tagged)
}

/// Whether `number` names a task of the same workload; a task that cannot be found is none.
#[inline(always)]
fn is_within(number: u32, tagged: Tagged) -> bool {
    // No closure, and no `Option` of a struct with a hole: the kernel refuses the type that would describe it.
    let Some(task) = kernel::task_of(number) else {
        return false;
    };
    let Some(cgroup) = kernel::cgroup(task) else {
        return false;
    };
    match kernel::climb(cgroup, tagged.0) {
        Some(above) => above.nearest == tagged.0,
        None => false,
    }
}
