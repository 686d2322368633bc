//! One stream of messages: several may be on their way, and are answered as their answers come (RFC 7766 section 7).

use std::time::Duration;

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{
    super::{
        ProtocolError,
        wire::{Pumped, Reading, Wire},
    },
    answer, frame, query,
    rate::Rates,
};
use crate::{
    gate::Gate,
    io::BoxStream,
    ledger::LedgerError,
    model::{Reason, Transport},
};

/// Messages of one stream that are answered at once; more wait, and are not read.
const AT_ONCE: usize = 32;
/// Bytes of answers that wait for a workload which does not read them.
const ROOM: usize = 256 * 1024;
/// How long a refused workload has to read the last answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Carries a stream until either side ends it.
pub async fn serve(downstream: BoxStream, gate: &Gate, rates: &Rates) -> Result<(), ProtocolError> {
    let mut wire = Wire::new(downstream);
    let result = carry(&mut wire, gate, rates).await;
    match &result {
        Err(ProtocolError::Downstream(_) | ProtocolError::Ledger(_)) => {}
        _ => wire.close(gate.limits().handshake_timeout.min(PATIENCE)).await,
    }
    result
}

/// What happened next.
enum Next {
    Moved(Pumped),
    Answered(Result<Option<Vec<u8>>, LedgerError>),
    Stopping,
}

async fn carry(wire: &mut Wire, gate: &Gate, rates: &Rates) -> Result<(), ProtocolError> {
    let mut pending = FuturesUnordered::new();
    let stopping = gate.stopping();
    tokio::pin!(stopping);
    let mut ended: Option<Reason> = None;
    let mut is_stopping = false;
    // Of datagrams one says nothing about the next.
    let datagrams = gate.transport() == Transport::Udp;
    loop {
        let open = ended.is_none() && !is_stopping;
        while open
            && pending.len() < AT_ONCE
            && wire.down.output.len() < ROOM
            && let Some(message) = frame::take(&mut wire.down.input)
        {
            let read = query::read(&message);
            if let Err((_, fault)) = &read
                && fault.ends_stream()
                && !datagrams
            {
                ended = Some(fault.reason());
            }
            pending.push(answer::answer(gate, rates, read, message.len()));
            if ended.is_some() {
                break;
            }
        }
        let open = open && ended.is_none();
        let over = !open || wire.down.eof;
        if over && pending.is_empty() && wire.down.is_flushed() {
            return match (ended, wire.down.input.is_empty() || is_stopping) {
                (Some(reason), _) => Err(ProtocolError::Refused(reason)),
                (None, true) => Ok(()),
                (None, false) => Err(ProtocolError::Downstream(
                    std::io::ErrorKind::UnexpectedEof.into(),
                )),
            };
        }
        let reading = Reading {
            downstream: open && wire.down.input.len() < frame::MOST,
            upstream: false,
        };
        let until = Instant::now() + gate.limits().idle_timeout;
        let next = tokio::select! {
            biased;
            Some(done) = pending.next(), if !pending.is_empty() => Next::Answered(done),
            () = &mut stopping, if !is_stopping => Next::Stopping,
            moved = wire.pump(reading, until) => match moved {
                Ok(moved) => Next::Moved(moved),
                Err(broken) => return Err(ProtocolError::Downstream(broken.error)),
            },
        };
        match next {
            Next::Moved(Pumped::Progress) => {}
            // Held queries have a patience of their own.
            Next::Moved(Pumped::TimedOut) if !pending.is_empty() => {}
            Next::Moved(Pumped::TimedOut) => return Err(ProtocolError::Timeout),
            Next::Stopping => is_stopping = true,
            Next::Answered(done) => {
                if let Some(bytes) = done? {
                    frame::put(&bytes, &mut wire.down.output);
                }
            }
        }
    }
}
