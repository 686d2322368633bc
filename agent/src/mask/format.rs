//! How a body is to be read.

/// How to read the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON, one text or several after one another.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// Anything else that is text.
    Text,
}

/// What to do with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// Mask it.
    Mask(Format),
    /// Not text: it passes as it is.
    ///
    /// Bias: text inside of archives, images and documents is not found.
    Binary,
    /// Text in a writing that detectors cannot read (UTF-16, UTF-32, EBCDIC, UTF-7): it must not pass.
    Unreadable,
}

impl Format {
    /// From a `Content-Type` (RFC 9110 8.3) and the first bytes, decoded. Bytes that are text are masked even when
    /// the type says otherwise: the workload or the destination could have chosen it.
    #[must_use]
    pub fn of(content_type: Option<&str>, first_bytes: &[u8]) -> Handling {
        let declared = content_type.unwrap_or("").to_ascii_lowercase();
        let mut parts = declared.split(';').map(str::trim);
        let media = parts.next().unwrap_or("");
        // Readers differ in which of several they take and in what they trim, so any one counts.
        let unreadable = parts
            .filter_map(|p| p.split_once('='))
            .filter(|(name, _)| name.trim().trim_end_matches('*') == "charset")
            .map(|(_, value)| value.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')))
            .any(is_unreadable);
        if unreadable || looks_wide(first_bytes) {
            return Handling::Unreadable;
        }
        let looks_text = looks_text(first_bytes);
        match media {
            "application/x-www-form-urlencoded" => Handling::Mask(Format::Form),
            _ if is_json(media) => Handling::Mask(Format::Json),
            _ if is_text(media) => Handling::Mask(Format::Text),
            _ if first_bytes.is_empty() && is_binary(media) => Handling::Binary,
            _ if !looks_text => Handling::Binary,
            _ if is_binary(media) => Handling::Mask(Format::Text),
            _ => Handling::Mask(sniff(first_bytes)),
        }
    }
}

fn sniff(first: &[u8]) -> Format {
    match first.trim_ascii_start() {
        [b'{' | b'[', ..] => Format::Json,
        _ => Format::Text,
    }
}

fn is_unreadable(charset: &str) -> bool {
    // RFC 8187 values carry their own charset and language first.
    let charset = charset
        .rsplit('\'')
        .next()
        .unwrap_or(charset)
        .trim_start_matches("x-");
    [
        "unicode",
        "csunicode",
        "csutf7",
        "csutf16",
        "csutf32",
        "csucs4",
        "utf_16",
        "utf_32",
        "utf_7",
        "utf7",
        "u16",
        "u32",
        "u7",
        "imap4-utf-7",
        "cp500",
        "cp1026",
        "cp1140",
        "ibm500",
        "ibm1026",
        "ibm1047",
        "ibm1140",
        "utf-16",
        "utf16",
        "utf-32",
        "utf32",
        "ucs-2",
        "ucs-4",
        "iso-10646-ucs",
        "utf-7",
        "ebcdic",
        "ibm037",
        "cp037",
    ]
    .iter()
    .any(|c| charset.starts_with(c))
}

fn is_json(media: &str) -> bool {
    media.ends_with("+json")
        || matches!(
            media,
            "application/json"
                | "text/json"
                | "application/x-ndjson"
                | "application/ndjson"
                | "application/jsonl"
                | "application/json-seq"
                | "application/x-amz-json-1.0"
                | "application/x-amz-json-1.1"
                | "text/x-json"
                | "application/jsonlines"
        )
}

fn is_text(media: &str) -> bool {
    media.starts_with("text/")
        || media.ends_with("+xml")
        || media.ends_with("+yaml")
        || matches!(
            media,
            "application/xml"
                | "application/javascript"
                | "application/ecmascript"
                | "application/yaml"
                | "application/x-yaml"
                | "application/toml"
                | "application/sql"
                | "application/graphql"
                | "application/x-pem-file"
                | "application/x-sh"
        )
}

fn is_binary(media: &str) -> bool {
    ["image/", "audio/", "video/", "font/"]
        .iter()
        .any(|t| media.starts_with(t))
        || media.starts_with("application/vnd.openxmlformats")
        || media.starts_with("application/grpc")
        || matches!(
            media,
            "application/octet-stream"
                | "application/zip"
                | "application/gzip"
                | "application/x-gzip"
                | "application/zstd"
                | "application/x-tar"
                | "application/x-bzip2"
                | "application/x-xz"
                | "application/x-7z-compressed"
                | "application/pdf"
                | "application/wasm"
                | "application/protobuf"
                | "application/x-protobuf"
                | "application/msgpack"
                | "application/cbor"
                | "application/java-archive"
                | "application/vnd.docker.image.rootfs.diff.tar.gzip"
                | "application/vnd.oci.image.layer.v1.tar+gzip"
        )
}

/// UTF-16 or UTF-32: a byte order mark, or ASCII with zeros in between.
pub(crate) fn looks_wide(first: &[u8]) -> bool {
    match first {
        [0xFE, 0xFF, ..] | [0xFF, 0xFE, ..] | [0, 0, 0xFE, 0xFF, ..] => true,
        [a, 0, 0, 0, b, 0, 0, 0, ..] | [0, 0, 0, a, 0, 0, 0, b, ..] => is_plain(*a) && is_plain(*b),
        [a, 0, b, 0, ..] | [0, a, 0, b, ..] => is_plain(*a) && is_plain(*b),
        _ => false,
    }
}

fn is_plain(b: u8) -> bool {
    matches!(b, b' '..=b'~' | b'\n' | b'\r' | b'\t')
}

/// No control characters in the first 512 bytes, but those of text.
fn looks_text(first: &[u8]) -> bool {
    let first = &first[..first.len().min(512)];
    let control = first
        .iter()
        .any(|b| matches!(b, 0..=8 | 0x0E..=0x1A | 0x1C..=0x1D | 0x7F));
    !control
        && match std::str::from_utf8(first) {
            Ok(_) => true,
            // Cut in a character at the end.
            Err(e) if e.error_len().is_none() => true,
            // Some byte of an older encoding among ASCII.
            Err(_) => first.iter().filter(|b| **b >= 0x80).count() * 4 <= first.len(),
        }
}
