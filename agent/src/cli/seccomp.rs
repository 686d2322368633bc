//! seccomp(2) for what `portcullis run` starts: what the kernel's guard would kill a process for fails with EPERM.
//!
//! It is no more than that. The guard under it is the host's own and has no gap where a filter cannot look: calls of the
//! 32-bit and x32 kinds pass here and meet it, and so does ptrace, which depends on whom it is for.

use std::collections::BTreeMap;

use anyhow::Context as _;
use portcullis_abi::guard::flag;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_RET | BPF_K`
const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// The offset of `seccomp_data.arch`.
const ARCH: u32 = 4;
/// `AUDIT_ARCH_I386`
const I386: u32 = 0x4000_0003;

/// The families that are decided elsewhere.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Sets the filter for this process and all that it starts, for good, and no-new-privileges with it: no set-user-id
/// program raises what the command may do. `open` are the workload's switches, `host_admin` whether it may mount.
///
/// # Errors
/// When the kernel refuses.
pub fn apply(open: u64, host_admin: bool) -> anyhow::Result<()> {
    let program = program(open, host_admin)?;
    seccompiler::apply_filter(&program).context("seccomp")
}

fn program(open: u64, host_admin: bool) -> anyhow::Result<BpfProgram> {
    let arch = std::env::consts::ARCH.try_into().context("seccomp")?;
    let filter = SeccompFilter::new(
        rules(open, host_admin)?,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.cast_unsigned()),
        arch,
    )?;
    let filter: BpfProgram = filter.try_into()?;
    // What is not of this kind would be killed, and 32-bit programs with it.
    let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let mut program = vec![
        instruction(LOAD, 0, 0, ARCH),
        instruction(JUMP_EQUAL, 0, 1, I386),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    program.extend(filter);
    Ok(program)
}

fn rules(open: u64, host_admin: bool) -> anyhow::Result<Rules> {
    let shut = |door: u64| open & door == 0;
    let mut rules = Rules::new();
    if shut(flag::FAMILIES) {
        for call in [libc::SYS_socket, libc::SYS_socketpair] {
            let other = FAMILIES.iter().map(|family| {
                let family = u64::from(family.cast_unsigned());
                SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family)
            });
            let other = other.collect::<Result<Vec<_>, _>>()?;
            rules.insert(call, vec![SeccompRule::new(other)?]);
        }
    }
    let mut never = Vec::new();
    if shut(flag::IO_URING) {
        never.extend([
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
        ]);
    }
    if shut(flag::TRACE) {
        never.push(libc::SYS_pidfd_getfd);
    }
    if shut(flag::MOUNT) && (!host_admin || open & flag::MOUNT_STRICT != 0) {
        never.extend([
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_move_mount,
        ]);
        rules.insert(libc::SYS_setns, setns()?);
    }
    rules.extend(never.into_iter().map(|call| (call, Vec::new())));
    Ok(rules)
}

/// Into a namespace of unknown kind, or of mounts.
fn setns() -> anyhow::Result<Vec<SeccompRule>> {
    let flags = |op, value| SeccompCondition::new(1, SeccompCmpArgLen::Dword, op, value);
    let mounts = u64::from(libc::CLONE_NEWNS.cast_unsigned());
    Ok(vec![
        SeccompRule::new(vec![flags(SeccompCmpOp::Eq, 0)?])?,
        SeccompRule::new(vec![flags(SeccompCmpOp::MaskedEq(mounts), mounts)?])?,
    ])
}

#[cfg(test)]
mod tests {
    use nix::{
        errno::Errno,
        sys::socket::{AddressFamily, SockFlag, SockType, socket},
    };

    use super::*;

    /// In a thread of its own, which alone has the filter.
    fn filtered<T: Send + 'static>(open: u64, act: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = std::thread::spawn(move || {
            apply(open, false).unwrap();
            act()
        });
        thread.join().unwrap()
    }

    fn make(family: AddressFamily) -> Result<(), Errno> {
        socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).map(drop)
    }

    #[test]
    fn what_the_guard_would_kill_for_fails() {
        filtered(0, || {
            assert_eq!(make(AddressFamily::Alg), Err(Errno::EPERM));
            assert_eq!(make(AddressFamily::Packet), Err(Errno::EPERM));
            for family in [AddressFamily::Inet, AddressFamily::Inet6, AddressFamily::Unix] {
                assert_ne!(make(family), Err(Errno::EPERM));
            }
            assert_eq!(nix::unistd::chroot("/"), Err(Errno::EPERM));
            assert!(nix::sys::prctl::get_no_new_privs().unwrap());
            let namespace = std::fs::File::open("/proc/self/ns/mnt").unwrap();
            let entered = nix::sched::setns(&namespace, nix::sched::CloneFlags::empty());
            assert_eq!(entered, Err(Errno::EPERM));
        });
        // ALG is not in every kernel; but it is not the filter that refuses it.
        let open = filtered(flag::FAMILIES | flag::MOUNT, || make(AddressFamily::Alg));
        assert_ne!(open, Err(Errno::EPERM));
    }
}
