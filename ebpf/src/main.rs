//! The eBPF programs of Portcullis: one call each into the module that does the work.
//!
//! Attached to every tagged cgroup: all but `agent_ops`, which sits on the agent's own cgroup, and the tracepoints, which
//! see every process of the host and return at once for those that are no workload's.
//! Invariant: a program that cannot do its work denies, and counts where it failed (`errors`).
#![no_std]
#![no_main]
// Counters are incremented by an atomic instruction, for which there is no stable intrinsic on this target.
#![feature(asm_experimental_arch)]

mod bind;
mod connect;
mod device;
mod egress;
mod entered;
mod errors;
mod exec;
mod exempt;
mod ingress;
mod kernel;
mod lsm;
mod maps;
mod netns;
mod original_dst;
mod packet;
mod process;
mod socket;
mod syscalls;
mod tagged;
mod task;
mod tracepoint;
mod udp;
mod unix;

use aya_ebpf::{
    macros::{
        cgroup_device, cgroup_skb, cgroup_sock, cgroup_sock_addr, lsm, raw_tracepoint, sock_ops, tracepoint,
    },
    programs::{
        DeviceContext, LsmContext, RawTracePointContext, SkBuffContext, SockAddrContext, SockContext,
        SockOpsContext, TracePointContext,
    },
};

/// connect(2) of an AF_INET socket.
#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    connect::connect4(&ctx)
}

/// connect(2) of an AF_INET6 socket, v4-mapped destinations included.
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    connect::connect6(&ctx)
}

/// getpeername(2) of an AF_INET socket.
#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    connect::getpeername4(&ctx)
}

/// getpeername(2) of an AF_INET6 socket.
#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    connect::getpeername6(&ctx)
}

/// sendto(2) and sendmsg(2) with an IPv4 address, from an unconnected or a connected UDP socket.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    udp::sendmsg4(&ctx)
}

/// sendto(2) and sendmsg(2) with an IPv6 address.
#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    udp::sendmsg6(&ctx)
}

/// recvfrom(2) and recvmsg(2) of an AF_INET UDP socket.
#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    udp::recvmsg4(&ctx)
}

/// recvfrom(2) and recvmsg(2) of an AF_INET6 UDP socket, also where the datagram came by IPv4.
#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    udp::recvmsg6(&ctx)
}

/// socket(2) of AF_INET and AF_INET6.
#[cgroup_sock(sock_create)]
pub fn sock_create(ctx: SockContext) -> i32 {
    socket::create(&ctx)
}

/// A device is opened, or its node made.
#[cgroup_device]
pub fn device(ctx: DeviceContext) -> i32 {
    device::opened(&ctx)
}

/// Every packet that a socket of the cgroup sends.
#[cgroup_skb(egress)]
pub fn egress(ctx: SkBuffContext) -> i32 {
    egress::egress(&ctx)
}

/// Every packet that arrives for a socket of the cgroup.
#[cgroup_skb(ingress)]
pub fn ingress(ctx: SkBuffContext) -> i32 {
    ingress::ingress(&ctx)
}

/// bind(2) of an AF_INET socket.
#[cgroup_sock_addr(bind4)]
pub fn bind4(ctx: SockAddrContext) -> i32 {
    bind::bind4(&ctx)
}

/// bind(2) of an AF_INET6 socket.
#[cgroup_sock_addr(bind6)]
pub fn bind6(ctx: SockAddrContext) -> i32 {
    bind::bind6(&ctx)
}

/// TCP events of the workload's sockets.
#[sock_ops]
pub fn workload_ops(ctx: SockOpsContext) -> u32 {
    original_dst::workload_ops(&ctx)
}

/// TCP events of the agent's sockets.
#[sock_ops]
pub fn agent_ops(ctx: SockOpsContext) -> u32 {
    original_dst::agent_ops(&ctx)
}

/// Every system call of the host, before it acts; attached while a cgroup is tagged.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn sys_enter(ctx: RawTracePointContext) -> i32 {
    syscalls::entered(&ctx)
}

/// A task was moved to another cgroup.
#[raw_tracepoint(tracepoint = "cgroup_attach_task")]
pub fn task_moved(ctx: RawTracePointContext) -> i32 {
    task::moved(&ctx)
}

/// Every new thread of the host, before it runs.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn task_forked(ctx: RawTracePointContext) -> i32 {
    process::forked(&ctx, ctx.arg(1));
    0
}

/// Every exec of the host: the old program is gone, no instruction of the new one has run.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn task_executed(ctx: RawTracePointContext) -> i32 {
    tracepoint::executed_raw(&ctx);
    0
}

/// Every thread of the host that ends.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn task_exited(ctx: RawTracePointContext) -> i32 {
    process::exited(&ctx);
    0
}

/// As `sys_enter`, where the kernel lets a program on the tracepoint itself be interrupted by another task.
#[tracepoint(category = "raw_syscalls", name = "sys_enter")]
pub fn steady_sys_enter(ctx: TracePointContext) -> u32 {
    syscalls::entered(&ctx);
    0
}

/// As `task_forked`, there.
#[tracepoint(category = "sched", name = "sched_process_fork")]
pub fn steady_task_forked(ctx: TracePointContext) -> u32 {
    tracepoint::forked(&ctx);
    0
}

/// As `task_executed`, there.
#[tracepoint(category = "sched", name = "sched_process_exec")]
pub fn steady_task_executed(ctx: TracePointContext) -> u32 {
    tracepoint::executed(&ctx);
    0
}

/// As `task_exited`, there.
#[tracepoint(category = "sched", name = "sched_process_exit")]
pub fn steady_task_exited(ctx: TracePointContext) -> u32 {
    process::exited(&ctx);
    0
}

/// A thread goes back to its program, which has its registers by now and has run no instruction; x86 alone, attached while
/// processes can be held.
#[raw_tracepoint(tracepoint = "x86_fpu_regs_activated")]
pub fn held_runs(ctx: RawTracePointContext) -> i32 {
    exec::resumed(&ctx);
    0
}

/// connect(2) of a UNIX socket. The section's name is one that aya knows: the agent loads it as what it is.
#[cgroup_sock_addr(connect4)]
pub fn connect_unix(ctx: SockAddrContext) -> i32 {
    unix::decide(&ctx, unix::Call::Connect)
}

/// sendto(2) and sendmsg(2) of a UNIX datagram socket, as above.
#[cgroup_sock_addr(connect4)]
pub fn sendmsg_unix(ctx: SockAddrContext) -> i32 {
    unix::decide(&ctx, unix::Call::Send)
}

/// Making a socket, by whatever way.
#[lsm(hook = "socket_create")]
pub fn lsm_socket_create(ctx: LsmContext) -> i32 {
    lsm::socket_create(&ctx)
}

/// Access to another process.
#[lsm(hook = "ptrace_access_check")]
pub fn lsm_ptrace(ctx: LsmContext) -> i32 {
    lsm::ptrace_access_check(&ctx)
}

/// mount(2).
#[lsm(hook = "sb_mount")]
pub fn lsm_mount(ctx: LsmContext) -> i32 {
    lsm::mounts(&ctx)
}

/// umount(2).
#[lsm(hook = "sb_umount")]
pub fn lsm_umount(ctx: LsmContext) -> i32 {
    lsm::mounts(&ctx)
}

/// pivot_root(2).
#[lsm(hook = "sb_pivotroot")]
pub fn lsm_pivotroot(ctx: LsmContext) -> i32 {
    lsm::mounts(&ctx)
}

/// move_mount(2).
#[lsm(hook = "move_mount")]
pub fn lsm_move_mount(ctx: LsmContext) -> i32 {
    lsm::mounts(&ctx)
}

/// connect(2) of a UNIX socket, where there is no `connect_unix`.
#[lsm(hook = "unix_stream_connect")]
pub fn lsm_unix_connect(ctx: LsmContext) -> i32 {
    lsm::unix(&ctx, Some(ctx.arg(1)))
}

/// A datagram between UNIX sockets, where there is no `sendmsg_unix`.
#[lsm(hook = "unix_may_send")]
pub fn lsm_unix_send(ctx: LsmContext) -> i32 {
    let other: u64 = ctx.arg(1);
    lsm::unix(&ctx, kernel::member(other, &kernel::SOCKET_SK))
}

/// chroot(2).
#[lsm(hook = "path_chroot")]
pub fn lsm_chroot(ctx: LsmContext) -> i32 {
    lsm::mounts(&ctx)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// What the kernel requires of programs that call GPL-only helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
