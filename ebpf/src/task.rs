//! Who belongs to a workload, and who gets away from it.
//!
//! The kernel tells of a move between cgroups when it is done, and does not tell where from: so every process of a
//! workload is remembered, from its fork, its move into the workload, or the tag, to its end. Whoever moves itself or
//! another of its workload out is killed before its next instruction; whoever was moved is condemned, which ends it at
//! its next system call. That somebody else moved it is counted and told, and ends it only where the tag says so.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_get_current_uid_gid, generated::bpf_send_signal},
    programs::RawTracePointContext,
};
use portcullis_abi::{
    Outcome, Site,
    guard::{GUARD_CONDEMNED, GuardEvent, flag},
};

use crate::{
    errors::failed,
    kernel, maps,
    tagged::{self, Tagged},
};

const SIGKILL: u32 = 9;
const BPF_ANY: u64 = 0;

/// An argument of the tracepoint.
#[inline(always)]
pub fn argument(ctx: &RawTracePointContext, n: usize) -> u64 {
    ctx.arg(n)
}

/// Thread group id of the calling task.
#[inline(always)]
pub fn caller() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// Ends the calling process: all of its threads, before any of them comes back from the kernel.
#[inline(always)]
pub fn kill(ctx: &RawTracePointContext) {
    if unsafe { bpf_send_signal(SIGKILL) } != 0 {
        failed(ctx, Site::GuardSignal);
    }
}

/// Tells the agent of `process`: whether there was room to.
#[inline(always)]
pub fn tell(
    ctx: &RawTracePointContext,
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
fn condemn(ctx: &RawTracePointContext, tgid: u32, tagged: Tagged) {
    if maps::CONDEMNED.get_ptr(tgid).is_some() {
        return;
    }
    if maps::CONDEMNED.insert(tgid, tagged.0, BPF_ANY).is_err() {
        failed(ctx, Site::GuardCondemned);
    } else if let Some(count) = maps::GUARD.get_ptr_mut(GUARD_CONDEMNED) {
        unsafe { maps::increment(count) };
    }
}

#[inline(always)]
fn remember(ctx: &RawTracePointContext, tgid: u32, tagged: u64) {
    if maps::MEMBERS.insert(tgid, tagged, BPF_ANY).is_err() {
        failed(ctx, Site::GuardMembers);
    }
}

/// `cgroup_attach_task(dst_cgrp, path, task, threadgroup)`: a task, or its whole process, is in another cgroup now.
#[inline(always)]
pub fn moved(ctx: &RawTracePointContext) -> i32 {
    let (cgroup, task) = (argument(ctx, 0), argument(ctx, 2));
    let Some(process) = kernel::tgid(task) else {
        failed(ctx, Site::GuardTask);
        return 0;
    };
    let from = maps::MEMBERS
        .get_ptr(process)
        .map_or(0, |tagged| unsafe { *tagged });
    let Some(above) = kernel::climb(cgroup, from) else {
        failed(ctx, Site::GuardTask);
        return 0;
    };
    // Untagged meanwhile: nobody's.
    let flags = match maps::TAGGED.get_ptr(from) {
        Some(tag) if from != 0 => unsafe { (*tag).flags },
        _ => {
            if above.nearest != 0 {
                remember(ctx, process, above.nearest);
                arrived(ctx, (task, process), Tagged(above.nearest));
            } else if from != 0 {
                let _absent = maps::MEMBERS.remove(process);
            }
            return 0;
        }
    };
    if above.below != 0 {
        remember(ctx, process, above.nearest);
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
        remember(ctx, process, above.nearest);
    } else {
        let _absent = maps::MEMBERS.remove(process);
    }
    0
}

/// A process came from outside. The sockets that it has brought meet no hook of the workload, so the agent looks at them;
/// where it cannot be told, the process ends.
#[inline(always)]
fn arrived(ctx: &RawTracePointContext, process: (u64, u32), tagged: Tagged) {
    tagged::count(ctx, tagged, Outcome::ProcessArrived);
    if !tell(ctx, tagged, Outcome::ProcessArrived, process, (0, 0)) {
        condemn(ctx, process.1, tagged);
    }
}

/// A process is no longer below its tag.
#[inline(always)]
fn left(ctx: &RawTracePointContext, process: (u64, u32), from: Tagged, about: (u64, u64)) {
    let mover = caller();
    let own = mover == process.1
        || maps::MEMBERS
            .get_ptr(mover)
            .is_some_and(|tagged| unsafe { *tagged } == from.0);
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

/// `sched_process_fork(parent, child)`: what a workload's process starts is the workload's. Where it is not, because it
/// was started in another cgroup (CLONE_INTO_CGROUP), both end. So do two processes that would share descriptors: one
/// could go on with what the other was killed for.
#[inline(always)]
pub fn forked(ctx: &RawTracePointContext) -> i32 {
    let (parent, child) = (argument(ctx, 0), argument(ctx, 1));
    let (Some(process), Some(task)) = (kernel::tgid(child), kernel::tid(child)) else {
        failed(ctx, Site::GuardTask);
        return 0;
    };
    if process != task {
        return 0;
    }
    let Some(tagged) = tagged::of_current() else {
        forked_outside(ctx, (child, process));
        return 0;
    };
    let Some(cgroup) = kernel::cgroup(child) else {
        failed(ctx, Site::GuardTask);
        return 0;
    };
    let Some(above) = kernel::climb(cgroup, tagged.0) else {
        failed(ctx, Site::GuardTask);
        return 0;
    };
    let shares = match (kernel::files(parent), kernel::files(child)) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    };
    if above.below != 0 && !shares {
        remember(ctx, process, above.nearest);
        return 0;
    }
    let outcome = if above.below != 0 {
        Outcome::FamilyDenied
    } else {
        Outcome::EscapeKilled
    };
    kill(ctx);
    condemn(ctx, process, tagged);
    tagged::count(ctx, tagged, outcome);
    tell(
        ctx,
        tagged,
        outcome,
        (child, process),
        (kernel::cgroup_id(cgroup).unwrap_or(0), 0),
    );
    0
}

/// Whoever is no workload's started a process: in its own cgroup, or in a workload's (CLONE_INTO_CGROUP), which is as good
/// as moving it there.
#[inline(always)]
fn forked_outside(ctx: &RawTracePointContext, process: (u64, u32)) {
    let there = kernel::cgroup(process.0);
    if there != kernel::cgroup(kernel::current()) {
        match there.and_then(|cgroup| kernel::climb(cgroup, 0)) {
            Some(above) if above.nearest != 0 => {
                remember(ctx, process.1, above.nearest);
                return arrived(ctx, process, Tagged(above.nearest));
            }
            Some(_) => {}
            None => failed(ctx, Site::GuardTask),
        }
    }
    // The number may have been another's before.
    if maps::MEMBERS.get_ptr(process.1).is_some() {
        let _absent = maps::MEMBERS.remove(process.1);
    }
}

/// `sched_process_exit(task)`: forgets a process with its last thread.
#[inline(always)]
pub fn exited(_ctx: &RawTracePointContext) -> i32 {
    let process = caller();
    if maps::MEMBERS.get_ptr(process).is_none() && maps::CONDEMNED.get_ptr(process).is_none() {
        return 0;
    }
    if kernel::live(kernel::current()).is_some_and(|live| live != 0) {
        return 0;
    }
    let _absent = maps::MEMBERS.remove(process);
    if maps::CONDEMNED.remove(process).is_ok()
        && let Some(count) = maps::GUARD.get_ptr_mut(GUARD_CONDEMNED)
    {
        unsafe { maps::decrement(count) };
    }
    0
}
