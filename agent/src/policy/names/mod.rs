//! `dns` of a question: a query as people write it.

mod features;
mod operation;

use std::{net::Ipv4Addr, sync::Arc};

pub use features::Features;
use hickory_resolver::proto::rr::{Name, RecordType};
pub use operation::{NameQuery, Recent, kind, kind_of, written};
use serde::Deserialize;

use super::question::{QuestionError, wrong};
use crate::model::Operation;

/// What a query comes over; a UNIX socket is nobody's resolver.
const TRANSPORTS: [&str; 3] = ["udp", "tcp", "tls"];

/// A query in DNS; what is left out follows from the name, or is what a first query has.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// The name.
    pub name: String,
    /// `A` when empty.
    #[serde(default = "address", rename = "type")]
    pub kind: Arc<str>,
    /// `udp` when empty.
    #[serde(default = "datagram")]
    pub transport: Arc<str>,
    /// `context.dns.recent.queries`; 1 when empty.
    #[serde(default = "one")]
    pub queries: i64,
    /// `context.dns.recent.names`; 1 when empty.
    #[serde(default = "one")]
    pub names: i64,
    /// `context.dns.recent.bytes`; those of the name, with the dot at its end, when empty.
    #[serde(default)]
    pub bytes: Option<i64>,
}

fn address() -> Arc<str> {
    "A".into()
}
fn datagram() -> Arc<str> {
    "udp".into()
}
fn one() -> i64 {
    1
}

impl Lookup {
    /// The first query for a name's address.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: address(),
            transport: datagram(),
            queries: 1,
            names: 1,
            bytes: None,
        }
    }

    /// The type.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn kind(&self) -> Result<RecordType, QuestionError> {
        kind_of(&self.kind).ok_or_else(|| {
            let say = "write a type as A, AAAA, or TYPE65280 for one without a name";
            wrong("dns", format!("'{}' is no type; {say}", self.kind))
        })
    }

    /// As the codec has it.
    ///
    /// # Errors
    /// When it is no name, no type or no transport.
    pub fn operation(&self) -> Result<Operation, QuestionError> {
        let name = match Name::from_ascii(&self.name) {
            // Fully qualified, as every name in a message is.
            Ok(mut name) if !self.name.is_empty() => {
                name.set_fqdn(true);
                name
            }
            _ => return Err(wrong("dns", format!("'{}' is no name", self.name))),
        };
        let port = if &*self.transport == "tls" { 853 } else { 53 };
        let query = NameQuery {
            name: &name,
            kind: Some(self.kind()?),
            transport: Arc::clone(&self.transport),
            recent: Recent {
                queries: self.queries,
                names: self.names,
                bytes: match self.bytes {
                    Some(bytes) => bytes,
                    None => i64::try_from(name.len()).unwrap_or(i64::MAX),
                },
            },
            complete: true,
            to: (Ipv4Addr::new(192, 0, 2, 53), port).into(),
        };
        if TRANSPORTS.contains(&&*self.transport) {
            return Ok(query.operation());
        }
        let known = TRANSPORTS.join(", ");
        Err(wrong(
            "dns",
            format!("'{}' is no transport; there are {known}", self.transport),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Question, inputs};
    use crate::model::ClassTable;

    fn context(text: &str) -> serde_json::Value {
        let question: Question = toml::from_str(text).unwrap();
        inputs(&question.ask().unwrap().query(&ClassTable::new([]).unwrap()))
    }

    #[test]
    fn what_is_left_out_follows_from_the_name() {
        let inputs = context("dns = { name = \"AAbb.db.internal.\" }");
        assert_eq!(inputs["resource"]["id"], "aabb.db.internal");
        assert_eq!(inputs["resource"]["in"][1]["id"], "internal");
        let expected = serde_json::json!({
            "name": "aabb.db.internal", "type": "A", "transport": "udp", "labels": 3, "bytes": 16,
            "longest_label": 8, "entropy": 275, "recent": { "queries": 1, "names": 1, "bytes": 17 },
        });
        assert_eq!(inputs["context"]["dns"], expected);
        let question = |text: &str| toml::from_str::<Question>(text).unwrap().ask();
        for bad in ["a..b", "", "a.é"] {
            assert!(
                question(&format!("dns = {{ name = \"{bad}\" }}")).is_err(),
                "{bad}"
            );
        }
        for bad in [
            "type = \"ADDRESS\"",
            "type = \"TYPE65536\"",
            "transport = \"quic\"",
        ] {
            assert!(
                question(&format!("dns = {{ name = \"a\", {bad} }}")).is_err(),
                "{bad}"
            );
        }
        assert!(question("dns = { name = \"a\" }\nurl = \"https://a/\"").is_err());
    }
}
