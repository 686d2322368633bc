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

// The same names as in the loader's list (`redirect/offsets.rs`).
offsets! {
    /// `task_struct.pid`
    TASK_PID,
    /// `task_struct.tgid`
    TASK_TGID,
    /// `task_struct.group_leader`
    TASK_GROUP_LEADER,
    /// `task_struct.start_boottime`
    TASK_START_BOOTTIME,
    /// `task_struct.self_exec_id`
    TASK_SELF_EXEC_ID,
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
    /// `task_struct.mm`
    TASK_MM,
    /// `task_struct.nsproxy`
    TASK_NSPROXY,
    /// `nsproxy.net_ns`
    NSPROXY_NET,
    /// `net.user_ns`
    NET_USER_NS,
    /// `net.net_cookie`; 0 on a kernel that keeps it elsewhere.
    NET_COOKIE,
    /// `task_struct.real_parent`
    TASK_REAL_PARENT,
    /// `task_struct.exit_code`
    TASK_EXIT_CODE,
    /// `task_struct.thread_info.status`; 0 where it is no x86, and the numbers of system calls are not those known here.
    TASK_STATUS,
    /// `signal_struct.live`
    SIGNAL_LIVE,
    /// `signal_struct.flags`
    SIGNAL_FLAGS,
    /// `signal_struct.group_exit_code`
    SIGNAL_GROUP_EXIT_CODE,
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
    /// `mm_struct.exe_file`
    MM_EXE_FILE,
    /// `mm_struct.arg_start`
    MM_ARG_START,
    /// `mm_struct.arg_end`
    MM_ARG_END,
    /// `linux_binprm.filename`
    BPRM_FILENAME,
    /// `linux_binprm.interp`
    BPRM_INTERP,
    /// `linux_binprm.file`
    BPRM_FILE,
    /// `file.f_inode`
    FILE_INODE,
    /// `inode.i_ino`
    INODE_INO,
    /// `inode.i_sb`
    INODE_SB,
    /// `inode.i_size`
    INODE_SIZE,
    /// `inode.i_writecount`
    INODE_WRITECOUNT,
    /// `inode.i_ctime_sec`
    INODE_CTIME_SEC,
    /// `inode.i_ctime_nsec`
    INODE_CTIME_NSEC,
    /// `super_block.s_dev`
    SB_DEV,
    /// `super_block.s_magic`
    SB_MAGIC,
    /// `super_block.s_user_ns`
    SB_USER_NS,
    /// `trace_event_raw_sched_process_fork.child_pid`
    FORK_CHILD_PID,
    /// `trace_event_raw_sched_process_exec.__data_loc_filename`
    EXEC_FILENAME,
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

/// A value of the kernel's memory; `None` where nothing can be read.
#[inline(always)]
pub fn read<T: Copy + Default>(at: u64) -> Option<T> {
    let mut value = T::default();
    let read =
        unsafe { bpf_probe_read_kernel((&raw mut value).cast(), size_of::<T>() as u32, at as *const _) };
    (read == 0).then_some(value)
}

/// A member of a struct of the kernel.
#[inline(always)]
pub fn member<T: Copy + Default>(structure: u64, offset: &Offset) -> Option<T> {
    read(structure + u64::from(offset.load()))
}

/// The calling task.
#[inline(always)]
pub fn current() -> u64 {
    unsafe { bpf_get_current_task() }
}

/// A task's thread group id, initial pid namespace.
#[inline(always)]
pub fn tgid(task: u64) -> Option<u32> {
    member::<u32>(task, &TASK_TGID)
}

/// A task's own id, initial pid namespace.
#[inline(always)]
pub fn tid(task: u64) -> Option<u32> {
    member::<u32>(task, &TASK_PID)
}

/// The descriptor table that a task uses.
#[inline(always)]
pub fn files(task: u64) -> Option<u64> {
    member::<u64>(task, &TASK_FILES)
}

/// When a task's process started, nanoseconds since boot.
#[inline(always)]
pub fn start(task: u64) -> Option<u64> {
    let leader = member::<u64>(task, &TASK_GROUP_LEADER)?;
    member::<u64>(leader, &TASK_START_BOOTTIME)
}

/// Threads of a task's process that have not ended.
#[inline(always)]
pub fn live(task: u64) -> Option<u32> {
    let signal = member::<u64>(task, &TASK_SIGNAL)?;
    member::<u32>(signal, &SIGNAL_LIVE)
}

/// Whether the calling task's system call is of the 32-bit kind.
#[inline(always)]
pub fn is_compat() -> Option<bool> {
    Some(member::<u32>(current(), &TASK_STATUS)? & TS_COMPAT != 0)
}

/// Whether the calling task is in the host's own user namespace. In another one everybody may have all capabilities over
/// it, and change there what paths mean.
#[inline(always)]
pub fn is_of_host_users() -> Option<bool> {
    let cred = member::<u64>(current(), &TASK_CRED)?;
    let namespace = member::<u64>(cred, &CRED_USER_NS)?;
    Some(member::<u32>(namespace, &USER_NS_LEVEL)? == 0)
}

/// Whether the calling task's network namespace is the host's users', who need a privilege over the host to make one.
#[inline(always)]
pub fn is_net_of_host_users() -> Option<bool> {
    let namespaces = member::<u64>(current(), &TASK_NSPROXY)?;
    let net = member::<u64>(namespaces, &NSPROXY_NET)?;
    let users = member::<u64>(net, &NET_USER_NS)?;
    Some(member::<u32>(users, &USER_NS_LEVEL)? == 0)
}

/// Whether the calling task has CAP_SYS_ADMIN over the host, and not only in a user namespace of its own.
#[inline(always)]
pub fn is_host_admin() -> Option<bool> {
    let cred = member::<u64>(current(), &TASK_CRED)?;
    let effective = member::<u64>(cred, &CRED_CAP_EFFECTIVE)?;
    Some(is_of_host_users()? && effective >> CAP_SYS_ADMIN & 1 == 1)
}

/// A task's cgroup, of the second version.
#[inline(always)]
pub fn cgroup(task: u64) -> Option<u64> {
    let set = member::<u64>(task, &TASK_CGROUPS)?;
    member::<u64>(set, &CSS_SET_DFL_CGRP)
}

/// Whether two tasks are in the same cgroups.
#[inline(always)]
pub fn share_cgroups(one: u64, other: u64) -> bool {
    match (
        member::<u64>(one, &TASK_CGROUPS),
        member::<u64>(other, &TASK_CGROUPS),
    ) {
        (Some(one), Some(other)) => one == other,
        _ => false,
    }
}

/// A cgroup's id.
#[inline(always)]
pub fn cgroup_id(cgroup: u64) -> Option<u64> {
    let node = member::<u64>(cgroup, &CGROUP_KN)?;
    member::<u64>(node, &KERNFS_ID)
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
        at = member::<u64>(at, &CGROUP_PARENT)?;
        if at == 0 {
            break;
        }
    }
    Some(above)
}

/// The task that `number` names in the calling task's pid namespace, as `find_task_by_vpid` finds it.
#[inline(always)]
pub fn task_of(number: u32) -> Option<u64> {
    let own = member::<u64>(current(), &TASK_THREAD_PID)?;
    task_at(number, own, member::<u32>(own, &PID_LEVEL)?)
}

/// The same in the initial pid namespace.
#[inline(always)]
pub fn task_of_host(number: u32) -> Option<u64> {
    task_at(number, member::<u64>(current(), &TASK_THREAD_PID)?, 0)
}

/// The task that `number` names in the pid namespace on a level of `own`: the namespace's numbers are an xarray of
/// `struct pid`.
#[inline(always)]
fn task_at(number: u32, own: u64, level: u32) -> Option<u64> {
    let level = u64::from(level & 0x3f);
    let namespace = read(own + u64::from(PID_NUMBERS.load()) + level * UPID.0 + UPID.1)?;
    let index = number.wrapping_sub(member::<u32>(namespace, &PID_NS_BASE)?);
    let mut entry = member::<u64>(namespace, &PID_NS_HEAD)?;
    let mut bits = 0;
    for _ in 0..MAX_XA_LEVELS {
        // The lowest two bits say what an entry is; 2 is a node.
        if entry & 3 != 2 {
            break;
        }
        let node = entry - 2;
        let shift = u32::from(member::<u8>(node, &XA_NODE_SHIFT)? & 31);
        bits = if bits == 0 { shift + 6 } else { bits };
        let slot = u64::from(index >> shift & 63);
        entry = read(node + u64::from(XA_NODE_SLOTS.load()) + slot * 8)?;
    }
    // What the topmost node does not reach is not there.
    let reached = bits >= 32 || index >> (bits & 31) == 0;
    if !reached || entry == 0 || entry & 3 != 0 {
        return None;
    }
    let link = member::<u64>(entry, &PID_TASKS)?;
    if link == 0 {
        return None;
    }
    Some(link - u64::from(TASK_PID_LINKS.load()))
}
