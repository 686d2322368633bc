//! Segments: sealed files in the order of their numbers, each whole.

use std::path::PathBuf;

use serde_json::json;
use tokio::time::Instant;

use super::{
    super::{Class, Receipt, Segment, SegmentSink, ShipError, state::Amount},
    core::{Core, blocking},
    note, requeue,
};
use crate::ledger;

/// What is next.
enum Next {
    /// Nothing is sealed yet.
    Nothing,
    /// This one.
    Segment { number: u64, path: PathBuf },
    /// Those before this number are gone.
    Gone { to: u64 },
    /// The ledger ends before what was taken.
    RolledBack,
}

/// Ships segments until told to stop (false), or the sink is to be made anew (true).
pub(super) async fn work(core: &mut Core, sink: &dyn SegmentSink) -> bool {
    loop {
        if core.is_stopping() {
            return false;
        }
        core.notes.flush().await;
        let error = match step(core, sink).await {
            Ok(true) => continue,
            Ok(false) => {
                core.report_rejected(false).await;
                core.idle().await;
                continue;
            }
            Err(error) => error,
        };
        core.failed(&error).await;
        if core.pause(&error).await && core.wants_new_sink() {
            return true;
        }
    }
}

/// Does the next thing; false where there is nothing to do, or the worker is to stop.
async fn step(core: &mut Core, sink: &dyn SegmentSink) -> Result<bool, ShipError> {
    settle(core).await?;
    if again(core, sink).await? {
        return Ok(true);
    }
    match next(core).await? {
        Next::Nothing => Ok(false),
        Next::Gone { to } => {
            gone(core, to).await;
            Ok(true)
        }
        Next::RolledBack => {
            core.rolled_back("segments").await;
            // What is there already is found there: its name tells its content.
            (core.state.next, core.state.end) = (0, 0);
            core.save_quietly().await;
            Ok(true)
        }
        Next::Segment { number, path } => {
            let Some(segment) = deliver(core, sink, number, path).await? else {
                return Ok(false);
            };
            core.state.next = number + 1;
            core.state.end = segment.entries.end;
            core.publish();
            settle(core).await?;
            Ok(true)
        }
    }
}

/// One segment, once: taken or put away. `None` when the worker is to stop.
async fn deliver(
    core: &mut Core,
    sink: &dyn SegmentSink,
    number: u64,
    path: PathBuf,
) -> Result<Option<Segment>, ShipError> {
    core.shared.health().sending = true;
    let put = put(core, sink, number, path).await;
    core.shared.health().sending = false;
    let Some((segment, put)) = put? else {
        return Ok(None);
    };
    match put {
        Ok(receipt) => taken(core, &segment, &receipt),
        Err(error @ ShipError::Temporary { .. }) => return Err(error),
        Err(error) => bury(core, &segment, &error).await?,
    }
    core.succeeded().await;
    Ok(Some(segment))
}

/// Makes the position durable, and only then says what became of a segment: a record without the position would be
/// made twice, and one that was not made is kept with the position.
async fn settle(core: &mut Core) -> Result<(), ShipError> {
    let kept = core.save().await;
    kept.map_err(|e| ShipError::temporary(Class::Local, format!("the position cannot be kept: {e}")))?;
    if core.state.open.segment.is_some() {
        core.report_segment().await;
        core.save_quietly().await;
    }
    core.report_rejected(false).await;
    Ok(())
}

async fn next(core: &Core) -> Result<Next, ShipError> {
    let dir = core.parts().data_dir.clone();
    let from = core.state.next;
    let found = blocking(move || ledger::parts(&dir).map_err(std::io::Error::other));
    let parts = found
        .await
        .map_err(|e| ShipError::temporary(Class::Local, format!("segments cannot be listed: {e}")))?;
    let Some(last) = parts.last().map(|part| part.number) else {
        return Ok(Next::Nothing);
    };
    Ok(match parts.into_iter().find(|part| part.number >= from) {
        None if from > last + 1 => Next::RolledBack,
        Some(part) if part.number > from => Next::Gone { to: part.number },
        Some(part) if part.sealed => Next::Segment {
            number: part.number,
            path: part.path,
        },
        _ => Next::Nothing,
    })
}

/// Opens a segment and tries to put it once. A try that makes no progress is ended. `None` when the worker is to stop.
async fn put(
    core: &Core,
    sink: &dyn SegmentSink,
    number: u64,
    path: PathBuf,
) -> Result<Option<(Segment, Result<Receipt, ShipError>)>, ShipError> {
    let (host, pace) = (core.context().host.clone(), core.pace.clone());
    let opened = blocking(move || Ok(Segment::open(&path, number, &host, pace)));
    let local = |e: std::io::Error| ShipError::temporary(Class::Local, e.to_string());
    let segment = opened.await.map_err(local)??;
    let put = tokio::select! {
        put = sink.put(&segment) => put,
        () = stalled(core) => {
            let timeout = core.ship().common.timeout;
            Err(ShipError::temporary(Class::Timeout, format!("no progress within {timeout:?}")))
        }
        () = core.shared.stop.cancelled() => return Ok(None),
    };
    Ok(Some((segment, put)))
}

/// Resolves when there was no sign of life for too long.
async fn stalled(core: &Core) {
    let timeout = core.ship().common.timeout;
    let (mut signs, mut since) = (core.pace.signs(), Instant::now());
    loop {
        tokio::time::sleep((timeout / 8).max(core.parts().times.poll.min(timeout))).await;
        let now = core.pace.signs();
        if now != signs {
            (signs, since) = (now, Instant::now());
        } else if since.elapsed() >= timeout {
            return;
        }
    }
}

fn taken(core: &mut Core, segment: &Segment, receipt: &Receipt) {
    let detail = json!({
        "unit": "segments",
        "segment": segment.number,
        "name": segment.name,
        "from": segment.entries.start,
        "to": segment.entries.end.saturating_sub(1),
        "count": segment.entries.end - segment.entries.start,
        "bytes": segment.bytes,
        "sha256": segment.sha256_hex(),
        "receipt": note::receipt(receipt),
    });
    let now = core.now();
    let state = &mut core.state;
    state.open.segment = Some(detail);
    state.taken_at = now;
    state.taken.add(Amount {
        count: 1,
        bytes: segment.bytes,
    });
}

async fn bury(core: &mut Core, segment: &Segment, error: &ShipError) -> Result<(), ShipError> {
    tracing::error!(sink = %core.ship().name, segment = segment.number, "a segment was rejected: {error}");
    let letter = core.letter(
        segment.number,
        &segment.name,
        "segment",
        error.class(),
        error.why(),
    );
    core.bury(vec![letter], false).await
}

/// Segments that are not there any more: a loss, and on record.
async fn gone(core: &mut Core, to: u64) {
    let from = core.state.next;
    let count = to - from;
    tracing::error!(sink = %core.ship().name, count, "segments were purged before they were shipped");
    let dir = core.parts().data_dir.clone();
    // Which entries: those between what was taken and what is there.
    let begins = blocking(move || {
        let parts = ledger::parts(&dir).map_err(std::io::Error::other)?;
        let part = parts.into_iter().find(|part| part.number >= to);
        Ok(part
            .and_then(|part| ledger::extent(&part.path).ok())
            .map(|extent| extent.start))
    });
    let begins = begins.await.ok().flatten();
    let end = core.state.end;
    let entries = begins.map_or(0, |begins| begins.saturating_sub(end));
    core.state.purged += entries;
    core.state.next = to;
    core.state.end = begins.unwrap_or(end).max(end);
    let mut detail = json!({ "from": from, "to": to - 1, "unit": "segments" });
    if let (Some(map), Some(begins)) = (detail.as_object_mut(), begins) {
        let range = json!({ "from": end, "to": begins.saturating_sub(1), "count": entries });
        map.insert("entries".into(), range);
    }
    core.notes.purged(count, detail).await;
    core.save_quietly().await;
}

/// Puts segments among the dead letters again; true where there was one.
async fn again(core: &mut Core, sink: &dyn SegmentSink) -> Result<bool, ShipError> {
    let (mut from, mut found) = (0, false);
    while let Some((letters, end)) = requeue::next(core, from, 1).await {
        found = true;
        for letter in letters {
            let path = ledger::segment_path(&core.parts().data_dir, letter.place);
            if !path.exists() {
                core.state.purged += 1;
                let detail = json!({ "from": letter.place, "to": letter.place, "unit": "segments" });
                core.notes.purged(1, detail).await;
                continue;
            }
            if deliver(core, sink, letter.place, path).await?.is_none() {
                return Ok(true);
            }
            settle(core).await?;
        }
        from = end;
    }
    if found {
        requeue::done(core).await;
        core.save_quietly().await;
    }
    Ok(found)
}
