//! The workload's first messages: TLS or not, until the login or a cancel request has come.

use bytes::{Buf as _, BufMut as _, BytesMut};
use tokio::time::Instant;

use super::{
    super::{
        frame::Fault,
        startup::{self, First, Refused, Startup},
    },
    refusal::{Refusal, broken},
    route::{ALPN, Way},
};
use crate::{
    gate::{Dial, Gate},
    model::Reason,
    protocol::{
        ProtocolError,
        wire::{Pumped, Reading, Wire},
    },
};

/// What came of it.
pub enum Asked {
    /// A login.
    Login(Box<Startup>),
    /// A cancel request.
    Cancel {
        /// The process named.
        process: u32,
        /// Its key.
        key: Box<[u8]>,
    },
    /// The workload went away: it had only wanted to know whether there is TLS.
    Nothing,
}

/// Why there is neither.
pub enum Ended {
    /// What was sent is refused in words.
    Refused(Refusal),
    /// The connection broke.
    Broken(ProtocolError),
}

/// Reads until the login or a cancel request has come; `way` says how far it got with encryption.
pub async fn negotiate(
    wire: &mut Wire,
    dial: &dyn Dial,
    gate: &Gate,
    way: &mut Way,
    until: Instant,
) -> Result<Asked, Ended> {
    let mut gss_asked = false;
    loop {
        let parsed =
            startup::parse(&wire.down.input).map_err(|refused| Ended::Refused(malformed(refused)))?;
        let Some((length, first)) = parsed else {
            if !more(wire, until).await? {
                return Ok(Asked::Nothing);
            }
            continue;
        };
        wire.down.input.advance(length);
        match first {
            First::Startup(startup) => return Ok(Asked::Login(Box::new(startup))),
            First::Cancel { process, key } => return Ok(Asked::Cancel { process, key }),
            // Once, and not inside TLS: as the server takes them.
            First::Ssl if *way == Way::Plain => {
                if !wire.down.input.is_empty() {
                    return Err(Ended::Refused(injected()));
                }
                wire.down.output.put_u8(b'S');
                flush(wire, until).await?;
                begin_tls(wire, dial, gate).await?;
                *way = Way::Asked;
            }
            First::Gss if *way == Way::Plain && !gss_asked => {
                gss_asked = true;
                wire.down.output.put_u8(b'N');
            }
            First::Ssl => return Err(Ended::Refused(malformed(Refused::Version(80_877_103)))),
            First::Gss => return Err(Ended::Refused(malformed(Refused::Version(80_877_104)))),
        }
    }
}

/// Ends the workload's TLS here. What it sent before the handshake would count as if it had come after it
/// (CVE-2021-23222), so there must be nothing of that.
async fn begin_tls(wire: &mut Wire, dial: &dyn Dial, gate: &Gate) -> Result<(), Ended> {
    let Some(plain) = wire.down.take_stream() else {
        return Err(Ended::Refused(injected()));
    };
    match dial.accept_tls(plain, ALPN).await {
        Ok((stream, facts)) => {
            wire.down.put_stream(stream);
            gate.tls_started(facts);
            Ok(())
        }
        Err(error) => {
            tracing::debug!(workload = %gate.workload(), "TLS with the workload: {error}");
            Err(Ended::Broken(ProtocolError::Cut(error.reason)))
        }
    }
}

/// Reads on; whether there is more, or an orderly end between messages.
async fn more(wire: &mut Wire, until: Instant) -> Result<bool, Ended> {
    if wire.down.eof {
        return if wire.down.input.is_empty() {
            Ok(false)
        } else {
            Err(Ended::Refused(malformed(Fault::Truncated.into())))
        };
    }
    let reading = Reading {
        downstream: true,
        upstream: false,
    };
    match wire.pump(reading, until).await {
        Ok(Pumped::Progress) => Ok(true),
        Ok(Pumped::TimedOut) => Err(Ended::Refused(Refusal {
            reason: Reason::Timeout,
            code: "57P05",
            message: "no login came in time".into(),
            hint: None,
            old_style: false,
        })),
        // A reset before anything was said is an end like any other.
        Err(_) if wire.down.input.is_empty() => Ok(false),
        Err(e) => Err(Ended::Broken(broken(e))),
    }
}

async fn flush(wire: &mut Wire, until: Instant) -> Result<(), Ended> {
    while !wire.down.is_flushed() {
        match wire.pump(Reading::default(), until).await {
            Ok(Pumped::Progress) => {}
            Ok(Pumped::TimedOut) => return Err(Ended::Broken(ProtocolError::Timeout)),
            Err(e) => return Err(Ended::Broken(broken(e))),
        }
    }
    Ok(())
}

fn injected() -> Refusal {
    Refusal {
        reason: Reason::ProtocolAmbiguous,
        code: "08P01",
        message: "received unencrypted data after SSL request".into(),
        hint: None,
        old_style: false,
    }
}

fn malformed(refused: Refused) -> Refusal {
    let (reason, code) = match refused {
        Refused::Frame(fault) => (
            super::super::deny::reason_of(fault),
            match fault {
                Fault::TooLarge { .. } => "54000",
                Fault::Text => "22021",
                _ => "08P01",
            },
        ),
        // feature_not_supported
        Refused::Version(_) => (Reason::ProtocolError, "0A000"),
        // invalid_authorization_specification
        Refused::NoUser => (Reason::ProtocolError, "28000"),
        Refused::Ambiguous => (Reason::ProtocolAmbiguous, "08P01"),
        // name_too_long
        Refused::Name => (Reason::ProtocolAmbiguous, "42622"),
        // invalid_parameter_value
        Refused::Replication => (Reason::ProtocolError, "22023"),
    };
    let message = match refused {
        Refused::Frame(fault) => format!("invalid startup packet: {fault}"),
        other => other.to_string(),
    };
    Refusal {
        reason,
        code,
        message,
        hint: None,
        // Before version 3 errors had no fields.
        old_style: matches!(refused, Refused::Version(code) if code >> 16 < 3),
    }
}

/// The server's answer to a version or extensions that are not carried (NegotiateProtocolVersion).
pub fn put_negotiation(out: &mut BytesMut, newest: u32, extensions: &[Box<str>]) {
    super::super::frame::write(out, b'v', |out| {
        out.put_u32(newest);
        // As many as a startup message holds, which is few.
        out.put_u32(u32::try_from(extensions.len()).unwrap_or(0));
        for extension in extensions {
            super::super::frame::put_cstr(out, extension.as_bytes());
        }
    });
}
