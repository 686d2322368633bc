//! Which bodies are in pieces (`aws-chunked`), and what is inside of them.

use crate::protocol::http::head::Head;

/// Whether S3 takes a body apart: it goes by this header, whatever Content-Encoding says.
#[must_use]
pub fn is_chunked(head: &Head) -> bool {
    head.headers()
        .any(|h| h.name.eq_ignore_ascii_case("x-amz-content-sha256") && h.value.starts_with(b"STREAMING-"))
}

/// The Content-Encoding of what is in the pieces.
#[must_use]
pub fn inner_encoding(value: &[u8]) -> &[u8] {
    const WORD: &[u8] = b"aws-chunked";
    let (first, rest) = match value.iter().position(|b| *b == b',') {
        Some(at) => (&value[..at], &value[at + 1..]),
        None => (value, &b""[..]),
    };
    if first.trim_ascii().eq_ignore_ascii_case(WORD) {
        rest.trim_ascii()
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_inside_is_what_is_left() {
        for (value, inner) in [
            (&b"aws-chunked"[..], &b""[..]),
            (b"aws-chunked,gzip", b"gzip"),
            (b"AWS-Chunked , gzip", b"gzip"),
            (b"gzip", b"gzip"),
            (b"gzip,aws-chunked", b"gzip,aws-chunked"),
            (b"", b""),
        ] {
            assert_eq!(inner_encoding(value), inner);
        }
    }
}
