//! A response as the gate understands it.

use super::{
    encoding::Coding,
    fault::Fault,
    head::Head,
    headers::{self, Facts, Framing, Known, known},
};

/// One response's head. Reused from response to response.
#[derive(Clone, Debug, Default)]
pub struct Response {
    head: Head,
    /// The three digits.
    pub status: u16,
    /// HTTP/1.0 or 1.1.
    pub minor: u8,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether upstream keeps the connection.
    pub keep_alive: bool,
    /// Content-Type, where it is text; `None` also when it is given more than once.
    pub content_type: Option<String>,
    /// Content-Encoding.
    pub encoding: Coding,
    facts: Facts,
}

impl Response {
    /// Reads a complete head that answers a request of this method.
    pub fn parse(&mut self, input: &[u8], method: &str) -> Result<(), Fault> {
        let line = self.head.parse_response(input)?;
        self.status = line.status;
        self.minor = line.minor;
        if !(100..=599).contains(&self.status) || self.status == 101 {
            return Err(Fault::Status);
        }
        self.facts = headers::facts(&self.head, self.minor)?;
        self.content_type = None;
        self.encoding = Coding::Identity;
        let (mut encodings, mut types) = (0, 0);
        for header in self.head.headers() {
            match known(header.name) {
                Known::ContentType => {
                    types += 1;
                    self.content_type = std::str::from_utf8(header.value)
                        .ok()
                        .filter(|_| types == 1)
                        .map(str::to_owned);
                }
                Known::ContentEncoding => {
                    encodings += 1;
                    self.encoding = Coding::of(header.value, encodings);
                }
                _ => {}
            }
        }
        // RFC 9112 section 6.3: these have no body, whatever their header lines say.
        let none = method == "HEAD" || self.status < 200 || matches!(self.status, 204 | 304);
        self.framing = match (none, self.facts.chunked, self.facts.length) {
            (true, ..) => Framing::None,
            (_, true, _) => Framing::Chunked,
            (.., Some(n)) => Framing::Length(n),
            (.., None) => Framing::Close,
        };
        self.keep_alive = headers::persists(&self.facts, self.minor) && self.framing != Framing::Close;
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

    /// Whether a final response is still to come.
    #[must_use]
    pub fn is_interim(&self) -> bool {
        self.status < 200
    }
}
