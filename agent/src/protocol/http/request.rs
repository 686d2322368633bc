//! A request as the gate understands it, and the one form in which it goes upstream.

use std::net::SocketAddr;

use super::{
    aws,
    encoding::accept_encoding,
    fault::Fault,
    head::Head,
    headers::{self, Facts, Framing, Known, Upgrade, known},
    inject::Injected,
    target::{self, Target},
};

/// The longest method; the registry's longest is 17.
const METHOD: usize = 32;

/// What the connection says about every request on it.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// Whether the workload speaks TLS.
    pub tls: bool,
    /// The TLS server name, if any.
    pub server_name: Option<&'a str>,
    /// The original destination.
    pub destination: SocketAddr,
}

/// One request's head. Reused from request to request.
#[derive(Clone, Debug, Default)]
pub struct Request {
    head: Head,
    /// The method.
    pub method: String,
    /// Path and query in their one form.
    pub target: Target,
    /// HTTP/1.0 or 1.1.
    pub minor: u8,
    /// The host, in lower case, without port.
    pub host: String,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether the workload wants the connection kept.
    pub keep_alive: bool,
    /// Whether it waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// Content-Type, where it is text.
    pub content_type: Option<String>,
    /// Content-Encoding.
    pub encoding: super::encoding::Coding,
    /// Whether the body is in pieces that S3 takes apart (`aws-chunked`); `encoding` is that of its content then.
    pub aws_chunked: bool,
    facts: Facts,
    verbatim: bool,
}

/// What has to change on the way up so that the response can be masked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Ask for an encoding that can be read.
    pub readable: bool,
    /// Ask for the whole content.
    pub whole: bool,
}

impl Request {
    /// Reads a complete head. After a fault, method, host and target hold what was understood before it.
    pub fn parse(&mut self, input: &[u8], setting: Setting<'_>) -> Result<(), Fault> {
        self.method.clear();
        self.host.clear();
        self.target = Target::default();
        self.content_type = None;
        self.framing = Framing::None;
        self.keep_alive = false;
        if input.starts_with(b"PRI * HTTP/2.0\r\n") {
            return Err(Fault::Http2);
        }
        let line = self.head.parse_request(input)?;
        self.minor = line.minor;
        let bytes = self.head.bytes();
        let text = |range| bytes.get(range).and_then(|b| std::str::from_utf8(b).ok());
        let method = text(0..line.method)
            .filter(|m| m.len() <= METHOD)
            .ok_or(Fault::Method)?;
        self.method.push_str(method);
        let raw = text(line.method + 1..line.method + 1 + line.target).ok_or(Fault::Target)?;
        if method == "CONNECT" {
            return Err(Fault::Connect);
        }
        let mut absolute = None;
        if raw == "*" {
            if method != "OPTIONS" {
                return Err(Fault::Target);
            }
            self.target.path.push('*');
        } else if let Some((scheme, authority, origin)) = target::absolute(raw) {
            if scheme.eq_ignore_ascii_case("https") != setting.tls {
                return Err(Fault::Scheme);
            }
            absolute = Some(target::authority(authority.as_bytes())?);
            self.target = target::parse(&origin)?;
        } else {
            self.target = target::parse(raw)?;
        }
        self.verbatim = same(raw, &self.target);
        self.facts = headers::facts(&self.head, self.minor)?;
        self.read_headers(setting, absolute.as_ref())?;
        self.framing = match (self.facts.length, self.facts.chunked) {
            (_, true) => Framing::Chunked,
            (Some(n), _) => Framing::Length(n),
            (None, false) => Framing::None,
        };
        self.keep_alive = headers::persists(&self.facts, self.minor);
        match self.facts.upgrade {
            Some(Upgrade::Other) => Err(Fault::Upgrade),
            Some(Upgrade::H2c) | None => Ok(()),
        }
    }

    fn read_headers(
        &mut self,
        setting: Setting<'_>,
        absolute: Option<&target::Authority>,
    ) -> Result<(), Fault> {
        self.expects_continue = false;
        self.encoding = super::encoding::Coding::Identity;
        self.aws_chunked = aws::is_chunked(&self.head);
        let mut host = None;
        let mut encodings = 0;
        for header in self.head.headers() {
            match known(header.name) {
                Known::Host => {
                    if host.is_some() {
                        return Err(Fault::HostRepeated);
                    }
                    host = Some(target::authority(header.value)?);
                }
                Known::Expect => {
                    if !header.value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Fault::Expectation);
                    }
                    self.expects_continue = self.minor == 1;
                }
                Known::ContentType => {
                    if self.content_type.is_some() {
                        return Err(Fault::ContentTypeRepeated);
                    }
                    self.content_type = std::str::from_utf8(header.value).ok().map(str::to_owned);
                }
                Known::ContentEncoding => {
                    encodings += 1;
                    let value = if self.aws_chunked {
                        aws::inner_encoding(header.value)
                    } else {
                        header.value
                    };
                    self.encoding = super::encoding::Coding::of(value, encodings);
                }
                Known::Other if headers::overrides(header.name, header.value, &self.method, &self.target) => {
                    return Err(Fault::Override);
                }
                _ => {}
            }
        }
        match (host, absolute) {
            (Some(host), Some(absolute)) if host != *absolute => return Err(Fault::HostConflict),
            (Some(host), _) => self.host = host.host,
            (None, _) if self.minor == 1 => return Err(Fault::HostMissing),
            (None, Some(absolute)) => self.host.clone_from(&absolute.host),
            (None, None) => match setting.server_name {
                Some(name) => self.host.push_str(&name.to_ascii_lowercase()),
                None => self
                    .host
                    .push_str(&setting.destination.ip().to_canonical().to_string()),
            },
        }
        Ok(())
    }

    /// The head as it was sent.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What its header lines say to both hops.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether the method is one that may be sent again when the connection broke (RFC 9110 section 9.2.2).
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        matches!(
            self.method.as_str(),
            "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"
        )
    }

    /// Whether the body, if any, was announced.
    #[must_use]
    pub fn has_body(&self) -> bool {
        !matches!(self.framing, Framing::None | Framing::Length(0))
    }

    /// Writes the head that goes upstream: the workload's own lines, but for those that end at this hop or make room
    /// for what is injected.
    pub fn write(&self, edits: Edits, injected: Option<&Injected>, out: &mut Vec<u8>) {
        match injected.and_then(|i| i.query.as_ref()) {
            Some(query) => self.write_target(Some(query), out),
            None => self.write_start_line(out),
        }
        let mut te = false;
        for header in self.head.headers() {
            let field = known(header.name);
            if headers::ends_here(field, header.name, header.value, &self.facts) {
                continue;
            }
            if injected.is_some_and(|i| i.drops(header.name)) {
                continue;
            }
            match field {
                Known::Range | Known::IfRange if edits.whole => continue,
                Known::Expect if !self.expects_continue => continue,
                Known::AcceptEncoding if edits.readable => continue,
                Known::Te => te = true,
                _ => {}
            }
            out.extend_from_slice(header.line);
        }
        if edits.readable {
            accept_encoding(&self.head, out);
        }
        if self.facts.rewrite_connection {
            headers::write_connection(&self.facts, te, out);
        }
        if let Some(injected) = injected {
            out.extend_from_slice(&injected.lines);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Writes the start line in its one form.
    pub fn write_start_line(&self, out: &mut Vec<u8>) {
        if self.verbatim {
            out.extend_from_slice(self.head.start_line());
            return;
        }
        self.write_target(self.target.query.as_deref(), out);
    }

    /// Writes the start line with this query.
    pub fn write_target(&self, query: Option<&str>, out: &mut Vec<u8>) {
        out.extend_from_slice(self.method.as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.target.wire().as_bytes());
        if let Some(query) = query {
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
        }
        out.extend_from_slice(if self.minor == 1 {
            b" HTTP/1.1\r\n"
        } else {
            b" HTTP/1.0\r\n"
        });
    }
}

/// Whether a target is in its one form already.
fn same(raw: &str, target: &Target) -> bool {
    match &target.query {
        None => raw == target.wire(),
        Some(query) => {
            raw.strip_prefix(target.wire()).and_then(|r| r.strip_prefix('?')) == Some(query.as_str())
        }
    }
}
