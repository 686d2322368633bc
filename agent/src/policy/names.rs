//! `dns` of a question: a query as people write it.

use std::{net::Ipv4Addr, sync::Arc};

use serde::Deserialize;

use super::question::{QuestionError, wrong};
use crate::model::{Destination, Operation, OperationId, Resource, Value, entropy};

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
    /// `context.dns.recent.bytes`; those of the name when empty.
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

    /// As the codec has it.
    ///
    /// # Errors
    /// When it is no name.
    pub fn operation(&self) -> Result<Operation, QuestionError> {
        let name = self
            .name
            .strip_suffix('.')
            .unwrap_or(&self.name)
            .to_ascii_lowercase();
        let labels: Vec<&str> = name.split('.').collect();
        let fits = |label: &&str| (1..=63).contains(&label.len()) && label.is_ascii();
        if !labels.iter().all(fits) || name.len() > 253 {
            return Err(wrong("dns", format!("'{}' is no name", self.name)));
        }
        let long = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let measured = |measure: fn(&str) -> i64| labels.iter().map(|l| measure(l)).max().unwrap_or(0);
        let bytes = long(name.len());
        let id: Arc<str> = name.as_str().into();
        let above = (1..labels.len())
            .filter_map(|n| labels.get(n..))
            .map(|l| l.join("."));
        let recent = Value::record([
            ("bytes", self.bytes.unwrap_or(bytes).into()),
            ("names", self.names.into()),
            ("queries", self.queries.into()),
        ]);
        let record = Value::record([
            ("access", "read".into()),
            ("bytes", bytes.into()),
            ("complete", true.into()),
            ("entropy", measured(|l| entropy(l.as_bytes())).into()),
            ("labels", long(labels.len()).into()),
            (
                "longest_label",
                measured(|l| i64::try_from(l.len()).unwrap_or(i64::MAX)).into(),
            ),
            ("name", id.clone().into()),
            ("recent", recent),
            ("transport", self.transport.clone().into()),
            ("type", self.kind.clone().into()),
        ]);
        Ok(Operation {
            id: OperationId::new(),
            protocol: "dns",
            action: "dns:query",
            resource: Resource {
                kind: "DnsName",
                id,
                attributes: Vec::new(),
                parents: above.map(|domain| ("DnsName", domain.into())).collect(),
            },
            destination: Destination {
                address: Ipv4Addr::new(192, 0, 2, 53).into(),
                port: 53,
                name: None,
                name_verified: false,
            },
            context: ("dns", record),
            recorded_context: None,
            recorded_resource: None,
            credential: None,
        })
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
            "longest_label": 8, "entropy": 275, "recent": { "queries": 1, "names": 1, "bytes": 16 },
        });
        assert_eq!(inputs["context"]["dns"], expected);
        let question = |text: &str| toml::from_str::<Question>(text).unwrap().ask();
        for bad in ["a..b", "", "a.é"] {
            assert!(
                question(&format!("dns = {{ name = \"{bad}\" }}")).is_err(),
                "{bad}"
            );
        }
        assert!(question("dns = { name = \"a\" }\nurl = \"https://a/\"").is_err());
    }
}
