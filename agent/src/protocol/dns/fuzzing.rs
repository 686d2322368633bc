//! Entry points for fuzzers: any bytes, no panic, and what is accepted has one reading.

use bytes::BytesMut;
use hickory_resolver::proto::op::{Message, ResponseCode};

use super::{
    frame, query,
    reply::{Extended, Reply},
};
use crate::policy::{Features, written};

/// Any bytes as a message.
///
/// # Panics
/// When an answer does not repeat what was asked, or does not fit.
pub fn fuzz_dns_message(input: &[u8]) {
    let (asked, code) = match query::read(input) {
        Ok(asked) => {
            assert!(input.len() > 12 && input[2] & 0xf8 == 0, "a query");
            assert!(asked.question.is_some());
            (asked, ResponseCode::NoError)
        }
        Err((asked, fault)) => match fault.code() {
            Some(code) => (asked, code),
            None => return,
        },
    };
    if let Some(question) = &asked.question {
        let features = Features::of(question.name());
        assert!(features.labels < 128 && features.longest < 64 && features.bytes < 256);
        assert!((0..=600).contains(&features.entropy));
        let name = written(question.name());
        assert!(
            name.is_ascii()
                && !name
                    .bytes()
                    .any(|b| b.is_ascii_uppercase() || b.is_ascii_control())
        );
    }
    for datagram in [true, false] {
        let reply = Reply::code(&asked, code).with(Extended::Blocked, "\u{e9}".repeat(600));
        let bytes = reply.bytes(datagram);
        assert!(!datagram || bytes.len() <= 1232);
        let read = Message::from_vec(&bytes);
        assert!(read.is_ok(), "an answer that cannot be read");
        let Ok(read) = read else { return };
        assert_eq!(read.metadata.id, asked.id);
        assert_eq!(read.queries.first(), asked.question.as_ref());
        assert_eq!(read.edns.is_some(), asked.payload.is_some());
    }
}

/// Any bytes as a stream of messages, in two pieces.
///
/// # Panics
/// When it matters where they are cut.
pub fn fuzz_dns_frames(head: &[u8], tail: &[u8]) {
    let mut whole = BytesMut::from([head, tail].concat().as_slice());
    let mut split = BytesMut::from(head);
    let mut pieces = Vec::new();
    while let Some(message) = frame::take(&mut split) {
        pieces.push(message);
    }
    split.extend_from_slice(tail);
    while let Some(message) = frame::take(&mut split) {
        pieces.push(message);
    }
    for piece in pieces {
        assert_eq!(frame::take(&mut whole), Some(piece));
    }
    assert_eq!((frame::take(&mut whole), whole), (None, split));
}
