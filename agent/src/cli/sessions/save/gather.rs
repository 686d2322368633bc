//! The steps of a session put together by operation, with bounded memory.

use serde_json::Value;

use crate::{
    ledger::replay::{Replay, What},
    model::Direction,
};

/// The most bytes that are kept of one direction of an operation.
const SIDE: usize = 16 << 20;
/// The most bytes that are kept of all operations that have not ended.
const ALL: usize = 64 << 20;

/// One operation, whole.
#[derive(Default)]
pub(super) struct Exchange {
    /// Its entry.
    pub operation: Value,
    /// What went to the destination, masked.
    pub up: Payload,
    /// What came back, masked.
    pub down: Payload,
    /// The entry of its outcome; `None` for one that was denied, or of which no end is on record.
    pub outcome: Option<Value>,
}

/// One direction.
#[derive(Default)]
pub(super) struct Payload {
    pub bytes: Vec<u8>,
    /// Bytes that are not here: too many to be kept, or purged.
    pub left_out: u64,
    /// Between which times it passed; they are not on record, but lie between those of the entries around it.
    pub first_ns: Option<i64>,
    pub last_ns: Option<i64>,
}

/// Calls for each operation when it has ended, in that order, then for those without an end; stops at the first error.
pub(super) fn each(
    mut replay: Replay,
    mut call: impl FnMut(&Exchange) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut running: Vec<(String, Exchange)> = Vec::new();
    let mut kept = 0;
    while let Some(step) = replay.next_step()? {
        match step.what {
            What::Entry { body, .. } => {
                let word = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
                match word("kind") {
                    "operation" => {
                        let (id, allowed) = (word("id").to_owned(), word("decision") == "allow");
                        let begun = Exchange {
                            operation: body,
                            ..Exchange::default()
                        };
                        if allowed {
                            running.push((id, begun));
                        } else {
                            call(&begun)?;
                        }
                    }
                    "outcome" => {
                        let place = running.iter().position(|(id, _)| id == word("operation"));
                        if let Some(place) = place {
                            let (_, mut exchange) = running.remove(place);
                            kept -= exchange.up.bytes.len() + exchange.down.bytes.len();
                            exchange.outcome = Some(body);
                            call(&exchange)?;
                        }
                    }
                    _ => {}
                }
            }
            What::Frame {
                operation,
                direction,
                size,
                bytes,
                ..
            } => {
                if let Some((_, exchange)) = running.iter_mut().find(|(id, _)| *id == operation) {
                    let side = match direction {
                        Direction::Up => &mut exchange.up,
                        Direction::Down => &mut exchange.down,
                    };
                    kept += side.add(step.at_ns, size, bytes.as_deref(), ALL.saturating_sub(kept));
                }
            }
        }
    }
    for (_, exchange) in &running {
        call(exchange)?;
    }
    Ok(())
}

impl Payload {
    /// How many bytes were kept. After some that were not, nothing more is.
    fn add(&mut self, at_ns: i64, size: u64, bytes: Option<&[u8]>, room: usize) -> usize {
        self.first_ns.get_or_insert(at_ns);
        self.last_ns = Some(at_ns);
        let room = SIDE.saturating_sub(self.bytes.len()).min(room);
        match bytes {
            Some(bytes) if bytes.len() <= room && self.left_out == 0 => {
                self.bytes.extend_from_slice(bytes);
                bytes.len()
            }
            _ => {
                self.left_out += size;
                0
            }
        }
    }
}
