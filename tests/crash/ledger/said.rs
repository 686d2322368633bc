//! What a process said before it was killed.

use std::collections::HashMap;

use uuid::Uuid;

/// A segment that it said is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub number: u64,
    pub first: u64,
    pub end: u64,
    pub sha256: String,
}

/// What one process said, from its start to its end.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Entries at its start, once it had the ledger open.
    pub opened: Option<u64>,
    /// Entries that each task handed over, or was about to, in their order.
    pub will: HashMap<u64, Vec<Uuid>>,
    /// Entries that were acknowledged, with the place they got.
    pub acknowledged: HashMap<Uuid, u64>,
    /// Segments.
    pub sealed: Vec<Sealed>,
    /// Keys that signed after it had replaced the one before, in their order.
    pub keys: Vec<String>,
    /// It closed the ledger in order.
    pub closed: bool,
}

impl Run {
    /// Takes a line in; false for one that is not of the form, such as half a line at the end.
    pub fn hear(&mut self, line: &str) -> bool {
        let words: Vec<&str> = line.split(' ').collect();
        self.take(&words).is_some()
    }

    fn take(&mut self, words: &[&str]) -> Option<()> {
        match *words {
            ["open", size] => self.opened = Some(size.parse().ok()?),
            ["will", task, id] => self
                .will
                .entry(task.parse().ok()?)
                .or_default()
                .push(id.parse().ok()?),
            ["ack", _, id, seq] => {
                self.acknowledged.insert(id.parse().ok()?, seq.parse().ok()?);
            }
            ["sealed", number, first, end, sha256] => self.sealed.push(Sealed {
                number: number.parse().ok()?,
                first: first.parse().ok()?,
                end: end.parse().ok()?,
                sha256: sha256.into(),
            }),
            ["key", key] => self.keys.push(key.into()),
            ["closed"] => self.closed = true,
            _ => return None,
        }
        Some(())
    }
}
