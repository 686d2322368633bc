//! Where the kernel keeps what the programs read of processes.

use crate::redirect::{RedirectError, btf::Btf};

/// The programs' constant, and the struct and member whose offset it is.
const OFFSETS: &[(&str, &str, &str)] = &[
    ("TASK_PID", "task_struct", "pid"),
    ("TASK_TGID", "task_struct", "tgid"),
    ("TASK_CGROUPS", "task_struct", "cgroups"),
    ("TASK_SELF_EXEC_ID", "task_struct", "self_exec_id"),
    ("CSS_SET_DFL_CGRP", "css_set", "dfl_cgrp"),
    ("CGROUP_KN", "cgroup", "kn"),
    ("CGROUP_SELF", "cgroup", "self"),
    ("KERNFS_NODE_ID", "kernfs_node", "id"),
    ("CSS_PARENT", "cgroup_subsys_state", "parent"),
    ("CSS_CGROUP", "cgroup_subsys_state", "cgroup"),
    ("TASK_MM", "task_struct", "mm"),
    ("TASK_REAL_PARENT", "task_struct", "real_parent"),
    ("TASK_EXIT_CODE", "task_struct", "exit_code"),
    ("TASK_SIGNAL", "task_struct", "signal"),
    ("MM_ARG_START", "mm_struct", "arg_start"),
    ("MM_ARG_END", "mm_struct", "arg_end"),
    ("BPRM_FILENAME", "linux_binprm", "filename"),
    ("BPRM_FILE", "linux_binprm", "file"),
    ("FILE_INODE", "file", "f_inode"),
    ("INODE_INO", "inode", "i_ino"),
    ("INODE_SB", "inode", "i_sb"),
    ("INODE_SIZE", "inode", "i_size"),
    ("INODE_WRITECOUNT", "inode", "i_writecount"),
    ("SB_DEV", "super_block", "s_dev"),
    ("SIGNAL_LIVE", "signal_struct", "live"),
    ("SIGNAL_FLAGS", "signal_struct", "flags"),
    ("SIGNAL_GROUP_EXIT_CODE", "signal_struct", "group_exit_code"),
];

/// Seconds, and how far behind them the nanoseconds are where that is no member of its own: since Linux 6.11, 6.6, and
/// before.
const CTIME: [(&str, Option<u32>); 3] = [
    ("i_ctime_sec", None),
    ("__i_ctime", Some(8)),
    ("i_ctime", Some(8)),
];

/// The offsets in bytes, by the programs' constants.
///
/// # Errors
/// When the kernel's types are not as expected; nothing is guessed.
pub(in crate::redirect) fn offsets(btf: &Btf) -> Result<Vec<(&'static str, u32)>, RedirectError> {
    let find = |(constant, structure, member): &(&'static str, &str, &str)| {
        let offset = btf.offset(structure, member);
        offset
            .map(|offset| (*constant, offset))
            .ok_or(RedirectError::Btf("a process's structs are not as expected"))
    };
    let mut found = OFFSETS.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    let ctime = CTIME.iter().find_map(|(seconds, further)| {
        let seconds = btf.offset("inode", seconds)?;
        let nanoseconds = match further {
            Some(further) => seconds.checked_add(*further)?,
            None => btf.offset("inode", "i_ctime_nsec")?,
        };
        Some((seconds, nanoseconds))
    });
    let (seconds, nanoseconds) = ctime.ok_or(RedirectError::Btf("struct inode is not as expected"))?;
    found.extend([("INODE_CTIME_SEC", seconds), ("INODE_CTIME_NSEC", nanoseconds)]);
    Ok(found)
}
