//! What may have become of a file's bytes.

use std::{collections::HashMap, ops::Range, sync::Arc};

use rand::{Rng as _, rngs::StdRng};

/// A disk writes so many bytes whole or not at all.
const SECTOR: u64 = 512;

/// What was done to a file.
#[derive(Clone, Debug)]
pub enum Change {
    /// These bytes were written at this place.
    Write(u64, Arc<[u8]>),
    /// It was cut, or made longer.
    Size(u64),
}

/// What becomes of things that were not synced.
#[derive(Clone, Debug)]
pub enum Fate {
    /// They are lost.
    Nothing,
    /// They are there.
    All,
    /// They are there up to a moment.
    Until(u64),
    /// Each is there with this probability, whatever came before it.
    Some(f64),
}

impl Fate {
    /// Any of them; `times` is from the first thing that is not durable on.
    pub fn any(random: &mut StdRng, times: Range<u64>) -> Self {
        match random.random_range(0..8) {
            0 => Self::Nothing,
            1 => Self::All,
            2..4 => Self::Until(random.random_range(times)),
            4 => Self::Some(0.1),
            5 => Self::Some(0.9),
            _ => Self::Some(0.5),
        }
    }

    /// Whether something of this time is kept.
    pub fn keeps(&self, time: u64, random: &mut StdRng) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Until(last) => time <= *last,
            Self::Some(p) => random.random_bool(*p),
        }
    }
}

/// A file's bytes: what is durable, and what was done since.
#[derive(Clone, Debug, Default)]
pub struct File {
    durable: Vec<u8>,
    pending: Vec<(u64, Change)>,
}

impl File {
    /// One that is durable.
    pub fn durable(bytes: Vec<u8>) -> Self {
        Self {
            durable: bytes,
            pending: Vec::new(),
        }
    }

    /// The time of the first thing that is not durable.
    pub fn oldest(&self) -> Option<u64> {
        self.pending.first().map(|p| p.0)
    }

    /// Something is done to it.
    pub fn change(&mut self, time: u64, change: Change) {
        self.pending.push((time, change));
    }

    /// Everything done is durable.
    pub fn sync(&mut self) {
        for (_, change) in std::mem::take(&mut self.pending) {
            apply(&mut self.durable, &change);
        }
    }

    /// Its bytes after a cut.
    pub fn contents(&self, fate: &Fate, random: &mut StdRng) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let Fate::Some(p) = fate else {
            for (time, change) in &self.pending {
                if fate.keeps(*time, random) {
                    apply(&mut bytes, change);
                }
            }
            return bytes;
        };
        let versions = self.versions(*p, random);
        // Where a file has grown and its bytes are not there, there are zeros, or what was there before.
        let stale = random.random_bool(0.25);
        let mut seen: HashMap<u64, u32> = HashMap::new();
        for (_, change) in &self.pending {
            let Change::Write(at, written) = change else {
                if random.random_bool(*p) {
                    apply(&mut bytes, change);
                }
                continue;
            };
            for (sector, range) in pieces(*at, written.len()) {
                let turn = seen.entry(sector).or_default();
                *turn += 1;
                let from = usize::try_from(sector * SECTOR)
                    .unwrap_or(usize::MAX)
                    .max(bytes.len());
                if *turn <= versions[&sector] {
                    let start = *at + range.start as u64;
                    if stale {
                        let upto = usize::try_from(start).unwrap_or(usize::MAX);
                        if upto > bytes.len() {
                            bytes.resize(upto, 0);
                            random.fill(&mut bytes[from.min(upto)..upto]);
                        }
                    }
                    apply(&mut bytes, &Change::Write(start, written[range].into()));
                }
            }
        }
        bytes
    }

    /// Of each sector, how many of the writes to it are there.
    fn versions(&self, p: f64, random: &mut StdRng) -> HashMap<u64, u32> {
        let mut versions: HashMap<u64, u32> = HashMap::new();
        for (_, change) in &self.pending {
            if let Change::Write(at, written) = change {
                for (sector, _) in pieces(*at, written.len()) {
                    *versions.entry(sector).or_default() += 1;
                }
            }
        }
        let mut sectors: Vec<u64> = versions.keys().copied().collect();
        // The order of the table is another each time; the numbers drawn are to be the same.
        sectors.sort_unstable();
        for sector in sectors {
            let version = versions.entry(sector).or_default();
            if !random.random_bool(p) {
                *version = random.random_range(0..*version);
            }
        }
        versions
    }
}

/// A write, by sectors: which, and which bytes of what is written.
fn pieces(at: u64, length: usize) -> impl Iterator<Item = (u64, Range<usize>)> {
    let end = at + length as u64;
    let position = move |place: u64| usize::try_from(place - at).unwrap_or(usize::MAX);
    (at / SECTOR..end.div_ceil(SECTOR)).map(move |sector| {
        let from = at.max(sector * SECTOR);
        let to = end.min((sector + 1) * SECTOR);
        (sector, position(from)..position(to))
    })
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Size(size) => bytes.resize(usize::try_from(*size).unwrap_or(usize::MAX), 0),
        Change::Write(at, written) => {
            let from = usize::try_from(*at).unwrap_or(usize::MAX);
            let to = from + written.len();
            if bytes.len() < to {
                bytes.resize(to, 0);
            }
            bytes[from..to].copy_from_slice(written);
        }
    }
}

#[test]
fn every_sector_is_one_of_its_versions() {
    let mut random = <StdRng as rand::SeedableRng>::seed_from_u64(1);
    let mut file = File::durable(vec![b'a'; 1000]);
    for (time, byte) in (1..).zip(*b"bcd") {
        file.change(time, Change::Write(300, vec![byte; 1000].into()));
    }
    let mut torn = 0;
    for _ in 0..200 {
        let bytes = file.contents(&Fate::Some(0.5), &mut random);
        assert!(bytes[..300].iter().all(|b| *b == b'a'), "what was not written to");
        let first = bytes[300];
        assert!(b"abcd".contains(&first));
        assert!(bytes[300..512].iter().all(|b| *b == first), "a sector is whole");
        torn += u32::from(bytes.len() > 600 && bytes[600] != first);
    }
    assert!(torn > 50, "sectors go their own ways: {torn}");
    file.sync();
    assert_eq!(
        file.contents(&Fate::Nothing, &mut random)[300..],
        *vec![b'd'; 1000]
    );
}
