//! One look over all segments: what is due is purged; and what there is to say of them.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::{
    super::parts,
    EntriesPurge, Hold, Retention, RetentionError, ages,
    budget::Budget,
    purge::{Occasion, Plan, is_over, time},
};
use crate::{config::Keep, ledger::queue::lock, model::Rfc3339};

/// What a pass did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// When it began, RFC 3339.
    pub at: String,
    /// Nothing was purged: it was asked what would be.
    pub dry: bool,
    /// The segments that something went from.
    pub purged: Vec<Purged>,
    /// What went wrong, by segment; the others were done all the same.
    pub failed: Vec<String>,
}

/// What went of one segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// Its number.
    pub segment: u64,
    /// Why.
    pub cause: String,
    /// How many frames.
    pub frames: u64,
    /// Their uncompressed bytes.
    pub bytes: u64,
    /// Bytes that they took.
    pub stored: u64,
    /// Of the frames, those whose bytes did not belong to their hash any more.
    pub damaged: u64,
}

/// How retention stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionStatus {
    /// `[retention] payloads`.
    pub payloads: String,
    /// `[retention] entries`.
    pub entries: String,
    /// How many rules there are beside.
    pub rules: usize,
    /// The sealed segments, oldest first.
    pub segments: Vec<SegmentStatus>,
    /// Legal holds that stand.
    pub holds: Vec<Hold>,
    /// Purges of entries that wait for their second person.
    pub waiting: Vec<EntriesPurge>,
    /// The last pass.
    pub last: Option<Pass>,
    /// The disk budget, once it was looked at.
    pub budget: Option<Budget>,
}

/// One sealed segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentStatus {
    /// Its number.
    pub segment: u64,
    /// Its first entry, and the first after it.
    pub entries: (u64, u64),
    /// When its first and its last entry were recorded, RFC 3339; empty where entries are purged.
    pub times: (String, String),
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Frames whose bytes are there, and the bytes that they take: what a purge of all payload frees.
    pub payload: (u64, u64),
    /// Frames whose bytes were purged.
    pub purged_frames: u64,
    /// When the first of its payload may be due, RFC 3339; `None` for never, or where there is none.
    pub payload_due: Option<String>,
    /// When its entries become eligible, RFC 3339; `None` for never.
    pub entries_eligible: Option<String>,
    /// Whether they are now.
    pub eligible_now: bool,
    /// Its entries are purged: only its ends and the signed root are left.
    pub stub: bool,
    /// Legal holds that may cover something of it, by its time alone.
    pub holds: usize,
}

/// When an age since a segment's last entry is over.
fn due(age: Keep, last: &str) -> Option<String> {
    let age = i64::try_from(age.age()?.as_nanos()).ok()?;
    Some(Rfc3339(time(last)?.checked_add(age)?).to_string())
}

impl From<&Plan> for Purged {
    fn from(plan: &Plan) -> Self {
        let t = &plan.tombstone;
        Self {
            segment: plan.segment,
            cause: plan.cause.clone(),
            frames: t.frames,
            bytes: t.bytes,
            stored: plan.stored,
            damaged: t.damaged,
        }
    }
}

impl Retention {
    /// Looks over all segments and purges what is due. With `dry` it only says what would go. One segment's trouble does
    /// not keep the others.
    ///
    /// # Errors
    /// When the ledger cannot be read or appended to, or the agent is stopping.
    pub async fn run(&self, dry: bool) -> Result<Pass, RetentionError> {
        let at = Rfc3339(self.now()).to_string();
        let done = self.look_over(dry, at.clone()).await;
        if let (false, Err(error)) = (dry, &done)
            && !matches!(error, RetentionError::Stopping)
        {
            // For status: nothing is purged, and nobody may be looking at the log.
            lock(&self.0.state).last = Some(Pass {
                at,
                failed: vec![error.to_string()],
                ..Pass::default()
            });
        }
        done
    }

    async fn look_over(&self, dry: bool, at: String) -> Result<Pass, RetentionError> {
        let mut pass = Pass {
            at,
            dry,
            ..Pass::default()
        };
        if !dry {
            let _one = self.0.working.lock().await;
            self.finish_intent().await?;
        }
        let config = self.0.config.load_full();
        let (shortest, now) = (ages::shortest(&config), self.now());
        let sealed = self
            .blocking(move |inner| {
                let mut due = Vec::new();
                for part in parts(&inner.dir)?.into_iter().filter(|p| p.sealed) {
                    let extent = inner.extent(&part)?;
                    if extent.frames > 0 && is_over(shortest, &extent.to, now) {
                        due.push(part.number);
                    }
                }
                Ok(due)
            })
            .await?;
        for segment in sealed {
            match self.one(segment, Occasion::Due, dry).await {
                Ok(Some(purged)) => pass.purged.push(purged),
                Ok(None) => {}
                // Nothing can be recorded, or nobody waits for it any more: the rest is for the next pass.
                Err(error @ RetentionError::Stopping) => return Err(error),
                Err(error) => {
                    tracing::error!(segment, "its payload is not purged: {error}");
                    pass.failed.push(format!("segment {segment}: {error}"));
                }
            }
        }
        if !dry {
            self.standing_holds().await?;
            let done = pass.clone();
            self.blocking(move |inner| {
                lock(&inner.state).last = Some(done);
                inner.keep_state();
                Ok(())
            })
            .await?;
        }
        Ok(pass)
    }

    /// Purges what may go of one segment.
    pub(super) async fn one(
        &self,
        segment: u64,
        occasion: Occasion,
        dry: bool,
    ) -> Result<Option<Purged>, RetentionError> {
        let _one = self.0.working.lock().await;
        let Some(plan) = self.plan(segment, occasion).await? else {
            return Ok(None);
        };
        let purged = Purged::from(&plan);
        if dry {
            return Ok(Some(purged));
        }
        tracing::info!(segment, frames = purged.frames, cause = %purged.cause, "payload is purged");
        let (entry, intent) = plan.announcement(&self.0.ledger, self.now());
        self.announce(entry, &intent).await?;
        self.carry_out(intent).await?;
        let [frames, bytes] = &self.0.purged;
        frames.fetch_add(purged.frames, Ordering::AcqRel);
        bytes.fetch_add(purged.stored, Ordering::AcqRel);
        Ok(Some(purged))
    }

    pub(super) async fn plan(
        &self,
        segment: u64,
        occasion: Occasion,
    ) -> Result<Option<Plan>, RetentionError> {
        // What a receiver of segments must have, it is to have with its payload.
        if self.0.is_untaken(segment, None) {
            return Ok(None);
        }
        let holds = self.standing_holds().await?;
        let config = self.0.config.load_full();
        let (origin, now) = (self.origin(), self.now());
        self.blocking(move |inner| inner.look(&config, &holds, &origin, now).plan(segment, occasion))
            .await
    }

    /// How retention stands.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn status(&self) -> Result<RetentionStatus, RetentionError> {
        let holds = self.standing_holds().await?;
        let waiting = self.waiting();
        let config = self.0.config.load_full();
        let now = self.now();
        self.blocking(move |inner| {
            let shortest = ages::shortest(&config);
            let mut segments = Vec::new();
            for part in parts(&inner.dir)?.into_iter().filter(|p| p.sealed) {
                let extent = inner.extent(&part)?;
                let near = |hold: &&Hold| {
                    let (from, to) = (Some(extent.from.as_str()), Some(extent.to.as_str()));
                    !extent.stub && hold.scope.covers(None, None, from, to)
                };
                let some = extent.frames > 0;
                segments.push(SegmentStatus {
                    segment: part.number,
                    entries: (extent.first, extent.end),
                    file_bytes: std::fs::metadata(&part.path).map_or(0, |m| m.len()),
                    payload: (extent.frames, extent.stored),
                    purged_frames: extent.purged,
                    payload_due: due(shortest, &extent.to).filter(|_| some),
                    entries_eligible: due(config.entries, &extent.to),
                    eligible_now: !extent.stub && is_over(config.entries, &extent.to, now),
                    stub: extent.stub,
                    holds: holds.iter().filter(near).count(),
                    times: (extent.from, extent.to),
                });
            }
            Ok(RetentionStatus {
                payloads: config.payloads.to_string(),
                entries: config.entries.to_string(),
                rules: config.rule.len(),
                segments,
                holds,
                waiting,
                last: lock(&inner.state).last.clone(),
                budget: lock(&inner.watch).last.clone(),
            })
        })
        .await
    }
}
