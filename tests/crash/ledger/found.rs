//! What is recorded, read as shipping reads it, and held against what was said.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use portcullis::{
    ledger::{Recorded, Tail, segment_path},
    model::Seq,
};
use serde_json::Value;
use uuid::Uuid;

use super::{Run, Sealed};

/// Everything that was read so far.
pub struct Found {
    tail: Tail,
    /// Where each entry stands.
    pub places: HashMap<Uuid, u64>,
    /// The ids in order.
    pub order: Vec<Uuid>,
    /// Entries that say that the run before them had no orderly end.
    pub recovered: Vec<u64>,
    /// What `segment_sealed` entries say; by number.
    sealed: BTreeMap<u64, Sealed>,
}

impl Found {
    /// Reads nothing yet; from the first entry on.
    pub fn new(dir: &Path) -> Self {
        Self {
            tail: Tail::new(dir, Seq(0)),
            places: HashMap::new(),
            order: Vec::new(),
            recovered: Vec::new(),
            sealed: BTreeMap::new(),
        }
    }

    /// Reads what was recorded since, every entry exactly once and in order.
    pub fn read_on(&mut self) -> Result<()> {
        loop {
            let found = self.tail.read(Seq(u64::MAX), 500, 1 << 20)?;
            if found.is_empty() {
                return Ok(());
            }
            for recorded in found {
                self.add(&recorded)
                    .with_context(|| format!("entry {}: {}", recorded.seq.0, recorded.body))?;
            }
        }
    }

    fn add(&mut self, recorded: &Recorded) -> Result<()> {
        let next = self.order.len() as u64;
        ensure!(recorded.seq.0 == next, "it was read where {next} follows");
        let body: Value = serde_json::from_str(&recorded.body)?;
        let id: Uuid = body["id"].as_str().context("it has no id")?.parse()?;
        ensure!(self.places.insert(id, next).is_none(), "it is there twice");
        self.order.push(id);
        match body["event"].as_str() {
            Some("recovered") => self.recovered.push(next),
            Some("segment_sealed") => self.add_sealed(&body["detail"])?,
            _ => {}
        }
        Ok(())
    }

    /// An end at the wrong moment leaves two entries of one segment, which say the same.
    fn add_sealed(&mut self, detail: &Value) -> Result<()> {
        let number = |name: &str| detail[name].as_u64().context("a number is missing");
        let sealed = Sealed {
            number: number("number")?,
            first: number("first")?,
            end: number("end")?,
            sha256: detail["sha256"].as_str().context("a hash is missing")?.into(),
        };
        let before = self.sealed.insert(sealed.number, sealed.clone());
        ensure!(
            before.is_none_or(|b| b == sealed),
            "another entry says something else of it"
        );
        Ok(())
    }

    /// Whether what a run said is so. `all`: everything acknowledged is there; without, what is in sealed segments.
    pub fn hold(&self, run: &Run, all: bool) -> Result<()> {
        for sealed in &run.sealed {
            ensure!(
                sealed.end <= self.order.len() as u64,
                "{sealed:?} is said to be sealed, and the ledger has {} entries",
                self.order.len()
            );
        }
        let safe = run.sealed.iter().map(|s| s.end).max().unwrap_or(0);
        for (id, seq) in run.acknowledged.iter().filter(|(_, seq)| all || **seq < safe) {
            let found = self.places.get(id);
            ensure!(
                found == Some(seq),
                "{id} was acknowledged as entry {seq}, and is {found:?}"
            );
        }
        for (task, ids) in &run.will {
            self.in_order(ids)
                .with_context(|| format!("task {task}, entries in the order of its calls"))?;
        }
        Ok(())
    }

    /// Whether something acknowledged is not there.
    pub fn lacks(&self, run: &Run) -> bool {
        run.acknowledged.keys().any(|id| !self.places.contains_key(id))
    }

    /// Of what one caller hands over, a first part is recorded, in its order, and nothing behind a hole.
    fn in_order(&self, ids: &[Uuid]) -> Result<()> {
        let places: Vec<Option<&u64>> = ids.iter().map(|id| self.places.get(id)).collect();
        let there = places.iter().take_while(|p| p.is_some()).count();
        ensure!(
            places[there..].iter().all(Option::is_none),
            "{} is not there, but a later one is",
            ids[there]
        );
        ensure!(
            places[..there].is_sorted(),
            "they have changed places: {places:?}"
        );
        Ok(())
    }

    /// Every segment in the directory was told by an entry, and is the file that the entry names.
    pub fn segments_are_told(&self, dir: &Path, segments: u64) -> Result<()> {
        for number in 0..segments {
            let told = self.sealed.get(&number);
            let told = told.with_context(|| format!("no entry tells of segment {number}"))?;
            let bytes = std::fs::read(segment_path(dir, number))?;
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
            ensure!(
                told.sha256 == hex::encode(hash),
                "segment {number} is not the file that was sealed"
            );
        }
        Ok(())
    }
}
