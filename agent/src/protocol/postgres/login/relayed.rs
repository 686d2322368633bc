//! A login that passes through: the workload answers the server's challenges with what it has.
//!
//! What is carried is never recorded or logged, and wiped where it lay here. A SCRAM exchange cannot be changed on its
//! way, but for the list of mechanisms with which it begins: SCRAM-SHA-256-PLUS binds it to the TLS connection, which
//! ends here.

use bytes::{BufMut as _, BytesMut};

use super::{
    super::frame::{HEADER, Reader, put_cstr, write},
    refusal::Refusal,
    talk::{Auth, CLEARTEXT, Failed, MD5, Negotiated, OK, SASL, SASL_CONTINUE, SASL_FINAL, Talk, confused},
};
use crate::model::Reason;

/// The mechanism that is bound to a TLS connection.
const PLUS: &[u8] = b"SCRAM-SHA-256-PLUS";
/// The one that need not be.
const SCRAM: &[u8] = b"SCRAM-SHA-256";

/// How the legs are encrypted.
#[derive(Clone, Copy, Debug)]
pub struct Legs {
    /// The workload's.
    pub down: bool,
    /// The server's.
    pub up: bool,
}

/// Why the workload could not log in.
pub enum Unbound {
    /// It would have bound its login to its TLS connection, and the server knows that it could.
    Binding(Refusal),
    /// Anything else.
    Failed(Failed),
}

impl<E: Into<Failed>> From<E> for Unbound {
    fn from(e: E) -> Self {
        Self::Failed(e.into())
    }
}

/// Carries challenges and answers until the server has accepted the workload.
pub async fn log_in(talk: &mut Talk<'_>, negotiated: &mut Negotiated<'_>, legs: Legs) -> Result<(), Unbound> {
    let mut sasl = false;
    loop {
        let Auth { kind, length } = talk.authentication(negotiated).await?;
        match kind {
            OK => {
                talk.relay(length)?;
                return Ok(());
            }
            CLEARTEXT if legs.down && !legs.up => {
                return Err(Refusal::new(
                    Reason::UpstreamUntrusted,
                    "the server asks for the password in clear text over a connection without TLS",
                )
                .into());
            }
            CLEARTEXT | MD5 if !sasl => {
                talk.relay(length)?;
                pass_answer(talk).await?;
            }
            SASL if !sasl => {
                let offered = offer(talk, length)?;
                initial(talk, &offered).await?;
                sasl = true;
            }
            SASL_CONTINUE if sasl => {
                talk.relay(length)?;
                pass_answer(talk).await?;
            }
            SASL_FINAL if sasl => talk.relay(length)?,
            CLEARTEXT | MD5 | SASL | SASL_CONTINUE | SASL_FINAL => {
                return Err(confused("its challenges do not go together").into());
            }
            other => return Err(unsupported(other).into()),
        }
    }
}

/// What a challenge that cannot be answered is.
pub fn unsupported(kind: u32) -> Refusal {
    let method = match kind {
        2 => "Kerberos V5",
        6 => "SCM credentials",
        7 | 8 => "GSSAPI",
        9 => "SSPI",
        _ => "an unknown method",
    };
    Refusal {
        // feature_not_supported
        code: "0A000",
        ..Refusal::new(
            Reason::UpstreamProtocolError,
            format!("the server asks for authentication by {method}, which Portcullis does not carry"),
        )
    }
}

/// What the server offered.
struct Mechanisms {
    names: Vec<Box<[u8]>>,
    plus: bool,
}

/// The mechanisms of an `AuthenticationSASL`, in the server's order.
pub fn mechanisms(body: &[u8]) -> Result<Vec<Box<[u8]>>, Failed> {
    let mut r = Reader::new(body);
    r.u32()?;
    let mut names = Vec::new();
    loop {
        let name = r.cstr()?;
        if name.is_empty() {
            r.end()?;
            return Ok(names);
        }
        names.push(name.into());
    }
}

/// Passes the offer on, without what is bound to a TLS connection.
fn offer(talk: &mut Talk<'_>, length: usize) -> Result<Mechanisms, Failed> {
    let all = mechanisms(talk.body(length)?)?;
    let count = all.len();
    let names: Vec<_> = all.into_iter().filter(|n| **n != *PLUS).collect();
    let plus = names.len() < count;
    if names.is_empty() {
        return Err(Failed::Refused(Refusal {
            hint: Some(BINDING),
            ..Refusal::new(
                Reason::UpstreamProtocolError,
                "the server offers only logins that are bound to a TLS connection, which ends at Portcullis",
            )
        }));
    }
    if plus {
        write(&mut talk.wire.down.output, b'R', |out: &mut BytesMut| {
            out.put_u32(SASL);
            for name in &names {
                put_cstr(out, name);
            }
            out.put_u8(0);
        });
        talk.skip(length)?;
    } else {
        talk.relay(length)?;
    }
    Ok(Mechanisms { names, plus })
}

/// What to do where a login cannot be bound.
const BINDING: &str =
    "Connect with channel_binding=disable, or let the host's administrator configure a brokered login.";

/// Passes the first answer of a SASL exchange on, if the server would believe it.
///
/// A workload that could bind says so (`y`, RFC 5802 section 5.1) when it is not offered to; a server that had offered
/// takes that for an attack on the offer, and refuses. The workload's words are under its proof: they cannot be changed.
async fn initial(talk: &mut Talk<'_>, offered: &Mechanisms) -> Result<(), Unbound> {
    let length = talk.answer().await?;
    let mut r = Reader::new(&talk.wire.down.input[HEADER..length]);
    let malformed = |_| Refusal::new(Reason::ProtocolError, "malformed SASL response");
    let mechanism = r.cstr().map_err(malformed)?;
    let data = r.value().map_err(malformed)?;
    r.end().map_err(malformed)?;
    if !offered.names.iter().any(|n| **n == *mechanism) {
        let text = "the workload chose an authentication mechanism that was not offered";
        return Err(Refusal::new(Reason::ProtocolError, text).into());
    }
    if offered.plus && mechanism == SCRAM && data.is_some_and(|d| d.starts_with(b"y")) {
        return Err(Unbound::Binding(Refusal {
            hint: Some(BINDING),
            ..Refusal::new(
                Reason::ProtocolError,
                "a login that supports channel binding cannot pass through Portcullis, where its TLS ends",
            )
        }));
    }
    pass_answer(talk).await?;
    Ok(())
}

/// Passes an answer on, and wipes it here.
async fn pass_answer(talk: &mut Talk<'_>) -> Result<(), Failed> {
    let length = talk.answer().await?;
    let answer = &talk.wire.down.input[..length];
    let Some(up) = talk.wire.up.as_mut() else {
        return Err(confused("it is gone"));
    };
    up.output.put_slice(answer);
    talk.wire.down.wipe(length);
    Ok(())
}
