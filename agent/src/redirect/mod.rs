//! How connections of workloads arrive: redirected by eBPF, or made by a test.
//!
//! Invariants:
//! - A connection is handed on only with a record of who made it and where to, which the kernel wrote when the workload
//!   called connect(2). Without one it is closed.
//! - Tags, links and maps outlive the agent. While nobody listens, a workload's connects end in ECONNREFUSED.
//! - `sys` holds the only `unsafe`.

pub mod bpf;
mod btf;
pub mod cgroup;
pub mod doors;
mod dummy;
mod error;
mod exec;
pub mod features;
pub mod guard;
mod kept;
mod netns;
mod offsets;
pub mod older;
pub mod process;
mod sys;
pub mod tags;
mod watch;

use std::{path::PathBuf, sync::Arc};

use futures_util::future::BoxFuture;

pub use bpf::{BpfRedirector, Control, Counters, Options, Outcome, Unanswered, remove, verify};
pub use dummy::{Dummy, DummyHandle};
pub use error::RedirectError;
pub use exec::{Executed, FileId, Found, Happened, Kind, Processes, Program};
pub use kept::{Kept, Nobody, OF_NAMESPACE, Store};
pub use netns::Namespace;
pub use portcullis_abi::{EXEC_AUDIT, EXEC_ENFORCE, EXEC_LOSS_KILLS, Tag as Switches};
pub use sys::unacknowledged;
pub use tags::{Source, Tag, TagEvent, Tags};

use crate::{
    io::BoxStream,
    model::{Origin, OriginalDst, Transport},
};

/// A workload's connection, as it arrives.
pub struct Redirected {
    /// The bytes, downstream.
    pub stream: BoxStream,
    /// Who connected.
    pub origin: Origin,
    /// What was asked for.
    pub original_dst: OriginalDst,
    /// What it came by.
    pub transport: Transport,
    /// The network namespace that it is to go on from, where that is not the agent's own.
    pub namespace: Option<Arc<Namespace>>,
    /// For a UNIX socket, which one; its `original_dst` is then the unspecified address and the upstream's port.
    pub unix: Option<Arc<UnixDestination>>,
}

/// The UNIX socket that a workload asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixDestination {
    /// Its path.
    pub path: PathBuf,
    /// The `[[upstream]]` as which it is carried.
    pub upstream: String,
}

/// Where connections come from.
pub trait Redirector: Send {
    /// The next connection. Cancel-safe: a dropped future loses none.
    ///
    /// # Errors
    /// [`RedirectError::Accept`] when the host is out of descriptors or memory: wait, then call again.
    /// [`RedirectError::Stopped`] when there will be no more.
    fn next_connection(&mut self) -> BoxFuture<'_, Result<Redirected, RedirectError>>;
}
