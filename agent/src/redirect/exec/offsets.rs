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
    OFFSETS.iter().map(find).collect()
}
