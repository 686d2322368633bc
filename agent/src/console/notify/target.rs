//! One target: its queue, its pace, its tries.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rand::Rng as _;
use reqwest::{Client, Url};
use serde_json::json;
use tokio::{sync::Notify, task::AbortHandle, time::Instant};

use super::{
    TargetStatus,
    message::{Gathered, Message},
    send::{self, Failure},
    slack, teams, webhook,
};
use crate::{
    approval::Notice,
    config::{self, NotifyKind},
    console::{ConsoleError, Desk},
    model::{EntryKind, Rfc3339},
};

/// How fast, how often.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// At least so long from one message to the next.
    pub gap: Duration,
    /// The pause after the first failed try; it doubles.
    pub retry: Duration,
    /// Tries for one message.
    pub tries: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            gap: Duration::from_secs(1),
            retry: Duration::from_secs(1),
            tries: 7,
        }
    }
}

/// A running target.
pub struct Target {
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl Drop for Target {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Shared {
    config: config::Notify,
    origin: Option<String>,
    answers: bool,
    gathered: Mutex<Gathered>,
    more: Notify,
    status: Mutex<TargetStatus>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Target {
    /// Starts it.
    ///
    /// # Errors
    /// When its roots cannot be used.
    pub fn start(
        desk: &Desk,
        config: &config::Notify,
        origin: Option<&str>,
        answers: bool,
        pace: Pace,
    ) -> Result<Self, ConsoleError> {
        let client = send::client(config.ca_file.as_deref()).map_err(|message| ConsoleError::Notify {
            name: config.name.clone(),
            message,
        })?;
        let kind = match config.kind {
            NotifyKind::Webhook => "webhook",
            NotifyKind::Slack => "slack",
            NotifyKind::Teams => "teams",
        };
        let shared = Arc::new(Shared {
            config: config.clone(),
            origin: origin.map(str::to_owned),
            answers,
            gathered: Mutex::default(),
            more: Notify::new(),
            status: Mutex::new(TargetStatus {
                name: config.name.clone(),
                kind: kind.into(),
                ..TargetStatus::default()
            }),
        });
        let task = tokio::spawn(work(Arc::clone(&shared), desk.clone(), client, pace)).abort_handle();
        Ok(Self { shared, task })
    }

    /// Whether it was made from just this.
    pub fn is(&self, config: &config::Notify, origin: Option<&str>, answers: bool) -> bool {
        let s = &self.shared;
        s.config == *config && s.origin.as_deref() == origin && s.answers == answers
    }

    /// One more to tell. Never waits.
    pub fn push(&self, notice: &Arc<Notice>) {
        lock(&self.shared.gathered).push(notice);
        self.shared.more.notify_one();
    }

    /// So many that were missed.
    pub fn missed(&self, n: u64) {
        lock(&self.shared.gathered).missed(n);
        self.shared.more.notify_one();
    }

    /// How it fares.
    pub fn status(&self) -> TargetStatus {
        lock(&self.shared.status).clone()
    }
}

async fn work(shared: Arc<Shared>, desk: Desk, client: Client, pace: Pace) {
    loop {
        shared.more.notified().await;
        let gathered = std::mem::take(&mut *lock(&shared.gathered));
        if gathered.is_empty() {
            continue;
        }
        let parts = desk.parts();
        let at = Rfc3339(parts.clock.now_ns()).to_string();
        let open = parts.approvals.overview().open.len();
        let message = gathered.into_message(at, &parts.host, shared.origin.as_deref(), open);
        let began = Instant::now();
        if let Some(body) = shared.body(&message) {
            deliver(&shared, &desk, &client, pace, &message, body).await;
        }
        // What comes in the meantime goes together.
        tokio::time::sleep_until(began + pace.gap).await;
    }
}

/// Sends a message, again and again within bounds; says so where it could not be.
async fn deliver(shared: &Shared, desk: &Desk, client: &Client, pace: Pace, message: &Message, body: Bytes) {
    let mut pause = pace.retry;
    let mut why = String::new();
    for number in 1..=pace.tries {
        match shared.once(desk, client, message, &body).await {
            Ok(()) => {
                let mut status = lock(&shared.status);
                status.sent += 1;
                status.error = None;
                return;
            }
            Err(Failure::Final(reason)) => {
                why = reason;
                break;
            }
            Err(Failure::Again(reason)) => {
                lock(&shared.status).error = Some(reason.clone());
                why = reason;
            }
        }
        if number < pace.tries {
            // Not all hosts at once.
            let jitter = rand::rng().random_range(0.5..=1.0);
            tokio::time::sleep(pause.mul_f64(jitter)).await;
            pause *= 2;
        }
    }
    let name = &shared.config.name;
    tracing::error!(target = %name, message = %message.id, "a notification was not taken: {why}");
    {
        let mut status = lock(&shared.status);
        status.failed += 1;
        status.error = Some(why.clone());
    }
    let detail = json!({ "target": name, "message": message.id, "counts": message.counts, "why": why });
    desk.note(
        EntryKind::Agent,
        json!({ "event": "notification_failed", "detail": detail }),
    );
}

impl Shared {
    fn body(&self, message: &Message) -> Option<Bytes> {
        let body = match self.config.kind {
            NotifyKind::Webhook => Some(webhook::body(message)),
            NotifyKind::Slack => slack::body(message, self.answers),
            NotifyKind::Teams => teams::body(message),
        };
        body.map(|body| body.to_string().into())
    }

    /// One try. Secrets are read for it, so that a new one counts at once.
    async fn once(
        &self,
        desk: &Desk,
        client: &Client,
        message: &Message,
        body: &Bytes,
    ) -> Result<(), Failure> {
        let url = match (&self.config.url, &self.config.url_credential) {
            (Some(url), _) => url.clone(),
            (None, Some(name)) => {
                let secret = desk.secret(name).await.map_err(Failure::Again)?;
                String::from_utf8_lossy(&secret).trim().to_owned()
            }
            (None, None) => return Err(Failure::Final("it has no URL".into())),
        };
        let url = Url::parse(&url).map_err(|_| Failure::Final("its URL cannot be read".into()))?;
        // What is in the configuration was checked there; a secret one is checked here.
        if url.scheme() != "https" && self.config.url.is_none() {
            return Err(Failure::Final("its URL is not https".into()));
        }
        let mut headers = vec![("portcullis-event", message.id.to_string())];
        if let Some(name) = &self.config.key_credential {
            let key = desk.secret(name).await.map_err(Failure::Again)?;
            let now = desk.parts().clock.now_seconds();
            headers.push(("portcullis-signature", webhook::signature(&key, now, body)));
        }
        send::post(client, url, body.clone(), &headers).await
    }
}
