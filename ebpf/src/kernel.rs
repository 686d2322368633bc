//! The kernel's own structs, read: tasks, their cgroups, and the task that a number names.
//!
//! There are no compile-once relocations in Rust: every offset is a constant that the loader writes from the kernel's
//! BTF. Reads are `bpf_probe_read_kernel`, which fail rather than fault; nothing read is trusted to be a pointer.

use aya_ebpf::{
    Global,
    helpers::generated::{bpf_get_current_task, bpf_probe_read_kernel},
};

use crate::maps;

/// An offset within a struct, bytes.
type Offset = Global<u32>;

macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $(
            $(#[$doc])*
            #[unsafe(no_mangle)]
            pub static $name: Offset = Global::new(0);
        )*
    };
}

offsets! {
    /// `task_struct.pid`
    TASK_PID,
    /// `task_struct.tgid`
    TASK_TGID,
    /// `task_struct.thread_pid`
    TASK_THREAD_PID,
    /// `task_struct.pid_links`
    TASK_PID_LINKS,
    /// `task_struct.cgroups`
    TASK_CGROUPS,
    /// `task_struct.files`
    TASK_FILES,
    /// `task_struct.signal`
    TASK_SIGNAL,
    /// `task_struct.cred`
    TASK_CRED,
    /// `task_struct.thread_info.status`
    TASK_STATUS,
    /// `signal_struct.live`
    SIGNAL_LIVE,
    /// `cred.cap_effective`
    CRED_CAP_EFFECTIVE,
    /// `cred.user_ns`
    CRED_USER_NS,
    /// `user_namespace.level`
    USER_NS_LEVEL,
    /// `css_set.dfl_cgrp`
    CSS_SET_DFL_CGRP,
    /// `cgroup.kn`
    CGROUP_KN,
    /// `cgroup.self.parent`
    CGROUP_PARENT,
    /// `kernfs_node.id`
    KERNFS_ID,
    /// `pid.level`
    PID_LEVEL,
    /// `pid.numbers`
    PID_NUMBERS,
    /// `pid.tasks`
    PID_TASKS,
    /// `pid_namespace.idr.idr_rt.xa_head`
    PID_NS_HEAD,
    /// `pid_namespace.idr.idr_base`
    PID_NS_BASE,
    /// `xa_node.shift`
    XA_NODE_SHIFT,
    /// `xa_node.slots`
    XA_NODE_SLOTS,
    /// `unix_sock.addr`
    UNIX_SOCK_ADDR,
    /// `unix_address.len`
    UNIX_ADDRESS_LEN,
    /// `unix_address.name`
    UNIX_ADDRESS_NAME,
    /// `sock.sk_cgrp_data.cgroup`
    SOCK_CGROUP,
    /// `socket.sk`
    SOCKET_SK,
}

/// Levels that are climbed from a cgroup towards the root; one that is deeper has no tag, which denies.
const MAX_CLIMB: u32 = 64;
/// `sizeof(struct upid)`, and the offset of its `ns`.
const UPID: (u64, u64) = (16, 8);
/// Levels of an xarray over 22 bits, six at a time, and one to spare.
const MAX_XA_LEVELS: u32 = 5;
const CAP_SYS_ADMIN: u32 = 21;
/// `TS_COMPAT`: a system call of the 32-bit kind.
const TS_COMPAT: u32 = 2;

/// Reads eight bytes of the kernel's memory.
#[inline(always)]
pub fn read(at: u64) -> Option<u64> {
    let mut value = 0_u64;
    let read = unsafe { bpf_probe_read_kernel((&raw mut value).cast(), 8, at as *const _) };
    (read == 0).then_some(value)
}

/// Reads four bytes of it.
#[inline(always)]
pub fn read32(at: u64) -> Option<u32> {
    let mut value = 0_u32;
    let read = unsafe { bpf_probe_read_kernel((&raw mut value).cast(), 4, at as *const _) };
    (read == 0).then_some(value)
}

#[inline(always)]
fn read8(at: u64) -> Option<u8> {
    let mut value = 0_u8;
    let read = unsafe { bpf_probe_read_kernel((&raw mut value).cast(), 1, at as *const _) };
    (read == 0).then_some(value)
}

/// The calling task.
#[inline(always)]
pub fn current() -> u64 {
    unsafe { bpf_get_current_task() }
}

/// A task's thread group id, initial pid namespace.
#[inline(always)]
pub fn tgid(task: u64) -> Option<u32> {
    read32(task + u64::from(TASK_TGID.load()))
}

/// A task's own id, initial pid namespace.
#[inline(always)]
pub fn tid(task: u64) -> Option<u32> {
    read32(task + u64::from(TASK_PID.load()))
}

/// The descriptor table that a task uses.
#[inline(always)]
pub fn files(task: u64) -> Option<u64> {
    read(task + u64::from(TASK_FILES.load()))
}

/// When a task's process started, nanoseconds since boot.
#[inline(always)]
pub fn start(task: u64) -> Option<u64> {
    let leader = read(task + u64::from(maps::TASK_GROUP_LEADER.load()))?;
    read(leader + u64::from(maps::TASK_START_BOOTTIME.load()))
}

/// Threads of a task's process that have not ended.
#[inline(always)]
pub fn live(task: u64) -> Option<u32> {
    let signal = read(task + u64::from(TASK_SIGNAL.load()))?;
    read32(signal + u64::from(SIGNAL_LIVE.load()))
}

/// Whether the calling task's system call is of the 32-bit kind.
#[inline(always)]
pub fn is_compat() -> Option<bool> {
    Some(read32(current() + u64::from(TASK_STATUS.load()))? & TS_COMPAT != 0)
}

/// Whether the calling task has CAP_SYS_ADMIN over the host, and not only in a user namespace of its own.
#[inline(always)]
pub fn is_host_admin() -> Option<bool> {
    let cred = read(current() + u64::from(TASK_CRED.load()))?;
    let namespace = read(cred + u64::from(CRED_USER_NS.load()))?;
    let level = read32(namespace + u64::from(USER_NS_LEVEL.load()))?;
    let effective = read(cred + u64::from(CRED_CAP_EFFECTIVE.load()))?;
    Some(level == 0 && effective >> CAP_SYS_ADMIN & 1 == 1)
}

/// A task's cgroup, of the second version.
#[inline(always)]
pub fn cgroup(task: u64) -> Option<u64> {
    let set = read(task + u64::from(TASK_CGROUPS.load()))?;
    read(set + u64::from(CSS_SET_DFL_CGRP.load()))
}

/// A cgroup's id.
#[inline(always)]
pub fn cgroup_id(cgroup: u64) -> Option<u64> {
    let node = read(cgroup + u64::from(CGROUP_KN.load()))?;
    read(node + u64::from(KERNFS_ID.load()))
}

/// What is above a cgroup.
#[derive(Clone, Copy)]
pub struct Above {
    /// Id of the nearest tagged cgroup, itself included; 0 when there is none.
    pub nearest: u64,
    /// 1 when the one that was asked about is among them. Not a bool: in its unused values an `Option` of this keeps that
    /// it is none, and the kernel refuses the BTF of such a type.
    pub below: u64,
}

/// Climbs from `cgroup` to the root: the nearest tag, and whether it is at or below the cgroup with the id `other`.
#[inline(always)]
pub fn climb(cgroup: u64, other: u64) -> Option<Above> {
    let mut above = Above { nearest: 0, below: 0 };
    let mut at = cgroup;
    for _ in 0..MAX_CLIMB {
        let id = cgroup_id(at)?;
        if above.nearest == 0 && maps::TAGGED.get_ptr(id).is_some() {
            above.nearest = id;
        }
        if id == other {
            above.below = 1;
        }
        // A cgroup's own state is its first member: the parent's is the parent.
        at = read(at + u64::from(CGROUP_PARENT.load()))?;
        if at == 0 {
            break;
        }
    }
    Some(above)
}

/// The task that `number` names in the calling task's pid namespace, as `find_task_by_vpid` finds it: the namespace's
/// numbers are an xarray of `struct pid`.
#[inline(always)]
pub fn task_of(number: u32) -> Option<u64> {
    let own = read(current() + u64::from(TASK_THREAD_PID.load()))?;
    let level = u64::from(read32(own + u64::from(PID_LEVEL.load()))? & 0x3f);
    let namespace = read(own + u64::from(PID_NUMBERS.load()) + level * UPID.0 + UPID.1)?;
    let index = number.wrapping_sub(read32(namespace + u64::from(PID_NS_BASE.load()))?);
    let mut entry = read(namespace + u64::from(PID_NS_HEAD.load()))?;
    let mut bits = 0;
    for _ in 0..MAX_XA_LEVELS {
        // The lowest two bits say what an entry is; 2 is a node.
        if entry & 3 != 2 {
            break;
        }
        let node = entry - 2;
        let shift = u32::from(read8(node + u64::from(XA_NODE_SHIFT.load()))? & 31);
        bits = if bits == 0 { shift + 6 } else { bits };
        let slot = u64::from(index >> shift & 63);
        entry = read(node + u64::from(XA_NODE_SLOTS.load()) + slot * 8)?;
    }
    // What the topmost node does not reach is not there.
    let reached = bits >= 32 || index >> (bits & 31) == 0;
    if !reached || entry == 0 || entry & 3 != 0 {
        return None;
    }
    let link = read(entry + u64::from(PID_TASKS.load()))?;
    if link == 0 {
        return None;
    }
    Some(link - u64::from(TASK_PID_LINKS.load()))
}
