//! From the first byte to the first ReadyForQuery.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    gate::Permit,
    model::{Destination, Resource},
};

/// A connection that is logged in.
pub(super) struct Established {
    pub permit: Permit,
    pub resource: Resource,
    pub destination: Destination,
    pub database: Arc<str>,
    pub role: Arc<str>,
    pub parameters: BTreeMap<String, String>,
    pub replication: bool,
}
