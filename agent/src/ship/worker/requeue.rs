//! Dead letters that an admin wants to be sent again.

use super::{
    super::{
        Class, Event, ShipError,
        dead::{DeadLetter, DeadLetters},
    },
    core::{Core, blocking},
    send::{Sender, Sent, send},
};
use crate::{
    ledger::{LedgerError, Tail},
    model::Seq,
};

/// Those that are set aside to be sent again, from a place in their file on; none when all were dealt with. What is
/// left of a former run is taken up without asking.
pub(super) async fn next(core: &mut Core, from: u64, limit: usize) -> Option<(Vec<DeadLetter>, u64)> {
    if from == 0 && core.take_again() {
        match core.with_dead(DeadLetters::again).await {
            Ok(count) => tracing::info!(sink = %core.ship().name, count, "dead letters are sent again"),
            Err(e) => tracing::error!(sink = %core.ship().name, "dead letters cannot be sent again: {e}"),
        }
        core.publish();
    }
    match core.with_dead(move |dead| dead.to_send(from, limit)).await {
        Ok(found) => found,
        Err(e) => {
            tracing::error!(sink = %core.ship().name, "dead letters cannot be read: {e}");
            None
        }
    }
}

/// All of them were dealt with.
pub(super) async fn done(core: &mut Core) {
    if let Err(e) = core.with_dead(DeadLetters::sent).await {
        tracing::error!(sink = %core.ship().name, "dead letters that were sent again stay: {e}");
    }
    core.publish();
}

/// Sends dead letters of a sink of events again.
pub(super) async fn events(core: &mut Core, sender: &mut Sender) -> Sent {
    let limit = core.ship().events.batch_events;
    let mut from = 0;
    while let Some((letters, end)) = next(core, from, limit).await {
        let mut events = Vec::new();
        let mut gone = Vec::new();
        for letter in letters {
            match entry(core, letter.place).await {
                Ok(Some(event)) => events.push(event),
                Ok(None) => gone.push(letter),
                Err(error) => {
                    core.failed(&error).await;
                    return if core.pause(&error).await {
                        Sent::Remake
                    } else {
                        Sent::Stop
                    };
                }
            }
        }
        if !gone.is_empty() {
            let count = gone.len() as u64;
            core.state.purged += count;
            let (first, last) = (gone.first().map(|l| l.place), gone.last().map(|l| l.place));
            let detail = serde_json::json!({ "from": first, "to": last, "unit": "entries" });
            core.notes.purged(count, detail).await;
        }
        match send(core, sender, &events, false).await {
            Sent::All => from = end,
            other => return other,
        }
    }
    if from > 0 {
        core.report_rejected(true).await;
        done(core).await;
    }
    Sent::All
}

/// An entry that was read before; `None` where it was purged since.
async fn entry(core: &Core, place: u64) -> Result<Option<Event>, ShipError> {
    let dir = core.parts().data_dir.clone();
    let size = core.ledger().size();
    let read = blocking(move || {
        let mut tail = Tail::new(&dir, Seq(place));
        Ok(tail.read(size, 1, usize::MAX))
    });
    let failed = |e: &dyn std::fmt::Display| {
        ShipError::temporary(Class::Local, format!("the ledger cannot be read: {e}"))
    };
    match read.await.map_err(|e| failed(&e))? {
        Ok(found) => Ok(found.into_iter().find(|r| r.seq.0 == place).map(Event::new)),
        Err(LedgerError::Purged { .. }) => Ok(None),
        Err(e) => Err(failed(&e)),
    }
}
