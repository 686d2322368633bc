//! How many sessions of each tagged cgroup are on record: read from the ledger itself, once each.

use std::{collections::HashMap, path::Path};

use serde::Deserialize;

use crate::{
    ledger::{LedgerError, Tail},
    model::{CgroupId, Seq},
};

/// Entries, and bytes of them, that are read at once.
const ENTRIES: usize = 4096;
const BYTES: usize = 4 << 20;

/// What says that an entry may be a session's. A text of the workload's cannot hold it: its quotes are escaped.
const MARK: &[u8] = br#""kind":"session""#;

/// Follows the ledger.
pub(super) struct Sessions {
    tail: Tail,
    counted: HashMap<CgroupId, u64>,
}

#[derive(Deserialize)]
struct Body {
    kind: String,
    event: String,
    cgroup_id: u64,
    #[serde(default)]
    transport: Option<String>,
}

impl Sessions {
    /// From a place on.
    pub(super) fn new(dir: &Path, from: Seq) -> Self {
        Self {
            tail: Tail::new(dir, from),
            counted: HashMap::new(),
        }
    }

    /// The first entry that has not been read.
    pub(super) fn next(&self) -> Seq {
        self.tail.next()
    }

    /// TCP sessions opened by one cgroup, among what was read.
    pub(super) fn of(&self, cgroup: CgroupId) -> u64 {
        self.counted.get(&cgroup).copied().unwrap_or(0)
    }

    /// Drops what is known of a cgroup that is gone.
    pub(super) fn forget(&mut self, cgroup: CgroupId) {
        self.counted.remove(&cgroup);
    }

    /// Reads what is there before `end`. Blocks on the disk.
    pub(super) fn read(&mut self, end: Seq) -> Result<(), LedgerError> {
        while self.tail.next() < end {
            let entries = self.tail.read(end, ENTRIES, BYTES)?;
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                if let Some(cgroup) = opened(&entry.body) {
                    *self.counted.entry(cgroup).or_default() += 1;
                }
            }
        }
        Ok(())
    }
}

/// The cgroup whose TCP session this entry opens, if it is that.
fn opened(body: &str) -> Option<CgroupId> {
    memchr::memmem::find(body.as_bytes(), MARK)?;
    let body: Body = serde_json::from_str(body).ok()?;
    let is = body.kind == "session" && body.event == "open" && body.transport.is_none();
    is.then_some(CgroupId(body.cgroup_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_opened_tcp_session_counts() {
        let open = r#"{"cgroup_id":7,"event":"open","kind":"session","v":1}"#;
        assert_eq!(opened(open), Some(CgroupId(7)));
        for other in [
            r#"{"cgroup_id":7,"event":"close","kind":"session","v":1}"#,
            r#"{"cgroup_id":7,"event":"open","kind":"session","transport":"udp","v":1}"#,
            r#"{"cgroup_id":7,"event":"open","kind":"agent","text":"\"kind\":\"session\"","v":1}"#,
            r#"{"kind":"operation","v":1}"#,
            "",
        ] {
            assert_eq!(opened(other), None, "{other}");
        }
    }
}
