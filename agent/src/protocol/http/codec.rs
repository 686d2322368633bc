//! HTTP messages without IO, for conformance and fuzzing: the same parts that `serve` uses, as events.

use std::collections::VecDeque;

use super::{
    body::BodyDecoder,
    fault::Fault,
    head::Scanner,
    request::{Request, Setting},
    response::Response,
};
use crate::{model::Side, protocol};

/// What a message is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request's head: method, host, and the head as it goes upstream.
    Request(String, String, Vec<u8>),
    /// A response's status and its head's bytes.
    Response(u16, Vec<u8>),
    /// Content; where it is cut means nothing.
    Data(Vec<u8>),
    /// Trailer lines.
    Trailers(Vec<u8>),
    /// A line of framing.
    Framing,
    /// The message is complete.
    End,
}

#[derive(Default)]
struct Message {
    scanner: Scanner,
    body: Option<BodyDecoder>,
}

/// Both directions of one connection.
pub struct Codec<'a> {
    setting: Setting<'a>,
    limit: usize,
    request: Request,
    response: Response,
    up: Message,
    down: Message,
    /// Methods of requests whose responses are to come.
    awaited: VecDeque<String>,
}

impl<'a> Codec<'a> {
    /// At the start of a connection; `limit` bounds a head, bytes.
    #[must_use]
    pub fn new(setting: Setting<'a>, limit: usize) -> Self {
        Self {
            setting,
            limit,
            request: Request::default(),
            response: Response::default(),
            up: Message::default(),
            down: Message::default(),
            awaited: VecDeque::new(),
        }
    }

    fn head(&mut self, side: Side, head: &[u8]) -> Result<(Event, Option<BodyDecoder>), Fault> {
        if side == Side::Downstream {
            self.request.parse(head, self.setting)?;
            let mut written = Vec::new();
            self.request
                .write(super::request::Edits::default(), None, &mut written);
            self.awaited.push_back(self.request.method.clone());
            let event = Event::Request(self.request.method.clone(), self.request.host.clone(), written);
            return Ok((event, Some(BodyDecoder::new(self.request.framing))));
        }
        let method = self.awaited.front().map_or("GET", String::as_str);
        self.response.parse(head, method)?;
        let event = Event::Response(self.response.status, head.to_vec());
        if self.response.is_interim() {
            return Ok((event, None));
        }
        self.awaited.pop_front();
        Ok((event, Some(BodyDecoder::new(self.response.framing))))
    }
}

impl protocol::Codec for Codec<'_> {
    type Event = Event;
    type Fault = Fault;

    fn decode(&mut self, side: Side, input: &[u8]) -> Result<Option<(usize, Event)>, Fault> {
        let message = if side == Side::Downstream {
            &mut self.up
        } else {
            &mut self.down
        };
        if let Some(body) = &mut message.body {
            if body.is_done() {
                message.body = None;
                return Ok(Some((0, Event::End)));
            }
            let step = body.step(input)?;
            return Ok(
                match (step.consumed, step.data.is_empty(), step.trailers.is_empty()) {
                    (0, ..) => None,
                    (n, false, _) => Some((n, Event::Data(input[step.data].to_vec()))),
                    (n, _, false) => Some((n, Event::Trailers(input[step.trailers].to_vec()))),
                    (n, ..) => Some((n, Event::Framing)),
                },
            );
        }
        if input.is_empty() {
            return Ok(None);
        }
        let Some(length) = message.scanner.scan(input, self.limit)? else {
            return Ok(None);
        };
        let (event, body) = self.head(side, &input[..length])?;
        let message = if side == Side::Downstream {
            &mut self.up
        } else {
            &mut self.down
        };
        *message = Message {
            scanner: Scanner::default(),
            body,
        };
        Ok(Some((length, event)))
    }
}
