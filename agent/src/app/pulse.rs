//! The watchdog: the service manager hears that the daemon lives only while everything does that a workload depends on.
//! A daemon that hangs is killed and started again; until then, and meanwhile, workloads wait and nothing escapes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use sd_notify::NotifyState;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{agent::Agent, service};
use crate::redirect::{RedirectError, Redirected, Redirector};

type Question = oneshot::Sender<()>;

/// A redirector whose accept loop answers whether it still asks for connections.
pub(super) struct Answering<R> {
    inner: R,
    asked: mpsc::Receiver<Question>,
}

/// What asks it.
pub(super) struct Pulse(mpsc::Sender<Question>);

pub(super) fn answering<R>(inner: R) -> (Answering<R>, Pulse) {
    let (ask, asked) = mpsc::channel(1);
    (Answering { inner, asked }, Pulse(ask))
}

impl<R: Redirector> Redirector for Answering<R> {
    fn next_connection(&mut self) -> BoxFuture<'_, Result<Redirected, RedirectError>> {
        Box::pin(async {
            loop {
                tokio::select! {
                    next = self.inner.next_connection() => return next,
                    Some(question) = self.asked.recv() => {
                        // Whoever asked may have lost patience.
                        let _ = question.send(());
                    }
                }
            }
        })
    }
}

impl Pulse {
    /// Whether the accept loop asks for connections.
    async fn beats(&self) -> bool {
        let (question, answer) = oneshot::channel();
        self.0.send(question).await.is_ok() && answer.await.is_ok()
    }
}

/// Tells the service manager three times in the time that it grants, for as long as all answers come.
pub(super) async fn watch(pulse: Pulse, agent: Arc<Agent>, socket: PathBuf) {
    let Some(granted) = sd_notify::watchdog_enabled() else {
        return;
    };
    let stopping = agent.front.shared.drain.stopping();
    let each = granted / 3;
    let watching = async {
        loop {
            match silent(&pulse, &agent, &socket, each).await {
                None => service::tell(&[NotifyState::Watchdog]),
                Some(part) => tracing::error!(
                    part,
                    "no answer: the service manager will restart the daemon unless one comes"
                ),
            }
            tokio::time::sleep(each).await;
        }
    };
    tokio::select! {
        () = watching => {}
        // While it stops, the stop's own timeout is what counts.
        () = stopping => {}
    }
}

/// The first part that does not answer within `patience`.
async fn silent(pulse: &Pulse, agent: &Agent, socket: &Path, patience: Duration) -> Option<&'static str> {
    let shared = &agent.front.shared;
    let policy = shared.policy.current();
    // What is stored already: it goes all the way through the writer to the disk, and changes nothing. An error is an
    // answer, too: the writer lives, and says in `status` what it lacks, which a restart would not bring.
    let ledger = shared.ledger.policy_set(policy.hash(), policy.text());
    let (accepts, writes, controls) = tokio::join!(
        timeout(patience, pulse.beats()),
        timeout(patience, ledger),
        timeout(patience, is_answered(socket)),
    );
    if !accepts.unwrap_or(false) {
        Some("the accept loop")
    } else if writes.is_err() {
        Some("the ledger's writer")
    } else if !controls.unwrap_or(false) {
        Some("the control socket")
    } else {
        None
    }
}

/// One request over the control socket, as a command would make it.
async fn is_answered(socket: &Path) -> bool {
    let ask = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream
            .write_all(b"GET /v1/self HTTP/1.1\r\nhost: portcullis\r\nconnection: close\r\n\r\n")
            .await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        Ok::<_, std::io::Error>(head)
    };
    ask.await.is_ok_and(|head| &head == b"HTTP/1.1 200")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redirect::Dummy;

    #[tokio::test]
    async fn it_beats_only_while_connections_are_asked_for() {
        let (_handle, dummy) = Dummy::new();
        let (mut redirector, pulse) = answering(dummy);
        assert!(timeout(Duration::from_millis(50), pulse.beats()).await.is_err());
        let accepting = tokio::spawn(async move {
            let _ = redirector.next_connection().await;
        });
        assert!(pulse.beats().await);
        accepting.abort();
        let _ = accepting.await;
        assert!(!pulse.beats().await);
    }
}
