//! What header fields mean to a gate: framing, persistence, and which of them end at this hop (RFC 9110 section 7.6).

use super::{fault::Fault, head::Head, target::Target};

/// The header fields that the gate itself has to understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each variant is the field of that name
pub enum Known {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    KeepAlive,
    ProxyConnection,
    Te,
    Upgrade,
    Http2Settings,
    Expect,
    AcceptEncoding,
    Range,
    IfRange,
    ContentType,
    ContentEncoding,
    ContentRange,
    AcceptRanges,
    /// ETag and the digests: they name exactly the bytes that were sent.
    Validator,
    Other,
}

/// Which field a name is; names have no case.
#[must_use]
pub fn known(name: &str) -> Known {
    use Known as K;
    const NAMES: &[(&str, Known)] = &[
        ("te", K::Te),
        ("host", K::Host),
        ("etag", K::Validator),
        ("range", K::Range),
        ("digest", K::Validator),
        ("expect", K::Expect),
        ("upgrade", K::Upgrade),
        ("if-range", K::IfRange),
        ("connection", K::Connection),
        ("keep-alive", K::KeepAlive),
        ("content-md5", K::Validator),
        ("repr-digest", K::Validator),
        ("content-type", K::ContentType),
        ("content-range", K::ContentRange),
        ("accept-ranges", K::AcceptRanges),
        ("content-length", K::ContentLength),
        ("content-digest", K::Validator),
        ("http2-settings", K::Http2Settings),
        ("accept-encoding", K::AcceptEncoding),
        ("content-encoding", K::ContentEncoding),
        ("proxy-connection", K::ProxyConnection),
        ("transfer-encoding", K::TransferEncoding),
    ];
    NAMES
        .iter()
        .find(|(n, _)| n.len() == name.len() && n.eq_ignore_ascii_case(name))
        .map_or_else(|| other(name), |(_, k)| *k)
}

/// S3 and DynamoDB have digests of their own.
fn other(name: &str) -> Known {
    const S3: &[u8] = b"x-amz-checksum-";
    let start = name.as_bytes().get(..S3.len());
    if start.is_some_and(|s| s.eq_ignore_ascii_case(S3)) || name.eq_ignore_ascii_case("x-amz-crc32") {
        Known::Validator
    } else {
        Known::Other
    }
}

/// Whether a field makes frameworks act on another method or path than the request line's, which is what policy
/// decides on.
#[must_use]
pub fn overrides(name: &str, value: &[u8], method: &str, target: &Target) -> bool {
    const METHOD: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];
    const PATH: [&str; 2] = ["x-original-url", "x-rewrite-url"];
    // CGI-like servers read '_' and '-' as one.
    let is = |known: &str| {
        known.len() == name.len()
            && known
                .bytes()
                .zip(name.bytes())
                .all(|(k, n)| k == n.to_ascii_lowercase() || (k == b'-' && n == b'_'))
    };
    if METHOD.iter().any(|k| is(k)) {
        return !value.eq_ignore_ascii_case(method.as_bytes());
    }
    PATH.iter().any(|k| is(k)) && value != target.wire().as_bytes()
}

/// Names that CGI-like servers turn into those of framing fields.
fn alias(name: &str) -> bool {
    const FRAMING: [&str; 5] = [
        "content-length",
        "transfer-encoding",
        "host",
        "connection",
        "content-encoding",
    ];
    name.contains('_')
        && FRAMING.iter().any(|f| {
            f.len() == name.len()
                && f.bytes()
                    .zip(name.bytes())
                    .all(|(a, b)| a == if b == b'_' { b'-' } else { b.to_ascii_lowercase() })
        })
}

/// How a body is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    #[default]
    None,
    /// By a length, bytes.
    Length(u64),
    /// By chunks.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// What the header lines of either kind of message say to both hops.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Content-Length.
    pub length: Option<u64>,
    /// Transfer-Encoding: chunked.
    pub chunked: bool,
    /// `Connection: close`.
    pub close: bool,
    /// `Connection: keep-alive`.
    pub keep_alive: bool,
    /// Other connection options, in lower case: fields of these names end here.
    pub listed: Vec<String>,
    /// Whether Connection has to be written anew because it says more than close or keep-alive.
    pub rewrite_connection: bool,
    /// An Upgrade field is there.
    pub upgrade: Option<Upgrade>,
}

/// What an Upgrade field asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// `h2c` and nothing else: an offer that may be ignored.
    H2c,
    /// Something whose bytes the gate could not read.
    Other,
}

/// Reads them, refusing whatever two parsers could read in two ways. `minor` is the message's HTTP version.
pub fn facts(head: &Head, minor: u8) -> Result<Facts, Fault> {
    let mut facts = Facts::default();
    let mut encodings = 0;
    for header in head.headers() {
        match known(header.name) {
            Known::ContentLength => {
                if facts.length.is_some() {
                    return Err(Fault::LengthRepeated);
                }
                facts.length = Some(length(header.value)?);
            }
            Known::TransferEncoding => {
                encodings += 1;
                if encodings > 1 || !header.value.eq_ignore_ascii_case(b"chunked") || minor == 0 {
                    return Err(Fault::TransferEncoding);
                }
                facts.chunked = true;
            }
            Known::Connection => options(header.value, &mut facts)?,
            Known::Upgrade => {
                let h2c = header
                    .value
                    .split(|b| *b == b',')
                    .all(|t| t.trim_ascii().eq_ignore_ascii_case(b"h2c"));
                let kind = if h2c && facts.upgrade != Some(Upgrade::Other) {
                    Upgrade::H2c
                } else {
                    Upgrade::Other
                };
                facts.upgrade = Some(kind);
            }
            Known::Other if alias(header.name) => return Err(Fault::FramingAlias),
            _ => {}
        }
    }
    if facts.length.is_some() && facts.chunked {
        return Err(Fault::LengthAndEncoding);
    }
    Ok(facts)
}

fn length(value: &[u8]) -> Result<u64, Fault> {
    let text = std::str::from_utf8(value).map_err(|_| Fault::LengthMalformed)?;
    if text.is_empty() || text.len() > 18 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Fault::LengthMalformed);
    }
    text.parse().map_err(|_| Fault::LengthMalformed)
}

fn options(value: &[u8], facts: &mut Facts) -> Result<(), Fault> {
    for option in value.split(|b| *b == b',') {
        let option = option.trim_ascii();
        let text = std::str::from_utf8(option)
            .map_err(|_| Fault::HeaderLine)?
            .to_ascii_lowercase();
        match text.as_str() {
            "" => {}
            "close" => facts.close = true,
            "keep-alive" => facts.keep_alive = true,
            _ if must_stay(&text) => return Err(Fault::ConnectionOption),
            _ => {
                facts.rewrite_connection = true;
                facts.listed.push(text);
            }
        }
    }
    Ok(())
}

/// Fields that nobody may have dropped by listing them: framing, routing, credentials, content.
fn must_stay(name: &str) -> bool {
    const STAY: &[&str] = &[
        "host",
        "content-length",
        "transfer-encoding",
        "content-type",
        "content-encoding",
        "content-range",
        "authorization",
        "cookie",
        "set-cookie",
        "expect",
        "range",
        "if-range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "accept-encoding",
        "cache-control",
        "etag",
        "location",
        "date",
        "origin",
        "trailer",
        "vary",
        "www-authenticate",
    ];
    STAY.contains(&name) || alias(name)
}

/// Whether a field ends at this hop. `TE: trailers` is passed on, because trailers are.
#[must_use]
pub fn ends_here(known: Known, name: &str, value: &[u8], facts: &Facts) -> bool {
    match known {
        Known::Upgrade | Known::Http2Settings | Known::ProxyConnection => true,
        Known::KeepAlive => true,
        Known::Te => !value.eq_ignore_ascii_case(b"trailers"),
        Known::Connection => facts.rewrite_connection,
        Known::Other => facts.listed.iter().any(|l| l.eq_ignore_ascii_case(name)),
        _ => false,
    }
}

/// Writes a Connection line that says what is left of one, once the listed fields are gone.
pub fn write_connection(facts: &Facts, te: bool, out: &mut Vec<u8>) {
    let mut options: Vec<&str> = Vec::new();
    if facts.close {
        options.push("close");
    }
    if facts.keep_alive {
        options.push("keep-alive");
    }
    if te {
        options.push("TE");
    }
    if !options.is_empty() {
        out.extend_from_slice(b"Connection: ");
        out.extend_from_slice(options.join(", ").as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether the connection stays open after the message (RFC 9112 section 9.3).
#[must_use]
pub fn persists(facts: &Facts, minor: u8) -> bool {
    !facts.close && (minor == 1 || facts.keep_alive)
}
