//! How much room the ledger takes, how long it lasts, and what is done when it is used up.
//!
//! The room is the bytes of all parts (with their WAL) against `disk_budget`, and the free space of their file system
//! against `free_space`. Growth is what the segments that ended in the last seven days, and what is not sealed yet,
//! take now, over the time since the first of their entries: purges of such young segments make it look smaller. The
//! forecast does not count on purges.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    super::{Ledger, Limit, Part, parts, read},
    Inner, Retention, RetentionError,
    purge::{Occasion, time},
};
use crate::{
    config::{self, AtLimit},
    ledger::queue::lock,
    model::Rfc3339,
};

const DAY_NS: i64 = 86_400_000_000_000;
/// The days that growth is taken from.
const DAYS: i64 = 7;
/// Growth is reckoned anew after so long.
const RECKON_NS: i64 = 60_000_000_000;
/// Growth over less than this says nothing.
const LEAST_NS: i64 = 3_600_000_000_000;

/// How near the end of the room is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// There is room.
    #[default]
    Fine,
    /// There is less than the warning's.
    Warning,
    /// It is used up but for the reserve: the configured behaviour is in force.
    Limit,
    /// Half of the reserve is used up, too: nothing is recorded but what tells about it.
    Full,
}

/// The room, as it was last looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Bytes of all parts of the ledger.
    pub used_bytes: u64,
    /// `[retention] disk_budget`.
    pub budget_bytes: Option<u64>,
    /// Bytes that the file system has left.
    pub free_bytes: u64,
    /// Bytes by which the ledger grows a day; `None` while it is too young.
    pub growth_per_day: Option<u64>,
    /// Days until the budget is used up as it grows now.
    pub days_left: Option<u64>,
    /// How near the end is.
    pub level: Level,
    /// What told so: `usage`, `forecast` or `free_space`.
    pub cause: Option<String>,
    /// What is not recorded now.
    pub limit: Limit,
    /// `[retention] at_limit`.
    pub at_limit: AtLimit,
}

impl Budget {
    /// What an operator has to know, if anything.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let room = match self.cause.as_deref() {
            Some("free_space") => format!("the file system has {} bytes left", self.free_bytes),
            Some("forecast") => format!(
                "as the ledger grows now, its disk budget is used up in {} days",
                self.days_left.unwrap_or(0)
            ),
            _ => format!(
                "the ledger takes {} of {} bytes",
                self.used_bytes,
                self.budget_bytes.unwrap_or(0)
            ),
        };
        let does = match (self.level, self.limit) {
            (Level::Fine, _) => return None,
            (Level::Warning, _) => "free some, raise [retention] disk_budget, or keep less",
            (_, Limit::Nothing) => "nothing is recorded any more but this, and every operation is denied",
            (_, Limit::NoOperations) => "every operation is denied until there is room",
            (_, Limit::NoPayloads) => "operations go on, and their payload is not recorded",
            (_, Limit::None) => "the oldest payload is purged before its time",
        };
        Some(format!("{room}: {does}"))
    }

    fn detail(&self) -> Value {
        json!({
            "cause": self.cause, "used_bytes": self.used_bytes, "budget_bytes": self.budget_bytes,
            "free_bytes": self.free_bytes, "growth_bytes_per_day": self.growth_per_day,
            "days_left": self.days_left, "at_limit": self.at_limit, "limit": self.limit,
        })
    }
}

/// What was looked at last, and what was told of it.
#[derive(Default)]
pub(super) struct Watch {
    pub last: Option<Budget>,
    /// The level told last, what is not recorded then, and when.
    told: Option<(Level, Limit, i64)>,
    /// A purge before its time found nothing more.
    nothing_left: bool,
    purging: bool,
    /// Growth, and when it was reckoned.
    growth: Option<(i64, Option<u64>)>,
}

/// The part of a budget that is kept for what tells about it.
fn reserve(budget: u64) -> u64 {
    (budget / 20).clamp(4 << 20, 1 << 30)
}

/// How near the end is, and what told so. `before` makes leaving the limit need more room than entering it.
pub(super) fn judge(
    config: &config::Retention,
    now: &Budget,
    before: Level,
) -> (Level, Option<&'static str>) {
    let slack = |reserve: u64| if before >= Level::Limit { reserve / 4 } else { 0 };
    let mut found = (Level::Fine, None);
    let mut raise = |level: Level, cause| {
        if level > found.0 {
            found = (level, Some(cause));
        }
    };
    if let Some(budget) = config.disk_budget {
        let kept = reserve(budget);
        let used = now.used_bytes;
        if used.saturating_add(kept / 2) >= budget {
            raise(Level::Full, "usage");
        } else if used.saturating_add(kept).saturating_add(slack(kept)) >= budget {
            raise(Level::Limit, "usage");
        } else if used >= budget / 100 * u64::from(config.warn_at) {
            raise(Level::Warning, "usage");
        }
        if now
            .days_left
            .is_some_and(|days| days < u64::from(config.warn_days))
        {
            raise(Level::Warning, "forecast");
        }
    }
    let (least, free) = (config.free_space, now.free_bytes);
    if least > 0 {
        if free < least / 2 {
            raise(Level::Full, "free_space");
        } else if free < least.saturating_add(slack(least)) {
            raise(Level::Limit, "free_space");
        } else if free < least.saturating_mul(2) {
            raise(Level::Warning, "free_space");
        }
    }
    found
}

fn limit(level: Level, at_limit: AtLimit, nothing_left: bool) -> Limit {
    match (level, at_limit) {
        (Level::Fine | Level::Warning, _) => Limit::None,
        (Level::Full, _) => Limit::Nothing,
        (Level::Limit, AtLimit::NoPayloads) => Limit::NoPayloads,
        (Level::Limit, AtLimit::PurgePayloads) if !nothing_left => Limit::None,
        (Level::Limit, _) => Limit::NoOperations,
    }
}

/// Bytes of a part with its WAL.
fn size(part: &Part) -> u64 {
    let mut wal = part.path.clone().into_os_string();
    wal.push("-wal");
    [part.path.as_path(), Path::new(&wal)]
        .iter()
        .filter_map(|p| std::fs::metadata(p).ok())
        .map(|m| m.len())
        .sum()
}

impl Inner {
    /// Looks at the files. Blocks.
    fn measure(&self, config: &config::Retention, now_ns: i64) -> Result<Budget, RetentionError> {
        let all = parts(&self.dir)?;
        let used_bytes = all.iter().map(size).sum();
        let free_bytes = nix::sys::statvfs::statvfs(&self.dir).map_or(u64::MAX, |s| {
            s.blocks_available().saturating_mul(s.fragment_size())
        });
        let reckoned = lock(&self.watch).growth;
        let growth_per_day = match reckoned {
            Some((at, growth)) if (0..RECKON_NS).contains(&now_ns.saturating_sub(at)) => growth,
            _ => {
                let growth = self.growth(&all, now_ns)?;
                lock(&self.watch).growth = Some((now_ns, growth));
                growth
            }
        };
        let room = config
            .disk_budget
            .map(|budget| budget.saturating_sub(reserve(budget)).saturating_sub(used_bytes));
        let days_left = room
            .zip(growth_per_day)
            .and_then(|(room, a_day)| room.checked_div(a_day));
        Ok(Budget {
            used_bytes,
            budget_bytes: config.disk_budget,
            free_bytes,
            growth_per_day,
            days_left,
            at_limit: config.at_limit,
            ..Budget::default()
        })
    }

    fn growth(&self, all: &[Part], now_ns: i64) -> Result<Option<u64>, RetentionError> {
        let since = Rfc3339(now_ns.saturating_sub(DAYS * DAY_NS).max(0)).to_string();
        let (mut bytes, mut first) = (0u64, String::new());
        for part in all.iter().rev() {
            let from = if part.sealed {
                let extent = self.extent(part)?;
                if extent.stub || extent.to < since {
                    break;
                }
                extent.from
            } else {
                let conn = match read::open(&part.path) {
                    Ok(conn) => conn,
                    // Sealed meanwhile: the next look finds it.
                    Err(_) => continue,
                };
                let sql = "SELECT coalesce((SELECT json_extract(body, '$.at') FROM entry ORDER BY seq LIMIT 1), '')";
                conn.query_row(sql, [], |r| r.get(0))?
            };
            bytes += size(part);
            if !from.is_empty() {
                first = from;
            }
        }
        let span = time(&first).map_or(0, |first| now_ns.saturating_sub(first));
        if span < LEAST_NS {
            return Ok(None);
        }
        let a_day = u128::from(bytes) * u128::from(DAY_NS.unsigned_abs()) / u128::from(span.unsigned_abs());
        Ok(u64::try_from(a_day).ok())
    }
}

impl Retention {
    /// Looks at the room, sets what the ledger takes, and tells what has changed. To be called every second or so.
    ///
    /// # Errors
    /// When the files cannot be looked at; the limit stays as it was.
    pub async fn watch(&self) -> Result<Budget, RetentionError> {
        let config = self.0.config.load_full();
        let now = self.now();
        let looked = {
            let config = config.clone();
            self.blocking(move |inner| inner.measure(&config, now)).await?
        };
        self.judged(&config, looked).await
    }

    /// What follows from a look.
    pub(super) async fn judged(
        &self,
        config: &config::Retention,
        mut looked: Budget,
    ) -> Result<Budget, RetentionError> {
        let now = self.now();
        let (told, purge) = {
            let mut watch = lock(&self.0.watch);
            let before = watch.last.as_ref().map_or(Level::Fine, |b| b.level);
            let (level, cause) = judge(config, &looked, before);
            if level < Level::Limit {
                watch.nothing_left = false;
            }
            looked.level = level;
            looked.cause = cause.map(String::from);
            looked.limit = limit(level, config.at_limit, watch.nothing_left);
            watch.last = Some(looked.clone());
            let purge = level >= Level::Limit
                && config.at_limit == AtLimit::PurgePayloads
                && !watch.purging
                && !watch.nothing_left;
            watch.purging |= purge;
            (watch.told, purge)
        };
        // Before the entry that tells, so that nothing slips in between; after it where room came back, so that the
        // entry comes before the operations.
        let before = self.0.ledger.set_limit(looked.limit);
        self.tell(&looked, told, now).await;
        if before != Limit::None || looked.limit != Limit::None {
            let ledger: Ledger = self.0.ledger.clone();
            self.blocking(move |_| Ok(ledger.keep_losses()?)).await?;
        }
        if purge {
            let this = self.clone();
            tokio::spawn(async move { this.purge_early().await });
        }
        Ok(looked)
    }

    /// An entry where the level or what is not recorded has changed, and again after a day.
    async fn tell(&self, looked: &Budget, told: Option<(Level, Limit, i64)>, now: i64) {
        let was = told.map_or((Level::Fine, Limit::None), |(level, limit, _)| (level, limit));
        let is = (looked.level, looked.limit);
        let again = told.is_some_and(|(_, _, at)| now.saturating_sub(at) >= DAY_NS);
        if is == was && !(again && is.0 > Level::Fine) {
            return;
        }
        let event = match looked.level {
            Level::Limit | Level::Full => "budget_exhausted",
            _ if was.0 >= Level::Limit => "budget_recovered",
            Level::Warning => "budget_warning",
            Level::Fine => "budget_recovered",
        };
        if let Some(problem) = looked.problem() {
            tracing::warn!("{problem}");
        }
        match self
            .append(json!({ "event": event, "detail": looked.detail() }))
            .await
        {
            Ok(_) => lock(&self.0.watch).told = Some((looked.level, looked.limit, now)),
            // It is told at the next look.
            Err(error) => tracing::error!("the state of the disk budget is not on record: {error}"),
        }
    }

    /// Purges the oldest payload that no hold covers, segment by segment, until there is room.
    pub(super) async fn purge_early(&self) {
        let found = self.purge_oldest().await;
        let mut watch = lock(&self.0.watch);
        watch.purging = false;
        match found {
            Ok(false) => watch.nothing_left = true,
            Ok(true) => {}
            Err(error) => tracing::error!("payload is not purged before its time: {error}"),
        }
    }

    /// The oldest segment with payload that may go; false when there is none.
    async fn purge_oldest(&self) -> Result<bool, RetentionError> {
        {
            let _one = self.0.working.lock().await;
            self.finish_intent().await?;
        }
        let with_payload = self
            .blocking(|inner| {
                let mut found = Vec::new();
                for part in parts(&inner.dir)?.into_iter().filter(|p| p.sealed) {
                    if inner.extent(&part)?.frames > 0 {
                        found.push(part.number);
                    }
                }
                Ok(found)
            })
            .await?;
        for segment in with_payload {
            match self.one(segment, Occasion::Budget, false).await {
                Ok(None) => {}
                Ok(Some(_)) => return Ok(true),
                Err(error @ (RetentionError::Stopping | RetentionError::Ledger(_))) => return Err(error),
                Err(error) => tracing::error!(segment, "its payload is not purged: {error}"),
            }
        }
        Ok(false)
    }
}
