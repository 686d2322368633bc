//! Messages without IO, for conformance and fuzzing: the same readers that the session uses, as events.

use super::{
    frame::{self, Fault, HEADER, Reader},
    record,
    startup::{self, First},
};
use crate::{model::Side, protocol};

/// What a side says.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// What a connection begins with.
    First(Box<First>),
    /// The one byte that answers a request for encryption.
    Encryption(u8),
    /// A message: type and body, whose fields were read where they are known.
    Message(u8, Vec<u8>),
}

/// Both directions of one connection, without encryption.
#[derive(Debug)]
pub struct Codec {
    limit: usize,
    started: bool,
    encryption_asked: usize,
}

impl Codec {
    /// At the start of a connection; `limit` bounds a message, bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            started: false,
            encryption_asked: 0,
        }
    }

    fn first(&mut self, input: &[u8]) -> Result<Option<(usize, Event)>, Fault> {
        let Some((taken, first)) = startup::parse(input).map_err(|_| Fault::Fields)? else {
            return Ok(None);
        };
        match first {
            First::Ssl | First::Gss => self.encryption_asked += 1,
            First::Startup(_) => self.started = true,
            First::Cancel { .. } => {}
        }
        Ok(Some((taken, Event::First(Box::new(first)))))
    }
}

impl protocol::Codec for Codec {
    type Event = Event;
    type Fault = Fault;

    fn decode(&mut self, side: Side, input: &[u8]) -> Result<Option<(usize, Event)>, Fault> {
        if side == Side::Downstream && !self.started {
            return self.first(input);
        }
        if side == Side::Upstream && self.encryption_asked > 0 {
            let Some(answer) = input.first() else {
                return Ok(None);
            };
            self.encryption_asked -= 1;
            return Ok(Some((1, Event::Encryption(*answer))));
        }
        let Some(message) = frame::message(input, self.limit)? else {
            return Ok(None);
        };
        check(side, message.tag, message.body)?;
        Ok(Some((
            HEADER + message.body.len(),
            Event::Message(message.tag, message.body.to_vec()),
        )))
    }
}

/// Reads the fields of those messages whose fields matter here.
fn check(side: Side, tag: u8, body: &[u8]) -> Result<(), Fault> {
    let mut r = Reader::new(body);
    match (side, tag) {
        (Side::Downstream, b'Q') => {
            r.text()?;
            r.end()
        }
        (Side::Downstream, b'P') => {
            r.cstr()?;
            r.text()?;
            record::parameter_types(r.rest()).map(drop)
        }
        (Side::Downstream, b'B') => super::session::bound(body).map(drop),
        (Side::Downstream, b'E') => {
            r.cstr()?;
            r.i32()?;
            r.end()
        }
        (Side::Downstream, b'D' | b'C') => {
            r.u8()?;
            r.cstr()?;
            r.end()
        }
        (Side::Downstream, b'S' | b'H' | b'X') => r.end(),
        (Side::Downstream, b'F' | b'd' | b'c' | b'f' | b'p') => Ok(()),
        (Side::Downstream, _) => Err(Fault::Unexpected(tag)),
        (Side::Upstream, b'T') => record::fields(body).map(drop),
        (Side::Upstream, b't') => record::parameter_types(body).map(drop),
        (Side::Upstream, _) => Ok(()),
    }
}
