//! Message framing (PostgreSQL 3.x, "Message Formats"): a type byte, then a length of four bytes that counts itself.
//!
//! Nothing here allocates for a message that passes through: a message is looked at where it lies.

use bytes::{BufMut as _, BytesMut};

/// Type byte and length.
pub const HEADER: usize = 5;

/// Why bytes are no message, or one that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A length that cannot be.
    #[error("a message's length is impossible")]
    Length,
    /// Larger than the limit for its kind.
    #[error("a message is larger than {limit} bytes")]
    TooLarge {
        /// The limit, bytes.
        limit: usize,
    },
    /// No such message type on this side or in this state.
    #[error("message type {0:#04x} is not expected here")]
    Unexpected(u8),
    /// A field runs over the message's end, or bytes are left over after its last field.
    #[error("a message's fields do not fit its length")]
    Fields,
    /// Text that is no UTF-8 where it has to be understood.
    #[error("text is not valid UTF-8")]
    Text,
    /// The connection ended inside a message.
    #[error("the connection ended inside a message")]
    Truncated,
}

/// A message at the start of some input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its type.
    pub tag: u8,
    /// What follows type and length.
    pub body: &'a [u8],
}

impl Message<'_> {
    /// Its bytes with type and length.
    #[must_use]
    pub fn len(&self) -> usize {
        HEADER + self.body.len()
    }

    /// Whether it has no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }
}

/// The type and whole length (with type and length field) of the message that input starts with; `None` while fewer
/// than five bytes are there.
///
/// # Errors
/// When the length is impossible or above `limit`.
pub fn head(input: &[u8], limit: usize) -> Result<Option<(u8, usize)>, Fault> {
    let [tag, a, b, c, d, ..] = *input else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    if length < 4 || length > i32::MAX as u32 {
        return Err(Fault::Length);
    }
    let whole = length as usize + 1;
    if whole > limit.max(HEADER) {
        return Err(Fault::TooLarge { limit });
    }
    Ok(Some((tag, whole)))
}

/// The message that input starts with; `None` while it is not whole.
///
/// # Errors
/// As [`head`].
pub fn message(input: &[u8], limit: usize) -> Result<Option<Message<'_>>, Fault> {
    Ok(match head(input, limit)? {
        Some((tag, whole)) if input.len() >= whole => Some(Message {
            tag,
            body: &input[HEADER..whole],
        }),
        _ => None,
    })
}

/// Reads a message's fields in order.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Over a message's body.
    #[must_use]
    pub fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// What was not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// [`Fault::Fields`] when there are fewer.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(Fault::Fields)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Int8.
    ///
    /// # Errors
    /// [`Fault::Fields`]
    pub fn u8(&mut self) -> Result<u8, Fault> {
        Ok(self.take(1)?[0])
    }

    /// Int16.
    ///
    /// # Errors
    /// [`Fault::Fields`]
    pub fn i16(&mut self) -> Result<i16, Fault> {
        self.take(2)?
            .try_into()
            .map(i16::from_be_bytes)
            .map_err(|_| Fault::Fields)
    }

    /// A count as Int16; negative ones are impossible.
    ///
    /// # Errors
    /// [`Fault::Fields`]
    pub fn count(&mut self) -> Result<usize, Fault> {
        usize::try_from(self.i16()?).map_err(|_| Fault::Fields)
    }

    /// Int32.
    ///
    /// # Errors
    /// [`Fault::Fields`]
    pub fn i32(&mut self) -> Result<i32, Fault> {
        self.take(4)?
            .try_into()
            .map(i32::from_be_bytes)
            .map_err(|_| Fault::Fields)
    }

    /// Int32 without sign: an OID.
    ///
    /// # Errors
    /// [`Fault::Fields`]
    pub fn u32(&mut self) -> Result<u32, Fault> {
        Ok(self.i32()?.cast_unsigned())
    }

    /// A string up to its zero byte, which is taken too.
    ///
    /// # Errors
    /// [`Fault::Fields`] without a zero byte.
    pub fn cstr(&mut self) -> Result<&'a [u8], Fault> {
        let end = memchr::memchr(0, self.rest).ok_or(Fault::Fields)?;
        let text = self.take(end)?;
        self.take(1)?;
        Ok(text)
    }

    /// The same, as UTF-8.
    ///
    /// # Errors
    /// [`Fault::Fields`], [`Fault::Text`]
    pub fn text(&mut self) -> Result<&'a str, Fault> {
        std::str::from_utf8(self.cstr()?).map_err(|_| Fault::Text)
    }

    /// A value: Int32 length and bytes, `None` for NULL (length -1).
    ///
    /// # Errors
    /// [`Fault::Fields`]
    pub fn value(&mut self) -> Result<Option<&'a [u8]>, Fault> {
        match self.i32()? {
            -1 => Ok(None),
            n => usize::try_from(n)
                .map_err(|_| Fault::Fields)
                .and_then(|n| self.take(n))
                .map(Some),
        }
    }

    /// That everything was read.
    ///
    /// # Errors
    /// [`Fault::Fields`] when something is left.
    pub fn end(&self) -> Result<(), Fault> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Fault::Fields)
        }
    }
}

/// Appends a message whose fields `fields` writes; the length is filled in after.
pub fn write(out: &mut BytesMut, tag: u8, fields: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    write_untagged(out, fields);
}

/// Appends a message without a type byte: those with which a connection begins.
pub fn write_untagged(out: &mut BytesMut, fields: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    out.put_u32(0);
    fields(out);
    // What is written here is bounded by what was read, which is below 2 GiB.
    let length = u32::try_from(out.len() - at).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends a string and its zero byte. Zero bytes inside are left out: they would end it.
pub fn put_cstr(out: &mut BytesMut, text: &[u8]) {
    for part in text.split(|b| *b == 0) {
        out.extend_from_slice(part);
    }
    out.put_u8(0);
}

/// Appends a value as in DataRow and Bind: Int32 length and bytes, -1 for NULL.
pub fn put_value(out: &mut BytesMut, value: Option<&[u8]>) {
    match value {
        None => out.put_i32(-1),
        Some(bytes) => {
            out.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
            out.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_at_every_length() {
        let mut bytes = BytesMut::new();
        write(&mut bytes, b'Q', |out| put_cstr(out, b"SELECT 1"));
        for n in 0..bytes.len() {
            assert_eq!(message(&bytes[..n], 100), Ok(None), "{n}");
        }
        let whole = message(&bytes, 100).unwrap().unwrap();
        assert_eq!((whole.tag, whole.len()), (b'Q', bytes.len()));
        assert_eq!(Reader::new(whole.body).text(), Ok("SELECT 1"));
        assert_eq!(message(&bytes, 8), Err(Fault::TooLarge { limit: 8 }));
        for bad in [
            [0, 0, 0, 3],
            [0, 0, 0, 0],
            [0xff, 0xff, 0xff, 0xff],
            [0x80, 0, 0, 4],
        ] {
            let bytes = [b'Q', bad[0], bad[1], bad[2], bad[3]];
            assert_eq!(message(&bytes, 100), Err(Fault::Length));
        }
    }

    #[test]
    fn fields_end_where_the_message_does() {
        let mut r = Reader::new(&[0, 0, 0, 2, b'h', b'i', 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(r.value(), Ok(Some(&b"hi"[..])));
        assert_eq!(r.value(), Ok(None));
        assert_eq!(r.end(), Ok(()));
        assert_eq!(Reader::new(&[0, 0, 0, 3, 1]).value(), Err(Fault::Fields));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xfe]).value(), Err(Fault::Fields));
        assert_eq!(Reader::new(b"no end").cstr(), Err(Fault::Fields));
        assert_eq!(Reader::new(&[0xff, 0]).text(), Err(Fault::Text));
        assert_eq!(Reader::new(&[0xff, 0xff]).count(), Err(Fault::Fields));
        assert_eq!(Reader::new(&[1]).end(), Err(Fault::Fields));
    }
}
