//! A query in DNS, on the command line of `policy explain`.

use std::sync::Arc;

use anyhow::bail;

use crate::{
    policy::{Lookup, kind},
    protocol::dns,
};

/// The query, and how much was asked before it.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A name that is looked up in DNS.
    #[arg(long = "dns", value_name = "NAME", conflicts_with_all = ["url", "connect", "database", "aws"])]
    name: Option<String>,
    /// The type that is asked for: AAAA, TXT, TYPE65280 [default: A].
    #[arg(long = "type", value_name = "TYPE", requires = "name")]
    kind: Option<Arc<str>>,
    /// What the query comes over: udp, tcp, or tls for DNS over TLS [default: udp].
    #[arg(long, requires = "name")]
    transport: Option<Arc<str>>,
    /// What the workload asked within a minute, this query included [default: 1].
    #[arg(long, value_name = "N", requires = "name")]
    recent_queries: Option<i64>,
    /// Different names below this one's last two labels within that time [default: 1].
    #[arg(long, value_name = "N", requires = "name")]
    recent_names: Option<i64>,
    /// Bytes of all names asked for below these labels within that time [default: those of the name].
    #[arg(long, value_name = "N", requires = "name")]
    recent_bytes: Option<i64>,
}

impl Args {
    /// The query; `None` without `--dns`.
    pub fn lookup(&self) -> Option<Lookup> {
        let mut lookup = Lookup::of(self.name.as_ref()?);
        lookup.kind = self.kind.clone().unwrap_or(lookup.kind);
        lookup.transport = self.transport.clone().unwrap_or(lookup.transport);
        lookup.queries = self.recent_queries.unwrap_or(lookup.queries);
        lookup.names = self.recent_names.unwrap_or(lookup.names);
        lookup.bytes = self.recent_bytes;
        Some(lookup)
    }
}

/// Whether policy is asked about a query at all.
///
/// # Errors
/// When it is of no type, or of one that the codec refuses first.
pub fn is_decided(lookup: &Lookup) -> anyhow::Result<()> {
    let asked = lookup.kind()?;
    if dns::carried(asked) {
        return Ok(());
    }
    bail!(
        "queries of type {} are refused, whatever policy says",
        kind(asked)
    )
}
