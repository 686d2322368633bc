//! COPY's text format and comma-separated values: a row a line, but for line ends in quotes.

use bytes::BytesMut;

use super::{CopyOptions, CopySyntax, fields::Field};
use crate::protocol::postgres::{
    frame::Fault,
    value::{
        RowMasker,
        engine::{Outcome, PIECE},
    },
};

#[derive(Debug)]
pub(super) struct Lines {
    options: CopyOptions,
    /// The first line has the columns' names.
    header: bool,
    /// Where the search for the next line's end is to go on.
    from: usize,
    /// Whether that is inside of quotes, and after an escape.
    inside: bool,
    escaped: bool,
    decoded: Vec<u8>,
    places: Vec<usize>,
}

impl Lines {
    pub(super) fn new(options: CopyOptions) -> Self {
        Self {
            header: options.header,
            options,
            from: 0,
            inside: false,
            escaped: false,
            decoded: Vec::new(),
            places: Vec::new(),
        }
    }

    pub(super) fn run(
        &mut self,
        rows: &mut RowMasker,
        input: &[u8],
        last: bool,
        limit: usize,
        out: &mut BytesMut,
    ) -> Result<(usize, usize), Fault> {
        let (mut used, mut copied) = (0, 0);
        while used < input.len() {
            let line = &input[used..];
            let end = match self.end(line) {
                Some(end) => end,
                None if last && self.inside => return Err(Fault::Truncated),
                None if last => line.len(),
                None => break,
            };
            if end > limit {
                return Err(Fault::TooLarge { limit });
            }
            (self.from, self.inside, self.escaped) = (0, false, false);
            if !std::mem::take(&mut self.header) {
                self.line(rows, input, used, used + end, &mut copied, out)?;
            }
            used = input.len().min(used + end + 1);
        }
        Ok((used, copied))
    }

    /// Where a line ends, from where the search stopped the last time.
    fn end(&mut self, line: &[u8]) -> Option<usize> {
        let rest = line.get(self.from..).unwrap_or_default();
        if self.options.syntax == CopySyntax::Text {
            let end = memchr::memchr(b'\n', rest).map(|n| self.from + n);
            self.from = line.len();
            return end;
        }
        let (quote, escape) = (self.options.quote, self.options.escape);
        let mut at = 0;
        while let Some(n) = memchr::memchr3(b'\n', quote, escape, &rest[at..]) {
            let (b, here) = (rest[at + n], at + n);
            // An escape makes the next byte a plain one, in quotes; bytes between two escapes end the first one's
            // effect.
            let escaped = std::mem::take(&mut self.escaped) && (n == 0);
            at = here + 1;
            if b == quote && !escaped {
                self.inside = !self.inside;
            } else if b == escape && b != quote && self.inside {
                self.escaped = !escaped;
            } else if b == b'\n' && !self.inside {
                return Some(self.from + here);
            }
        }
        if at < rest.len() {
            self.escaped = false;
        }
        self.from = line.len();
        None
    }

    fn line(
        &mut self,
        rows: &mut RowMasker,
        input: &[u8],
        start: usize,
        end: usize,
        copied: &mut usize,
        out: &mut BytesMut,
    ) -> Result<(), Fault> {
        let line = &input[start..end];
        // The end of the data, as older servers send it.
        if line == b"\\." && self.options.syntax == CopySyntax::Text {
            return Ok(());
        }
        let known = self.search(rows, line);
        if known && self.is_clean(rows, line) {
            return Ok(());
        }
        let width = rows.width();
        if width == 0 {
            return if line.is_empty() {
                Ok(())
            } else {
                Err(Fault::Fields)
            };
        }
        let (mut at, mut next) = (0, 0);
        for column in 0..width {
            let field = Field::at(&self.options, line, at);
            if !rows.is_quiet(column) && !field.is_null(&self.options, line) {
                while self.places.get(next).is_some_and(|p| *p < at) {
                    next += 1;
                }
                let marked = self.places.get(next).is_some_and(|p| *p < field.end);
                let (value, candidate) = match field.plain(line) {
                    Some(value) => (value, known.then_some(marked)),
                    None => {
                        self.decoded.clear();
                        field.decode(&self.options, line, &mut self.decoded);
                        (&*self.decoded, None)
                    }
                };
                let (outcome, masked) = rows.look(column, value, candidate);
                if outcome != Outcome::Same {
                    out.extend_from_slice(&input[*copied..start + at]);
                    *copied = start + field.end;
                }
                match outcome {
                    Outcome::Same => {}
                    Outcome::Null => out.extend_from_slice(&self.options.null),
                    Outcome::Changed => field.encode(&self.options, masked, out),
                }
            }
            at = field.end + 1;
            let is_last = column + 1 == width;
            if is_last != (field.end == line.len()) {
                return Err(Fault::Fields);
            }
        }
        Ok(())
    }

    /// Looks for candidates; `false` where it cannot be known that there are none.
    fn search(&mut self, rows: &RowMasker, line: &[u8]) -> bool {
        let joins = |b: u8| b.is_ascii_digit() || b == b'.';
        self.places.clear();
        if rows.engine.masker.is_anywhere()
            || line.len() > PIECE
            || joins(self.options.delimiter)
            || joins(self.options.quote)
        {
            return false;
        }
        rows.engine.masker.candidates(line, &mut self.places);
        true
    }

    /// Whether nothing in a line has to be looked at.
    fn is_clean(&self, rows: &RowMasker, line: &[u8]) -> bool {
        let needs = rows.needs;
        if needs.always || !self.places.is_empty() {
            return false;
        }
        let hides = match self.options.syntax {
            CopySyntax::Text => b'\\',
            _ => self.options.quote,
        };
        memchr::memchr(hides, line).is_none()
            && !(needs.quoted && memchr::memchr(b'"', line).is_some())
            && !(needs.json && rows.engine.masker.is_json_suspect(line))
    }
}
