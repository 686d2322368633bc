//! Where the kernel keeps what the guard reads of it.

use crate::redirect::{RedirectError, btf::Btf};

/// The programs' constant, and the path to the member: structs and members in turn, where the next struct lies within
/// the member before it.
const OFFSETS: [(&str, &[(&str, &str)]); 23] = [
    ("TASK_PID", &[("task_struct", "pid")]),
    ("TASK_TGID", &[("task_struct", "tgid")]),
    ("TASK_THREAD_PID", &[("task_struct", "thread_pid")]),
    ("TASK_PID_LINKS", &[("task_struct", "pid_links")]),
    ("TASK_CGROUPS", &[("task_struct", "cgroups")]),
    ("TASK_FILES", &[("task_struct", "files")]),
    ("TASK_SIGNAL", &[("task_struct", "signal")]),
    ("TASK_CRED", &[("task_struct", "cred")]),
    ("SIGNAL_LIVE", &[("signal_struct", "live")]),
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
];

/// What is needed of UNIX sockets where they have no hooks of their own; a kernel that keeps them in a module does not
/// tell.
const UNIX: [(&str, &[(&str, &str)]); 5] = [
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
const STATUS: [(&str, &str); 2] = [("task_struct", "thread_info"), ("thread_info", "status")];

/// Every offset, by the name of the programs' constant.
pub(in crate::redirect) fn offsets(btf: &Btf) -> Result<Vec<(&'static str, u32)>, RedirectError> {
    let find = |path: &[(&str, &str)]| {
        path.iter().try_fold(0_u32, |sum, (structure, member)| {
            sum.checked_add(btf.offset(structure, member)?)
        })
    };
    let mut found = OFFSETS
        .iter()
        .map(|(name, path)| {
            let offset = find(path).ok_or(RedirectError::Btf("a struct is not as expected"))?;
            Ok((*name, offset))
        })
        .collect::<Result<Vec<_>, RedirectError>>()?;
    let unix = UNIX.iter().filter_map(|(name, path)| Some((*name, find(path)?)));
    found.extend(unix);
    if cfg!(target_arch = "x86_64") {
        let status = find(&STATUS).ok_or(RedirectError::Btf("thread_info is not as expected"))?;
        found.push(("TASK_STATUS", status));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_them_all() {
        let found = offsets(&Btf::of_kernel().unwrap()).unwrap();
        let all = OFFSETS.len() + UNIX.len() + usize::from(cfg!(target_arch = "x86_64"));
        assert_eq!(found.len(), all);
        // A cgroup's own state is its first member, and begins with what points to the cgroup, not with the parent.
        let parent = found.iter().find(|(name, _)| *name == "CGROUP_PARENT").unwrap();
        assert!(parent.1 > 0);
    }
}
