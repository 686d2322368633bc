//! A connection whose protocol is not recognised: one operation, then bytes both ways.
//!
//! Only metadata and byte counts are claimed of it; nothing but secrets in use is masked, and no payload is recorded.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{
    Detection, Hint, Protocol, ProtocolError,
    watch::{PAUSE, Watch},
    wire::{Leg, Pumped, Reading, Wire},
};
use crate::{
    gate::{Dial, Gate, Permit},
    io::BoxStream,
    model::{Destination, Direction, Operation, OperationId, Reason, Resource, Side, Value},
};

/// Bytes kept of either direction while the other side is not reading.
const ROOM: usize = 256 * 1024;

/// The fallback: blind TCP.
pub struct Tcp;

impl Protocol for Tcp {
    fn name(&self) -> &'static str {
        "tcp"
    }

    fn detect(&self, hint: &Hint<'_>) -> Detection {
        if hint.first_bytes.is_empty() {
            Detection::ServerSpeaksFirst
        } else {
            Detection::Yes
        }
    }

    fn serve<'a>(
        &'a self,
        downstream: BoxStream,
        upstream: &'a dyn Dial,
        gate: &'a Gate,
    ) -> BoxFuture<'a, Result<(), ProtocolError>> {
        Box::pin(serve(downstream, upstream, gate))
    }
}

async fn serve(downstream: BoxStream, dial: &dyn Dial, gate: &Gate) -> Result<(), ProtocolError> {
    let permit = match gate.authorize(operation(gate)).await {
        Ok(permit) => permit,
        // There is no error that every protocol understands: the connection ends.
        Err(denied) => return Err(ProtocolError::Refused(denied.reason)),
    };
    let mut wire = Wire::new(downstream);
    match dial.connect(&permit).await {
        Ok(stream) => wire.up = Some(Leg::new(stream)),
        Err(error) => {
            permit.finish(error.reason, "").await?;
            return Err(ProtocolError::Cut(error.reason));
        }
    }
    relay(&mut wire, permit, gate.limits().idle_timeout).await
}

/// Moves bytes both ways, searched for secrets in use and otherwise unread, until both sides have ended; they count for the permit from here on.
pub(super) async fn relay(wire: &mut Wire, mut permit: Permit, idle: Duration) -> Result<(), ProtocolError> {
    let mut counted = (wire.up.as_ref().map_or(0, |up| up.written), wire.down.written);
    let (mut up_shut, mut down_shut) = (false, false);
    let mut watch = Watch::new(permit.secrets());
    let mut masked = 0;
    let (reason, result) = loop {
        let Some(up) = &mut wire.up else {
            break (Reason::Completed, Ok(()));
        };
        if !watch.up(&mut wire.down, up) {
            // What it was in has not gone up.
            wire.up = None;
            let reason = Reason::SecretLeak;
            break (reason, Err(ProtocolError::Refused(reason)));
        }
        let hits = watch.down(up, &mut wire.down);
        permit.add_injected(hits - masked);
        masked = hits;
        let (up_now, down_now) = (up.written, wire.down.written);
        permit.add_bytes(Direction::Up, up_now - counted.0);
        permit.add_bytes(Direction::Down, down_now - counted.1);
        counted = (up_now, down_now);
        if wire.down.eof && up.is_flushed() && !up_shut {
            up_shut = true;
            // A side that cannot be told has gone; the other direction shows it.
            let _ = up.shutdown().await;
        }
        if up.eof && wire.down.is_flushed() && !down_shut {
            down_shut = true;
            let _ = wire.down.shutdown().await;
        }
        if (up_shut && down_shut) || up.deaf {
            break (Reason::Completed, Ok(()));
        }
        let reading = Reading {
            downstream: up.output.len() < ROOM,
            upstream: wire.down.output.len() < ROOM,
        };
        let pauses = watch.pauses();
        let patience = if pauses { PAUSE.min(idle) } else { idle };
        match wire.pump(reading, Instant::now() + patience).await {
            Ok(Pumped::Progress) => {}
            Ok(Pumped::TimedOut) if pauses => {
                if let Some(up) = &mut wire.up {
                    watch.release(&mut wire.down, up);
                }
            }
            Ok(Pumped::TimedOut) => break (Reason::Timeout, Err(ProtocolError::Timeout)),
            Err(broken) => {
                let error = match broken.side {
                    Side::Downstream => ProtocolError::Downstream(broken.error),
                    Side::Upstream => ProtocolError::Upstream(broken.error),
                };
                break (Reason::PeerClosed, Err(error));
            }
        }
    };
    permit.finish(reason, "").await?;
    result
}

fn operation(gate: &Gate) -> Operation {
    let destination = gate.original_dst().0;
    let server_name = gate.tls().and_then(|tls| tls.server_name.clone());
    let told = gate.told_names();
    let mut record = BTreeMap::new();
    if let Some(name) = &server_name {
        record.insert("server_name", Value::String(Arc::clone(name)));
    }
    if !told.is_empty() {
        let names = told.iter().map(|name| Value::String(Arc::clone(name)));
        record.insert("names", Value::Set(names.collect()));
    }
    let name = server_name.or_else(|| told.into_iter().next());
    Operation {
        id: OperationId::new(),
        protocol: "tcp",
        action: "tcp:connect",
        resource: Resource {
            kind: "TcpEndpoint",
            id: destination.to_string().into(),
            attributes: Vec::new(),
            parents: Vec::new(),
        },
        destination: Destination {
            address: destination.ip(),
            port: destination.port(),
            // By the certificate, or by the host's resolvers.
            name_verified: name.is_some(),
            name,
        },
        context: ("tcp", Value::Record(record)),
        recorded_context: None,
        recorded_resource: None,
        credential: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        gate::testing::Rig,
        protocol::conformance::{ALLOW, DENY, Sample, Turn, Upstream, exchange, taken_while_blocked},
    };

    #[tokio::test]
    async fn conforms() {
        let turns = [Turn::closing(b"ping", b"pong \0 and more")];
        let sample = Sample {
            protocol: &Tcp,
            sent: b"any ping",
            turns: &turns,
            operations: 1,
            garbage: &[],
            farewell: &[],
        };
        let rig = Rig::new(ALLOW);
        sample.passes_unchanged(&rig, 1).await;
        sample.bad_input_ends(&rig, 3).await;
        sample.denied_stays_here(&Rig::new(DENY)).await;
        let taken = taken_while_blocked(&rig, &Tcp, b"x", 10 << 20).await;
        assert!((1..1024 * 1024).contains(&taken), "{taken} bytes taken");
    }

    #[tokio::test]
    async fn the_destination_may_speak_first() {
        let turns = [
            Turn::new(b"", b"220 hello\r\n"),
            Turn::closing(b"QUIT\r\n", b"221 bye\r\n"),
        ];
        let upstream = Upstream::new(&turns);
        let rig = Rig::new(ALLOW);
        let went = exchange(&rig, &Tcp, None, &upstream, &[b"QUIT\r\n"]).await;
        assert_eq!(went.text(), "220 hello\r\n221 bye\r\n");
        assert_eq!((went.operations, went.up), (1, b"QUIT\r\n".to_vec()));
    }

    #[tokio::test]
    async fn secrets_pass_neither_way_and_nobody_waits_for_long() {
        use crate::model::SecretSink as _;
        let rig = Rig::new(ALLOW);
        rig.shared.secrets.replace("a", &[b"secret-value"]);
        // Both sides end their messages like a secret begins.
        let turns = [
            Turn::new(b"any s", b"220 se"),
            Turn {
                until: b"more".to_vec(),
                say: [&b"x secret-"[..], b"value y"].map(<[u8]>::to_vec).into(),
                close: true,
            },
        ];
        let upstream = Upstream::new(&turns);
        let went = exchange(&rig, &Tcp, None, &upstream, &[b"any s", b" and more"]).await;
        assert_eq!(went.text(), "220 sex ************ y");
        for pieces in [&[&b"x secret-value"[..]][..], &[b"x secret-", b"valu", b"e"]] {
            let upstream = Upstream::new(&[Turn::new(b"never", b"")]);
            let went = exchange(&rig, &Tcp, None, &upstream, pieces).await;
            assert!(
                matches!(went.result, Some(Err(ProtocolError::Refused(Reason::SecretLeak)))),
                "{went:?}"
            );
            assert!(b"x ".starts_with(&went.up), "{went:?}");
        }
    }

    #[tokio::test]
    async fn silence_ends_it() {
        let mut rig = Rig::new(ALLOW);
        rig.limits.idle_timeout = Duration::from_millis(50);
        let went = exchange(
            &rig,
            &Tcp,
            None,
            &Upstream::new(&[Turn::new(b"never", b"")]),
            &[b"x"],
        )
        .await;
        assert!(
            matches!(went.result, Some(Err(ProtocolError::Timeout))),
            "{went:?}"
        );
    }
}
