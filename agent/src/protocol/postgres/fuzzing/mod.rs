//! Entry points for fuzzers: any bytes, no panic, and what is accepted has one reading.

#[cfg(any(test, feature = "testing"))]
mod script;
#[cfg(any(test, feature = "testing"))]
mod server;
#[cfg(any(test, feature = "testing"))]
pub mod session;
mod types;
mod values;

use std::time::{Duration, Instant};

pub use values::fuzz_postgres_value;

use super::{
    codec::{Codec, Event},
    frame::Fault,
    sql,
};
use crate::{model::Side, protocol::Codec as _};

/// The bound on a message.
const LIMIT: usize = 64 * 1024;
/// What parsing may take on a slow machine and without optimisation.
const PATIENCE: Duration = Duration::from_secs(10);

/// A number that the bytes choose, below `below`.
fn chosen(data: &[u8], below: usize) -> usize {
    let sum = data.iter().fold(data.len(), |n, b| {
        n.wrapping_mul(31).wrapping_add(usize::from(*b))
    });
    sum.checked_rem(below).unwrap_or(0)
}

/// The events of one side, and how it ended.
fn events(side: Side, started: bool, pieces: &[&[u8]]) -> (Vec<Event>, Option<Fault>) {
    let mut codec = Codec::new(LIMIT);
    if started {
        let login = b"\0\0\0\x10\0\x03\0\0user\0a\0\0";
        assert!(matches!(codec.decode(Side::Downstream, login), Ok(Some((16, _)))));
    }
    let (mut pending, mut events) = (Vec::new(), Vec::new());
    for piece in pieces {
        pending.extend_from_slice(piece);
        loop {
            match codec.decode(side, &pending) {
                Ok(None) => break,
                Ok(Some((taken, event))) => {
                    assert!(
                        0 < taken && taken <= pending.len(),
                        "{taken} of {}",
                        pending.len()
                    );
                    pending.drain(..taken);
                    events.push(event);
                }
                Err(fault) => return (events, Some(fault)),
            }
        }
    }
    (events, None)
}

/// What either side sends, from a connection's start and after it: the same bytes whole, and cut at a place that the
/// bytes choose, give the same events.
pub fn fuzz_postgres_codec(data: &[u8]) {
    let (head, tail) = data.split_at(chosen(data, data.len()));
    for (side, started) in [
        (Side::Downstream, false),
        (Side::Downstream, true),
        (Side::Upstream, true),
    ] {
        let whole = events(side, started, &[data]);
        assert_eq!(whole, events(side, started, &[head, tail]));
    }
}

/// A statement's text: understood or refused, in bounded time, and the same each time.
pub fn fuzz_postgres_sql(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let began = Instant::now();
    if let Ok(statements) = sql::understand(&text) {
        let mut end = 0;
        for statement in &statements {
            let range = statement.text.clone();
            assert!(text.get(range.clone()).is_some(), "{range:?} in {text:?}");
            assert!(range.start >= end, "statements overlap in {text:?}");
            end = range.end;
        }
        let verbs = |all: &[sql::Statement]| all.iter().map(|s| s.facts.verbs.clone()).collect::<Vec<_>>();
        let again = sql::understand(&text).unwrap_or_default();
        assert_eq!(verbs(&again), verbs(&statements));
    }
    // For the record: it may give up, but says nothing that it was not given.
    let _ = sql::without_literals(&text);
    assert!(began.elapsed() < PATIENCE, "{:?} for {text:?}", began.elapsed());
}
