//! Entry points for fuzzers: any bytes, no panic, and what is accepted has one reading.

use super::{
    codec::{Codec, Event},
    encoding::Gunzip,
    fault::Fault,
    request::Setting,
    target,
};
use crate::{model::Side, protocol::Codec as _};

/// The bound on a head.
const HEAD: usize = 16 * 1024;

fn setting() -> Setting<'static> {
    Setting {
        tls: false,
        server_name: None,
        destination: ([10, 0, 0, 5], 80).into(),
    }
}

/// The events of one side, content joined, and how it ended.
fn events(side: Side, pieces: &[&[u8]]) -> (Vec<Event>, Option<Fault>) {
    let mut codec = Codec::new(setting(), HEAD);
    let (mut pending, mut events) = (Vec::new(), Vec::new());
    for piece in pieces {
        pending.extend_from_slice(piece);
        loop {
            match codec.decode(side, &pending) {
                Ok(None) => break,
                Ok(Some((taken, event))) => {
                    pending.drain(..taken);
                    match (events.last_mut(), event) {
                        (_, Event::Framing) => {}
                        (Some(Event::Data(all)), Event::Data(more)) => all.extend_from_slice(&more),
                        (_, event) => events.push(event),
                    }
                }
                Err(fault) => return (events, Some(fault)),
            }
        }
    }
    (events, None)
}

/// The same bytes whole, and cut at a place that the bytes choose, give the same events.
fn split(side: Side, data: &[u8]) {
    let whole = events(side, &[data]);
    let at = data.iter().fold(data.len(), |n, b| {
        n.wrapping_mul(31).wrapping_add(usize::from(*b))
    });
    let (head, tail) = data.split_at(at.checked_rem(data.len()).unwrap_or(0));
    assert_eq!(whole, events(side, &[head, tail]));
}

/// What a workload sends. What goes upstream of an accepted head reads as itself again.
pub fn fuzz_http_request(data: &[u8]) {
    split(Side::Downstream, data);
    for event in events(Side::Downstream, &[data]).0 {
        if let Event::Request(method, host, written) = event {
            let again = events(Side::Downstream, &[&written]);
            assert_eq!(again.1, None, "{}", written.escape_ascii());
            assert_eq!(again.0.first(), Some(&Event::Request(method, host, written)));
        }
    }
}

/// What a destination sends.
pub fn fuzz_http_response(data: &[u8]) {
    split(Side::Upstream, data);
}

/// A request target: its one form is stable.
pub fn fuzz_http_target(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(target) = target::parse(text)
    {
        let again = target::parse(target.wire());
        assert_eq!(
            again.as_ref().map(|t| (t.wire(), t.path.as_str())),
            Ok((target.wire(), target.path.as_str()))
        );
    }
    let _ = target::authority(data);
}

/// Encoded content.
pub fn fuzz_http_gzip(data: &[u8]) {
    let (mut gunzip, mut rest, mut out) = (Gunzip::new(), data, Vec::new());
    while let Ok((taken, again)) = gunzip.push(rest, &mut out) {
        rest = &rest[taken..];
        out.clear();
        if rest.is_empty() && !again {
            break;
        }
    }
}
