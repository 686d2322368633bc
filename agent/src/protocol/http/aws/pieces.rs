//! The body of an upload in pieces on its way up: signed anew, and read as what is in the pieces.

use bytes::BytesMut;

use super::sign::{ChunkSigner, Content};
use crate::{
    mask::Secrets,
    protocol::http::{
        fault::Fault,
        forward::Failure,
        guard::{Guard, Stop},
    },
};

/// Takes the pieces apart for what is recorded, and for secrets that lie across two of them.
pub struct Pieces {
    content: Content,
    /// Whether what is in the pieces is in gzip.
    gzip: bool,
    guard: Option<Guard>,
}

impl Pieces {
    pub(in super::super) fn new(gzip: bool) -> Self {
        Self {
            content: Content::default(),
            gzip,
            guard: None,
        }
    }

    /// Puts what is in the pieces in their place; `last` says that this was all.
    ///
    /// # Errors
    /// When it is malformed, or holds a secret in use.
    pub(in super::super) fn open(
        &mut self,
        passed: &mut Vec<u8>,
        secrets: &Secrets,
        last: bool,
    ) -> Result<(), Stop> {
        let malformed = Stop::Unreadable(Fault::AwsChunked);
        let mut content = Vec::with_capacity(passed.len());
        self.content.push(passed, &mut content).map_err(|_| malformed)?;
        *passed = content;
        if self.guard.is_none() && secrets.is_active() {
            self.guard = Some(Guard::new(secrets, self.gzip));
        }
        if let Some(guard) = &mut self.guard {
            guard.content(passed)?;
            guard.release(&mut BytesMut::new(), &mut Vec::new());
        }
        if last && !self.content.is_done() {
            return Err(malformed);
        }
        Ok(())
    }
}

/// Signs what may go up and frames it as the head says: by its length, or in HTTP's own chunks.
///
/// # Errors
/// When it cannot be signed, or does not end where it says.
pub(in super::super) fn sign(
    signer: &mut ChunkSigner,
    content: &[u8],
    chunked: bool,
    last: bool,
    out: &mut BytesMut,
) -> Result<(), Failure> {
    let malformed = |_| Failure::Request(Fault::AwsChunked);
    let mut signed = Vec::with_capacity(content.len());
    signer.push(content, &mut signed).map_err(malformed)?;
    if last && !signer.is_done() {
        return Err(Failure::Request(Fault::AwsChunked));
    }
    if !chunked {
        out.extend_from_slice(&signed);
        return Ok(());
    }
    if !signed.is_empty() {
        out.extend_from_slice(format!("{:x}\r\n", signed.len()).as_bytes());
        out.extend_from_slice(&signed);
        out.extend_from_slice(b"\r\n");
    }
    if last {
        out.extend_from_slice(b"0\r\n\r\n");
    }
    Ok(())
}
