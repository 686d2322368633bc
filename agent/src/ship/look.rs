//! From how a worker is to what is shown of it.

use super::{
    SinkError, SinkStatus,
    state::Unit,
    worker::{Health, Parts},
};
use crate::{config::Ship, ledger, model::Rfc3339};

pub(super) fn status(parts: &Parts, ship: &Ship, health: &Health) -> SinkStatus {
    let now = parts.context.clock.now_ns();
    let time = |at: i64| Rfc3339(at).to_string();
    let s = &health.state;
    let waiting = if ship.to.takes_segments() {
        segments_waiting(parts, s.next, now)
    } else {
        entries_waiting(parts, health, now)
    };
    let state = match (&s.failing, health.ended) {
        (_, true) => "stopped",
        (Some(_), _) => "failing",
        (None, _) if health.sending || waiting.count > 0 => "sending",
        (None, _) => "waiting",
    };
    let error = s.failing.as_ref().map(|f| SinkError {
        class: f.class.as_str().into(),
        why: f.why.clone(),
        since: time(f.since),
        seconds: seconds(now.saturating_sub(f.since)),
        tries: f.tries,
        next_try: health.next_try.map(time),
    });
    SinkStatus {
        name: ship.name.clone(),
        kind: ship.to.kind().into(),
        state: state.into(),
        required: ship.common.required,
        unit: match s.unit {
            Unit::Entries => "entries".into(),
            Unit::Segments => "segments".into(),
        },
        next: s.next,
        taken: s.taken.count,
        taken_bytes: s.taken.bytes,
        taken_at: (s.taken_at > 0).then(|| time(s.taken_at)),
        waiting: waiting.count,
        waiting_bytes: waiting.bytes,
        waiting_seconds: waiting.seconds,
        rejected: s.rejected_count(),
        purged: s.purged,
        dead_letters: health.dead,
        not_kept: s.not_kept,
        error,
    }
}

#[derive(Default)]
struct Waiting {
    count: u64,
    bytes: u64,
    seconds: u64,
}

fn entries_waiting(parts: &Parts, health: &Health, now: i64) -> Waiting {
    let s = &health.state;
    let count = if health.known {
        parts.ledger.size().0.saturating_sub(s.next)
    } else {
        0
    };
    let since = health.waiting_since.as_deref().filter(|_| count > 0);
    let since = since.and_then(|at| at.parse::<jiff::Timestamp>().ok());
    let since = since.and_then(|at| i64::try_from(at.as_nanosecond()).ok());
    // Reckoned: reading all that waits to tell its size would cost more than it helps.
    let each = s.taken.bytes.checked_div(s.taken.count).unwrap_or(0);
    Waiting {
        count,
        bytes: count.saturating_mul(each),
        seconds: since.map_or(0, |since| seconds(now.saturating_sub(since))),
    }
}

fn segments_waiting(parts: &Parts, next: u64, now: i64) -> Waiting {
    let mut waiting = Waiting::default();
    let sealed = ledger::parts(&parts.data_dir).unwrap_or_default().into_iter();
    for part in sealed.filter(|part| part.sealed && part.number >= next) {
        let Ok(metadata) = std::fs::metadata(&part.path) else {
            continue;
        };
        waiting.count += 1;
        waiting.bytes += metadata.len();
        let made = metadata.modified().ok();
        let made = made.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let made = made.and_then(|at| i64::try_from(at.as_nanos()).ok());
        if let Some(made) = made {
            waiting.seconds = waiting.seconds.max(seconds(now.saturating_sub(made)));
        }
    }
    waiting
}

fn seconds(ns: i64) -> u64 {
    u64::try_from(ns / 1_000_000_000).unwrap_or(0)
}
