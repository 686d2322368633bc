//! COPY ... TO STDOUT: rows in the payload of CopyData messages, cut anywhere.

use std::sync::Arc;

use bytes::BytesMut;

use super::{Column, Types};
use crate::{
    mask::{Counts, MaskRules},
    model::ClassSet,
    protocol::postgres::frame::Fault,
};

/// How COPY writes rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopySyntax {
    /// A line a row, with backslash escapes.
    Text,
    /// Comma-separated values.
    Csv,
    /// As in DataRow, with a header and a trailer.
    Binary,
}

/// COPY's options, as far as they change how rows are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    /// FORMAT
    pub syntax: CopySyntax,
    /// DELIMITER
    pub delimiter: u8,
    /// NULL
    pub null: Vec<u8>,
    /// HEADER
    pub header: bool,
    /// QUOTE
    pub quote: u8,
    /// ESCAPE
    pub escape: u8,
}

impl CopyOptions {
    /// What COPY does without options in a format.
    #[must_use]
    pub fn new(syntax: CopySyntax) -> Self {
        let csv = syntax == CopySyntax::Csv;
        Self {
            syntax,
            delimiter: if csv { b',' } else { b'\t' },
            null: if csv { Vec::new() } else { b"\\N".to_vec() },
            header: false,
            quote: b'"',
            escape: b'"',
        }
    }
}

/// Masks what a COPY sends, in pieces of any size.
#[derive(Debug)]
pub struct CopyMasker {
    counts: Counts,
}

impl CopyMasker {
    /// For rows of these columns, whose format is taken from the options; a row above `limit` bytes is refused.
    #[must_use]
    pub fn new(
        _rules: Arc<MaskRules>,
        _classes: ClassSet,
        _options: CopyOptions,
        _columns: Vec<Column>,
        _types: &dyn Types,
        _limit: usize,
    ) -> Self {
        Self {
            counts: Counts::default(),
        }
    }

    /// Takes the payload of the next CopyData. `true`: it goes on as it is. Otherwise what goes on in its place was
    /// appended to `out`, a payload without message header; that can be nothing while a row is not whole.
    ///
    /// # Errors
    /// When a row is not one of these columns, or larger than the limit.
    pub fn push(&mut self, _payload: &[u8], _out: &mut BytesMut) -> Result<bool, Fault> {
        Err(Fault::Fields)
    }

    /// CopyDone: appends the rest.
    ///
    /// # Errors
    /// When the last row is not whole or not one of these columns.
    pub fn finish(&mut self, _out: &mut BytesMut) -> Result<(), Fault> {
        Err(Fault::Fields)
    }

    /// What was masked so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}
