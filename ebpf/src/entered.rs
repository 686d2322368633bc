//! Network namespaces that a workload's process is in, seen before its first socket there.
//!
//! unshare(2) and setns(2) have no tracepoint of their own that would not be on every system call of the host. What comes
//! after them nearly always does: a program is executed there, or a process is started. A new namespace has its loopback
//! down, so that something has to be done in it before anything can connect.

use aya_ebpf::{Global, programs::RawTracePointContext};

use crate::{kernel, netns, tagged};

/// Offset of `task_struct.nsproxy`, bytes; written by the loader, as all of these.
#[unsafe(no_mangle)]
pub static TASK_NSPROXY: Global<u32> = Global::new(0);
/// `nsproxy.net_ns`
#[unsafe(no_mangle)]
pub static NSPROXY_NET: Global<u32> = Global::new(0);
/// `net.net_cookie`; 0 on a kernel that keeps it elsewhere, where the first socket tells of a namespace.
#[unsafe(no_mangle)]
pub static NET_COOKIE: Global<u32> = Global::new(0);

/// A process was started, by one of a workload.
#[inline(always)]
pub fn forked(ctx: &RawTracePointContext) {
    look(ctx.arg(1));
}

/// A process executes another program.
#[inline(always)]
pub fn executed(ctx: &RawTracePointContext) {
    look(ctx.arg(0));
}

/// Tells of the namespace of a task, if the agent does not listen there. A task that is being started is told apart from
/// the calling one, whose workload it belongs to.
#[inline(always)]
fn look(task: u64) {
    let (Some(cookie), Some(tid)) = (cookie(task), kernel::tid(task)) else {
        // Not a door: without an event the namespace is told of later, and denied until then.
        return;
    };
    // Most of what a host starts is where the agent listens: asked first.
    if !netns::is_known(cookie) && tagged::of_current().is_some() {
        netns::tell(cookie, tid);
    }
}

#[inline(always)]
fn cookie(task: u64) -> Option<u64> {
    let offset = NET_COOKIE.load();
    if offset == 0 {
        return None;
    }
    let proxy = kernel::read(task + u64::from(TASK_NSPROXY.load()))?;
    let net = kernel::read(proxy + u64::from(NSPROXY_NET.load()))?;
    kernel::read(net + u64::from(offset))
}
