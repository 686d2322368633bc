//! Who gets away from a workload.
//!
//! The kernel tells of a move between cgroups when it is done, and does not tell where from: that is remembered
//! (`process`). Whoever moves itself or another of its workload out is killed before its next instruction; whoever was
//! moved is condemned, which ends it at its next system call. That somebody else moved it is counted and told, and ends
//! it only where the tag says so.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, bpf_get_current_uid_gid, generated::bpf_send_signal},
    programs::RawTracePointContext,
};
use portcullis_abi::{
    Outcome, Site,
    guard::{GUARD_CONDEMNED, GuardEvent, flag},
};

use crate::{
    errors::failed,
    exec,
    kernel::{self, Above},
    maps, process,
    tagged::{self, Tagged},
};

const SIGKILL: u32 = 9;
const BPF_ANY: u64 = 0;

/// Thread group id of the calling task.
#[inline(always)]
pub fn caller() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// Ends the calling process: all of its threads, before any of them comes back from the kernel.
#[inline(always)]
pub fn kill(ctx: &impl EbpfContext) {
    if unsafe { bpf_send_signal(SIGKILL) } != 0 {
        failed(ctx, Site::GuardSignal);
    }
}

/// Tells the agent of `process`: whether there was room to.
#[inline(always)]
pub fn tell(
    ctx: &impl EbpfContext,
    tagged: Tagged,
    outcome: Outcome,
    process: (u64, u32),
    about: (u64, u32),
) -> bool {
    let Some(mut event) = maps::GUARD_EVENTS.reserve(0) else {
        failed(ctx, Site::GuardEvent);
        return false;
    };
    event.write(GuardEvent {
        tagged: tagged.0,
        to: about.0,
        start_ns: kernel::start(process.0).unwrap_or(0),
        outcome: outcome as u32,
        pid: process.1,
        by: caller(),
        syscall: about.1,
        uid: bpf_get_current_uid_gid() as u32,
        reserved: 0,
    });
    event.submit(0);
    true
}

/// Sees to it that a process ends at its next system call.
#[inline(always)]
pub fn condemn(ctx: &impl EbpfContext, tgid: u32, tagged: Tagged) {
    if maps::CONDEMNED.get_ptr(tgid).is_some() {
        return;
    }
    if maps::CONDEMNED.insert(tgid, tagged.0, BPF_ANY).is_err() {
        failed(ctx, Site::GuardCondemned);
    } else if let Some(count) = maps::GUARD.get_ptr_mut(GUARD_CONDEMNED) {
        unsafe { maps::increment(count) };
    }
}

/// Ends the caller, and the process that it has just made.
#[inline(always)]
pub fn refuse(ctx: &impl EbpfContext, process: u32, tagged: Tagged) {
    kill(ctx);
    condemn(ctx, process, tagged);
}

/// Whether a process is condemned.
#[inline(always)]
pub fn must_end(process: u32) -> bool {
    let count = match maps::GUARD.get_ptr(GUARD_CONDEMNED) {
        Some(count) => unsafe { core::ptr::read_volatile(count) },
        None => 0,
    };
    count != 0 && maps::CONDEMNED.get_ptr(process).is_some()
}

/// A process has ended.
#[inline(always)]
pub fn ended(process: u32) {
    if maps::CONDEMNED.remove(process).is_ok()
        && let Some(count) = maps::GUARD.get_ptr_mut(GUARD_CONDEMNED)
    {
        unsafe { maps::decrement(count) };
    }
}

/// `cgroup_attach_task(dst_cgrp, path, task, threadgroup)`: a task, or its whole process, is in another cgroup now.
#[inline(always)]
pub fn moved(ctx: &RawTracePointContext) -> i32 {
    let (cgroup, task): (u64, u64) = (ctx.arg(0), ctx.arg(2));
    let Some(process) = kernel::tgid(task) else {
        failed(ctx, Site::GuardTask);
        return 0;
    };
    let from = process::tag_of(process);
    let Some(above) = kernel::climb(cgroup, from) else {
        failed(ctx, Site::GuardTask);
        return 0;
    };
    // Untagged meanwhile: nobody's.
    let flags = match maps::TAGGED.get_ptr(from) {
        Some(tag) if from != 0 => unsafe { (*tag).flags },
        _ => {
            if above.nearest != 0 {
                remember(ctx, (task, process), above.nearest);
                arrived(ctx, (task, process), Tagged(above.nearest));
            } else if from != 0 {
                process::forget(process);
            }
            return 0;
        }
    };
    exec::moved(ctx, task, Tagged(from), Tagged(above.nearest));
    if above.below != 0 {
        remember(ctx, (task, process), above.nearest);
        return 0;
    }
    left(
        ctx,
        (task, process),
        Tagged(from),
        (kernel::cgroup_id(cgroup).unwrap_or(0), flags),
    );
    // Another workload's from now on, or nobody's.
    if above.nearest != 0 {
        remember(ctx, (task, process), above.nearest);
    } else {
        process::forget(process);
    }
    0
}

/// A process came from outside. The sockets that it has brought meet no hook of the workload, so the agent looks at them;
/// where it cannot be told, the process ends.
#[inline(always)]
pub fn arrived(ctx: &impl EbpfContext, process: (u64, u32), tagged: Tagged) {
    tagged::count(ctx, tagged, Outcome::ProcessArrived);
    if !tell(ctx, tagged, Outcome::ProcessArrived, process, (0, 0)) {
        condemn(ctx, process.1, tagged);
    }
}

/// What cannot be remembered is condemned.
#[inline(always)]
fn remember(ctx: &impl EbpfContext, process: (u64, u32), nearest: u64) {
    let _condemned = process::remember(ctx, process, Tagged(nearest));
}

/// A process is no longer below its tag.
#[inline(always)]
fn left(ctx: &impl EbpfContext, process: (u64, u32), from: Tagged, about: (u64, u64)) {
    let mover = caller();
    let own = mover == process.1 || process::tag_of(mover) == from.0;
    if own {
        kill(ctx);
        tagged::count(ctx, from, Outcome::EscapeKilled);
    }
    if mover == process.1 {
        tell(ctx, from, Outcome::EscapeKilled, process, (about.0, 0));
        return;
    }
    tagged::count(ctx, from, Outcome::EscapeMoved);
    if own || about.1 & flag::MOVED_ENDS != 0 {
        condemn(ctx, process.1, from);
    }
    tell(ctx, from, Outcome::EscapeMoved, process, (about.0, 0));
}

/// Whether what a workload's process starts may be: not where it was started in another cgroup (CLONE_INTO_CGROUP), then
/// both end. So do two processes that would share descriptors: one could go on with what the other was killed for.
#[inline(always)]
pub fn may_start(ctx: &impl EbpfContext, child: (u64, u32), maker: Tagged, above: Above) -> bool {
    let shares = match (kernel::files(kernel::current()), kernel::files(child.0)) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    };
    if above.below != 0 && !shares {
        return true;
    }
    // By the program of the agent before, while both are attached.
    if maps::CONDEMNED.get_ptr(child.1).is_some() {
        return false;
    }
    let outcome = if above.below != 0 {
        Outcome::FamilyDenied
    } else {
        Outcome::EscapeKilled
    };
    refuse(ctx, child.1, maker);
    tagged::count(ctx, maker, outcome);
    let cgroup = kernel::cgroup(child.0).and_then(kernel::cgroup_id);
    tell(ctx, maker, outcome, child, (cgroup.unwrap_or(0), 0));
    false
}
