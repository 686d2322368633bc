//! Messages with the server during a login, in step.

use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use memchr::memmem;
use tokio::time::Instant;

use super::{
    super::{
        frame::{Fault, HEADER, Reader, head},
        session::notices::{Trust, notice},
        startup::Version,
    },
    negotiate::put_negotiation,
    refusal::{Refusal, broken},
};
use crate::{
    credential::Secret,
    mask::{Counts, MaskRules},
    model::{ClassSet, Reason, Side},
    protocol::{
        ProtocolError,
        wire::{Leg, Pumped, Reading, Wire},
    },
};

/// The most bytes of a message during a login (PG_MAX_AUTH_TOKEN_LENGTH, and some).
const LIMIT: usize = 66_000;

/// `AuthenticationOk`
pub const OK: u32 = 0;
/// `AuthenticationCleartextPassword`
pub const CLEARTEXT: u32 = 3;
/// `AuthenticationMD5Password`
pub const MD5: u32 = 5;
/// `AuthenticationSASL`
pub const SASL: u32 = 10;
/// `AuthenticationSASLContinue`
pub const SASL_CONTINUE: u32 = 11;
/// `AuthenticationSASLFinal`
pub const SASL_FINAL: u32 = 12;

/// Why a login ends.
pub enum Failed {
    /// It is refused here, in words.
    Refused(Refusal),
    /// The server refused it, in words that were passed on; their SQLSTATE.
    Said(Box<str>),
    /// A leg broke.
    Broken(ProtocolError),
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The server broke the protocol.
pub fn confused(what: impl std::fmt::Display) -> Failed {
    Failed::Refused(Refusal::new(
        Reason::UpstreamProtocolError,
        format!("the server broke the protocol during login: {what}"),
    ))
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        confused(fault)
    }
}

/// An `Authentication...` message at the start of the server's input.
#[derive(Clone, Copy, Debug)]
pub struct Auth {
    /// Which.
    pub kind: u32,
    /// Its whole length.
    pub length: usize,
}

/// The protocol version and the extensions, as both sides come to agree on them.
pub struct Negotiated<'a> {
    asked: Version,
    /// What the server was asked for, and what it agreed to.
    pub version: Version,
    extensions: &'a [Box<str>],
    said: bool,
}

impl<'a> Negotiated<'a> {
    /// At the start.
    #[must_use]
    pub fn new(asked: Version, extensions: &'a [Box<str>]) -> Self {
        Self {
            asked,
            version: asked.carried(),
            extensions,
            said: false,
        }
    }

    /// What the server says (NegotiateProtocolVersion). It was asked for no extension.
    fn learn(&mut self, body: &[u8]) -> Result<(), Failed> {
        let mut r = Reader::new(body);
        let newest = Version(r.u32()?);
        let unknown = r.u32()?;
        r.end()?;
        let possible = newest >= Version::V3_0 && newest <= self.version && unknown == 0;
        if self.said || !possible {
            return Err(confused("it negotiates a version that was not asked for"));
        }
        self.version = newest;
        Ok(())
    }

    /// Tells the workload, where it asked for more; before anything else.
    fn settle(&mut self, out: &mut BytesMut) {
        if !self.said && (self.version != self.asked || !self.extensions.is_empty()) {
            put_negotiation(out, self.version.0, self.extensions);
        }
        self.said = true;
    }
}

/// Both legs during a login.
pub struct Talk<'a> {
    /// The legs; upstream is there.
    pub wire: &'a mut Wire,
    /// When it is over.
    pub until: Instant,
    /// What must not be said downstream, whoever says it.
    pub secret: Option<&'a Secret>,
    /// How the server's words are masked.
    pub words: Words<'a>,
}

/// How errors and notices are masked.
pub struct Words<'a> {
    /// By these rules.
    pub rules: &'a Arc<MaskRules>,
    /// These classes.
    pub hidden: ClassSet,
    /// What was masked so far.
    pub counts: &'a mut Counts,
}

impl Talk<'_> {
    /// Upstream's leg.
    ///
    /// # Errors
    /// Never in practice: it is there during a login.
    pub fn up(&mut self) -> Result<&mut Leg, Failed> {
        self.wire
            .up
            .as_mut()
            .ok_or_else(|| Failed::Broken(ProtocolError::Upstream(std::io::ErrorKind::NotConnected.into())))
    }

    /// Waits until the server's next message is whole: its type and length.
    pub async fn next(&mut self) -> Result<(u8, usize), Failed> {
        loop {
            let up = self.up()?;
            match head(&up.input, LIMIT)? {
                Some((tag, length)) if up.input.len() >= length => return Ok((tag, length)),
                _ => {}
            }
            if up.eof {
                return Err(Failed::Refused(Refusal::new(
                    Reason::UpstreamUnreachable,
                    "the server closed the connection during login",
                )));
            }
            self.pump().await?;
        }
    }

    /// Waits until the workload's answer to a challenge is whole: its length. Nothing else may come now.
    pub async fn answer(&mut self) -> Result<usize, Failed> {
        loop {
            let refused = |fault: Fault| {
                Failed::Refused(Refusal::new(
                    Reason::ProtocolError,
                    format!("expected a password response: {fault}"),
                ))
            };
            match head(&self.wire.down.input, LIMIT).map_err(refused)? {
                Some((tag, _)) if tag != b'p' => return Err(refused(Fault::Unexpected(tag))),
                Some((_, length)) if self.wire.down.input.len() >= length => return Ok(length),
                _ => self.pump().await?,
            }
        }
    }

    async fn pump(&mut self) -> Result<(), Failed> {
        if self.wire.down.eof {
            let gone = std::io::ErrorKind::UnexpectedEof.into();
            return Err(Failed::Broken(ProtocolError::Downstream(gone)));
        }
        let reading = Reading {
            downstream: self.wire.down.input.len() < LIMIT,
            upstream: true,
        };
        self.move_on(reading).await
    }

    async fn move_on(&mut self, reading: Reading) -> Result<(), Failed> {
        match self.wire.pump(reading, self.until).await {
            Ok(Pumped::Progress) => Ok(()),
            Ok(Pumped::TimedOut) => Err(Failed::Refused(Refusal::new(
                Reason::Timeout,
                "the login took too long",
            ))),
            Err(e) if e.side == Side::Upstream => Err(Failed::Refused(Refusal::new(
                Reason::UpstreamUnreachable,
                format!("the connection to the server broke during login: {}", e.error),
            ))),
            Err(e) => Err(Failed::Broken(broken(e))),
        }
    }

    /// Waits until all that was written downstream and upstream has left.
    pub async fn flush(&mut self) -> Result<(), Failed> {
        loop {
            let flushed = self.up()?.is_flushed();
            if flushed && self.wire.down.is_flushed() {
                return Ok(());
            }
            // Whatever else comes is the session's.
            self.move_on(Reading::default()).await?;
        }
    }

    /// The body of a server's message that [`Talk::next`] found.
    pub fn body(&mut self, length: usize) -> Result<&[u8], Failed> {
        Ok(&self.up()?.input[HEADER..length])
    }

    /// Uses up a server's message.
    pub fn skip(&mut self, length: usize) -> Result<(), Failed> {
        self.up()?.wipe(length);
        Ok(())
    }

    /// Passes a server's message on as it is.
    pub fn relay(&mut self, length: usize) -> Result<(), Failed> {
        let message = self.up()?.input.split_to(length);
        self.wire.down.output.put_slice(&message);
        Ok(())
    }

    /// Waits for the next message about authentication, and sees to those that are not.
    pub async fn authentication(&mut self, negotiated: &mut Negotiated<'_>) -> Result<Auth, Failed> {
        loop {
            let (tag, length) = self.next().await?;
            match tag {
                b'R' => {
                    let kind = Reader::new(self.body(length)?).u32()?;
                    negotiated.settle(&mut self.wire.down.output);
                    return Ok(Auth { kind, length });
                }
                b'v' => {
                    negotiated.learn(self.body(length)?)?;
                    self.skip(length)?;
                }
                b'E' => return Err(self.error(length)?),
                b'N' => self.relay_words(tag, length)?,
                other => return Err(confused(Fault::Unexpected(other))),
            }
        }
    }

    /// Passes an error or a notice on, as the workload may see it.
    pub fn relay_words(&mut self, tag: u8, length: usize) -> Result<(), Failed> {
        let Wire {
            up: Some(up), down, ..
        } = &mut *self.wire
        else {
            return Ok(());
        };
        let Words {
            rules,
            hidden,
            counts,
        } = &mut self.words;
        let body = &up.input[HEADER..length];
        notice(
            tag,
            body,
            Trust::Scanned,
            rules,
            *hidden,
            counts,
            &mut down.output,
        )?;
        up.wipe(length);
        Ok(())
    }

    /// The server ends it: its words are passed on, unless they are about the agent's own credential.
    pub fn error(&mut self, length: usize) -> Result<Failed, Failed> {
        let secret = self.secret;
        let body = self.body(length)?;
        let code = error_code(body)?;
        let told = secret.is_some_and(|s| memmem::find(body, s.expose()).is_some());
        // Class 28: invalid authorization specification.
        if secret.is_some() && (told || code.starts_with("28")) {
            self.skip(length)?;
            return Ok(Failed::Refused(Refusal {
                reason: Reason::UpstreamUnreachable,
                // sqlserver_rejected_establishment_of_sqlconnection
                code: "08004",
                message: format!(
                    "the server refused the credential that Portcullis logs in with (SQLSTATE {code})"
                ),
                hint: Some("Do not retry. Tell the host's administrator."),
                old_style: false,
            }));
        }
        self.relay_words(b'E', length)?;
        Ok(Failed::Said(code))
    }
}

/// The SQLSTATE of an ErrorResponse: five letters or digits.
pub fn error_code(body: &[u8]) -> Result<Box<str>, Failed> {
    let mut r = Reader::new(body);
    let mut code: Box<str> = "XX000".into();
    loop {
        let tag = r.u8()?;
        if tag == 0 {
            return Ok(code);
        }
        let text = r.cstr()?;
        if tag == b'C' && text.len() == 5 && text.iter().all(u8::is_ascii_alphanumeric) {
            code = String::from_utf8_lossy(text).into();
        }
    }
}
