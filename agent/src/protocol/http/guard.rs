//! A request's body on its way up, kept from carrying a secret in use: what may still become one waits.

use bytes::BytesMut;

use super::{encoding::Gunzip, fault::Fault, through::Through};
use crate::mask::{Scrubber, Secrets};

/// Encoded content that waits for the content after it, at most: a body that always ends like a secret begins is no
/// accident.
const WAITING: usize = 256 * 1024;

/// Found in the body: the rest of it must not go up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// A secret.
    Leak,
    /// Content that cannot be read although its encoding can.
    Unreadable(Fault),
}

/// One body.
pub(super) struct Guard {
    through: Through,
    packed: Option<Box<Packed>>,
}

/// A body in gzip: whole pieces wait while the content that they end in may become a secret.
struct Packed {
    gunzip: Gunzip,
    scrubber: Scrubber,
    plain: Vec<u8>,
    clean: Vec<u8>,
    wire: Vec<u8>,
    content: Vec<u8>,
}

impl Guard {
    pub(super) fn new(secrets: &Secrets, gzip: bool) -> Self {
        let packed = gzip.then(|| {
            Box::new(Packed {
                gunzip: Gunzip::new(),
                scrubber: Scrubber::new(secrets),
                plain: Vec::new(),
                clean: Vec::new(),
                wire: Vec::new(),
                content: Vec::new(),
            })
        });
        Self {
            through: Through::new(secrets),
            packed,
        }
    }

    /// Takes content.
    pub(super) fn content(&mut self, data: &[u8]) -> Result<(), Stop> {
        let Some(packed) = &mut self.packed else {
            self.through.content(data);
            return if self.through.hits() > 0 {
                Err(Stop::Leak)
            } else {
                Ok(())
            };
        };
        packed.wire.extend_from_slice(data);
        packed.content.extend_from_slice(data);
        packed.read(data)
    }

    /// Takes framing.
    pub(super) fn framing(&mut self, bytes: &[u8]) {
        match &mut self.packed {
            Some(packed) => packed.wire.extend_from_slice(bytes),
            None => self.through.framing(bytes),
        }
    }

    /// The content is complete.
    pub(super) fn finish(&mut self) -> Result<(), Stop> {
        self.through.finish();
        match &mut self.packed {
            Some(packed) => {
                packed.scrubber.finish(&mut packed.clean);
                packed.gunzip.finish().map_err(Stop::Unreadable)
            }
            None => Ok(()),
        }
    }

    /// Appends what may go up: with framing to `wire`, content alone to `content`.
    pub(super) fn release(&mut self, wire: &mut BytesMut, content: &mut Vec<u8>) {
        match &mut self.packed {
            None => self.through.release(wire, content),
            Some(packed) if packed.scrubber.held() == 0 => {
                wire.extend_from_slice(&packed.wire);
                content.append(&mut packed.content);
                packed.wire.clear();
            }
            Some(_) => {}
        }
    }
}

impl Packed {
    fn read(&mut self, mut data: &[u8]) -> Result<(), Stop> {
        loop {
            self.plain.clear();
            let (taken, again) = self
                .gunzip
                .push(data, &mut self.plain)
                .map_err(Stop::Unreadable)?;
            self.clean.clear();
            self.scrubber.push(&self.plain, &mut self.clean);
            if self.scrubber.hits() > 0 {
                return Err(Stop::Leak);
            }
            data = data.get(taken..).unwrap_or_default();
            if data.is_empty() && !again {
                break;
            }
        }
        if self.scrubber.held() > 0 && self.wire.len() > WAITING {
            return Err(Stop::Unreadable(Fault::EncodedContent));
        }
        Ok(())
    }
}
