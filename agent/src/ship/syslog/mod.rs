//! Events as RFC 5424, over TLS as RFC 5425 has it, or over plain TCP with the same framing (RFC 6587, octet counting).
//!
//! **What counts as taken.** Syslog has no acknowledgement. A piece of a batch counts as taken when the receiver's
//! kernel has acknowledged every byte of it (`SIOCOUTQ` is 0). What a receiver has not read by then is lost with it
//! when it is killed. So what was sent in the last minute (at most 4 MiB) is kept, and sent again on the next
//! connection unless the receiver ended the one before in an orderly way: with TLS's close_notify, or, without TLS, at a
//! time when nothing had been sent for a minute. A receiver may therefore see an event twice, and knows it by its id.
//! What is lost all the same: what a receiver had taken, kept in its memory for longer than that, and lost there; and
//! what it lost while this agent was stopped or restarted.

mod message;

use std::{
    collections::VecDeque,
    io,
    net::TcpStream,
    pin::Pin,
    task::{Context as Poller, Poll},
    time::Duration,
};

use futures_util::{future::BoxFuture, task::noop_waker_ref};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadBuf},
    time::{Instant, sleep, timeout_at},
};

use self::message::Style;
use super::{
    Accepted, Class, Context, Event, EventSink, Receipt, ShipError,
    form::{Form, view},
    net::{Connected, Target, Tls},
};
use crate::{
    config::ship::{self, SyslogTransport},
    io::BoxStream,
    redirect::unacknowledged,
};

/// Bytes that are sent before the receiver's kernel is asked whether it has them.
const PIECE: usize = 128 << 10;
/// Bytes that are kept, to be sent again when a connection breaks.
const KEPT: usize = 4 << 20;
/// And for how long.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// How often the kernel is asked, at first and at most.
const ASK: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(20));

/// The sink.
pub struct Syslog {
    form: Form,
    context: Context,
    target: Target,
    style: Style,
    /// Without progress for so long, a try has failed.
    patience: Duration,
    /// Taken out while something is sent: what was dropped in the middle is not used again.
    open: Option<Open>,
    /// Frames that count as taken.
    sent: VecDeque<(Instant, Vec<u8>)>,
    sent_bytes: usize,
    /// Whether those have to be sent again.
    doubtful: bool,
    /// Whether the last try did not come to its end.
    trying: bool,
}

struct Open {
    stream: BoxStream,
    socket: TcpStream,
    peer: String,
}

impl Syslog {
    /// To the receiver of a configuration that was checked. `timeout` is the worker's: a bit earlier this gives up by
    /// itself, to tell what was taken. Asks nobody yet.
    ///
    /// # Errors
    /// When the file with roots cannot be used.
    pub fn new(
        config: &ship::Syslog,
        form: Form,
        context: Context,
        timeout: Duration,
    ) -> Result<Self, ShipError> {
        let name = config.server_name.as_deref().unwrap_or(&config.host);
        let tls = match config.transport {
            SyslogTransport::Tls => Some(Tls::new(
                name,
                config.ca_file.clone(),
                config.certificate.clone(),
            )?),
            SyslogTransport::Tcp => None,
        };
        let style = Style {
            facility: config.facility,
            limit: usize::try_from(config.max_message).unwrap_or(usize::MAX),
            facts: form.facts.clone(),
        };
        Ok(Self {
            form,
            context,
            target: Target {
                host: config.host.clone(),
                port: config.port,
                tls,
            },
            style,
            patience: timeout.mul_f64(0.8),
            open: None,
            sent: VecDeque::new(),
            sent_bytes: 0,
            doubtful: false,
            trying: false,
        })
    }

    /// The connection there is, if it is still good; else a new one, on which everything doubtful has been sent again.
    async fn connection(&mut self, deadline: Instant) -> Result<Open, ShipError> {
        if let Some(mut open) = self.open.take() {
            match open.ended() {
                End::No => return Ok(open),
                // An orderly end: what was sent before was read.
                End::Clean if self.target.tls.is_some() => {}
                End::Clean | End::Broken => self.doubtful = true,
            }
        }
        let connected = self.target.connect(&self.context, &[]).await?;
        let mut open = settle(&self.target, connected).await?;
        self.forget_old();
        if self.doubtful && !self.sent.is_empty() {
            tracing::info!(
                receiver = %self.target.shown(), messages = self.sent.len(),
                "the connection was lost: what was sent last is sent again"
            );
            for (_, frame) in &self.sent {
                write(&mut open, frame, deadline).await?;
            }
            flush(&mut open, deadline).await?;
        }
        self.doubtful = false;
        Ok(open)
    }

    /// Keeps frames that count as taken, within bounds.
    fn keep(&mut self, frames: impl IntoIterator<Item = Vec<u8>>) {
        let now = Instant::now();
        for frame in frames {
            self.sent_bytes += frame.len();
            self.sent.push_back((now, frame));
        }
        while self.sent_bytes > KEPT {
            self.forget_first();
        }
        self.forget_old();
    }

    fn forget_old(&mut self) {
        while self.sent.front().is_some_and(|(at, _)| at.elapsed() > KEPT_FOR) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, frame)) = self.sent.pop_front() {
            self.sent_bytes -= frame.len();
        }
    }

    async fn try_send(&mut self, batch: &[Event]) -> Result<Accepted, ShipError> {
        let deadline = Instant::now() + self.patience;
        let mut open = self.connection(deadline).await?;
        let mut done = 0;
        while done < batch.len() {
            let mut frames = Vec::new();
            let mut bytes = 0;
            for event in &batch[done..] {
                let frame = message::frame(&view(event), &self.form.body(event), &self.style);
                bytes += frame.len();
                frames.push(frame);
                if bytes >= PIECE {
                    break;
                }
            }
            let sent = async {
                for frame in &frames {
                    write(&mut open, frame, deadline).await?;
                }
                flush(&mut open, deadline).await?;
                match open.ended() {
                    End::No => Ok(()),
                    End::Clean | End::Broken => Err(broken("it closed the connection")),
                }
            };
            if let Err(error) = sent.await {
                // Whatever came through of it comes again.
                self.doubtful = true;
                if done == 0 {
                    return Err(error);
                }
                tracing::debug!(receiver = %self.target.shown(), done, "a part of a batch was taken: {error}");
                return Ok(self.accepted(done, &open.peer));
            }
            done += frames.len();
            self.keep(frames);
        }
        let accepted = self.accepted(done, &open.peer);
        self.open = Some(open);
        Ok(accepted)
    }

    fn accepted(&self, done: usize, peer: &str) -> Accepted {
        let mut detail = serde_json::Map::new();
        detail.insert("acknowledged_by".into(), "tcp".into());
        detail.insert("peer".into(), peer.into());
        Accepted {
            done,
            rejected: Vec::new(),
            receipt: Receipt {
                place: self.target.shown(),
                detail,
            },
        }
    }
}

impl EventSink for Syslog {
    fn send<'a>(&'a mut self, batch: &'a [Event]) -> BoxFuture<'a, Result<Accepted, ShipError>> {
        Box::pin(async move {
            // Dropped in the middle: the connection is gone then, in a state that nobody knows.
            self.doubtful |= std::mem::replace(&mut self.trying, true);
            let done = self.try_send(batch).await;
            self.trying = false;
            done
        })
    }

    fn lasts(&self) -> bool {
        true
    }
}

/// With TLS 1.3 a receiver that does not like our certificate says so after the handshake is over here: what is
/// sent before that is read by nobody.
async fn settle(target: &Target, connected: Connected) -> Result<Open, ShipError> {
    let mut open = Open {
        stream: connected.stream,
        socket: connected.socket,
        peer: connected.peer.to_string(),
    };
    if target.tls.is_none() {
        return Ok(open);
    }
    let until =
        Instant::now() + (connected.round_trip * 4).clamp(Duration::from_millis(100), Duration::from_secs(2));
    let mut byte = [0; 64];
    loop {
        let read = open.stream.read(&mut byte);
        match timeout_at(until, read).await {
            Err(_) => return Ok(open),
            Ok(Ok(n)) if n > 0 => {}
            Ok(Ok(_)) => return Err(refused(target, "it closed the connection after the handshake")),
            Ok(Err(e)) => return Err(refused(target, &e.to_string())),
        }
    }
}

fn refused(target: &Target, why: &str) -> ShipError {
    ShipError::temporary(Class::Denied, format!("{}: {why}", target.shown()))
}

fn broken(why: impl Into<String>) -> ShipError {
    ShipError::temporary(Class::Broken, why)
}

fn stalled() -> ShipError {
    ShipError::temporary(Class::Timeout, "the receiver does not read")
}

async fn write(open: &mut Open, bytes: &[u8], deadline: Instant) -> Result<(), ShipError> {
    timeout_at(deadline, open.stream.write_all(bytes))
        .await
        .map_err(|_| stalled())?
        .map_err(|e| broken(e.to_string()))
}

/// Until the receiver's kernel has everything.
async fn flush(open: &mut Open, deadline: Instant) -> Result<(), ShipError> {
    timeout_at(deadline, open.stream.flush())
        .await
        .map_err(|_| stalled())?
        .map_err(|e| broken(e.to_string()))?;
    let (mut pause, most) = ASK;
    // Nothing tells when that is so: it has to be asked.
    while unacknowledged(&open.socket).map_err(|e| broken(e.to_string()))? > 0 {
        if let Some(e) = open.socket.take_error().map_err(|e| broken(e.to_string()))? {
            return Err(broken(e.to_string()));
        }
        if Instant::now() >= deadline {
            return Err(stalled());
        }
        sleep(pause).await;
        pause = (pause * 2).min(most);
    }
    Ok(())
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    No,
    /// The receiver said so.
    Clean,
    Broken,
}

impl Open {
    /// Looks, without waiting.
    fn ended(&mut self) -> End {
        match ended(&mut self.stream) {
            // Who closes without having read everything resets the connection, whatever it said before.
            End::Clean if !matches!(self.socket.take_error(), Ok(None)) => End::Broken,
            end => end,
        }
    }
}

/// What a receiver says beside is thrown away.
fn ended(stream: &mut BoxStream) -> End {
    let mut poller = Poller::from_waker(noop_waker_ref());
    let mut buffer = [0; 512];
    // Bounded: a receiver that talks without end is none.
    for _ in 0..64 {
        let mut read = ReadBuf::new(&mut buffer);
        match Pin::new(&mut **stream).poll_read(&mut poller, &mut read) {
            Poll::Pending => return End::No,
            Poll::Ready(Ok(())) if read.filled().is_empty() => return End::Clean,
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
            Poll::Ready(Err(_)) => return End::Broken,
        }
    }
    End::Broken
}
