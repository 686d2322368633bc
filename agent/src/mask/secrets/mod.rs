//! The secrets that the agent puts into what it sends, found in everything else.
//!
//! Whatever comes back is searched for them, in the encodings in which services echo what they were sent, and each
//! byte of one is replaced, so that lengths stay what they were. What workloads send is searched, too: there, one is a
//! leak. They are not data classes that policy could reveal: [`INJECTED_SECRET`] only names them where values are
//! counted.
//!
//! Invariants: no secret is ever shown, by Debug or otherwise; where no secret is known, it costs one atomic load.

mod encodings;
mod machine;
mod scrub;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use zeroize::Zeroizing;

pub use self::encodings::percent_decoded;
use self::machine::Machine;
pub use self::scrub::Scrubber;
use crate::model::SecretSink;

/// What masked values are counted under. No class of the configuration can be called so.
pub const INJECTED_SECRET: &str = "injected_secret";

/// A shorter secret would be found in what has nothing to do with it.
const SHORTEST: usize = 6;
/// How long a former value is looked for.
const FORMER: Duration = Duration::from_secs(3600);
/// Former values kept of one owner, the latest.
const FORMER_MAX: usize = 64;
/// Spellings of former values kept in all, bytes.
const FORMER_BYTES: usize = 8 * 1024 * 1024;

type Value = Zeroizing<Vec<u8>>;

#[derive(Default)]
struct Owner {
    current: Vec<Value>,
    former: Vec<(Value, Instant)>,
}

#[derive(Default)]
struct Inner {
    /// Changes whenever the machine does; 0 while there is none.
    generation: AtomicU64,
    machine: ArcSwapOption<Machine>,
    owners: Mutex<BTreeMap<String, Owner>>,
    /// Generations given out.
    given: AtomicU64,
}

/// All secrets that are in use, and for a while those that were; clones share them.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Inner>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl Secrets {
    /// Whether any is known.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.generation() != 0
    }

    fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    fn machine(&self) -> Option<Arc<Machine>> {
        self.0.machine.load_full()
    }

    /// Replaces every byte of every secret in something that is all at hand; how many there were.
    pub fn mask(&self, bytes: &mut [u8]) -> u64 {
        if !self.is_active() {
            return 0;
        }
        let Some(machine) = self.machine() else { return 0 };
        let mut found = Vec::new();
        machine.run(machine.start(), bytes, |one| {
            found.push(one);
            true
        });
        let (mut hits, mut last_end) = (0, 0);
        for one in found {
            let start = one.end.saturating_sub(one.length);
            bytes[start..one.end].fill(one.fill);
            hits += u64::from(start >= last_end);
            last_end = one.end;
        }
        hits
    }

    /// A text without secrets; `None` when there was none in it.
    #[must_use]
    pub fn mask_text(&self, text: &str) -> Option<String> {
        if !self.holds(text.as_bytes()) {
            return None;
        }
        let mut bytes = text.as_bytes().to_vec();
        self.mask(&mut bytes);
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether a secret is in something that is all at hand.
    #[must_use]
    pub fn holds(&self, bytes: &[u8]) -> bool {
        if !self.is_active() {
            return false;
        }
        let Some(machine) = self.machine() else {
            return false;
        };
        let mut any = false;
        machine.run(machine.start(), bytes, |_| {
            any = true;
            false
        });
        any
    }

    /// Makes sure that a secret about to be sent is looked for, whoever gave it.
    pub fn cover(&self, owner: &str, secret: &[u8]) {
        if secret.len() >= SHORTEST && !self.holds(secret) {
            self.replace(owner, &[secret]);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Owner>> {
        self.0.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rebuild(&self, owners: &BTreeMap<String, Owner>) {
        let mut patterns = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for value in owners.values().flat_map(|o| &o.current) {
            if seen.insert(&value[..]) {
                patterns.extend(encodings::of(value));
            }
        }
        let mut former: Vec<_> = owners.values().flat_map(|o| &o.former).collect();
        former.sort_unstable_by_key(|(_, until)| std::cmp::Reverse(*until));
        let mut bytes = 0;
        for (value, _) in former {
            if bytes > FORMER_BYTES || !seen.insert(&value[..]) {
                continue;
            }
            let spellings = encodings::of(value);
            bytes += spellings.iter().map(|p| p.bytes.len()).sum::<usize>();
            patterns.extend(spellings);
        }
        if patterns.is_empty() {
            self.0.generation.store(0, Ordering::Release);
            self.0.machine.store(None);
            return;
        }
        match Machine::new(&patterns) {
            Ok(machine) => {
                self.0.machine.store(Some(Arc::new(machine)));
                let next = self.0.given.fetch_add(1, Ordering::Relaxed) + 1;
                self.0.generation.store(next, Ordering::Release);
            }
            // More than two thousand million states: what was known stays known.
            Err(e) => tracing::error!("secrets in use cannot be looked for: {e}"),
        }
    }
}

impl SecretSink for Secrets {
    fn replace(&self, owner: &str, secrets: &[&[u8]]) {
        let (long, short): (Vec<&[u8]>, Vec<&[u8]>) = secrets.iter().partition(|s| s.len() >= SHORTEST);
        if !short.is_empty() {
            tracing::warn!(
                owner,
                "a secret shorter than {SHORTEST} bytes is not looked for in what passes"
            );
        }
        let now = Instant::now();
        let mut owners = self.lock();
        let entry = owners.entry(owner.to_owned()).or_default();
        let same =
            entry.current.len() == long.len() && entry.current.iter().zip(&long).all(|(a, b)| a[..] == **b);
        if same && !long.is_empty() {
            return;
        }
        for value in std::mem::take(&mut entry.current) {
            if !long.contains(&&value[..]) {
                entry.former.push((value, now + FORMER));
            }
        }
        let excess = entry.former.len().saturating_sub(FORMER_MAX);
        entry.former.drain(..excess);
        entry.current = long.iter().map(|s| Zeroizing::new(s.to_vec())).collect();
        for owner in owners.values_mut() {
            owner.former.retain(|(_, until)| *until > now);
        }
        owners.retain(|_, o| !o.current.is_empty() || !o.former.is_empty());
        self.rebuild(&owners);
    }
}
