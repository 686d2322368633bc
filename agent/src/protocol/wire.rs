//! Both legs of a connection, moved together in one task: no lock, no split, no task per direction.
//!
//! A protocol looks at the input buffers, fills the output buffers, and calls [`Wire::pump`] until something has
//! happened. It bounds memory by reading from a side only while it has room for what comes.

use std::{
    future::{Future as _, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite as _},
    time::{Instant, Sleep},
};
use zeroize::Zeroize as _;

use crate::{io::BoxStream, model::Side};

/// Room for a read at first, and after a pause.
const SMALL: usize = 8 * 1024;
/// Room for a read once reads fill what they are given.
const LARGE: usize = 64 * 1024;

/// One side of a connection.
pub(super) struct Leg {
    stream: BoxStream,
    /// Read and not yet used.
    pub input: BytesMut,
    /// To be written.
    pub output: BytesMut,
    /// The peer sent its last byte.
    pub eof: bool,
    /// A write failed: nothing can be sent any more, though something may still come.
    pub deaf: bool,
    /// Bytes written.
    pub written: u64,
    /// Bytes read.
    pub read: u64,
    /// What is written now is secret: it is wiped from the buffer once it has left.
    pub secret: bool,
    room: usize,
    unflushed: bool,
}

impl Leg {
    pub(super) fn new(stream: BoxStream) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            eof: false,
            deaf: false,
            written: 0,
            read: 0,
            secret: false,
            room: SMALL,
            unflushed: false,
        }
    }

    /// Reads once. `Ready(Ok(()))` when bytes or the end came.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.input.capacity() - self.input.len() < self.room / 2 {
            self.input.reserve(self.room);
        }
        let free = self.input.capacity() - self.input.len();
        match pin!(self.stream.read_buf(&mut self.input)).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => {
                self.eof = true;
                Poll::Ready(Err(error))
            }
            Poll::Ready(Ok(0)) => {
                self.eof = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(n)) => {
                self.read += n as u64;
                if n == free {
                    self.room = LARGE;
                }
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Writes what there is and flushes. `Ready` when some of it went.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wrote = false;
        while !self.output.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.output) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => {
                    if self.secret {
                        self.output[..n].zeroize();
                    }
                    self.output.advance(n);
                    self.written += n as u64;
                    self.unflushed = true;
                    wrote = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        if self.unflushed && Pin::new(&mut self.stream).poll_flush(cx)?.is_ready() {
            self.unflushed = false;
        }
        if wrote { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Whether everything written has left.
    pub(super) fn is_flushed(&self) -> bool {
        self.output.is_empty() && !self.unflushed
    }

    /// Takes the stream out to begin TLS on it; nothing moves until there is another. `None` when something was read
    /// that is not used, or is written that has not left: it would change sides.
    pub(super) fn take_stream(&mut self) -> Option<BoxStream> {
        let clean = self.input.is_empty() && self.is_flushed() && !self.eof;
        clean.then(|| std::mem::replace(&mut self.stream, Box::new(tokio::io::empty())))
    }

    /// Goes on with another stream.
    pub(super) fn put_stream(&mut self, stream: BoxStream) {
        self.stream = stream;
    }

    /// Uses up input that is secret: it is wiped.
    pub(super) fn wipe(&mut self, n: usize) {
        self.input[..n].zeroize();
        self.input.advance(n);
    }

    /// Drops what was to be written, wiped where it is secret.
    fn forget_output(&mut self) {
        if self.secret {
            self.output[..].zeroize();
        }
        self.output.clear();
    }

    /// Gives back buffers that a large message left behind.
    pub(super) fn trim(&mut self) {
        self.room = SMALL;
        for buffer in [&mut self.input, &mut self.output] {
            if buffer.is_empty() && buffer.capacity() > 2 * SMALL {
                *buffer = BytesMut::new();
            }
        }
    }

    /// Tells the peer that nothing more comes.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        self.forget_output();
    }
}

/// A failure, and whose side it was on.
#[derive(Debug)]
pub(super) struct Broken {
    pub side: Side,
    pub error: io::Error,
}

/// What a pump ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pumped {
    /// Bytes moved, or a side ended.
    Progress,
    /// The time was up.
    TimedOut,
}

/// From which sides to read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    pub downstream: bool,
    pub upstream: bool,
}

/// Both legs and one timer.
pub(super) struct Wire {
    pub down: Leg,
    pub up: Option<Leg>,
    timer: Pin<Box<Sleep>>,
}

impl Wire {
    pub(super) fn new(downstream: BoxStream) -> Self {
        Self {
            down: Leg::new(downstream),
            up: None,
            timer: Box::pin(tokio::time::sleep(Duration::from_secs(3600))),
        }
    }

    /// Writes whatever is to be written and reads where asked, until something happened or the time is up.
    pub(super) async fn pump(&mut self, reading: Reading, until: Instant) -> Result<Pumped, Broken> {
        poll_fn(|cx| self.poll_pump(cx, reading, until)).await
    }

    fn poll_pump(
        &mut self,
        cx: &mut Context<'_>,
        reading: Reading,
        until: Instant,
    ) -> Poll<Result<Pumped, Broken>> {
        let mut progress = false;
        let down = |error| Broken {
            side: Side::Downstream,
            error,
        };
        let up_error = |error| Broken {
            side: Side::Upstream,
            error,
        };
        if let Some(up) = &mut self.up {
            match up.poll_write(cx) {
                Poll::Ready(Ok(())) => progress = true,
                // It may have answered before it stopped listening.
                Poll::Ready(Err(error)) => {
                    if up.deaf {
                        return Poll::Ready(Err(up_error(error)));
                    }
                    up.deaf = true;
                    up.forget_output();
                    up.unflushed = false;
                    progress = true;
                }
                Poll::Pending => {}
            }
        }
        match self.down.poll_write(cx) {
            Poll::Ready(Ok(())) => progress = true,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(down(error))),
            Poll::Pending => {}
        }
        if reading.upstream
            && let Some(up) = &mut self.up
            && !up.eof
        {
            match up.poll_read(cx) {
                Poll::Ready(Ok(())) => progress = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(up_error(error))),
                Poll::Pending => {}
            }
        }
        if reading.downstream && !self.down.eof {
            match self.down.poll_read(cx) {
                Poll::Ready(Ok(())) => progress = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(down(error))),
                Poll::Pending => {}
            }
        }
        if progress {
            return Poll::Ready(Ok(Pumped::Progress));
        }
        if self.poll_timer(cx, until) {
            Poll::Ready(Ok(Pumped::TimedOut))
        } else {
            Poll::Pending
        }
    }

    /// The timer is set anew only when it fires or has to fire earlier: deadlines move with every operation, and
    /// moving a timer costs a lock.
    fn poll_timer(&mut self, cx: &mut Context<'_>, until: Instant) -> bool {
        if self.timer.deadline() > until {
            self.timer.as_mut().reset(until);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= until {
                return true;
            }
            self.timer.as_mut().reset(until);
        }
        false
    }

    /// Sends what is left downstream, says that no more comes, and reads on for a moment: closing with unread input
    /// would reset the connection, and the workload might lose the last answer.
    pub(super) async fn close(&mut self, patience: Duration) {
        let until = Instant::now() + patience;
        self.up = None;
        while !self.down.is_flushed() {
            match self.pump(Reading::default(), until).await {
                Ok(Pumped::Progress) => {}
                Ok(Pumped::TimedOut) | Err(_) => return,
            }
        }
        if !matches!(
            tokio::time::timeout_at(until, self.down.shutdown()).await,
            Ok(Ok(()))
        ) {
            return;
        }
        let mut budget = 1 << 20;
        while !self.down.eof && budget > 0 {
            self.down.input.clear();
            match self
                .pump(
                    Reading {
                        downstream: true,
                        upstream: false,
                    },
                    until,
                )
                .await
            {
                Ok(Pumped::Progress) => budget -= self.down.input.len().min(budget),
                Ok(Pumped::TimedOut) | Err(_) => return,
            }
        }
    }
}
