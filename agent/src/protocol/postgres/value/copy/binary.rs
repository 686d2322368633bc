//! COPY's binary format: a header, rows as in DataRow, a trailer.

use bytes::BytesMut;

use crate::protocol::postgres::{frame::Fault, value::RowMasker};

const SIGNATURE: &[u8] = b"PGCOPY\n\xFF\r\n\0";
/// Signature, flags and the length of the header's extension.
const HEADER: usize = SIGNATURE.len() + 8;
/// The largest extension; none is defined.
const EXTENSION_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Binary {
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Header,
    Rows,
    Ended,
}

impl Binary {
    pub(super) fn run(
        &mut self,
        rows: &mut RowMasker,
        input: &[u8],
        last: bool,
        limit: usize,
        out: &mut BytesMut,
    ) -> Result<(usize, usize), Fault> {
        let (mut used, mut copied) = (0, 0);
        loop {
            let rest = &input[used..];
            let taken = match self.state {
                State::Header => header(rest)?,
                State::Rows => match row(rest, rows.width(), limit)? {
                    Some(Row::End(n)) => {
                        self.state = State::Ended;
                        used += n;
                        continue;
                    }
                    Some(Row::Of(n)) => Some(n),
                    None => None,
                },
                State::Ended if rest.is_empty() => break,
                State::Ended => return Err(Fault::Fields),
            };
            let Some(n) = taken else { break };
            if self.state == State::Header {
                self.state = State::Rows;
            } else {
                let at = out.len();
                let between = used - copied;
                out.extend_from_slice(&input[copied..used]);
                if rows.tuple(&rest[..n], None, out)? {
                    copied = used + n;
                } else {
                    debug_assert_eq!(out.len(), at + between);
                    out.truncate(at);
                }
            }
            used += n;
        }
        if last && self.state != State::Ended {
            return Err(Fault::Truncated);
        }
        Ok((used, copied))
    }
}

fn header(input: &[u8]) -> Result<Option<usize>, Fault> {
    let known = input.len().min(SIGNATURE.len());
    if input[..known] != SIGNATURE[..known] {
        return Err(Fault::Fields);
    }
    let Some([a, b, c, d, e, f, g, h]) = input.get(SIGNATURE.len()..HEADER) else {
        return Ok(None);
    };
    let extension = u32::from_be_bytes([*e, *f, *g, *h]) as usize;
    // Critical flags, of which none is in use: rows may have another form.
    if u32::from_be_bytes([*a, *b, *c, *d]) >> 16 != 0 || extension > EXTENSION_MAX {
        return Err(Fault::Fields);
    }
    Ok((input.len() >= HEADER + extension).then_some(HEADER + extension))
}

enum Row {
    /// A row of so many bytes.
    Of(usize),
    /// The trailer.
    End(usize),
}

/// The row that input starts with; `None` while it is not whole.
fn row(input: &[u8], width: usize, limit: usize) -> Result<Option<Row>, Fault> {
    let [a, b, ..] = *input else { return Ok(None) };
    let count = i16::from_be_bytes([a, b]);
    if count == -1 {
        return Ok(Some(Row::End(2)));
    }
    if usize::try_from(count) != Ok(width) {
        return Err(Fault::Fields);
    }
    let mut at: usize = 2;
    for _ in 0..width {
        let Some(&[a, b, c, d]) = input.get(at..at + 4) else {
            return Ok(None);
        };
        at += 4;
        match i32::from_be_bytes([a, b, c, d]) {
            -1 => {}
            n => at += usize::try_from(n).map_err(|_| Fault::Fields)?,
        }
        if at > limit {
            return Err(Fault::TooLarge { limit });
        }
    }
    Ok((input.len() >= at).then_some(Row::Of(at)))
}
