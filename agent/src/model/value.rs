//! A protocol's facts about an operation, in the shape that policy and ledger both read.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Serialize, Serializer, ser::SerializeMap as _};

/// A value of an operation's context. Integers only: Cedar has no floats, and canonical JSON wants none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    /// True or false.
    Bool(bool),
    /// A 64-bit integer.
    Long(i64),
    /// Text.
    String(Arc<str>),
    /// An IP address: Cedar's `ipaddr` extension type, text in JSON.
    Ip(std::net::IpAddr),
    /// A point in time as nanoseconds since 1970 UTC: Cedar's `datetime` (milliseconds), RFC 3339 in JSON.
    Time(i64),
    /// A set; kept in the order given, and shared by copies.
    Set(Arc<[Value]>),
    /// A record; keys sorted.
    Record(BTreeMap<&'static str, Value>),
}

impl Value {
    /// A record from pairs.
    pub fn record<const N: usize>(pairs: [(&'static str, Value); N]) -> Self {
        Self::Record(pairs.into_iter().collect())
    }
}

impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Self::String(v.into())
    }
}
impl From<String> for Value {
    fn from(v: String) -> Self {
        Self::String(v.into())
    }
}
impl From<Arc<str>> for Value {
    fn from(v: Arc<str>) -> Self {
        Self::String(v)
    }
}
impl From<bool> for Value {
    fn from(v: bool) -> Self {
        Self::Bool(v)
    }
}
impl From<i64> for Value {
    fn from(v: i64) -> Self {
        Self::Long(v)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(v) => s.serialize_bool(*v),
            Self::Long(v) => s.serialize_i64(*v),
            Self::String(v) => s.serialize_str(v),
            Self::Ip(v) => s.collect_str(v),
            Self::Time(v) => s.collect_str(&super::time::Rfc3339(*v)),
            Self::Set(v) => s.collect_seq(&**v),
            Self::Record(v) => {
                let mut map = s.serialize_map(Some(v.len()))?;
                for (key, value) in v {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}
