//! Messages in a stream: two bytes of length before each (RFC 1035 section 4.2.2, RFC 7766 section 8). Datagrams come
//! in the same form.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// A frame's most bytes.
pub const MOST: usize = 2 + u16::MAX as usize;

/// Takes the next message; `None` while it is not all there.
pub fn take(input: &mut BytesMut) -> Option<Bytes> {
    let length = match input[..] {
        [high, low, ..] => usize::from(u16::from_be_bytes([high, low])),
        _ => return None,
    };
    if input.len() < 2 + length {
        return None;
    }
    input.advance(2);
    Some(input.split_to(length).freeze())
}

/// Appends a message. One that is too long for a frame is left out: it was made here, and bounded.
pub fn put(message: &[u8], output: &mut BytesMut) {
    if let Ok(length) = u16::try_from(message.len()) {
        output.put_u16(length);
        output.put_slice(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in_however_they_are_split() {
        let mut bytes = BytesMut::new();
        for message in [&b"one"[..], b"", b"three"] {
            put(message, &mut bytes);
        }
        for at in 0..bytes.len() {
            let mut input = BytesMut::new();
            let mut out = Vec::new();
            for piece in [&bytes[..at], &bytes[at..]] {
                input.extend_from_slice(piece);
                while let Some(message) = take(&mut input) {
                    out.push(message);
                }
            }
            assert_eq!(out, [&b"one"[..], b"", b"three"], "{at}");
            assert!(input.is_empty());
        }
        put(&vec![0; MOST], &mut bytes);
        assert_eq!(bytes.len(), 14, "too long for a frame");
    }
}
