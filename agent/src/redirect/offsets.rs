//! Where the kernel keeps what the programs read of it.

use super::{RedirectError, btf::Btf};

/// Structs and members in turn, where the next struct lies within the member before it.
type Member = &'static [(&'static str, &'static str)];

/// The programs' constants (`ebpf/src/kernel.rs`), and the members whose offsets they are.
const OFFSETS: &[(&str, Member)] = &[
    ("TASK_PID", &[("task_struct", "pid")]),
    ("TASK_TGID", &[("task_struct", "tgid")]),
    ("TASK_GROUP_LEADER", &[("task_struct", "group_leader")]),
    ("TASK_START_BOOTTIME", &[("task_struct", "start_boottime")]),
    ("TASK_SELF_EXEC_ID", &[("task_struct", "self_exec_id")]),
    ("TASK_THREAD_PID", &[("task_struct", "thread_pid")]),
    ("TASK_PID_LINKS", &[("task_struct", "pid_links")]),
    ("TASK_CGROUPS", &[("task_struct", "cgroups")]),
    ("TASK_FILES", &[("task_struct", "files")]),
    ("TASK_SIGNAL", &[("task_struct", "signal")]),
    ("TASK_CRED", &[("task_struct", "cred")]),
    ("TASK_MM", &[("task_struct", "mm")]),
    ("TASK_NSPROXY", &[("task_struct", "nsproxy")]),
    ("NSPROXY_NET", &[("nsproxy", "net_ns")]),
    ("NET_USER_NS", &[("net", "user_ns")]),
    ("TASK_REAL_PARENT", &[("task_struct", "real_parent")]),
    ("TASK_EXIT_CODE", &[("task_struct", "exit_code")]),
    ("SIGNAL_LIVE", &[("signal_struct", "live")]),
    ("SIGNAL_FLAGS", &[("signal_struct", "flags")]),
    ("SIGNAL_GROUP_EXIT_CODE", &[("signal_struct", "group_exit_code")]),
    ("CRED_CAP_EFFECTIVE", &[("cred", "cap_effective")]),
    ("CRED_USER_NS", &[("cred", "user_ns")]),
    ("USER_NS_LEVEL", &[("user_namespace", "level")]),
    ("CSS_SET_DFL_CGRP", &[("css_set", "dfl_cgrp")]),
    ("CGROUP_KN", &[("cgroup", "kn")]),
    (
        "CGROUP_PARENT",
        &[("cgroup", "self"), ("cgroup_subsys_state", "parent")],
    ),
    ("KERNFS_ID", &[("kernfs_node", "id")]),
    ("PID_LEVEL", &[("pid", "level")]),
    ("PID_NUMBERS", &[("pid", "numbers")]),
    ("PID_TASKS", &[("pid", "tasks")]),
    (
        "PID_NS_HEAD",
        &[("pid_namespace", "idr"), ("idr", "idr_rt"), ("xarray", "xa_head")],
    ),
    ("PID_NS_BASE", &[("pid_namespace", "idr"), ("idr", "idr_base")]),
    ("XA_NODE_SHIFT", &[("xa_node", "shift")]),
    ("XA_NODE_SLOTS", &[("xa_node", "slots")]),
    ("MM_EXE_FILE", &[("mm_struct", "exe_file")]),
    ("MM_ARG_START", &[("mm_struct", "arg_start")]),
    ("MM_ARG_END", &[("mm_struct", "arg_end")]),
    ("BPRM_FILENAME", &[("linux_binprm", "filename")]),
    ("BPRM_INTERP", &[("linux_binprm", "interp")]),
    ("BPRM_FILE", &[("linux_binprm", "file")]),
    ("FILE_INODE", &[("file", "f_inode")]),
    ("INODE_INO", &[("inode", "i_ino")]),
    ("INODE_SB", &[("inode", "i_sb")]),
    ("INODE_SIZE", &[("inode", "i_size")]),
    ("INODE_WRITECOUNT", &[("inode", "i_writecount")]),
    ("SB_DEV", &[("super_block", "s_dev")]),
    ("SB_MAGIC", &[("super_block", "s_magic")]),
    ("SB_USER_NS", &[("super_block", "s_user_ns")]),
];

/// Seconds, and how far behind them the nanoseconds are where that is no member of its own: since Linux 6.11, 6.6, and
/// before.
const CTIME: [(&str, Option<u32>); 3] = [
    ("i_ctime_sec", None),
    ("__i_ctime", Some(8)),
    ("i_ctime", Some(8)),
];

/// What a kernel may keep elsewhere: a namespace's cookie, without which its first socket tells of it; and what is needed
/// of UNIX sockets where they have no hooks of their own, which one that has them in a module does not tell.
const OPTIONAL: &[(&str, Member)] = &[
    (
        "FORK_CHILD_PID",
        &[("trace_event_raw_sched_process_fork", "child_pid")],
    ),
    (
        "EXEC_FILENAME",
        &[("trace_event_raw_sched_process_exec", "__data_loc_filename")],
    ),
    ("NET_COOKIE", &[("net", "net_cookie")]),
    ("UNIX_SOCK_ADDR", &[("unix_sock", "addr")]),
    ("UNIX_ADDRESS_LEN", &[("unix_address", "len")]),
    ("UNIX_ADDRESS_NAME", &[("unix_address", "name")]),
    (
        "SOCK_CGROUP",
        &[("sock", "sk_cgrp_data"), ("sock_cgroup_data", "cgroup")],
    ),
    ("SOCKET_SK", &[("socket", "sk")]),
];

/// What x86 alone has: whether a system call is of the 32-bit kind.
const STATUS: Member = &[("task_struct", "thread_info"), ("thread_info", "status")];

/// The offsets in bytes, by the programs' constants.
///
/// # Errors
/// When the kernel's types are not as expected; nothing is guessed.
pub(super) fn offsets(btf: &Btf) -> Result<Vec<(&'static str, u32)>, RedirectError> {
    let needed = |(name, path): &(&'static str, Member)| match find(btf, path) {
        Some(offset) => Ok((*name, offset)),
        None => Err(RedirectError::Btf("a struct is not as expected")),
    };
    let mut found = OFFSETS
        .iter()
        .map(needed)
        .collect::<Result<Vec<_>, RedirectError>>()?;
    let (seconds, nanoseconds) = ctime(btf).ok_or(RedirectError::Btf("struct inode is not as expected"))?;
    found.extend([("INODE_CTIME_SEC", seconds), ("INODE_CTIME_NSEC", nanoseconds)]);
    let optional = OPTIONAL.iter();
    found.extend(optional.filter_map(|(name, path)| Some((*name, find(btf, path)?))));
    if cfg!(target_arch = "x86_64") {
        found.push(needed(&("TASK_STATUS", STATUS))?);
    }
    Ok(found)
}

fn find(btf: &Btf, path: Member) -> Option<u32> {
    path.iter().try_fold(0_u32, |sum, (structure, member)| {
        sum.checked_add(btf.offset(structure, member)?)
    })
}

fn ctime(btf: &Btf) -> Option<(u32, u32)> {
    CTIME.iter().find_map(|(seconds, further)| {
        let seconds = btf.offset("inode", seconds)?;
        let nanoseconds = match further {
            Some(further) => seconds.checked_add(*further)?,
            None => btf.offset("inode", "i_ctime_nsec")?,
        };
        Some((seconds, nanoseconds))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_them_all() {
        let found = offsets(&Btf::of_kernel().unwrap()).unwrap();
        let all = OFFSETS.len() + 2 + OPTIONAL.len() + usize::from(cfg!(target_arch = "x86_64"));
        assert_eq!(found.len(), all);
        // A cgroup's own state is its first member, and begins with what points to the cgroup, not with the parent.
        let parent = found.iter().find(|(name, _)| *name == "CGROUP_PARENT").unwrap();
        assert!(parent.1 > 0);
    }
}
