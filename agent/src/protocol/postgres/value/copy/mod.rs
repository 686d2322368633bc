//! COPY ... TO STDOUT: rows in the payload of CopyData messages, cut anywhere.
//!
//! Only a row that is not whole is held back, and no row above a limit.

mod binary;
mod fields;
mod lines;

use std::sync::Arc;

use bytes::BytesMut;

use super::{Column, Format, RowMasker, Types};
use crate::{
    mask::{Counts, MaskRules},
    model::ClassSet,
    protocol::postgres::frame::Fault,
};
use binary::Binary;
use lines::Lines;

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

/// COPY's options, as far as they change how rows are written. `FORCE_QUOTE` makes no difference here: what was in
/// quotes stays so.
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

/// Masks what a COPY sends, in pieces of any size. Where it is cut makes no difference to what goes on.
#[derive(Debug)]
pub struct CopyMasker {
    rows: RowMasker,
    reader: Reader,
    held: Vec<u8>,
    limit: usize,
}

#[derive(Debug)]
enum Reader {
    Lines(Lines),
    Binary(Binary),
}

impl CopyMasker {
    /// For rows of these columns, whose format is taken from the options; a row above `limit` bytes, as it is
    /// written, is refused.
    #[must_use]
    pub fn new(
        rules: Arc<MaskRules>,
        classes: ClassSet,
        options: CopyOptions,
        mut columns: Vec<Column>,
        types: &dyn Types,
        limit: usize,
    ) -> Self {
        let binary = options.syntax == CopySyntax::Binary;
        for column in &mut columns {
            column.format = if binary { Format::Binary } else { Format::Text };
        }
        Self {
            rows: RowMasker::new(rules, classes, columns, types),
            reader: if binary {
                Reader::Binary(Binary::default())
            } else {
                Reader::Lines(Lines::new(options))
            },
            held: Vec::new(),
            limit,
        }
    }

    /// Whether nothing can ever be changed: then [`Self::push`] need not be called.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.rows.passes()
    }

    /// Takes the payload of the next CopyData. `true`: it goes on as it is. Otherwise what goes on in its place was
    /// appended to `out`, a payload without message header; that can be nothing while a row is not whole.
    ///
    /// # Errors
    /// When a row is not one of these columns, or larger than the limit. What was appended must not go on then.
    pub fn push(&mut self, payload: &[u8], out: &mut BytesMut) -> Result<bool, Fault> {
        if self.rows.passes() {
            return Ok(true);
        }
        if self.held.is_empty() {
            let (used, copied) = self.run(payload, false, out)?;
            if copied == 0 && used == payload.len() {
                return Ok(true);
            }
            out.extend_from_slice(&payload[copied..used]);
            self.held.extend_from_slice(&payload[used..]);
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(payload);
            let (used, copied) = self.run(&held, false, out)?;
            out.extend_from_slice(&held[copied..used]);
            held.drain(..used);
            self.held = held;
        }
        if self.held.len() > self.limit {
            return Err(Fault::TooLarge { limit: self.limit });
        }
        Ok(false)
    }

    /// CopyDone: appends the rest.
    ///
    /// # Errors
    /// When the last row is not whole or not one of these columns.
    pub fn finish(&mut self, out: &mut BytesMut) -> Result<(), Fault> {
        if self.rows.passes() {
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        let (used, copied) = self.run(&held, true, out)?;
        out.extend_from_slice(&held[copied..used]);
        Ok(())
    }

    /// What was masked so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        self.rows.counts()
    }

    /// How many bytes are held back.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Goes through the whole rows at the beginning of `input`: how many bytes they are, and how many of these, the
    /// changed ones and those before, were appended already.
    fn run(&mut self, input: &[u8], last: bool, out: &mut BytesMut) -> Result<(usize, usize), Fault> {
        match &mut self.reader {
            Reader::Lines(lines) => lines.run(&mut self.rows, input, last, self.limit, out),
            Reader::Binary(binary) => binary.run(&mut self.rows, input, last, self.limit, out),
        }
    }
}
