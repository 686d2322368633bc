//! A request's whole body at hand before anything of it goes up: for what is held for approval, and for what is signed.

use aws_lc_rs::digest::{Context, SHA256};
use bytes::BytesMut;
use tokio::time::Instant;

use super::{
    aws::sign::Content,
    body::BodyDecoder,
    fault::Fault,
    guard::{Guard, Stop},
    headers::Framing,
    mask::MaskedBody,
    serve::Connection,
};
use crate::{
    gate::Gate,
    model::{Reason, Side},
    protocol::{
        ProtocolError,
        wire::{Pumped, Reading},
    },
};

/// What of a body approvers are shown, bytes.
const SHOWN: usize = 4 * 1024;
/// What framing may add to a body: a chunk for every few bytes of it is no way to send one.
const FRAMING: usize = 4;

/// A body that lies in the downstream input buffer, whole and unconsumed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Gathered {
    /// SHA-256 of the content, its transfer encoding taken off.
    pub digest: [u8; 32],
    /// SHA-256 of the trailer lines.
    pub trailers: [u8; 32],
    /// Bytes of content.
    pub bytes: u64,
    /// Bytes in the buffer, with framing.
    pub wire: usize,
    /// Its beginning, every data class masked; empty where it is not text.
    pub shown: String,
    /// Whether that is not all of it.
    pub truncated: bool,
}

/// Why there is no whole body.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ungathered {
    /// It is malformed.
    #[error("the request: {0}")]
    Malformed(Fault),
    /// It is larger than may be kept.
    #[error("the body is larger than the {0} bytes that may be kept while it waits")]
    TooLarge(usize),
    /// What this workload keeps in memory is as much as it may.
    #[error("as much of this workload waits as may be kept in memory")]
    Full,
    /// It holds a secret in use.
    #[error("the request holds a credential that belongs to another destination")]
    Leak,
    /// Nothing came for too long.
    #[error("nothing came for too long")]
    Slow,
    /// The workload went away.
    #[error("the workload closed the connection")]
    Gone(#[from] ProtocolError),
}

impl Ungathered {
    /// The reason, for the entry and the answer.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Malformed(fault) => fault.reason(),
            Self::TooLarge(_) => Reason::TooLarge,
            Self::Full => Reason::Overloaded,
            Self::Leak => Reason::SecretLeak,
            Self::Slow => Reason::Timeout,
            Self::Gone(error) => error.reason(),
        }
    }
}

impl From<Stop> for Ungathered {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Leak => Self::Leak,
            Stop::Unreadable(fault) => Self::Malformed(fault),
        }
    }
}

/// Reads the body as it grows.
struct Reader {
    decoder: BodyDecoder,
    digest: Context,
    trailers: Context,
    guard: Option<Guard>,
    /// Takes apart what S3 takes apart.
    pieces: Option<Content>,
    preview: Option<MaskedBody>,
    gathered: Gathered,
    shown: Vec<u8>,
}

impl Connection<'_> {
    /// Reads the whole body of the request in hand into the downstream input buffer, where it stays. A workload that
    /// waits for `100 Continue` gets it from here, and the destination is not asked for another.
    ///
    /// # Errors
    /// When it is malformed, too large, or does not come.
    pub(super) async fn gather(&mut self, limit: usize) -> Result<Gathered, Ungathered> {
        if matches!(self.request.framing, Framing::Length(n) if n > limit as u64) {
            return Err(Ungathered::TooLarge(limit));
        }
        let mut reader = Reader::new(self);
        let mut room = self.room.take().unwrap_or_else(|| self.gate.room());
        loop {
            if !room.holds(self.wire.down.input.len()) {
                return Err(Ungathered::Full);
            }
            reader.read(&self.wire.down.input, limit)?;
            if reader.decoder.is_done() {
                self.room = Some(room);
                return reader.finish();
            }
            if self.wire.down.eof {
                return Err(Ungathered::Malformed(Fault::Truncated));
            }
            if self.request.expects_continue {
                self.request.expects_continue = false;
                self.wire
                    .down
                    .output
                    .extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            let until = Instant::now() + self.gate.limits().idle_timeout;
            let reading = Reading {
                downstream: true,
                upstream: true,
            };
            match self.wire.pump(reading, until).await {
                Ok(Pumped::Progress) => {}
                Ok(Pumped::TimedOut) => return Err(Ungathered::Slow),
                Err(broken) if broken.side == Side::Upstream => self.wire.up = None,
                Err(broken) => return Err(ProtocolError::Downstream(broken.error).into()),
            }
            self.forget_ended_upstream();
        }
    }

    /// A connection upstream that ended, or said something unasked, while no request was on it is of no use.
    pub(super) fn forget_ended_upstream(&mut self) {
        let of_no_use = |up: &crate::protocol::wire::Leg| up.eof || up.deaf || !up.input.is_empty();
        if self.wire.up.as_ref().is_some_and(of_no_use) {
            self.wire.up = None;
        }
    }
}

impl Reader {
    fn new(connection: &Connection<'_>) -> Self {
        let (request, gate): (_, &Gate) = (&connection.request, connection.gate);
        let gzip = request.encoding == super::encoding::Coding::Gzip;
        let readable = request.has_body() && request.encoding != super::encoding::Coding::Other;
        let content_type = request.content_type.as_deref();
        let preview = (readable && !super::mask::is_binary(content_type))
            .then(|| MaskedBody::new(gate, gate.mask().all(), content_type, request.encoding, false));
        Self {
            decoder: BodyDecoder::new(request.framing),
            digest: Context::new(&SHA256),
            trailers: Context::new(&SHA256),
            guard: gate
                .secrets()
                .is_active()
                .then(|| Guard::new(gate.secrets(), gzip)),
            pieces: request.aws_chunked.then(Content::default),
            preview,
            gathered: Gathered::default(),
            shown: Vec::new(),
        }
    }

    /// Goes on where it stopped.
    fn read(&mut self, input: &[u8], limit: usize) -> Result<(), Ungathered> {
        while !self.decoder.is_done() {
            let rest = input.get(self.gathered.wire..).unwrap_or_default();
            let step = self.decoder.step(rest).map_err(Ungathered::Malformed)?;
            if step.consumed == 0 {
                break;
            }
            self.gathered.wire += step.consumed;
            self.content(&rest[step.data])?;
            self.trailers.update(&rest[step.trailers]);
            if self.gathered.bytes > limit as u64 || self.gathered.wire > limit.saturating_mul(FRAMING) {
                return Err(Ungathered::TooLarge(limit));
            }
        }
        Ok(())
    }

    fn content(&mut self, data: &[u8]) -> Result<(), Ungathered> {
        if data.is_empty() {
            return Ok(());
        }
        // Signatures of the workload's differ from one attempt to the next, and are replaced anyway.
        let mut content = Vec::new();
        let data = match &mut self.pieces {
            None => data,
            Some(pieces) => {
                let pushed = pieces.push(data, &mut content);
                pushed.map_err(|_| Ungathered::Malformed(Fault::AwsChunked))?;
                &content
            }
        };
        self.digest.update(data);
        self.gathered.bytes += data.len() as u64;
        if let Some(guard) = &mut self.guard {
            guard.content(data)?;
            // What waits in it is in the input buffer as well.
            guard.release(&mut BytesMut::new(), &mut Vec::new());
        }
        let Some(preview) = &mut self.preview else {
            return Ok(());
        };
        let failed = preview.push(data, &mut self.shown).is_err();
        if failed {
            self.shown.clear();
        }
        if failed || self.shown.len() > SHOWN {
            self.preview = None;
            self.gathered.truncated = true;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Gathered, Ungathered> {
        if let Some(guard) = &mut self.guard {
            guard.finish()?;
        }
        let mut gathered = self.gathered;
        if let Some(preview) = &mut self.preview
            && preview.finish(&mut self.shown).is_err()
        {
            self.shown.clear();
        }
        gathered.truncated |= self.shown.len() > SHOWN || (self.shown.is_empty() && gathered.bytes > 0);
        self.shown.truncate(SHOWN);
        gathered.shown = String::from_utf8_lossy(&self.shown).into_owned();
        gathered.digest.copy_from_slice(self.digest.finish().as_ref());
        gathered.trailers.copy_from_slice(self.trailers.finish().as_ref());
        Ok(gathered)
    }
}
