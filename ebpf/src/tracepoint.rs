//! What tracepoints tell: the kernel's own arguments to raw ones, and to others the record that it makes of them.
//!
//! A program on a raw tracepoint has the arguments themselves. But from Linux 7.0 on it may be interrupted by another task,
//! and what then comes by on the same CPU does not run it (`recursion_misses`): who is given little time, and is in it most
//! of that, would blind it for everybody else. A program on a perf event of the tracepoint is never interrupted, and what
//! the record does not have is found out from the calling task.

use core::ptr::read_volatile;

use aya_ebpf::{
    EbpfContext,
    programs::{RawTracePointContext, TracePointContext},
};
use portcullis_abi::{INTERPRETS, ITSELF, Site};

use crate::{
    errors::failed,
    exec::Executed,
    kernel::{
        self, BPRM_FILE, BPRM_FILENAME, BPRM_INTERP, EXEC_FILENAME, FORK_CHILD_PID, MM_EXE_FILE, TASK_MM,
        member,
    },
    process,
    syscalls::{Arguments, Entering},
};

/// `struct trace_event_raw_sys_enter`: the number, and the arguments behind it.
const NUMBER: usize = 8;
const ARGUMENTS: [usize; 2] = [16, 24];

/// `sys_enter(regs, id)`
impl Entering for RawTracePointContext {
    #[inline(always)]
    fn number(&self) -> u32 {
        self.arg::<u64>(1) as u32
    }

    /// Offsets in `struct pt_regs` of x86-64: rdi and rsi; for a 32-bit call ebx and ecx.
    #[inline(always)]
    fn arguments(&self, is_compat: bool) -> Option<Arguments> {
        let registers: u64 = self.arg(0);
        let (first, second) = if is_compat { (40, 88) } else { (112, 104) };
        let arguments = [
            kernel::read(registers + first)?,
            kernel::read(registers + second)?,
        ];
        Some(of_kind(arguments, is_compat))
    }
}

impl Entering for TracePointContext {
    #[inline(always)]
    fn number(&self) -> u32 {
        word(self, NUMBER) as u32
    }

    #[inline(always)]
    fn arguments(&self, is_compat: bool) -> Option<Arguments> {
        Some(of_kind(ARGUMENTS.map(|at| word(self, at)), is_compat))
    }
}

#[inline(always)]
fn of_kind(mut arguments: [u64; 2], is_compat: bool) -> Arguments {
    if is_compat {
        arguments[0] &= 0xffff_ffff;
        arguments[1] &= 0xffff_ffff;
    }
    Arguments(arguments)
}

/// A word of the record, which is as large as the verifier is told by the kernel.
#[inline(always)]
fn word(ctx: &TracePointContext, at: usize) -> u64 {
    unsafe { read_volatile(ctx.as_ptr().cast::<u8>().add(at).cast::<u64>()) }
}

/// The record names the child by its number.
#[inline(always)]
pub fn forked(ctx: &TracePointContext) {
    let record = ctx.as_ptr() as u64;
    let child = match member::<u32>(record, &FORK_CHILD_PID) {
        Some(number) => kernel::task_of_host(number),
        None => None,
    };
    match child {
        Some(child) => process::forked(ctx, child),
        None => failed(ctx, Site::ForkTask),
    }
}

/// `sched_process_exec(task, old_pid, bprm)`. The kernel keeps one name for both until it puts an interpreter in the file's
/// place (`bprm_change_interp`).
#[inline(always)]
pub fn executed_raw(ctx: &RawTracePointContext) {
    let bprm: u64 = ctx.arg(2);
    let name: u64 = member(bprm, &BPRM_FILENAME).unwrap_or_default();
    let executed = Executed {
        file: member(bprm, &BPRM_FILE).unwrap_or_default(),
        name,
        runs: match member::<u64>(bprm, &BPRM_INTERP) {
            Some(interpreter) if interpreter == name => ITSELF,
            _ => INTERPRETS,
        },
    };
    process::executed(ctx, &executed);
}

/// The record has the name, at its offset in the lower half of a word. The file is what the caller runs by now.
#[inline(always)]
pub fn executed(ctx: &TracePointContext) {
    let record = ctx.as_ptr() as u64;
    let name = match member::<u32>(record, &EXEC_FILENAME) {
        Some(place) => record + u64::from(place & 0xffff),
        None => 0,
    };
    let file = match member::<u64>(kernel::current(), &TASK_MM) {
        Some(mm) => member(mm, &MM_EXE_FILE),
        None => None,
    };
    let executed = Executed {
        file: file.unwrap_or_default(),
        name,
        runs: 0,
    };
    process::executed(ctx, &executed);
}
