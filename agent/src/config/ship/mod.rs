//! `[[ship]]`: where the ledger is sent to, and how.
//!
//! Keys that every sink has stand beside those of its kind. Secrets are named, never written here.

mod directory;
mod jsonl;
mod otlp;
mod rate;
mod s3;
mod splunk_hec;
mod syslog;

use std::time::Duration;

use serde::Deserialize;

pub use self::{
    directory::Directory,
    jsonl::Jsonl,
    otlp::{Otlp, OtlpProtocol},
    rate::Rate,
    s3::{ObjectLock, S3, ServerSideEncryption},
    splunk_hec::SplunkHec,
    syslog::{Syslog, SyslogTransport},
};
use super::{Config, Gives, load, upstream::is_name};
use crate::model::EntryKind;

/// More sinks than this one host does not serve.
const MAX_SINKS: usize = 16;

/// `[[ship]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ship {
    /// How entries, logs, status and its files call it.
    pub name: String,
    /// What every sink has.
    pub common: Common,
    /// How events are put together; for sinks of segments it stays at its default.
    pub events: Events,
    /// Where to.
    pub to: ShipTo,
}

/// What every sink has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Common {
    /// Whether nothing may be purged that this sink did not take.
    pub required: bool,
    /// The most that is sent in a second, also when catching up.
    pub max_rate: Option<Rate>,
    /// Without an answer or progress for so long, a try has failed (1s to 1h).
    #[serde(deserialize_with = "load::duration")]
    pub timeout: Duration,
    /// The longest pause between two tries (1s to 1h).
    #[serde(deserialize_with = "load::duration")]
    pub retry_max: Duration,
    /// How often an acknowledgement of events, or a failure that lasts, is recorded (1m to 1d).
    #[serde(deserialize_with = "load::duration")]
    pub record_every: Duration,
    /// Bytes of dead letters at most (64 KiB to 16 GiB).
    #[serde(deserialize_with = "load::bytes")]
    pub dead_letter_bytes: u64,
    /// Where a sink begins that has no position yet.
    pub from: ShipFrom,
}

/// The keys of [`Common`].
const COMMON: [&str; 7] = [
    "required",
    "max_rate",
    "timeout",
    "retry_max",
    "record_every",
    "dead_letter_bytes",
    "from",
];

impl Default for Common {
    fn default() -> Self {
        Self {
            required: false,
            max_rate: None,
            timeout: Duration::from_secs(30),
            retry_max: Duration::from_secs(300),
            record_every: Duration::from_secs(3600),
            dead_letter_bytes: 16 << 20,
            from: ShipFrom::Beginning,
        }
    }
}

/// Where a sink begins that has no position yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShipFrom {
    /// With the first entry or segment that is still there.
    #[default]
    Beginning,
    /// With the first that comes.
    Now,
}

/// How events are put together.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Events {
    /// What a body is.
    pub format: EventFormat,
    /// Events sent at once at most (1 to 10000).
    pub batch_events: usize,
    /// Bytes of their entries at most (1 kB to 16 MiB); one event may be larger.
    #[serde(deserialize_with = "load::bytes")]
    pub batch_bytes: u64,
    /// Only entries of these kinds; all when empty.
    pub kinds: Vec<EntryKind>,
    /// Whether an event of OCSF holds the entry's own text, too (`raw_data`), so that a receiver can check its hash.
    pub raw_data: bool,
}

/// The keys of [`Events`].
const EVENTS: [&str; 5] = ["format", "batch_events", "batch_bytes", "kinds", "raw_data"];

impl Default for Events {
    fn default() -> Self {
        Self {
            format: EventFormat::Ocsf,
            batch_events: 500,
            batch_bytes: 1 << 20,
            kinds: Vec::new(),
            raw_data: false,
        }
    }
}

/// What an event's body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventFormat {
    /// OCSF 1.x, JSON.
    #[default]
    Ocsf,
    /// `ArcSight` Common Event Format.
    Cef,
    /// The entry as it is.
    Json,
}

/// Where to, with the keys of that kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShipTo {
    /// Segments, to a directory.
    Directory(Directory),
    /// Segments, to object storage.
    S3(S3),
    /// Events, as OTLP logs.
    Otlp(Otlp),
    /// Events, as RFC 5424.
    Syslog(Syslog),
    /// Events, to Splunk's HTTP Event Collector.
    SplunkHec(SplunkHec),
    /// Events, to a file, one a line.
    Jsonl(Jsonl),
}

/// The words for `kind`.
const KINDS: [&str; 6] = ["directory", "s3", "otlp", "syslog", "splunk_hec", "jsonl"];

impl ShipTo {
    /// The word in the configuration.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Directory(_) => "directory",
            Self::S3(_) => "s3",
            Self::Otlp(_) => "otlp",
            Self::Syslog(_) => "syslog",
            Self::SplunkHec(_) => "splunk_hec",
            Self::Jsonl(_) => "jsonl",
        }
    }

    /// Whether it takes sealed segments, not events.
    #[must_use]
    pub fn takes_segments(&self) -> bool {
        matches!(self, Self::Directory(_) | Self::S3(_))
    }
}

impl<'de> Deserialize<'de> for Ship {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let table = toml::Table::deserialize(d)?;
        from_table(table).map_err(serde::de::Error::custom)
    }
}

fn from_table(mut table: toml::Table) -> Result<Ship, String> {
    let text = |table: &mut toml::Table, key: &str, example: &str| match table.remove(key) {
        Some(toml::Value::String(text)) => Ok(text),
        Some(_) => Err(format!("{key} is a text")),
        None => Err(format!("{key} is needed, such as {example}")),
    };
    let name = text(&mut table, "name", "\"siem\"")?;
    let named = |e: String| format!("[[ship]] '{name}': {e}");
    let kind = text(&mut table, "kind", "\"s3\"").map_err(named)?;
    let mut take = |keys: &[&str]| -> toml::Table {
        let found = keys.iter().filter_map(|key| table.remove_entry(*key));
        found.collect()
    };
    let common = read(take(&COMMON), &[]).map_err(named)?;
    let segments = matches!(kind.as_str(), "directory" | "s3");
    let (events, others) = if segments {
        (Events::default(), COMMON.to_vec())
    } else {
        let events = read(take(&EVENTS), &[]).map_err(named)?;
        (events, [&COMMON[..], &EVENTS[..]].concat())
    };
    let to = match kind.as_str() {
        "directory" => ShipTo::Directory(read(table, &others).map_err(named)?),
        "s3" => ShipTo::S3(read(table, &others).map_err(named)?),
        "otlp" => ShipTo::Otlp(read(table, &others).map_err(named)?),
        "syslog" => ShipTo::Syslog(read(table, &others).map_err(named)?),
        "splunk_hec" => ShipTo::SplunkHec(read(table, &others).map_err(named)?),
        "jsonl" => ShipTo::Jsonl(read(table, &others).map_err(named)?),
        _ => {
            let known = KINDS.join(", ");
            return Err(named(format!("kind '{kind}' is not known; write one of {known}")));
        }
    };
    Ok(Ship {
        name,
        common,
        events,
        to,
    })
}

/// Reads one group of keys; an unknown one is told with those of the other groups as well.
fn read<T: serde::de::DeserializeOwned>(table: toml::Table, others: &[&str]) -> Result<T, String> {
    let error = match table.try_into() {
        Ok(read) => return Ok(read),
        Err(error) => error,
    };
    let mut message = toml::de::Error::message(&error).to_owned();
    if message.starts_with("unknown field") {
        for key in others.iter().chain(&["name", "kind"]) {
            message.push_str(&format!(", `{key}`"));
        }
    }
    Err(message)
}

/// Whether the sinks can be had, as far as can be told without asking them.
pub(super) fn check(config: &Config) -> Result<(), String> {
    if config.ship.len() > MAX_SINKS {
        return Err(format!("[[ship]]: at most {MAX_SINKS}"));
    }
    for (at, ship) in config.ship.iter().enumerate() {
        let twice = config.ship[..at].iter().any(|other| other.name == ship.name);
        one(config, ship, twice).map_err(|e| format!("[[ship]] '{}': {e}", ship.name))?;
    }
    Ok(())
}

fn one(config: &Config, ship: &Ship, twice: bool) -> Result<(), String> {
    // It is part of file names.
    if !is_name(&ship.name) || ship.name.starts_with('.') {
        return Err("a name is 1 to 64 of A-Z a-z 0-9 . _ -, and does not begin with a dot".into());
    }
    if twice {
        return Err("it is there twice".into());
    }
    let common = &ship.common;
    let hour = Duration::from_secs(3600);
    let second = Duration::from_secs(1);
    for (key, value, least, most) in [
        ("timeout", common.timeout, second, hour),
        ("retry_max", common.retry_max, second, hour),
        ("record_every", common.record_every, second * 60, hour * 24),
    ] {
        if value < least || value > most {
            return Err(format!(
                "{key} is {} to {}",
                humantime::format_duration(least),
                humantime::format_duration(most)
            ));
        }
    }
    if !(64 << 10..=16 << 30).contains(&common.dead_letter_bytes) {
        return Err("dead_letter_bytes is from 64 KiB to 16 GiB".into());
    }
    if ship.to.takes_segments() && matches!(common.max_rate, Some(Rate::Events(_))) {
        return Err("max_rate of a sink of segments is in bytes, such as \"5 MB/s\"".into());
    }
    if !(1..=10_000).contains(&ship.events.batch_events) {
        return Err("batch_events is from 1 to 10000".into());
    }
    if !(1_000..=16 << 20).contains(&ship.events.batch_bytes) {
        return Err("batch_bytes is from 1 kB to 16 MiB".into());
    }
    match &ship.to {
        ShipTo::Directory(to) => to.check(),
        ShipTo::S3(to) => to.check(config),
        ShipTo::Otlp(to) => to.check(config, ship.events.format),
        ShipTo::Syslog(to) => to.check(config),
        ShipTo::SplunkHec(to) => to.check(config, ship.events.format),
        ShipTo::Jsonl(to) => to.check(),
    }
}

/// Whether a `[[credential]]` is there, and is what the key wants.
fn credential(config: &Config, key: &str, name: &str, wants: Gives) -> Result<(), String> {
    match config.credential.iter().find(|c| c.name == name) {
        None => Err(format!(
            "{key} is '{name}', and there is no [[credential]] of that name"
        )),
        Some(c) if c.gives() != wants => Err(format!(
            "{key} is '{name}', which is {}, not {}",
            c.gives().as_str(),
            wants.as_str()
        )),
        Some(c) if c.is_per_workload() => Err(format!(
            "{key} is '{name}', which is had with a workload's own token: no workload asks here"
        )),
        Some(_) => Ok(()),
    }
}

/// An https URL, or an http one on loopback or where that is allowed: without user, query and fragment.
fn web(key: &str, text: &str, allow_http: bool) -> Result<reqwest::Url, String> {
    let url = reqwest::Url::parse(text).map_err(|_| format!("{key} '{text}' is not a URL"))?;
    let extras = !url.username().is_empty() || url.password().is_some();
    if extras || url.fragment().is_some() || url.query().is_some() || url.host_str().is_none() {
        return Err(format!("{key} '{text}' has neither user, query nor fragment"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if allow_http => Ok(url),
        _ => Err(format!(
            "{key} '{text}' begins with https://; plain http takes allow_http = true"
        )),
    }
}

#[cfg(test)]
mod tests;
