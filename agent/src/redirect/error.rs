//! What can fail on the way from a tag to a connection.

use std::{io, net::SocketAddr, path::PathBuf};

use crate::model::{CgroupId, Reason};

/// A failure of redirection.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// No cgroup2 file system is mounted.
    #[error("no cgroup2 file system is mounted (looked in /proc/mounts)")]
    NoCgroup2,
    /// A cgroup's directory could not be read or joined.
    #[error("cgroup {path}: {source}")]
    Cgroup {
        /// Its directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A path that is no cgroup that can be tagged.
    #[error("cgroup {path} cannot be tagged: {why}")]
    NotTaggable {
        /// Its directory.
        path: PathBuf,
        /// Why, in words.
        why: &'static str,
    },
    /// The cgroup is not tagged.
    #[error("cgroup {} is not tagged", .0.0)]
    NotTagged(CgroupId),
    /// The agent's port is someone else's.
    #[error("{address} is in use by another process: is a second agent running? (redirect.port)")]
    PortUsed {
        /// The address.
        address: SocketAddr,
    },
    /// A listener could not be made.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No connection could be accepted now.
    #[error("cannot accept a connection: {0}")]
    Accept(#[source] io::Error),
    /// The kernel's type information is missing, or not as expected.
    #[error("/sys/kernel/btf/vmlinux: {0}")]
    Btf(&'static str),
    /// The programs or maps could not be loaded.
    #[error("cannot load the eBPF programs: {0}")]
    Load(#[from] Box<aya::EbpfError>),
    /// A program was refused.
    #[error("eBPF program {program}: {why}")]
    Program {
        /// Its name.
        program: String,
        /// Why: the end of what the kernel's verifier says, which is where it says it.
        why: String,
    },
    /// A map could not be read or written.
    #[error("eBPF map {map}: {source}")]
    Map {
        /// Its name.
        map: &'static str,
        /// Why.
        source: Box<aya::maps::MapError>,
    },
    /// The object lacks a program or a map.
    #[error("the eBPF object has no {0}")]
    Missing(&'static str),
    /// A pinned object could not be read, made, updated or removed.
    #[error("{path}: {source}")]
    Pin {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A tracepoint cannot be had as a perf event.
    #[error(
        "tracepoint {event}: {source}; from Linux 6.19 on the guard needs perf events, and tracefs mounted on /sys/kernel/tracing"
    )]
    Tracepoint {
        /// Its name.
        event: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The directory for pins is on another kind of file system.
    #[error("{0} is not on a bpf file system (redirect.pin_dir)")]
    NotBpffs(PathBuf),
    /// A later version's programs are attached.
    #[error(
        "{0} is a later version's, whose programs stay attached: run that version, or remove them with `portcullis unload`"
    )]
    Newer(PathBuf),
    /// A pattern of the configuration that could not match a cgroup.
    #[error("'{pattern}' matches no cgroup: name one level after the other, with * and ? within a level")]
    Pattern {
        /// The pattern.
        pattern: String,
    },
    /// A path that is no UNIX socket's.
    #[error("'{path}' is no address of a UNIX socket: 1 to 107 bytes, or @ and a name")]
    UnixPath {
        /// The path.
        path: String,
    },
    /// A UNIX socket of the agent's could not be made.
    #[error("cannot listen on {path}: {source}")]
    UnixListen {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Changes of the cgroup tree cannot be followed.
    #[error("cannot watch {path}: {source} (sysctl fs.inotify.max_user_watches)")]
    Watch {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The network namespace's cookie could not be read.
    #[error("cannot read the network namespace's cookie: {0}")]
    Netns(#[source] io::Error),
    /// There will be no more connections.
    #[error("the redirector has stopped")]
    Stopped,
}

/// Characters of a verifier log that are kept: whole ones are megabytes.
const LOG_TAIL: usize = 4096;

impl RedirectError {
    pub(super) fn program(program: &str, error: &aya::programs::ProgramError) -> Self {
        let text = error.to_string();
        let from = text.ceil_char_boundary(text.len().saturating_sub(LOG_TAIL));
        Self::Program {
            program: program.to_owned(),
            why: text.get(from..).unwrap_or_default().to_owned(),
        }
    }

    /// The reason, of the closed set.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Accept(_) => Reason::Overloaded,
            Self::Stopped => Reason::Draining,
            Self::NotTagged(_) | Self::NotTaggable { .. } => Reason::WorkloadUnknown,
            Self::NoCgroup2
            | Self::Cgroup { .. }
            | Self::PortUsed { .. }
            | Self::Listen { .. }
            | Self::Btf(_)
            | Self::Load(_)
            | Self::Program { .. }
            | Self::Map { .. }
            | Self::Missing(_)
            | Self::Pin { .. }
            | Self::Tracepoint { .. }
            | Self::NotBpffs(_)
            | Self::Newer(_)
            | Self::Pattern { .. }
            | Self::UnixPath { .. }
            | Self::UnixListen { .. }
            | Self::Watch { .. }
            | Self::Netns(_) => Reason::Interrupted,
        }
    }
}
