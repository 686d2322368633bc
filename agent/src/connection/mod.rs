//! The spine: one connection from accept to close.
//!
//! accept -> original destination and origin -> workload -> identity -> detect -> TLS -> protocol; the protocol asks
//! the gate for each operation, and the gate alone lets anything go upstream.

mod dial;

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};

use arc_swap::ArcSwap;
use tokio::net::TcpListener;

use self::dial::UpstreamDial;
use crate::{
    config::Limits,
    detect::{self, Found},
    drain::Drain,
    gate::{Closing, Connection, Gate, SessionParts, Shared, TlsBody, TlsFacts, session_entry},
    identity::{IdentityHandle, Identities},
    io::BoxStream,
    mask::MaskRules,
    model::{CgroupId, OriginalDst, Origin, Process, Reason, SessionId, WorkloadName},
    redirect::{Redirected, resolve_process},
    tls::{Connector, HostCa, Terminator},
};
