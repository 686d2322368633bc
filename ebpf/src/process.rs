//! Which processes belong to workloads: `PROCESSES`, kept by the scheduler's tracepoints.
//!
//! A process is remembered from before its first instruction, or from its move into the workload or the tag, until it
//! ends or is out of it. Those that are there already when a cgroup is tagged are written by the agent. What is a
//! process's is the same for all of its threads, also when one of them executes and takes over the process's id.
//!
//! Each tracepoint has one program: what is the matter is found out here, `task` decides who gets away, and `exec` tells
//! the agent and decides what runs. A process that cannot be remembered is ended: nobody would see it leave.

use aya_ebpf::{EbpfContext, btf_maps::HashMap, macros::btf_map};
use portcullis_abi::{MAX_PROCESSES, Proc, Site};

use crate::{
    entered,
    errors::failed,
    exec,
    kernel::{self, TASK_SELF_EXEC_ID},
    tagged::{self, Tagged},
    task,
};

/// The processes of workloads, by thread group id (initial pid namespace). All memory is taken at once: a fork in the
/// kernel cannot wait for any.
#[btf_map]
pub static PROCESSES: HashMap<u32, Proc, MAX_PROCESSES> = HashMap::new();

/// `sched_process_fork`: a thread was made, and has not run yet. The caller is its maker.
#[inline(always)]
pub fn forked(ctx: &impl EbpfContext, child: u64) {
    let (Some(process), Some(thread)) = (kernel::tgid(child), kernel::tid(child)) else {
        return failed(ctx, Site::ForkTask);
    };
    // What is known of a process is its threads', too.
    if process != thread {
        return;
    }
    match tagged::of_current() {
        Some(maker) => forked_within(ctx, (child, process), maker),
        None => forked_outside(ctx, (child, process)),
    }
}

/// What a workload's process starts is the workload's.
#[inline(always)]
fn forked_within(ctx: &impl EbpfContext, child: (u64, u32), maker: Tagged) {
    let above = match kernel::cgroup(child.0) {
        Some(cgroup) => kernel::climb(cgroup, maker.0),
        None => None,
    };
    let Some(above) = above else {
        failed(ctx, Site::ForkTask);
        return task::refuse(ctx, child.1, maker);
    };
    if !task::may_start(ctx, child, maker, above) {
        return;
    }
    entered::look(child);
    // It is below its maker's tag: there is a nearest one.
    if !begin(ctx, child, Tagged(above.nearest)) {
        task::kill(ctx);
    }
}

/// Whoever is no workload's has started a process: in its own cgroup, or in a workload's (CLONE_INTO_CGROUP), which is as
/// good as moving it there.
#[inline(always)]
fn forked_outside(ctx: &impl EbpfContext, child: (u64, u32)) {
    if !kernel::share_cgroups(child.0, kernel::current()) {
        let there = match kernel::cgroup(child.0) {
            Some(cgroup) => kernel::climb(cgroup, 0),
            None => None,
        };
        match there {
            Some(above) if above.nearest != 0 => {
                let tagged = Tagged(above.nearest);
                let _condemned = begin(ctx, child, tagged);
                return task::arrived(ctx, child, tagged);
            }
            Some(_) => {}
            None => failed(ctx, Site::ForkTask),
        }
    }
    // The number may have been another's before, which the agent wrote when it was gone already.
    if tag_of(child.1) != 0 {
        forget(child.1);
    }
}

/// A workload's process begins; false where it cannot be remembered, and is condemned.
#[inline(always)]
fn begin(ctx: &impl EbpfContext, child: (u64, u32), tagged: Tagged) -> bool {
    let known = remember(ctx, child, tagged);
    if known {
        exec::forked(ctx, child.0, tagged);
    }
    known
}

/// `sched_process_exec`: the caller has a new program, by its file and its name. Where the program of the agent before has
/// seen it already, while both are attached, it is told no second time.
#[inline(always)]
pub fn executed(ctx: &impl EbpfContext, executed: &exec::Executed) {
    let (task, process) = (kernel::current(), task::caller());
    let Some(tagged) = tagged::of_current() else {
        if tag_of(process) != 0 {
            forget(process);
        }
        return;
    };
    entered::look((task, process));
    let seen = PROCESSES.get_ptr(process).map(|known| unsafe { (*known).execs });
    if seen.is_some() && seen == kernel::member::<u32>(task, &TASK_SELF_EXEC_ID) {
        return;
    }
    if !remember(ctx, (task, process), tagged) {
        task::kill(ctx);
    }
    exec::executed(ctx, task, executed, tagged);
}

/// `sched_process_exit`: a process has ended when the last of its threads has; then all of them are counted off.
/// Two threads that end at once may both be the last: whoever takes the process out of the map tells.
#[inline(always)]
pub fn exited(ctx: &impl EbpfContext) {
    let process = task::caller();
    let tagged = Tagged(tag_of(process));
    if tagged.0 == 0 && !task::must_end(process) && !exec::is_held(process) {
        return;
    }
    if kernel::live(kernel::current()).is_some_and(|live| live != 0) {
        return;
    }
    task::ended(process);
    exec::ended(process);
    if tagged.0 != 0 && PROCESSES.remove(&process).is_ok() {
        exec::exited(ctx, kernel::current(), tagged);
    }
}

/// The tagged cgroup that a process belongs to; 0 when it is no workload's.
#[inline(always)]
pub fn tag_of(process: u32) -> u64 {
    match PROCESSES.get_ptr(process) {
        Some(known) => unsafe { (*known).tagged },
        None => 0,
    }
}

/// Writes what is known of a process; false, and it is ended at its next system call, where there are too many.
#[inline(always)]
pub fn remember(ctx: &impl EbpfContext, (task, process): (u64, u32), tagged: Tagged) -> bool {
    let known = Proc {
        tagged: tagged.0,
        execs: kernel::member::<u32>(task, &TASK_SELF_EXEC_ID).unwrap_or_default(),
        reserved: 0,
    };
    if PROCESSES.insert(&process, &known, 0).is_ok() {
        return true;
    }
    failed(ctx, Site::ProcsFull);
    task::condemn(ctx, process, tagged);
    false
}

/// Not there is what is wanted.
#[inline(always)]
pub fn forget(process: u32) {
    let _absent = PROCESSES.remove(&process);
}
