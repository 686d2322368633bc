//! What the programs that aya cannot load are for.

use portcullis_abi::guard::flag;

use crate::redirect::btf::Btf;

/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`, `BPF_PROG_TYPE_TRACING`, `BPF_PROG_TYPE_LSM`
const CGROUP_SOCK_ADDR: u32 = 18;
const TRACING: u32 = 26;
const LSM: u32 = 29;
/// `BPF_MODIFY_RETURN`, `BPF_LSM_MAC`
const MODIFY_RETURN: u32 = 26;
const LSM_MAC: u32 = 27;
/// `BPF_CGROUP_UNIX_CONNECT`, `BPF_CGROUP_UNIX_SENDMSG`
const UNIX_CONNECT: u32 = 49;
const UNIX_SENDMSG: u32 = 50;
/// The list of the host's security modules; "bpf" is among them where LSM programs are asked.
const MODULES: &str = "/sys/kernel/security/lsm";

/// As an LSM program, whose runs nothing else stands in the way of.
pub(super) const LSM_WAY: &str = "lsm";

/// Where a program sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attach {
    /// On each tagged cgroup.
    Cgroup,
    /// On one of the host's security hooks.
    Security,
}

/// A program and its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hook {
    /// The program's name.
    pub(super) program: &'static str,
    /// Where it sits.
    pub(super) attach: Attach,
    /// The attach type for a cgroup; for a security hook 0.
    pub(super) attach_type: u32,
    /// The security hook's name.
    function: &'static str,
    /// The door that it answers in place of the guard of system calls; 0 for none.
    pub(super) door: u64,
    /// The program in whose place it is; where that is loaded, it is not wanted.
    pub(super) instead_of: &'static str,
}

const fn security(program: &'static str, function: &'static str, door: u64) -> Hook {
    Hook {
        program,
        attach: Attach::Security,
        attach_type: 0,
        function,
        door,
        instead_of: "",
    }
}

const fn unix(program: &'static str, function: &'static str, instead_of: &'static str) -> Hook {
    Hook {
        instead_of,
        ..security(program, function, 0)
    }
}

const fn cgroup(program: &'static str, attach_type: u32) -> Hook {
    Hook {
        program,
        attach: Attach::Cgroup,
        attach_type,
        function: "",
        door: 0,
        instead_of: "",
    }
}

/// All of them. A door is answered by hooks only where every one of its hooks is loaded.
pub(super) const HOOKS: &[Hook] = &[
    cgroup("connect_unix", UNIX_CONNECT),
    cgroup("sendmsg_unix", UNIX_SENDMSG),
    security("lsm_socket_create", "socket_create", flag::FAMILIES),
    security("lsm_ptrace", "ptrace_access_check", flag::TRACE),
    security("lsm_mount", "sb_mount", flag::MOUNT),
    security("lsm_umount", "sb_umount", flag::MOUNT),
    security("lsm_pivotroot", "sb_pivotroot", flag::MOUNT),
    security("lsm_move_mount", "move_mount", flag::MOUNT),
    security("lsm_chroot", "path_chroot", flag::MOUNT),
    unix("lsm_unix_connect", "unix_stream_connect", "connect_unix"),
    unix("lsm_unix_send", "unix_may_send", "sendmsg_unix"),
];

/// One way to load a program.
pub(super) struct Way {
    pub(super) name: &'static str,
    pub(super) kind: u32,
    pub(super) attach_type: u32,
    pub(super) function: u32,
}

impl Hook {
    /// The ways to load it, the better first: as an LSM program where the host asks those, else in front of the function
    /// that asks the host's modules.
    pub(super) fn ways(&self, btf: &Btf) -> Result<Vec<Way>, String> {
        if self.attach == Attach::Cgroup {
            return Ok(vec![Way {
                name: "cgroup_sock_addr",
                kind: CGROUP_SOCK_ADDR,
                attach_type: self.attach_type,
                function: 0,
            }]);
        }
        if !self.instead_of.is_empty() && btf.offset("unix_sock", "addr").is_none() {
            return Err("the kernel does not tell of its UNIX sockets".into());
        }
        let mut ways = Vec::new();
        let asked = std::fs::read_to_string(MODULES)
            .is_ok_and(|modules| modules.trim().split(',').any(|module| module == "bpf"));
        if asked && let Some(function) = btf.function(&format!("bpf_lsm_{}", self.function)) {
            ways.push(Way {
                name: LSM_WAY,
                kind: LSM,
                attach_type: LSM_MAC,
                function,
            });
        }
        if let Some(function) = btf.function(&format!("security_{}", self.function)) {
            ways.push(Way {
                name: "fmod_ret",
                kind: TRACING,
                attach_type: MODIFY_RETURN,
                function,
            });
        }
        if ways.is_empty() {
            return Err(format!("the kernel has no hook {}", self.function));
        }
        Ok(ways)
    }
}
