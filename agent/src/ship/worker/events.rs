//! Events: entries in their order, in batches, until each was taken or rejected.

use serde_json::json;

use super::{
    super::{Class, Event, EventSink, ShipError, state::Amount},
    core::{Core, blocking, ns},
    requeue,
    send::{Sender, Sent, send},
};
use crate::{
    ledger::{self, LedgerError, Recorded, Tail},
    model::Seq,
};

/// Ships entries until told to stop (false), or the sink is to be made anew (true).
pub(super) async fn work(core: &mut Core, sink: Box<dyn EventSink>) -> bool {
    let limit = core.ship().events.batch_events;
    let mut sender = Sender::new(sink, limit);
    let mut tail = Some(Tail::new(&core.parts().data_dir, Seq(core.state.next)));
    loop {
        if core.is_stopping() {
            report(core, true).await;
            return false;
        }
        core.notes.flush().await;
        match requeue::events(core, &mut sender).await {
            Sent::All => {}
            Sent::Remake => return true,
            Sent::Stop => continue,
        }
        match read(core, &mut tail).await {
            Ok(found) if found.is_empty() && core.state.next < core.ledger().size().0 => {
                // Its part has nothing from there on. Either it is being sealed, or that was purged.
                if let Some(to) = goes_on(core).await {
                    let from = core.state.next;
                    lost(
                        core,
                        Lost {
                            count: to - from,
                            from,
                            to: to - 1,
                        },
                    )
                    .await;
                    core.state.next = to;
                    core.save_quietly().await;
                } else {
                    core.idle().await;
                }
                tail = None;
            }
            Ok(found) if found.is_empty() => {
                core.shared.health().waiting_since = None;
                report(core, false).await;
                core.report_rejected(false).await;
                core.save_now_and_then().await;
                core.idle().await;
            }
            Ok(found) => {
                core.shared.health().sending = true;
                let sent = ship(core, &mut sender, found).await;
                core.shared.health().sending = false;
                report(core, false).await;
                core.report_rejected(false).await;
                core.save_now_and_then().await;
                match sent {
                    Sent::All => {}
                    Sent::Remake => return true,
                    Sent::Stop => tail = Some(Tail::new(&core.parts().data_dir, Seq(core.state.next))),
                }
            }
            // Without a place where it goes on, the files are not what they should be: nothing is passed over then.
            Err(LedgerError::Purged { from, to }) if to > from => {
                lost(
                    core,
                    Lost {
                        count: to - from,
                        from,
                        to: to - 1,
                    },
                )
                .await;
                core.state.next = to;
                core.save_quietly().await;
                tail = Some(Tail::new(&core.parts().data_dir, Seq(core.state.next)));
            }
            Err(e) => {
                let error = ShipError::temporary(Class::Local, format!("the ledger cannot be read: {e}"));
                core.failed(&error).await;
                core.pause(&error).await;
                tail = Some(Tail::new(&core.parts().data_dir, Seq(core.state.next)));
            }
        }
    }
}

/// The next entries.
async fn read(core: &Core, tail: &mut Option<Tail>) -> Result<Vec<Recorded>, LedgerError> {
    let size = core.ledger().size();
    let mut reading = match tail.take() {
        Some(tail) if tail.next().0 == core.state.next => tail,
        _ => Tail::new(&core.parts().data_dir, Seq(core.state.next)),
    };
    if reading.next() >= size {
        *tail = Some(reading);
        return Ok(Vec::new());
    }
    let events = &core.ship().events;
    let (limit, bytes) = (
        events.batch_events,
        usize::try_from(events.batch_bytes).unwrap_or(usize::MAX),
    );
    let read = tokio::task::spawn_blocking(move || {
        let found = reading.read(size, limit, bytes);
        (reading, found)
    });
    let (reading, found) = read.await.map_err(|_| LedgerError::Closed)?;
    *tail = Some(reading);
    found
}

/// Where entries go on behind those that the part with the next one has no more: at the beginning of the part after it.
async fn goes_on(core: &Core) -> Option<u64> {
    let (dir, next) = (core.parts().data_dir.clone(), core.state.next);
    let looked = blocking(move || {
        let parts = ledger::parts(&dir).map_err(std::io::Error::other)?;
        let begins = parts.iter().filter_map(|part| ledger::extent(&part.path).ok());
        Ok(begins
            .map(|extent| extent.start)
            .filter(|start| *start > next)
            .min())
    });
    looked.await.ok().flatten()
}

/// Entries that are gone: how many, and between which places.
struct Lost {
    count: u64,
    from: u64,
    to: u64,
}

/// Entries were purged before their turn: that is a loss, and on record.
async fn lost(core: &mut Core, lost: Lost) {
    core.state.purged += lost.count;
    tracing::error!(sink = %core.ship().name, count = lost.count, "entries were purged before they were shipped");
    let detail = json!({ "from": lost.from, "to": lost.to, "unit": "entries" });
    core.notes.purged(lost.count, detail).await;
}

/// Parts what is there from what is gone: a place without an entry, or an entry without its body.
fn sift(found: Vec<Recorded>, next: u64) -> (Vec<Event>, Option<Lost>) {
    let (mut events, mut gone) = (Vec::with_capacity(found.len()), None::<Lost>);
    let mut at = next;
    for recorded in found {
        let place = recorded.seq.0;
        let missing = place.saturating_sub(at) + u64::from(recorded.body.is_empty());
        if missing > 0 {
            let gone = gone.get_or_insert(Lost {
                count: 0,
                from: at,
                to: at,
            });
            gone.count += missing;
            gone.to = if recorded.body.is_empty() {
                place
            } else {
                place - 1
            };
        }
        at = place + 1;
        if !recorded.body.is_empty() {
            events.push(Event::new(recorded));
        }
    }
    (events, gone)
}

/// Ships what was read. What the configuration does not ask for is passed over.
async fn ship(core: &mut Core, sender: &mut Sender, found: Vec<Recorded>) -> Sent {
    let end = found.last().map_or(core.state.next, |last| last.seq.0 + 1);
    let (mut events, gone) = sift(found, core.state.next);
    if let Some(gone) = gone {
        lost(core, gone).await;
    }
    let kinds = &core.ship().events.kinds;
    events.retain(|event| kinds.is_empty() || kinds.iter().any(|kind| kind.as_str() == event.kind()));
    if let Some(first) = events.first() {
        core.shared.health().waiting_since = Some(first.at().to_owned());
    }
    let sent = send(core, sender, &events, true).await;
    if sent == Sent::All {
        core.state.next = end;
        core.state.end = end;
        core.publish();
    }
    sent
}

/// Records what was acknowledged: at the beginning, after a failure, at the end, and otherwise now and again.
async fn report(core: &mut Core, last: bool) {
    let now = core.now();
    let every = ns(core.ship().common.record_every);
    let open = &core.state.open;
    let due = last || open.reported_at == 0 || now.saturating_sub(open.reported_at) >= every;
    let (Some(from), true) = (open.from, due && open.news > 0) else {
        return;
    };
    let detail = json!({
        "unit": "entries",
        "from": from,
        "to": core.state.end.saturating_sub(1).max(from),
        "count": open.taken.count,
        "bytes": open.taken.bytes,
        "receipt": open.receipt,
    });
    core.notes.shipped(detail).await;
    let open = &mut core.state.open;
    (open.from, open.news, open.taken, open.reported_at) = (None, 0, Amount::default(), now);
    core.save_quietly().await;
}
