//! What a workload may do beside TCP: `[[workload]] guard`, and `[[unix]]`.

use portcullis_abi::guard::flag;
use serde::Deserialize;

use crate::model::WorkloadName;

/// `[[workload]] guard`: the doors that are opened for one workload. Unless set, all are shut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Guard {
    /// Sockets of other families than IPv4, IPv6, UNIX and netlink: AF_PACKET, AF_VSOCK, AF_XDP and the like.
    pub families: Door,
    /// io_uring.
    pub io_uring: Door,
    /// Access to processes outside of the workload: ptrace, process_vm_*, pidfd_getfd, perf_event_open.
    pub trace: Door,
    /// mount, umount, pivot_root, chroot, move_mount, setns into mounts: what a path means.
    pub mount: Mount,
    /// UNIX sockets that no `[[unix]]` lists.
    pub unix: Door,
    /// Devices by which something leaves the host past every socket: RDMA, taps of the host's network, the host's end of
    /// VSOCK.
    pub devices: Door,
    /// What becomes of a process that has internet sockets made outside of the workload, which meet none of its hooks, or
    /// something else that gets around them.
    pub brought: Brought,
    /// What becomes of a process that somebody else moves out of the workload's cgroup. One that moves itself is killed.
    pub moved: Moved,
}

impl Guard {
    /// The bits of a workload's tag that the guard has ([`portcullis_abi::guard::flag`]).
    #[must_use]
    pub fn flags(&self) -> u64 {
        let door = |door: Door, bit| if door == Door::Allow { bit } else { 0 };
        let mount = match self.mount {
            Mount::Deny => flag::MOUNT_STRICT,
            Mount::Host => 0,
            Mount::Allow => flag::MOUNT,
        };
        let moved = match self.moved {
            Moved::Record => 0,
            Moved::Kill => flag::MOVED_ENDS,
        };
        door(self.families, flag::FAMILIES)
            | door(self.io_uring, flag::IO_URING)
            | door(self.trace, flag::TRACE)
            | door(self.unix, flag::UNIX)
            | door(self.devices, flag::DEVICES)
            | mount
            | moved
    }
}

/// A door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Door {
    /// Shut.
    #[default]
    Deny,
    /// Open.
    Allow,
}

/// Who may change what a path means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mount {
    /// Nobody in the workload. Where the host takes no security hooks who mounts is killed, and the mount is there.
    Deny,
    /// Who has CAP_SYS_ADMIN over the host, as what starts containers and services has.
    #[default]
    Host,
    /// Whoever may.
    Allow,
}

/// What becomes of a process that was moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Moved {
    /// It is recorded.
    #[default]
    Record,
    /// It is recorded, and ends at its next system call.
    Kill,
}

/// What becomes of sockets that were made outside of the workload's cgroup, and of the process that has them: since before
/// the tag, since it was moved in, or by inheritance from whoever started it (socket activation, for one). Just so of who
/// has, since then, what the guard lets nobody make (rings of io_uring unless that is allowed; perf events, userfaultfds,
/// listeners of seccomp, memory of a process outside or a hold on one unless `trace` is), a tap or something of eBPF that he
/// could not have made, or, for ten seconds, a descriptor that was sent to him and that he does not receive. None of these
/// can be destroyed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Brought {
    /// The sockets are destroyed, and the process is ended: it could connect them anew, and no hook would see it. A socket
    /// that a process outside has as well is not destroyed.
    #[default]
    End,
    /// The sockets are destroyed once; the process goes on, and is on record.
    Reset,
    /// They are left as they are; the process is on record.
    Allow,
}

/// `[[unix]]`: a UNIX socket that workloads may connect to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unix {
    /// Its path, exactly as workloads give it to connect(2), or `@` and an abstract name. The directories on the way
    /// must not be writable for the workload.
    pub path: String,
    /// Who answers for it.
    pub owner: String,
    /// Whom it is for; everyone unless set.
    #[serde(default)]
    pub workload: Option<WorkloadName>,
    /// Whether connections go through the agent, and not to the socket itself: the `[[upstream]]`, by name, as which
    /// they are carried.
    #[serde(default, deserialize_with = "upstream")]
    pub redirect: Option<String>,
}

/// A name; there is no upstream that could be meant without one, which says who logs in and by which credential.
fn upstream<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    match toml::Value::deserialize(from)? {
        toml::Value::String(name) => Ok(Some(name)),
        _ => Err(serde::de::Error::custom(
            "redirect is the name of the [[upstream]] as which connections are carried, not a switch: \
             write [[upstream]] with a name, and redirect = \"NAME\"; leave redirect out to have them go to the socket itself",
        )),
    }
}

impl Unix {
    /// What is wrong with it, if anything.
    pub(super) fn problem(&self, upstreams: &[super::Upstream]) -> Option<String> {
        let Self { path, owner, .. } = self;
        let name = path.strip_prefix('@');
        if !path.starts_with('/') && name.is_none_or(str::is_empty) {
            return Some(format!(
                "[[unix]] path '{path}' is neither absolute nor @ and a name"
            ));
        }
        if path.len() > 107 || path.contains('\0') {
            return Some(format!("[[unix]] path '{path}' is longer than 107 bytes"));
        }
        if path.split('/').any(|part| part == "." || part == "..") {
            return Some(format!("[[unix]] path '{path}' has '.' or '..' in it"));
        }
        if owner.trim().is_empty() {
            return Some(format!("[[unix]] '{path}' has no owner"));
        }
        let redirect = self.redirect.as_ref()?;
        if name.is_some() {
            return Some(format!(
                "[[unix]] '{path}': an abstract socket cannot be redirected"
            ));
        }
        if !upstreams.iter().any(|upstream| upstream.name == *redirect) {
            return Some(format!(
                "[[unix]] '{path}': there is no [[upstream]] '{redirect}'"
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_without_switches_has_every_door_shut() {
        assert_eq!(Guard::default().flags(), 0);
        let open: Guard = toml::from_str(
            "families = \"allow\"\nio_uring = \"allow\"\ntrace = \"allow\"\nmount = \"allow\"\nunix = \"allow\"\n\
             devices = \"allow\"\nmoved = \"kill\"\nbrought = \"allow\"",
        )
        .unwrap();
        let all = flag::FAMILIES
            | flag::IO_URING
            | flag::TRACE
            | flag::MOUNT
            | flag::UNIX
            | flag::MOVED_ENDS
            | flag::DEVICES;
        assert_eq!(open.flags(), all);
        assert_eq!(open.brought, Brought::Allow);
        assert_eq!(Guard::default().brought, Brought::End);
        assert!(toml::from_str::<Guard>("iouring = \"allow\"").is_err());
    }

    #[test]
    fn redirect_takes_a_name_and_says_so() {
        let unix =
            |redirect: &str| toml::from_str::<Unix>(&format!("path = \"/x\"\nowner = \"me\"\n{redirect}"));
        assert_eq!(unix("").unwrap().redirect, None);
        let named = unix("redirect = \"db\"").unwrap();
        assert_eq!(named.redirect.as_deref(), Some("db"));
        for switch in ["redirect = true", "redirect = false"] {
            let error = unix(switch).unwrap_err().to_string();
            assert!(error.contains("redirect = \"NAME\""), "{error}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let unix = |path: &str, owner: &str, redirect: Option<&str>| Unix {
            path: path.into(),
            owner: owner.into(),
            workload: None,
            redirect: redirect.map(Into::into),
        };
        for good in ["/run/x.sock", "@x", "@/tmp/x"] {
            assert_eq!(unix(good, "me", None).problem(&[]), None);
        }
        for (path, owner, redirect) in [
            ("run/x", "me", None),
            ("@", "me", None),
            ("", "me", None),
            ("/run/../x", "me", None),
            ("/run/x", " ", None),
            ("/run/x", "me", Some("nobody")),
            ("@x", "me", Some("nobody")),
        ] {
            assert!(unix(path, owner, redirect).problem(&[]).is_some(), "{path}");
        }
        assert!(
            unix(&format!("/{}", "a".repeat(107)), "me", None)
                .problem(&[])
                .is_some()
        );
    }
}
