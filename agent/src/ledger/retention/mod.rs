//! Retention: what is purged when, what is held, and how much room the ledger may take. README.md says what each does.
//!
//! Invariants:
//! - A purge has its entry before it has its effect, and what was announced is done, or said not to have been done.
//! - Only sealed segments are purged, and never in place. What stands in a segment's name is always a whole segment.
//! - A legal hold that stands is looked at for every segment, under the same lock that sets holds.
//! - Entries go only by two different people's word.

mod ages;
pub mod budget;
mod error;
mod files;
mod hold;
mod intent;
mod pace;
mod pass;
mod people;
mod purge;
mod rewrite;
mod state;
mod survey;
pub mod tombstone;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use serde_json::Value;
use uuid::Uuid;

pub use self::{
    error::RetentionError,
    hold::{By, Hold, HoldScope},
    pass::{Pass, Purged, RetentionStatus, SegmentStatus},
    people::EntriesPurge,
    survey::{Extent, identity_line},
};
use self::{hold::Holds, intent::Intent, people::Requests, state::State, tombstone::Tombstone};
use super::{Ledger, LedgerError, queue::lock, record, tree::Hash};
use crate::{
    clock::Clock,
    config,
    model::{Entry, EntryKind, Seq},
};

#[cfg(test)]
mod tests;

/// Masks what people write in words.
pub type Mask = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// What stays of a segment whose entries are purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Retained {
    pub segment: u64,
    pub from: u64,
    pub to: u64,
    pub root: Hash,
    /// The signed root.
    pub checkpoint: String,
}

/// How retention is set up.
pub struct Parts {
    /// The data directory.
    pub dir: PathBuf,
    /// The ledger in it.
    pub ledger: Ledger,
    /// Time.
    pub clock: Clock,
    /// `[retention]`
    pub config: config::Retention,
    /// For reasons.
    pub mask: Mask,
}

/// What must be taken elsewhere and is not yet: segments from the first number on, entries from the second place on.
pub type Untaken = Arc<dyn Fn() -> (Option<u64>, Option<u64>) + Send + Sync>;

/// Retention of one ledger; clones share it.
#[derive(Clone)]
pub struct Retention(Arc<Inner>);

pub(super) struct Inner {
    dir: PathBuf,
    ledger: Ledger,
    clock: Clock,
    config: ArcSwap<config::Retention>,
    mask: ArcSwap<Mask>,
    stop: Arc<AtomicBool>,
    /// Held while a segment is purged, and while a hold is set: a hold that is set is seen by all that follows.
    working: tokio::sync::Mutex<()>,
    holds: tokio::sync::Mutex<Option<Holds>>,
    requests: Mutex<Requests>,
    untaken: OnceLock<Untaken>,
    state: Mutex<State>,
    watch: Mutex<budget::Watch>,
    /// Frames and stored bytes purged since the start.
    purged: [AtomicU64; 2],
}

impl Retention {
    /// For a ledger that is open.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let state = State::read(&parts.dir);
        Self(Arc::new(Inner {
            dir: parts.dir,
            ledger: parts.ledger,
            clock: parts.clock,
            config: ArcSwap::from_pointee(parts.config),
            mask: ArcSwap::from_pointee(parts.mask),
            stop: Arc::default(),
            working: tokio::sync::Mutex::default(),
            holds: tokio::sync::Mutex::default(),
            requests: Mutex::default(),
            untaken: OnceLock::new(),
            state: Mutex::new(state),
            watch: Mutex::default(),
            purged: Default::default(),
        }))
    }

    /// Follows a changed configuration.
    pub fn reload(&self, config: &config::Retention, mask: Mask) {
        self.0.config.store(Arc::new(config.clone()));
        self.0.mask.store(Arc::new(mask));
    }

    /// Purges nothing that is said to be untaken. Counts once.
    pub fn wait_for(&self, untaken: Untaken) {
        // The first one stays.
        let _ = self.0.untaken.set(untaken);
    }

    /// Lets what runs end soon; what is on its way then is done at the next pass.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Release);
    }

    /// The room, as it was last looked at.
    #[must_use]
    pub fn room(&self) -> Option<budget::Budget> {
        lock(&self.0.watch).last.clone()
    }

    /// The last pass that was not a dry one.
    #[must_use]
    pub fn last(&self) -> Option<Pass> {
        lock(&self.0.state).last.clone()
    }

    /// Frames, and bytes that they took, purged since the start.
    #[must_use]
    pub fn purged(&self) -> (u64, u64) {
        let [frames, bytes] = &self.0.purged;
        (frames.load(Ordering::Acquire), bytes.load(Ordering::Acquire))
    }

    /// Sets a legal hold; it holds when this returns.
    ///
    /// # Errors
    /// When it covers nothing in particular, has no reason, or cannot be recorded.
    pub async fn hold(&self, scope: HoldScope, reason: &str, by: By) -> Result<Hold, RetentionError> {
        if scope == HoldScope::default() {
            return Err(RetentionError::HoldEmpty);
        }
        let reason = self.masked(&people::reason(reason)?);
        let _one = self.0.working.lock().await;
        self.append(hold::set(&scope, &reason, by)).await?;
        let holds = self.holds_now().await?;
        let set = holds.into_iter().rev().find(|hold| hold.scope == scope);
        set.ok_or(RetentionError::HoldUnknown)
    }

    /// Releases one.
    ///
    /// # Errors
    /// When there is none of this id, no reason, or it cannot be recorded.
    pub async fn release(&self, id: Uuid, reason: &str, by: By) -> Result<Hold, RetentionError> {
        let reason = self.masked(&people::reason(reason)?);
        let _one = self.0.working.lock().await;
        self.holds_now().await?;
        let hold = {
            let holds = self.0.holds.lock().await;
            let hold = holds.as_ref().and_then(|holds| holds.get(&id)).cloned();
            hold.ok_or(RetentionError::HoldUnknown)?
        };
        self.append(hold::released(&hold, &reason, by)).await?;
        self.holds_now().await?;
        Ok(hold)
    }

    /// The holds that stand, in the order in which they were set.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn standing_holds(&self) -> Result<Vec<Hold>, RetentionError> {
        self.holds_now().await
    }

    /// Reads what entries came since the last look, and keeps the result in the file.
    async fn holds_now(&self) -> Result<Vec<Hold>, RetentionError> {
        let mut kept = self.0.holds.lock().await;
        let before = kept.take();
        let holds = self
            .blocking(move |inner| {
                let key = &inner.ledger.shared().keys.current();
                let holds = match before {
                    None => Holds::load(&inner.dir, &inner.ledger, key)?,
                    Some(mut holds) => {
                        holds.catch_up(&inner.dir, &inner.ledger)?;
                        holds
                    }
                };
                // Without the file the next start takes longer, and that is all.
                if let Err(error) = holds.save(&inner.dir, key) {
                    tracing::warn!("the holds are not kept in their file: {error}");
                }
                Ok(holds)
            })
            .await?;
        let list = holds.list();
        *kept = Some(holds);
        Ok(list)
    }

    fn now(&self) -> i64 {
        self.0.clock.now_ns()
    }

    fn origin(&self) -> String {
        self.0.ledger.shared().keys.current().verifier().name().into()
    }

    fn masked(&self, text: &str) -> String {
        let mask = self.0.mask.load();
        (**mask)(text)
    }

    async fn append(&self, members: Value) -> Result<Seq, RetentionError> {
        let entry = record::entry(EntryKind::Ledger, self.now(), members);
        Ok(self.0.ledger.append(entry).await?)
    }

    /// Makes a purge known: from here on it will be done, however this process ends.
    async fn announce(&self, entry: Entry, intent: &Intent) -> Result<(), RetentionError> {
        let (dir, kept) = (self.0.dir.clone(), intent.clone());
        self.blocking(move |_| Ok(kept.put(&dir)?)).await?;
        if let Err(error) = self.0.ledger.append(entry).await {
            // The entry may stand all the same; the next pass looks.
            return Err(error.into());
        }
        Ok(())
    }

    /// Does what was announced, segment by segment, and forgets the intent.
    async fn carry_out(&self, intent: Intent) -> Result<(), RetentionError> {
        for (segment, text) in intent.segments {
            self.blocking(move |inner| {
                purge::carry_out(&inner.dir, &inner.ledger, segment, &text, &inner.stop)
            })
            .await?;
        }
        self.blocking(|inner| Ok(Intent::remove(&inner.dir)?)).await
    }

    /// Does what an earlier pass announced and did not do, unless a hold was set since, or forgets what it did not
    /// announce. The caller holds `working`.
    async fn finish_intent(&self) -> Result<(), RetentionError> {
        let looked = self
            .blocking(|inner| {
                rewrite::sweep(&inner.dir).map_err(|e| LedgerError::file(&inner.dir, &e))?;
                let Some(intent) = Intent::get(&inner.dir)? else {
                    return Ok(None);
                };
                if intent.is_announced(&inner.dir, &inner.ledger)? {
                    return Ok(Some(intent));
                }
                Intent::remove(&inner.dir)?;
                Ok(None)
            })
            .await?;
        let Some(intent) = looked else { return Ok(()) };
        tracing::info!(entry = %intent.entry, "a purge that was announced is done now");
        let holds = self.holds_now().await?;
        let config = self.0.config.load_full();
        let now_ns = self.now();
        for (segment, text) in intent.segments.clone() {
            let (holds, config, words) = (holds.clone(), Arc::clone(&config), text.clone());
            let why = self
                .blocking(move |inner| inner.stands_in_the_way(segment, &words, &holds, &config, now_ns))
                .await?;
            if let Some(why) = why {
                self.append(purge::withdrawn(&intent, segment, &why)).await?;
                continue;
            }
            let done = self
                .blocking(move |inner| {
                    purge::carry_out(&inner.dir, &inner.ledger, segment, &text, &inner.stop)
                })
                .await;
            match done {
                Err(RetentionError::Changed { .. }) => {
                    let why = "the segment is not what it was when it was announced";
                    self.append(purge::withdrawn(&intent, segment, why)).await?;
                }
                other => other?,
            }
        }
        self.blocking(|inner| Ok(Intent::remove(&inner.dir)?)).await
    }

    /// Runs what reads or writes files on a thread of its own.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, RetentionError> + Send + 'static,
    ) -> Result<T, RetentionError> {
        let inner = Arc::clone(&self.0);
        let ended = |e: tokio::task::JoinError| {
            let why = format!("a retention thread ended: {e}").into();
            Err(RetentionError::Ledger(LedgerError::Database { why }))
        };
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .unwrap_or_else(ended)
    }
}

impl Inner {
    /// Whether a segment has to be taken elsewhere first; with its end, whether its entries have.
    fn is_untaken(&self, segment: u64, end: Option<u64>) -> bool {
        let (segments, entries) = self.untaken.get().map_or((None, None), |untaken| untaken());
        segments.is_some_and(|from| segment >= from)
            || matches!((entries, end), (Some(from), Some(end)) if end > from)
    }

    /// Why an announced purge may not be done any more.
    fn stands_in_the_way(
        &self,
        segment: u64,
        text: &str,
        holds: &[Hold],
        config: &config::Retention,
        now_ns: i64,
    ) -> Result<Option<String>, RetentionError> {
        let held = || Some("a legal hold was set since it was announced".to_owned());
        let path = super::segment_path(&self.dir, segment);
        if !path.exists() {
            return Ok(Some("the segment is not there any more".into()));
        }
        match Tombstone::parse(text) {
            None => Ok(Some("what was to be done cannot be read".into())),
            Some(Tombstone::Payload(tombstone)) => {
                let origin = tombstone.origin.clone();
                let look = self.look(config, holds, &origin, now_ns);
                Ok(if look.still_may(&tombstone)? { None } else { held() })
            }
            Some(Tombstone::Entries(_)) => {
                let extent = survey::Survey::open(&path)?.extent()?;
                if extent.stub {
                    return Ok(None);
                }
                let hold = people::covering(&self.dir, segment, &extent, holds)?;
                Ok(hold.and_then(|_| held()))
            }
        }
    }

    fn look<'a>(
        &'a self,
        config: &'a config::Retention,
        holds: &'a [Hold],
        origin: &'a str,
        now_ns: i64,
    ) -> purge::Look<'a> {
        purge::Look {
            dir: &self.dir,
            config,
            holds,
            origin,
            now_ns,
            stop: &self.stop,
        }
    }
}
