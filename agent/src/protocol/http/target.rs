//! The request target and the authority (RFC 9112 section 3.2, RFC 3986), in one form only.
//!
//! What servers are known to read in different ways is refused: empty and dot segments, parameters, backslashes,
//! encoded dots, backslashes, controls, and a slash encoded twice. What RFC 3986 section 6.2.2 calls equivalent is brought into one
//! form, and that form is what policy sees and what goes upstream: needless percent-encodings decoded, hex digits in
//! upper case. Everything else is passed on as it came. Reserved characters that stand for themselves in a path
//! (`:@!$&'()*+,=`) go upstream as they were written, and policy sees them plain either way: otherwise `%3Adelete`
//! would pass a policy that forbids `:delete`.
//!
//! An encoded slash is one path to some servers and another to the rest, but package registries cannot be used without
//! it (`/@scope%2Fname`). It goes upstream as it is, policy sees the slash, and the operation is not complete: the
//! packs take it for a write.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::fault::Fault;

/// A path as policy and upstream see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// As policy sees it: starts with `/`, or is `*`.
    pub path: String,
    /// As it goes upstream, where that differs.
    pub wire: Option<String>,
    /// Whether a slash in it is encoded on the wire, so that servers may read another path than policy sees.
    pub encoded_slash: bool,
    /// What follows the first `?`, if there is one.
    pub query: Option<String>,
}

/// Splits and checks an origin-form or asterisk-form target.
pub fn parse(target: &str) -> Result<Target, Fault> {
    if !target.bytes().all(|b| (0x21..=0x7e).contains(&b)) || target.contains('#') {
        return Err(Fault::Target);
    }
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    let (wire, path) = path_of(path)?;
    Ok(match path {
        Some(path) => Target {
            encoded_slash: wire.contains("%2F"),
            path,
            wire: Some(wire),
            query,
        },
        None => Target {
            path: wire,
            wire: None,
            encoded_slash: false,
            query,
        },
    })
}

impl Target {
    /// The path as it goes upstream.
    #[must_use]
    pub fn wire(&self) -> &str {
        self.wire.as_deref().unwrap_or(&self.path)
    }
}

/// The path as it goes upstream, and as policy sees it where that differs.
fn path_of(path: &str) -> Result<(String, Option<String>), Fault> {
    if !path.starts_with('/') {
        return Err(Fault::Target);
    }
    let bytes = path.as_bytes();
    let mut out = String::with_capacity(path.len());
    let mut seen: Option<String> = None;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'%' => {
                let decoded = hex_pair(bytes.get(at..at + 2)).ok_or(Fault::Target)?;
                at += 2;
                let before = out.len();
                encoded(decoded, bytes.get(at..at + 2), &mut out)?;
                if stands_for_itself(decoded) {
                    seen.get_or_insert_with(|| out[..before].to_owned())
                        .push(char::from(decoded));
                } else if let Some(seen) = &mut seen {
                    seen.push_str(&out[before..]);
                }
            }
            b';' => return Err(Fault::PathParameters),
            b'\\' => return Err(Fault::Target),
            _ => {
                out.push(char::from(byte));
                if let Some(seen) = &mut seen {
                    seen.push(char::from(byte));
                }
            }
        }
    }
    // With encoded slashes as slashes: `..%2F` is a dot segment to a server that decodes first.
    let mut segments = seen.as_deref().unwrap_or(&out).split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "" if segments.peek().is_some() => return Err(Fault::EmptySegment),
            "." | ".." => return Err(Fault::DotSegment),
            _ => {}
        }
    }
    Ok((out, seen))
}

/// Reserved characters that a path may hold plainly (RFC 3986 section 3.3), and that policy sees so.
fn stands_for_itself(byte: u8) -> bool {
    b":@!$&'()*+,=/".contains(&byte)
}

/// One percent-encoded byte in its one form. `next` are the two bytes after it: `%252e` is `%2e` to a server that
/// decodes twice.
fn encoded(byte: u8, next: Option<&[u8]>, out: &mut String) -> Result<(), Fault> {
    let hidden = |b: u8| b < 0x20 || b == 0x7f || matches!(b, b'.' | b'\\');
    if hidden(byte) || (byte == b'%' && hex_pair(next).is_some_and(|b| hidden(b) || b == b'/')) {
        return Err(Fault::EncodedDelimiter);
    }
    if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') {
        out.push(char::from(byte));
    } else {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        out.push('%');
        out.push(char::from(HEX[usize::from(byte >> 4)]));
        out.push(char::from(HEX[usize::from(byte & 15)]));
    }
    Ok(())
}

fn hex_pair(digits: Option<&[u8]>) -> Option<u8> {
    let value = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    match digits {
        Some(&[high, low]) => Some(value(high)? << 4 | value(low)?),
        _ => None,
    }
}

/// A host and, where it is given, a port: the value of a Host header or of an absolute target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// A name in lower case, an IPv4 address, or an IPv6 address without brackets in its canonical form.
    pub host: String,
    /// The port, where one is given.
    pub port: Option<u16>,
}

/// Checks an authority: no user, no percent-encoding, nothing that resolvers read in two ways.
pub fn authority(text: &[u8]) -> Result<Authority, Fault> {
    let text = std::str::from_utf8(text).map_err(|_| Fault::HostMalformed)?;
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or(Fault::HostMalformed)?;
        let address: Ipv6Addr = address.parse().map_err(|_| Fault::HostMalformed)?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port),
            None if rest.is_empty() => None,
            None => return Err(Fault::HostMalformed),
        };
        (address.to_string(), port)
    } else {
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        };
        (name_of(name)?, port)
    };
    let port = match port {
        None => None,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            let port = digits.parse().map_err(|_| Fault::HostMalformed)?;
            if port == 0 {
                return Err(Fault::HostMalformed);
            }
            Some(port)
        }
        Some(_) => return Err(Fault::HostMalformed),
    };
    Ok(Authority { host, port })
}

fn name_of(name: &str) -> Result<String, Fault> {
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    // A final dot makes a second spelling of every name.
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(Fault::HostMalformed);
    }
    let last = name.rsplit('.').next().unwrap_or("");
    let numeric = last.bytes().all(|b| b.is_ascii_digit())
        || last
            .strip_prefix("0x")
            .or(last.strip_prefix("0X"))
            .is_some_and(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
    // `127.1`, `0x7f000001` and `2130706433` are addresses to some resolvers and names to others.
    if numeric && name.parse::<Ipv4Addr>().is_err() {
        return Err(Fault::HostMalformed);
    }
    Ok(name.to_ascii_lowercase())
}

/// Splits an absolute target into scheme, authority and the rest in origin form; `None` when it is not one.
pub fn absolute(target: &str) -> Option<(&str, &str, String)> {
    let (scheme, rest) = target.split_once("://")?;
    let known = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    if !known {
        return None;
    }
    let split = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(split);
    let origin = if rest.starts_with('/') {
        rest.to_owned()
    } else {
        format!("/{rest}")
    };
    Some((scheme, authority, origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_form() {
        for (input, path, query) in [
            ("/", "/", None),
            ("/a/b/", "/a/b/", None),
            ("/a?b=c/../d//e;f", "/a", Some("b=c/../d//e;f")),
            ("/a??", "/a", Some("?")),
            ("/%7Euser/%61dmin", "/~user/admin", None),
            ("/caf%c3%a9", "/caf%C3%A9", None),
            ("/a%20b%3Bc%25", "/a%20b%3Bc%25", None),
            ("/v1/x:verb@1,(2)!*'+$&=", "/v1/x:verb@1,(2)!*'+$&=", None),
            ("/a%3adelete%20%2Bx", "/a:delete%20+x", None),
            ("/...", "/...", None),
            ("/.well-known/x", "/.well-known/x", None),
        ] {
            let got = parse(input).unwrap();
            assert_eq!(
                (got.path.as_str(), got.query.as_deref()),
                (path, query),
                "{input}"
            );
            let again = parse(&got.path).unwrap();
            assert_eq!(again.path, got.path, "one form only");
        }
    }

    #[test]
    fn reserved_characters_go_up_as_they_came() {
        let target = parse("/%7e/a%3adelete/x@y").unwrap();
        assert_eq!(
            (target.wire(), target.path.as_str()),
            ("/~/a%3Adelete/x@y", "/~/a:delete/x@y")
        );
    }

    #[test]
    fn an_encoded_slash_is_seen_as_one_and_said() {
        let target = parse("/@scope%2fname").unwrap();
        assert_eq!(
            (target.wire(), target.path.as_str()),
            ("/@scope%2Fname", "/@scope/name")
        );
        assert!(target.encoded_slash);
        assert!(!parse("/a%3Ab/c").unwrap().encoded_slash);
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        for (input, fault) in [
            ("", Fault::Target),
            ("a", Fault::Target),
            ("*x", Fault::Target),
            ("//x", Fault::EmptySegment),
            ("/a//b", Fault::EmptySegment),
            ("/./x", Fault::DotSegment),
            ("/a/../x", Fault::DotSegment),
            ("/a/..", Fault::DotSegment),
            ("/a/.", Fault::DotSegment),
            ("/%2e/x", Fault::EncodedDelimiter),
            ("/a/%2E%2e/x", Fault::EncodedDelimiter),
            ("/a/..%2fb", Fault::DotSegment),
            ("/a%2f..", Fault::DotSegment),
            ("/a%2f%2Fb", Fault::EmptySegment),
            ("/%2fa", Fault::EmptySegment),
            ("/a%5Cb", Fault::EncodedDelimiter),
            ("/a%00", Fault::EncodedDelimiter),
            ("/a%0d%0aX:y", Fault::EncodedDelimiter),
            ("/a%7f", Fault::EncodedDelimiter),
            ("/a%252e%252e/x", Fault::EncodedDelimiter),
            ("/a%252Fx", Fault::EncodedDelimiter),
            ("/a;x=1/b", Fault::PathParameters),
            ("/a\\b", Fault::Target),
            ("/a#b", Fault::Target),
            ("/a?b#c", Fault::Target),
            ("/a%2", Fault::Target),
            ("/a%zz", Fault::Target),
            ("/a\u{e9}", Fault::Target),
            ("/a b", Fault::Target),
        ] {
            assert_eq!(parse(input), Err(fault), "{input}");
        }
    }

    #[test]
    fn authorities() {
        let ok = |text: &str| authority(text.as_bytes()).map(|a| (a.host, a.port));
        assert_eq!(ok("API.Internal:8443"), Ok(("api.internal".into(), Some(8443))));
        assert_eq!(ok("10.0.0.1"), Ok(("10.0.0.1".into(), None)));
        assert_eq!(ok("[2001:DB8::0:1]:80"), Ok(("2001:db8::1".into(), Some(80))));
        assert_eq!(ok("a_b.c-d"), Ok(("a_b.c-d".into(), None)));
        for bad in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:+80",
            "a:8 0",
            "a b",
            "a/b",
            "a@b",
            "u:p@b",
            "a%2eb",
            "a..b",
            ".a",
            "a.",
            "127.1",
            "0x7f000001",
            "2130706433",
            "256.0.0.1",
            "01.2.3.4",
            "[::1",
            "[::1]x",
            "[v1.x]",
            "::1",
            "a,b",
            "a;b",
            "[fe80::1%25eth0]",
        ] {
            assert_eq!(ok(bad), Err(Fault::HostMalformed), "{bad}");
        }
        assert_eq!(authority(b"a\xff"), Err(Fault::HostMalformed));
    }

    #[test]
    fn absolute_targets() {
        assert_eq!(absolute("HTTP://a:1/b?c"), Some(("HTTP", "a:1", "/b?c".into())));
        assert_eq!(absolute("http://a?c"), Some(("http", "a", "/?c".into())));
        assert_eq!(absolute("http://a"), Some(("http", "a", "/".into())));
        assert_eq!(absolute("ftp://a/b"), None);
        assert_eq!(absolute("/http://a"), None);
    }
}
