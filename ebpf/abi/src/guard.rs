//! The guard's part: per-workload switches, the rules of UNIX sockets, and what the agent is told of.

/// Bits 8 to 15 and from 24 on of [`Tag::flags`](crate::Tag): each but `MOUNT_STRICT` *opens* a door, so that a tag without
/// switches has them shut.
pub mod flag {
    /// Sockets of any family may be made.
    pub const FAMILIES: u64 = 1 << 8;
    /// io_uring may be used.
    pub const IO_URING: u64 = 1 << 9;
    /// Processes outside of the workload may be traced.
    pub const TRACE: u64 = 1 << 10;
    /// What paths mean may be changed, by whoever may.
    pub const MOUNT: u64 = 1 << 11;
    /// Shuts, rather than opens: not even those who have CAP_SYS_ADMIN over the host, such as what starts a container,
    /// may change what paths mean.
    pub const MOUNT_STRICT: u64 = 1 << 12;
    /// UNIX sockets are not decided.
    pub const UNIX: u64 = 1 << 13;
    /// A process that somebody else moves out of the workload is ended by the kernel, too, at its next system call.
    pub const MOVED_ENDS: u64 = 1 << 14;
    /// The agent's own note, which no program reads: sockets older than the tag have not been dealt with yet. An agent that
    /// takes the tag over goes on with it.
    pub const OLDER: u64 = 1 << 15;
    /// Devices may be opened that lead out past every socket.
    pub const DEVICES: u64 = 1 << 24;
}

/// What `GUARD` holds.
pub const GUARD_SLOTS: usize = 2;
/// `GUARD`: the doors that an LSM program answers with EPERM, which the guard of system calls then leaves, as bits of
/// [`flag`]; and [`EXEC_ENFORCE`](crate::EXEC_ENFORCE) as long as any process can be held.
pub const GUARD_HOST: u32 = 0;
/// `GUARD`: how many processes are in `CONDEMNED`.
pub const GUARD_CONDEMNED: u32 = 1;

/// Processes at once that must end.
pub const MAX_CONDEMNED: usize = 1 << 16;
/// Rules of UNIX sockets at once, over all tagged cgroups.
pub const MAX_UNIX_RULES: usize = 1 << 16;
/// Bytes of `GUARD_EVENTS`.
pub const GUARD_EVENT_BYTES: usize = 1 << 18;

/// Addresses that nobody has (RFC 1112, RFC 6666), as the bind hooks see them: the agent binds a socket of another process
/// to one to learn whether the socket meets a workload's hooks, which deny it. Words in network order.
pub const NOBODY4: [u32; 4] = [0, 0, 0xffff_u32.to_be(), 0xf000_0001_u32.to_be()];
/// The same for IPv6.
pub const NOBODY6: [u32; 4] = [0x0100_0000_u32.to_be(), 0, 0, 1_u32.to_be()];

/// Bytes of `sockaddr_un.sun_path`.
pub const UNIX_PATH: usize = 108;

/// The key of `UNIX_RULES`: exactly one address, of one tagged cgroup.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnixKey {
    /// Id of the tagged cgroup.
    pub tagged: u64,
    /// Bytes of an abstract name, its leading zero included; 0 for a path, which ends at its first zero.
    pub abstract_len: u32,
    /// The path or the name; zero behind it.
    pub path: [u8; UNIX_PATH],
}

impl UnixKey {
    /// The key of an address; `None` when it is empty or too long to be one.
    #[must_use]
    pub fn new(tagged: u64, address: &[u8]) -> Option<Self> {
        let mut path = [0; UNIX_PATH];
        path.get_mut(..address.len())?.copy_from_slice(address);
        let abstract_len = match address {
            [] => return None,
            [0, ..] => address.len() as u32,
            // One byte is for the zero at the end.
            _ if address.len() == UNIX_PATH || address.contains(&0) => return None,
            _ => 0,
        };
        Some(Self {
            tagged,
            abstract_len,
            path,
        })
    }
}

/// The value of `UNIX_RULES`: what becomes of a connect or send to that address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixRule {
    /// Bytes of `to`; 0 lets it pass as it is.
    pub len: u32,
    /// The path of the agent's listener that a connect is sent to; zero behind it.
    pub to: [u8; UNIX_PATH],
}

impl UnixRule {
    /// Lets a connect or send pass.
    pub const ALLOW: Self = Self {
        len: 0,
        to: [0; UNIX_PATH],
    };

    /// Sends a connect to the listener at this path, and denies sends; `None` when it is empty or too long.
    #[must_use]
    pub fn redirect(path: &[u8]) -> Option<Self> {
        let mut to = [0; UNIX_PATH];
        if path.is_empty() || path.len() >= UNIX_PATH {
            return None;
        }
        to.get_mut(..path.len())?.copy_from_slice(path);
        Some(Self {
            len: path.len() as u32,
            to,
        })
    }
}

/// What happened to a process, for the ledger: a record of `GUARD_EVENTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuardEvent {
    /// Id of the tagged cgroup whose it was.
    pub tagged: u64,
    /// Id of the cgroup it went to; 0 when that is not what happened.
    pub to: u64,
    /// When it started, nanoseconds since boot: with its pid, a name that is never reused.
    pub start_ns: u64,
    /// What happened: the number of an [`Outcome`](crate::Outcome).
    pub outcome: u32,
    /// The process concerned, initial pid namespace.
    pub pid: u32,
    /// Who did it; the same as `pid` when it was the process itself.
    pub by: u32,
    /// The system call, or 0.
    pub syscall: u32,
    /// User id of who did it.
    pub uid: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = {
    assert!(size_of::<UnixKey>() == 8 + 4 + UNIX_PATH);
    assert!(size_of::<UnixRule>() == 4 + UNIX_PATH);
    assert!(size_of::<GuardEvent>() == 3 * 8 + 6 * 4);
};

#[cfg(feature = "user")]
mod pod {
    // Safety: plain integers without padding, as asserted above; any bytes make a valid value.
    unsafe impl aya::Pod for super::UnixKey {}
    unsafe impl aya::Pod for super::UnixRule {}
    unsafe impl aya::Pod for super::GuardEvent {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_exact() {
        let key = |address: &[u8]| UnixKey::new(7, address);
        assert_eq!(key(b"/run/x").map(|k| k.abstract_len), Some(0));
        assert_eq!(key(b"\0x\0").map(|k| k.abstract_len), Some(3));
        assert_ne!(key(b"\0x"), key(b"\0x\0"));
        assert_eq!(key(b""), None);
        assert_eq!(key(b"/run/x\0"), None);
        assert_eq!(key(&[b'/'; 108]), None);
        assert_eq!(key(&[0; 109]), None);
        assert!(UnixRule::redirect(&[b'/'; 107]).is_some());
        assert!(UnixRule::redirect(&[b'/'; 108]).is_none());
    }
}
