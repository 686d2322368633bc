//! Network namespaces that a workload's process is in, seen before its first socket there.
//!
//! unshare(2) and setns(2) have no tracepoint of their own that would not be on every system call of the host. What comes
//! after them nearly always does: a program is executed there, or a process is started. A new namespace has its loopback
//! down, so that something has to be done in it before anything can connect.

use crate::{
    kernel::{self, NET_COOKIE, NSPROXY_NET, TASK_NSPROXY},
    netns,
};

/// Tells of the namespace of a workload's process, where the agent does not listen.
#[inline(always)]
pub fn look((task, process): (u64, u32)) {
    // Not a door: without an event the namespace is told of later, and denied until then.
    if let Some(cookie) = cookie(task)
        && !netns::is_known(cookie)
    {
        netns::tell(cookie, process);
    }
}

/// `None`, too, on a kernel that keeps it elsewhere, where the first socket tells of a namespace.
#[inline(always)]
fn cookie(task: u64) -> Option<u64> {
    if NET_COOKIE.load() == 0 {
        return None;
    }
    let proxy = kernel::member::<u64>(task, &TASK_NSPROXY)?;
    let net = kernel::member::<u64>(proxy, &NSPROXY_NET)?;
    kernel::member(net, &NET_COOKIE)
}
