//! A login that the agent does itself, with a credential that the workload never has.
//!
//! Bias: a server that asks for less than it could prove is believed only as far as TLS goes: a password leaves in
//! clear text over TLS alone, and a SCRAM exchange counts only when the server has proved that it knows the password.

use bytes::{BufMut as _, BytesMut};
use postgres_protocol::authentication::{
    md5_hash,
    sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256},
};
use zeroize::Zeroizing;

use super::{
    super::frame::{Reader, put_cstr, write},
    refusal::Refusal,
    relayed::{mechanisms, unsupported},
    talk::{Auth, CLEARTEXT, Failed, MD5, Negotiated, OK, SASL, SASL_CONTINUE, SASL_FINAL, Talk, confused},
};
use crate::{credential::Secret, model::Reason};

/// What a login is done with.
pub struct Means<'a> {
    /// The user.
    pub user: &'a str,
    /// The password, where there is one.
    pub password: Option<&'a Secret>,
    /// Whether the server's leg is encrypted.
    pub tls: bool,
    /// The hash of the server's certificate, for channel binding.
    pub end_point: Option<&'a [u8]>,
}

/// A SCRAM exchange under way.
enum Exchange {
    None,
    Begun(ScramSha256),
    Answered(ScramSha256),
    /// The server has proved that it knows the password.
    Proved,
}

/// Answers the server's challenges until it has accepted the agent; the workload is told that it is in, and nothing
/// of how.
pub async fn log_in(
    talk: &mut Talk<'_>,
    negotiated: &mut Negotiated<'_>,
    means: &Means<'_>,
) -> Result<(), Failed> {
    let mut exchange = Exchange::None;
    let mut challenged = false;
    loop {
        let Auth { kind, length } = talk.authentication(negotiated).await?;
        let first = !challenged;
        exchange = match (kind, exchange) {
            (OK, Exchange::None | Exchange::Proved) => {
                talk.relay(length)?;
                return Ok(());
            }
            (CLEARTEXT, Exchange::None) if first => {
                clear_text(talk, length, means)?;
                Exchange::None
            }
            (MD5, Exchange::None) if first => {
                md5(talk, length, means)?;
                Exchange::None
            }
            (SASL, Exchange::None) if first => Exchange::Begun(begin(talk, length, means)?),
            (SASL_CONTINUE, Exchange::Begun(scram)) => Exchange::Answered(go_on(talk, length, scram).await?),
            (SASL_FINAL, Exchange::Answered(scram)) => {
                end(talk, length, scram)?;
                Exchange::Proved
            }
            (OK, _) => {
                return Err(Failed::Refused(Refusal::new(
                    Reason::UpstreamUntrusted,
                    "the server did not prove that it knows the password",
                )));
            }
            (CLEARTEXT | MD5 | SASL | SASL_CONTINUE | SASL_FINAL, _) => {
                return Err(confused("it asks for another proof"));
            }
            (other, _) => return Err(Failed::Refused(unsupported(other))),
        };
        challenged = true;
    }
}

fn password<'a>(means: &Means<'a>) -> Result<&'a Secret, Failed> {
    means.password.ok_or_else(|| {
        Failed::Refused(Refusal::new(
            Reason::CredentialUnavailable,
            "the server asks for a password, and no credential is configured for it",
        ))
    })
}

fn put_password(out: &mut BytesMut, password: &[u8]) {
    write(out, b'p', |out| put_cstr(out, password));
}

fn clear_text(talk: &mut Talk<'_>, length: usize, means: &Means<'_>) -> Result<(), Failed> {
    let password = password(means)?;
    if !means.tls {
        return Err(Failed::Refused(Refusal::new(
            Reason::UpstreamUntrusted,
            "the server asks for the password in clear text over a connection without TLS",
        )));
    }
    talk.skip(length)?;
    put_password(&mut talk.up()?.output, password.expose());
    Ok(())
}

fn md5(talk: &mut Talk<'_>, length: usize, means: &Means<'_>) -> Result<(), Failed> {
    let password = password(means)?;
    let mut r = Reader::new(talk.body(length)?);
    r.u32()?;
    let salt = r
        .take(4)?
        .try_into()
        .map_err(|_| confused("its salt is not four bytes long"))?;
    r.end()?;
    let hash = Zeroizing::new(md5_hash(means.user.as_bytes(), password.expose(), salt));
    talk.skip(length)?;
    put_password(&mut talk.up()?.output, hash.as_bytes());
    Ok(())
}

/// Bound to the TLS connection where both sides can.
fn begin(talk: &mut Talk<'_>, length: usize, means: &Means<'_>) -> Result<ScramSha256, Failed> {
    let password = password(means)?;
    let offered = mechanisms(talk.body(length)?)?;
    let has = |name: &str| offered.iter().any(|n| **n == *name.as_bytes());
    let (mechanism, binding) = match means.end_point.filter(|_| means.tls) {
        Some(hash) if has(SCRAM_SHA_256_PLUS) => (
            SCRAM_SHA_256_PLUS,
            ChannelBinding::tls_server_end_point(hash.to_vec()),
        ),
        // Said under the proof: someone who cut the offer short is found out.
        Some(_) if has(SCRAM_SHA_256) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
        None if has(SCRAM_SHA_256) => (SCRAM_SHA_256, ChannelBinding::unsupported()),
        _ => {
            return Err(Failed::Refused(Refusal::new(
                Reason::UpstreamProtocolError,
                "the server offers no SASL mechanism that Portcullis can log in with",
            )));
        }
    };
    let scram = ScramSha256::new(password.expose(), binding);
    talk.skip(length)?;
    write(&mut talk.up()?.output, b'p', |out| {
        put_cstr(out, mechanism.as_bytes());
        let message = scram.message();
        out.put_u32(u32::try_from(message.len()).unwrap_or(0));
        out.put_slice(message);
    });
    Ok(scram)
}

async fn go_on(talk: &mut Talk<'_>, length: usize, mut scram: ScramSha256) -> Result<ScramSha256, Failed> {
    let challenge = talk.body(length)?[4..].to_vec();
    // Thousands of rounds of hashing, as many as the server says, up to a bound.
    let answered = tokio::task::spawn_blocking(move || scram.update(&challenge).map(|()| scram)).await;
    let scram = match answered {
        Ok(Ok(scram)) => scram,
        Ok(Err(e)) => return Err(confused(e)),
        Err(_) => return Err(confused("the answer to its challenge was interrupted")),
    };
    talk.skip(length)?;
    write(&mut talk.up()?.output, b'p', |out| out.put_slice(scram.message()));
    Ok(scram)
}

fn end(talk: &mut Talk<'_>, length: usize, mut scram: ScramSha256) -> Result<(), Failed> {
    let proof = &talk.body(length)?[4..];
    scram.finish(proof).map_err(|_| {
        Failed::Refused(Refusal::new(
            Reason::UpstreamUntrusted,
            "the server did not prove that it knows the password",
        ))
    })?;
    talk.skip(length)?;
    Ok(())
}

/// A startup message in the agent's own name: what the workload asked for, but for who it is.
#[must_use]
pub fn startup(
    version: u32,
    parameters: &[(Box<str>, Box<str>)],
    user: &str,
    database: &str,
    role: Option<&str>,
) -> BytesMut {
    let mut out = BytesMut::new();
    super::super::frame::write_untagged(&mut out, |out| {
        out.put_u32(version);
        let own = [("user", user), ("database", database)];
        let others = parameters
            .iter()
            .map(|(n, v)| (&**n, &**v))
            .filter(|(n, _)| !matches!(*n, "user" | "database"));
        // In the startup message it is what RESET ROLE, DISCARD ALL and the like go back to.
        let role = role.map(|role| ("role", role));
        for (name, value) in own.into_iter().chain(others).chain(role) {
            put_cstr(out, name.as_bytes());
            put_cstr(out, value.as_bytes());
        }
        out.put_u8(0);
    });
    out
}
