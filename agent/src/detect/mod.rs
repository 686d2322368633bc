//! What a connection speaks: TLS or not, and then which protocol, from the first bytes and a bounded wait.
//!
//! Bias: towards a protocol that reads what it carries. What none recognises is the fallback's, a `tcp:connect` for
//! policy to allow.

use std::time::Duration;

use bytes::BytesMut;
use tokio::{
    io::AsyncReadExt as _,
    time::{Instant, timeout_at},
};

use crate::{
    config::Limits,
    gate::TlsFacts,
    io::{BoxStream, Rewound},
    model::{OriginalDst, Reason},
    protocol::{Detection, Hint, Protocol, Registry},
};

/// A workload that sends nothing for so long waits for the destination to speak first. It is waited for twice, once to
/// tell TLS and once to tell the protocol: a second in all.
const SILENCE: Duration = Duration::from_millis(500);
/// The most bytes looked at.
const MOST: usize = 16 * 1024;

/// A stream, told apart.
pub enum Sniffed {
    /// TLS: the stream starts with a ClientHello.
    Tls(BoxStream),
    /// Anything else, or nothing yet.
    Plain(BoxStream),
}

/// Whether bytes are the start of a TLS handshake: a handshake record (RFC 8446 section 5.1) that holds a
/// ClientHello, of any record version that clients send.
#[must_use]
pub fn is_client_hello(bytes: &[u8]) -> Detection {
    // type, major, minor, length (2), handshake type
    let fits = |at: usize, ok: fn(u8) -> bool| bytes.get(at).is_none_or(|b| ok(*b));
    let plausible =
        fits(0, |b| b == 0x16) && fits(1, |b| b == 3) && fits(2, |b| b <= 4) && fits(5, |b| b == 1);
    let length = match bytes {
        [_, _, _, high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    };
    match length {
        _ if !plausible => Detection::No,
        Some(n) if !(4..=0x4000).contains(&n) => Detection::No,
        _ if bytes.len() < 6 => Detection::NeedMore,
        _ => Detection::Yes,
    }
}

/// Tells TLS from anything else. A workload that sends nothing does not speak TLS.
///
/// # Errors
/// The reason for which the connection ends: it did before it began.
pub async fn sniff_tls(stream: BoxStream, limits: &Limits) -> Result<Sniffed, Reason> {
    let (verdict, stream) = look(stream, limits, |bytes| match is_client_hello(bytes) {
        Detection::NeedMore => None,
        verdict => Some(verdict == Detection::Yes),
    })
    .await?;
    Ok(if verdict == Some(true) {
        Sniffed::Tls(stream)
    } else {
        Sniffed::Plain(stream)
    })
}

/// What is known of a connection before its bytes are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Where it wants to go.
    pub original_dst: OriginalDst,
    /// TLS with the workload, if any.
    pub tls: Option<&'a TlsFacts>,
    /// The protocol that the configuration declares the destination to speak.
    pub declared: Option<&'a str>,
}

impl<'a> Known<'a> {
    fn hint(self, first_bytes: &'a [u8]) -> Hint<'a> {
        Hint {
            first_bytes,
            original_dst: self.original_dst.0,
            tls: self.tls.is_some(),
            alpn: self.tls.and_then(|tls| tls.alpn.as_deref()),
            declared: self.declared,
        }
    }
}

/// Which protocol carries a connection.
///
/// # Errors
/// The reason for which the connection ends: it did before it began.
pub async fn protocol<'r>(
    registry: &'r Registry,
    stream: BoxStream,
    known: Known<'_>,
    limits: &Limits,
) -> Result<(&'r dyn Protocol, BoxStream), Reason> {
    // Declared or agreed on: it is that protocol's whatever comes, and however late.
    let first = registry
        .iter()
        .find(|p| p.detect(&known.hint(&[])) == Detection::Yes);
    if let Some(protocol) = first {
        return Ok((protocol, stream));
    }
    let (verdict, stream) = look(stream, limits, |bytes| choose(registry, &known.hint(bytes))).await?;
    match verdict {
        Some(Some(protocol)) => Ok((protocol, stream)),
        Some(None) => Ok((registry.fallback(), stream)),
        None => {
            let first = registry
                .iter()
                .find(|p| p.detect(&known.hint(&[])) == Detection::ServerSpeaksFirst);
            Ok((first.unwrap_or_else(|| registry.fallback()), stream))
        }
    }
}

/// The first protocol that says yes, `Some(None)` when none will, `None` while one needs more bytes.
fn choose<'r>(registry: &'r Registry, hint: &Hint<'_>) -> Option<Option<&'r dyn Protocol>> {
    let mut waiting = false;
    for protocol in registry.iter() {
        match protocol.detect(hint) {
            Detection::Yes => return Some(Some(protocol)),
            Detection::NeedMore => waiting = true,
            Detection::No | Detection::ServerSpeaksFirst => {}
        }
    }
    (!waiting || hint.first_bytes.len() >= MOST).then_some(None)
}

/// Reads until `judge` has a verdict, and puts what was read back in front. No verdict: nothing came in time. Bytes
/// without a verdict when the time is up, or at the end, are judged by what they are so far: not recognised.
async fn look<T: Default>(
    mut stream: BoxStream,
    limits: &Limits,
    judge: impl Fn(&[u8]) -> Option<T>,
) -> Result<(Option<T>, BoxStream), Reason> {
    let mut bytes = BytesMut::with_capacity(4096);
    let mut until = Instant::now() + SILENCE.min(limits.handshake_timeout);
    let verdict = loop {
        match timeout_at(until, stream.read_buf(&mut bytes)).await {
            Ok(Ok(0)) if bytes.is_empty() => return Err(Reason::PeerClosed),
            Ok(Ok(0)) => break Some(T::default()),
            Ok(Ok(_)) => {
                if bytes.len() < 4096 && until < Instant::now() + SILENCE {
                    // It speaks first: from here on slowness is judged as everywhere else.
                    until = Instant::now() + limits.handshake_timeout;
                }
                if let Some(verdict) = judge(&bytes) {
                    break Some(verdict);
                }
            }
            Ok(Err(_)) => return Err(Reason::PeerClosed),
            Err(_) if bytes.is_empty() => break None,
            Err(_) => break Some(T::default()),
        }
    };
    let stream: BoxStream = if bytes.is_empty() {
        stream
    } else {
        Box::new(Rewound::new(bytes.freeze(), stream))
    };
    Ok((verdict, stream))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn limits() -> Limits {
        Limits {
            handshake_timeout: Duration::from_secs(3),
            ..Limits::default()
        }
    }

    #[test]
    fn client_hellos_at_every_length() {
        let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc];
        for n in 0..6 {
            assert_eq!(is_client_hello(&hello[..n]), Detection::NeedMore, "{n}");
        }
        for n in 6..=hello.len() {
            assert_eq!(is_client_hello(&hello[..n]), Detection::Yes, "{n}");
        }
        for no in [
            &b"GET / HTTP/1.1"[..],
            b"\x16\x02\x01",
            b"\x16\x03\x01\x00\x00",
            b"\x16\x03\x01\xff\xff",
            b"\x16\x03\x01\x02\x00\x02",
        ] {
            assert_eq!(is_client_hello(no), Detection::No, "{}", no.escape_ascii());
        }
    }

    async fn name_of(pieces: &[&[u8]]) -> (&'static str, Vec<u8>) {
        let registry = Registry::default();
        let (mut peer, ours) = tokio::io::duplex(64 * 1024);
        let to = OriginalDst("10.0.0.5:80".parse().unwrap());
        let pieces: Vec<Vec<u8>> = pieces.iter().map(|p| p.to_vec()).collect();
        let sent = async {
            for piece in &pieces {
                peer.write_all(piece).await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if !pieces.is_empty() {
                peer.shutdown().await.unwrap();
            }
            pieces.concat()
        };
        let limits = limits();
        let found = async {
            let known = Known {
                original_dst: to,
                tls: None,
                declared: None,
            };
            let (protocol, mut stream) = protocol(&registry, Box::new(ours), known, &limits).await.unwrap();
            let mut rest = Vec::new();
            let _ = tokio::time::timeout(Duration::from_millis(50), stream.read_to_end(&mut rest)).await;
            (protocol.name(), rest)
        };
        let (sent, (name, rest)) = tokio::join!(sent, found);
        assert_eq!(rest, sent, "nothing that was looked at is lost");
        (name, rest)
    }

    #[tokio::test]
    async fn first_bytes_choose_the_protocol() {
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(20_000));
        for (pieces, name) in [
            (&[&b"GET / HTTP/1.1\r\n"[..]][..], "http"),
            (&[b"G", b"E", b"T", b" /"], "http"),
            (&[b"\r\n", b"\nPOST / HTTP/1.1\r\n"], "http"),
            (&[b"get / http/1.1\n"], "http"),
            (&[b"GET\t/\n"], "http"),
            (&[b"PROPFIND /x", b" HTTP/1.1\r\n"], "http"),
            (&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], "http"),
            (&[long.as_bytes()], "http"),
            (&[b"SSH-2.0-x\r\n"], "tcp"),
            (&[b"PING\r\n"], "tcp"),
            (&[b"SET a b\r\n"], "tcp"),
            (&[b"\0\0\0\x08\x04\xd2\x16\x2f"], "postgres"),
            (&[b"\0\0\0", b"\x09\0\x03", b"\0\0\0"], "postgres"),
            (&[b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02"], "postgres"),
            // A Kafka request, whose kind and version look like protocol 3.0.
            (&[b"\0\0\0\x1a\0\x03\0\0\0\0\0\x01\0\x04test"], "tcp"),
            (&[b"abc"], "tcp"),
            (&[], "tcp"),
        ] {
            assert_eq!(name_of(pieces).await.0, name, "{pieces:?}");
        }
    }
}
