//! Sending events: in batches, until each was taken or put away.

use std::time::Duration;

use super::{
    super::{Accepted, Class, Event, EventSink, Rejected, ShipError, dead::DeadLetter, state::Amount},
    core::Core,
    note,
};

/// How sending went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// All of it was taken or put away.
    All,
    /// The sink is to be made anew, and the rest sent by that.
    Remake,
    /// The worker is to stop.
    Stop,
}

/// A sink, and how many it takes at once.
pub(super) struct Sender {
    sink: Box<dyn EventSink>,
    /// Halved where a receiver finds a batch too large, or something in it invalid; doubled by success.
    limit: usize,
}

impl Sender {
    pub(super) fn new(sink: Box<dyn EventSink>, limit: usize) -> Self {
        Self { sink, limit }
    }
}

/// Sends events until each was taken or put away, or the sink is to be made anew. With `advance` the position follows.
pub(super) async fn send(core: &mut Core, sender: &mut Sender, events: &[Event], advance: bool) -> Sent {
    let most = core.ship().events.batch_events;
    let mut rest = events;
    while !rest.is_empty() {
        let batch = &rest[..sender.limit.clamp(1, rest.len())];
        let error = match offer(core, sender, batch).await {
            None => return Sent::Stop,
            Some(Ok(accepted)) => match settle(core, batch, accepted, advance).await {
                Ok(done) => {
                    rest = &rest[done..];
                    sender.limit = (sender.limit * 2).min(most);
                    core.succeeded().await;
                    core.save_now_and_then().await;
                    continue;
                }
                Err(error) => error,
            },
            Some(Err(error @ ShipError::Temporary { .. })) => error,
            // One bad event must not take the others with it: which one it is, halving tells.
            Some(Err(_)) if batch.len() > 1 => {
                sender.limit = batch.len() / 2;
                continue;
            }
            Some(Err(error)) => {
                let rejected = vec![Rejected {
                    seq: batch[0].seq,
                    class: error.class(),
                    why: error.why().to_owned(),
                }];
                let accepted = Accepted {
                    done: 1,
                    rejected,
                    ..Accepted::default()
                };
                match settle(core, batch, accepted, advance).await {
                    Ok(done) => {
                        rest = &rest[done..];
                        continue;
                    }
                    Err(error) => error,
                }
            }
        };
        core.failed(&error).await;
        if !core.pause(&error).await {
            return Sent::Stop;
        }
        if core.wants_new_sink() && !sender.sink.lasts() {
            return Sent::Remake;
        }
    }
    Sent::All
}

/// One try, at the sink's pace. `None` when the worker is to stop.
async fn offer(core: &Core, sender: &mut Sender, batch: &[Event]) -> Option<Result<Accepted, ShipError>> {
    let stop = core.shared.stop.clone();
    let timeout = core.ship().common.timeout;
    tokio::select! {
        () = stop.cancelled() => return None,
        () = core.pace.take(batch.len() as u64, size(batch)) => {}
    }
    // What is under way when the worker stops gets a moment: cut off, it would be sent twice.
    let cut = async {
        stop.cancelled().await;
        tokio::time::sleep(timeout.min(Duration::from_secs(2))).await;
    };
    tokio::select! {
        answer = tokio::time::timeout(timeout, sender.sink.send(batch)) => Some(answer.unwrap_or_else(|_| {
            Err(ShipError::temporary(Class::Timeout, format!("no answer within {timeout:?}")))
        })),
        () = cut => None,
    }
}

fn size(batch: &[Event]) -> u64 {
    batch.iter().map(|event| event.body.len() as u64).sum()
}

/// Takes over what a receiver said: rejected ones are put away before the position moves on. Gives how many events are
/// done with.
async fn settle(
    core: &mut Core,
    batch: &[Event],
    accepted: Accepted,
    advance: bool,
) -> Result<usize, ShipError> {
    let done = accepted.done.min(batch.len());
    if done == 0 {
        return Err(ShipError::temporary(
            Class::Broken,
            "the receiver took nothing and did not say why",
        ));
    }
    let batch = &batch[..done];
    let (mut letters, mut quiet): (Vec<DeadLetter>, Vec<DeadLetter>) = (Vec::new(), Vec::new());
    for event in batch {
        let Some(rejected) = accepted.rejected.iter().find(|r| r.seq == event.seq) else {
            continue;
        };
        let letter = core.letter(
            event.seq.0,
            event.id(),
            event.kind(),
            rejected.class,
            &rejected.why,
        );
        // A record about rejected events that is rejected itself must not lead to the next one.
        if event.is_about_shipping() {
            quiet.push(letter);
        } else {
            letters.push(letter);
        }
    }
    let rejected = letters.len() + quiet.len();
    core.bury(letters, false).await?;
    core.bury(quiet, true).await?;
    let taken = Amount {
        count: (done - rejected) as u64,
        bytes: size(batch),
    };
    let now = core.now();
    let state = &mut core.state;
    if taken.count > 0 {
        let open = &mut state.open;
        open.from.get_or_insert(batch[0].seq.0);
        open.taken.add(taken);
        open.news += batch.iter().filter(|event| !event.is_about_shipping()).count() as u64;
        open.receipt = note::receipt(&accepted.receipt);
        state.taken.add(taken);
        state.taken_at = now;
    }
    if let (true, Some(last)) = (advance, batch.last()) {
        state.next = last.seq.0 + 1;
        state.end = state.next;
    }
    core.publish();
    Ok(done)
}
