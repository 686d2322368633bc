//! `ship/NAME.state`: how far a sink is.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Class, file};

/// The form of the file.
const VERSION: u32 = 1;

/// Where sinks have their files, below the data directory.
pub(super) fn directory(data_dir: &Path) -> PathBuf {
    data_dir.join("ship")
}

/// Where a sink has its dead letters.
pub(super) fn dead_directory(data_dir: &Path, name: &str) -> PathBuf {
    directory(data_dir).join(format!("{name}.dead"))
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Entries, for sinks of events.
    #[default]
    Entries,
    /// Segments.
    Segments,
}

/// How far a sink is, and what of it is not on record yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    version: u32,
    pub unit: Unit,
    /// The first entry, or segment, that is not acknowledged.
    pub next: u64,
    /// How many were acknowledged, and of how many bytes.
    #[serde(default)]
    pub taken: Amount,
    /// How many were not and will not be, by class.
    #[serde(default)]
    pub rejected: BTreeMap<Class, u64>,
    /// How many entries were purged before their turn.
    #[serde(default)]
    pub purged: u64,
    /// How many rejected ones found no room among the dead letters.
    #[serde(default)]
    pub not_kept: u64,
    /// When something was acknowledged last, nanoseconds since 1970 UTC; 0 for never.
    #[serde(default)]
    pub taken_at: i64,
    /// Where the acknowledged entries end; for segments, whose numbers do not tell.
    #[serde(default)]
    pub end: u64,
    /// What no entry tells yet.
    #[serde(default)]
    pub open: Open,
    /// Since when it fails, if it does.
    #[serde(default)]
    pub failing: Option<Failing>,
}

/// So many, of so many bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Amount {
    pub count: u64,
    pub bytes: u64,
}

impl Amount {
    pub(super) fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// What no entry tells yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Open {
    /// The place of the first entry that was acknowledged and not reported.
    pub from: Option<u64>,
    /// How many such.
    #[serde(default)]
    pub taken: Amount,
    /// How many of them are not about shipping itself. Without such nothing is reported.
    #[serde(default)]
    pub news: u64,
    /// What the receiver said last, as it goes into the entry.
    #[serde(default)]
    pub receipt: serde_json::Value,
    /// When the last report was made, nanoseconds since 1970 UTC.
    #[serde(default)]
    pub reported_at: i64,
    /// The acknowledgement of a segment that is to be recorded.
    #[serde(default)]
    pub segment: Option<serde_json::Value>,
    /// Rejected since the last report, by class.
    #[serde(default)]
    pub rejected: BTreeMap<String, u64>,
    /// Of those, how many found no room.
    #[serde(default)]
    pub not_kept: u64,
    /// The places of the first and last of those.
    #[serde(default)]
    pub rejected_range: Option<(u64, u64)>,
    /// When that report was made, nanoseconds since 1970 UTC.
    #[serde(default)]
    pub rejected_at: i64,
}

/// A failure that lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failing {
    /// When it began, nanoseconds since 1970 UTC.
    pub since: i64,
    /// When it was last tried.
    pub at: i64,
    /// What kind of trouble.
    pub class: Class,
    /// What happened.
    pub why: String,
    /// Failed tries in a row.
    pub tries: u64,
    /// When an entry told of it last; 0 for not yet.
    pub reported_at: i64,
}

impl State {
    pub(super) fn new(unit: Unit, next: u64) -> Self {
        Self {
            version: VERSION,
            unit,
            next,
            ..Self::default()
        }
    }

    /// Reads a file; `None` where there is none. One that cannot be understood, or that counts something else, is put
    /// aside: the sink begins anew, which sends some things twice and loses nothing.
    pub(super) fn load(path: &Path, unit: Unit) -> io::Result<Option<Self>> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let state: Option<Self> = serde_json::from_slice(&text).ok();
        if let Some(state) = state.filter(|s| s.version == VERSION && s.unit == unit) {
            return Ok(Some(state));
        }
        let mut aside = path.as_os_str().to_owned();
        aside.push(".unusable");
        fs::rename(path, &aside)?;
        tracing::error!(path = %path.display(), "the position of a sink cannot be used and was put aside; it begins anew");
        Ok(None)
    }

    /// Makes it durable. Blocks on the disk.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        file::replace(path, &serde_json::to_vec(self)?)
    }

    /// Rejected ones of all classes.
    pub(super) fn rejected_count(&self) -> u64 {
        self.rejected.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.state");
        assert_eq!(State::load(&path, Unit::Entries).unwrap(), None);
        let mut state = State::new(Unit::Entries, 7);
        state.rejected.insert(Class::Invalid, 2);
        state.save(&path).unwrap();
        assert_eq!(State::load(&path, Unit::Entries).unwrap(), Some(state.clone()));
        assert_eq!(State::load(&path, Unit::Segments).unwrap(), None);
        assert!(!path.exists());
        fs::write(&path, "{").unwrap();
        assert_eq!(State::load(&path, Unit::Entries).unwrap(), None);
        assert_eq!(fs::read(dir.path().join("s.state.unusable")).unwrap(), b"{");
    }
}
