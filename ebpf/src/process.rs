//! Which threads belong to workloads: `PROCS`, kept by the scheduler's tracepoints.
//!
//! A thread is remembered from before its first instruction until it ends, or until it is moved out of the cgroup. Those
//! that are there already when a cgroup is tagged are written by the agent. Rust has no compile-once relocations: where
//! the kernel keeps what is read here, the loader says.

use aya_ebpf::{
    Global,
    btf_maps::HashMap,
    helpers::generated::{bpf_get_current_task, bpf_probe_read_kernel},
    macros::btf_map,
    programs::RawTracePointContext,
};
use portcullis_abi::{MAX_DEPTH, MAX_PROCS, Proc, Site};

use crate::{
    errors::failed,
    exec,
    kernel::{CGROUP_KN, CSS_SET_DFL_CGRP, TASK_CGROUPS, TASK_PID, TASK_TGID},
    maps,
    tagged::{self, Tagged},
};

/// The threads of workloads, by id. All memory is taken at once: a fork in the kernel cannot wait for any.
#[btf_map]
pub static PROCS: HashMap<u32, Proc, MAX_PROCS> = HashMap::new();

/// Offset of `task_struct.self_exec_id`, bytes; written by the loader, as all of these.
#[unsafe(no_mangle)]
pub static TASK_SELF_EXEC_ID: Global<u32> = Global::new(0);
/// `cgroup.self`
#[unsafe(no_mangle)]
pub static CGROUP_SELF: Global<u32> = Global::new(0);
/// `kernfs_node.id`
#[unsafe(no_mangle)]
pub static KERNFS_NODE_ID: Global<u32> = Global::new(0);
/// `cgroup_subsys_state.parent`
#[unsafe(no_mangle)]
pub static CSS_PARENT: Global<u32> = Global::new(0);
/// `cgroup_subsys_state.cgroup`
#[unsafe(no_mangle)]
pub static CSS_CGROUP: Global<u32> = Global::new(0);

/// A thread was made; it has not run yet. `current` is its maker.
#[inline(always)]
pub fn fork(ctx: &RawTracePointContext) {
    let child: u64 = ctx.arg(1);
    let Some(tid) = member::<u32>(child, &TASK_PID) else {
        return failed(ctx, Site::ForkTask);
    };
    match of_child(child) {
        Some(tagged) => {
            remember(ctx, child, tid, tagged);
            exec::forked(ctx, child, tid, tagged);
        }
        // The id may have been a workload's thread before, which the agent wrote when it was gone already.
        None => forget(tid),
    }
}

/// A thread has a new program; `old` is the id that it had before, if another (a thread that executes takes over the id
/// of its process). `None` where it is no workload's, or has been seen already: by the program of the agent before, while
/// both are attached.
#[inline(always)]
pub fn exec(ctx: &RawTracePointContext, task: u64, old: u32) -> Option<Tagged> {
    let Some(tid) = member::<u32>(task, &TASK_PID) else {
        failed(ctx, Site::ExecTask);
        return None;
    };
    if old != tid {
        forget(old);
    }
    let Some(tagged) = tagged::of_current() else {
        forget(tid);
        return None;
    };
    let execs = member::<u32>(task, &TASK_SELF_EXEC_ID);
    let seen = PROCS.get_ptr(tid).map(|known| unsafe { (*known).execs });
    if seen.is_some() && seen == execs {
        return None;
    }
    remember(ctx, task, tid, tagged);
    Some(tagged)
}

/// A thread ends.
#[inline(always)]
pub fn exit(ctx: &RawTracePointContext) {
    if let Some(tid) = member::<u32>(ctx.arg(0), &TASK_PID) {
        forget(tid);
    }
}

/// Writes what is known of a thread.
#[inline(always)]
pub fn remember(ctx: &RawTracePointContext, task: u64, tid: u32, tagged: Tagged) {
    let (Some(tgid), Some(start_ns)) = (member::<u32>(task, &TASK_TGID), start(task)) else {
        return failed(ctx, Site::ProcRead);
    };
    let known = Proc {
        tagged: tagged.0,
        start_ns,
        tgid,
        execs: member::<u32>(task, &TASK_SELF_EXEC_ID).unwrap_or_default(),
    };
    if PROCS.insert(&tid, &known, 0).is_err() {
        failed(ctx, Site::ProcsFull);
    }
}

/// Not there is what is wanted.
#[inline(always)]
pub fn forget(tid: u32) {
    let _absent = PROCS.remove(&tid);
}

/// When the process of a thread started, nanoseconds since boot.
#[inline(always)]
pub fn start(task: u64) -> Option<u64> {
    let leader: u64 = member(task, &maps::TASK_GROUP_LEADER)?;
    member(leader, &maps::TASK_START_BOOTTIME)
}

/// The nearest tagged ancestor of a new thread's cgroup: its maker's, unless clone3 put it elsewhere
/// (CLONE_INTO_CGROUP).
#[inline(always)]
fn of_child(child: u64) -> Option<Tagged> {
    let set: u64 = member(child, &TASK_CGROUPS)?;
    let own: u64 = member(unsafe { bpf_get_current_task() }, &TASK_CGROUPS)?;
    if set == own {
        return tagged::of_current();
    }
    of_cgroup(member(set, &CSS_SET_DFL_CGRP)?)
}

/// The nearest tagged ancestor of a `struct cgroup`, itself included.
#[inline(always)]
pub fn of_cgroup(cgroup: u64) -> Option<Tagged> {
    let mut cgroup = cgroup;
    for _ in 0..MAX_DEPTH {
        let id: u64 = member(member(cgroup, &CGROUP_KN)?, &KERNFS_NODE_ID)?;
        if maps::TAGGED.get_ptr(id).is_some() {
            return Some(Tagged(id));
        }
        let parent: u64 = member(cgroup + u64::from(CGROUP_SELF.load()), &CSS_PARENT)?;
        if parent == 0 {
            return None;
        }
        cgroup = member(parent, &CSS_CGROUP)?;
    }
    None
}

/// A member of a kernel struct.
#[inline(always)]
pub fn member<T: Copy + Default>(structure: u64, offset: &Global<u32>) -> Option<T> {
    read(structure + u64::from(offset.load()))
}

/// A value of the kernel's memory; `None` where nothing can be read.
#[inline(always)]
pub fn read<T: Copy + Default>(at: u64) -> Option<T> {
    let mut value = T::default();
    let read =
        unsafe { bpf_probe_read_kernel((&raw mut value).cast(), size_of::<T>() as u32, at as *const _) };
    (read == 0).then_some(value)
}
