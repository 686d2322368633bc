//! RFC 3161 timestamps: a time-stamping authority states that a checkpoint was there at a time.
//!
//! Over the network a task of its own asks every now and then, off the writer's path. Where there is no network, a
//! request is carried out of the house by hand, and the answer back in.

mod token;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use reqwest::{Method, Url};
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use self::token::{TOKEN_MAX, Token, TokenFlaw, TsaRoots, request, token_of, verify};
use super::{
    Ledger, LedgerError, canonical,
    parts::parts,
    queue::{Beside, lock},
    read,
    store::uint,
    tree::sha256,
};
use crate::{
    config,
    io::fetch::{FetchError, Fetcher, Request, SetupError},
    model::{EntryKind, Rfc3339},
};

/// The pauses after a failure: from, and up to.
const PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(900));
/// How far an authority's clock may be from this host's, in nanoseconds.
const SKEW_NS: i64 = 15 * 60 * 1_000_000_000;

/// How the time-stamping authority fares, for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimestampStatus {
    /// Where it is.
    pub url: String,
    /// How many entries the last checkpoint covers that was stamped in this run.
    pub size: u64,
    /// When, by its clock, RFC 3339.
    pub at: Option<String>,
    /// Why there was none since.
    pub error: Option<String>,
}

/// A timestamp on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamped {
    /// How many entries the checkpoint covers.
    pub size: u64,
    /// When, RFC 3339.
    pub at: String,
    /// The subject of the authority's certificate.
    pub tsa: String,
}

/// Why there is no timestamp.
#[derive(Debug, thiserror::Error)]
pub enum StampError {
    /// The authority cannot be reached.
    #[error("{0}")]
    Fetch(#[from] FetchError),
    /// It answered with an HTTP status.
    #[error("the time-stamping authority answered with status {0}")]
    Status(u16),
    /// What it answered.
    #[error("the timestamp cannot be used: {0}")]
    Token(#[from] TokenFlaw),
    /// Its clock is wrong, or it sent an old answer.
    #[error("the timestamp is of another time ({0}) than now")]
    Time(String),
    /// No checkpoint of this ledger has the hash that it is about.
    #[error("the timestamp is about no checkpoint of this ledger")]
    Unknown,
    /// The ledger.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
}

/// Why the authority cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum TimestampSetupError {
    /// The client.
    #[error("[ledger.timestamp]: {0}")]
    Client(#[from] SetupError),
    /// The URL, which the configuration has checked.
    #[error("[ledger.timestamp]: url is not a URL")]
    Url,
    /// The file with roots.
    #[error("[ledger.timestamp]: ca_file: {0}")]
    Roots(#[from] std::io::Error),
    /// What is in it.
    #[error("[ledger.timestamp]: ca_file: {0}")]
    Pem(#[from] TokenFlaw),
}

/// The task that asks; it ends when this is dropped.
pub struct Timestamps {
    state: Arc<Mutex<TimestampStatus>>,
    task: tokio::task::AbortHandle,
}

impl Drop for Timestamps {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Timestamps {
    /// Starts it.
    ///
    /// # Errors
    /// When the configuration cannot be used; an authority that does not answer is no error.
    pub fn start(ledger: &Ledger, config: &config::Timestamp) -> Result<Self, TimestampSetupError> {
        let pem = config.ca_file.as_ref().map(std::fs::read).transpose()?;
        let roots = pem.as_deref().map(TsaRoots::from_pem).transpose()?;
        let state = Arc::new(Mutex::new(TimestampStatus {
            url: config.url.clone(),
            ..TimestampStatus::default()
        }));
        let asker = Asker {
            ledger: ledger.clone(),
            url: Url::parse(&config.url).map_err(|_| TimestampSetupError::Url)?,
            fetcher: Fetcher::new(None, config.timeout)?,
            roots,
            interval: config.interval,
            state: Arc::clone(&state),
            size: 0,
            custody: ledger.custody(),
        };
        let task = tokio::spawn(asker.run()).abort_handle();
        Ok(Self { state, task })
    }

    /// How it fares.
    #[must_use]
    pub fn status(&self) -> TimestampStatus {
        lock(&self.state).clone()
    }
}

struct Asker {
    ledger: Ledger,
    url: Url,
    fetcher: Fetcher,
    roots: Option<TsaRoots>,
    interval: Duration,
    state: Arc<Mutex<TimestampStatus>>,
    /// The size that was stamped last.
    size: u64,
    /// Entries about custody at that time: they are no reason to ask again.
    custody: u64,
}

impl Asker {
    async fn run(mut self) {
        let mut pause = PAUSES.0;
        loop {
            let next = match self.round().await {
                Ok(()) => {
                    lock(&self.state).error = None;
                    pause = PAUSES.0;
                    self.interval
                }
                Err(StampError::Ledger(LedgerError::Closed)) => return,
                Err(error) => {
                    tracing::warn!(url = %self.url, %error, "no timestamp");
                    lock(&self.state).error = Some(error.to_string());
                    let now = pause;
                    pause = (pause * 2).min(PAUSES.1);
                    now
                }
            };
            tokio::time::sleep(next).await;
        }
    }

    async fn round(&mut self) -> Result<(), StampError> {
        let custody = self.ledger.custody();
        let head = self.ledger.status().checkpoint_size;
        let (news, own) = (head.saturating_sub(self.size), custody - self.custody);
        if head == 0 || (self.size > 0 && news <= own) {
            return Ok(());
        }
        let (size, note) = self.ledger.newest_checkpoint().await?;
        let nonce: u64 = rand::random();
        let body = request(&sha256(&[note.as_bytes()]), Some(nonce));
        let request = Request::new(Method::POST).bytes(
            "application/timestamp-query",
            body,
            "application/timestamp-reply",
        );
        let answer = self.fetcher.send(&self.url, request).await?;
        if answer.status != 200 {
            return Err(StampError::Status(answer.status));
        }
        let token = verify(&answer.body, note.as_bytes(), Some(nonce), self.roots.as_ref())?;
        let now = self.ledger.shared().clock.now_ns();
        if token.at_ns.abs_diff(now) > SKEW_NS.unsigned_abs() {
            return Err(StampError::Time(Rfc3339(token.at_ns).to_string()));
        }
        let bytes = token_of(&answer.body)?.to_vec();
        let stamped = self
            .ledger
            .stamp(size, bytes, &token, &serde_json::Value::Null)
            .await?;
        (self.size, self.custody) = (size, custody);
        let mut state = lock(&self.state);
        (state.size, state.at) = (size, Some(stamped.at));
        Ok(())
    }
}

impl Ledger {
    /// The newest checkpoint, which outlives a loss of power.
    async fn newest_checkpoint(&self) -> Result<(u64, String), LedgerError> {
        let ledger = self.clone();
        let found = tokio::task::spawn_blocking(move || {
            let shared = ledger.shared();
            let live = shared.live().0;
            let conn = read::open(&live)?;
            let sql = "SELECT size, note FROM checkpoint ORDER BY size DESC LIMIT 1";
            let row = conn.query_row(sql, [], |r| Ok((uint(r.get(0)?), r.get(1)?)))?;
            shared.sync().map_err(|e| LedgerError::file(&live, &e))?;
            Ok(row)
        });
        found.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Puts a token on record that was brought by hand: an answer to a request that [`timestamp_request`] made.
    ///
    /// # Errors
    /// When it is wrong, or about no checkpoint of this ledger.
    pub async fn add_timestamp(
        &self,
        answer: Vec<u8>,
        roots: Option<TsaRoots>,
        actor: serde_json::Value,
    ) -> Result<Stamped, StampError> {
        let dir = self.shared().dir.clone();
        let found = tokio::task::spawn_blocking(move || -> Result<_, StampError> {
            let bytes = token_of(&answer)?.to_vec();
            for part in parts(&dir)?.iter().rev() {
                let conn = part.open()?;
                let mut statement = conn
                    .prepare("SELECT size, note FROM checkpoint ORDER BY size DESC")
                    .map_err(LedgerError::from)?;
                let mut rows = statement.query([]).map_err(LedgerError::from)?;
                while let Some(row) = rows.next().map_err(LedgerError::from)? {
                    let size: i64 = row.get(0).map_err(LedgerError::from)?;
                    let note: String = row.get(1).map_err(LedgerError::from)?;
                    match verify(&bytes, note.as_bytes(), None, roots.as_ref()) {
                        Err(TokenFlaw::Imprint) => {}
                        Err(e) => return Err(e.into()),
                        Ok(token) => return Ok((uint(size), bytes, token)),
                    }
                }
            }
            Err(StampError::Unknown)
        });
        let (size, bytes, token) = found.await.unwrap_or(Err(LedgerError::Closed.into()))?;
        Ok(self.stamp(size, bytes, &token, &actor).await?)
    }

    async fn stamp(
        &self,
        size: u64,
        bytes: Vec<u8>,
        token: &Token,
        actor: &serde_json::Value,
    ) -> Result<Stamped, LedgerError> {
        let at = Rfc3339(token.at_ns).to_string();
        let mut members = json!({
            "event": "timestamped",
            "detail": { "at": at, "sha256": hex::encode(sha256(&[&bytes])), "size": size, "tsa": token.tsa },
        });
        if let (false, Some(map)) = (actor.is_null(), members.as_object_mut()) {
            map.insert("actor".into(), actor.clone());
        }
        debug_assert!(canonical::check(&canonical::to_string(&members)).is_ok());
        let entry = super::entry(EntryKind::Ledger, self.shared().clock.now_ns(), members);
        self.append_beside(entry, Beside::Timestamp { size, token: bytes })
            .await?;
        Ok(Stamped {
            size,
            at,
            tsa: token.tsa.clone(),
        })
    }
}

/// A request to be carried to an authority by hand, over the newest checkpoint that is kept for ever: where the live
/// part begins. Seal first, so that this covers what is recorded so far.
///
/// # Errors
/// When the ledger cannot be read or has no such checkpoint.
pub fn timestamp_request(dir: &std::path::Path) -> Result<(u64, Vec<u8>), LedgerError> {
    for part in parts(dir)?.iter().rev() {
        let conn = part.open()?;
        let sql =
            "SELECT size, note FROM checkpoint WHERE size = (SELECT min(size) FROM frontier) AND size > 0";
        let mut statement = conn.prepare(sql)?;
        let mut rows = statement.query([])?;
        if let Some(row) = rows.next()? {
            let (size, note): (i64, String) = (row.get(0)?, row.get(1)?);
            return Ok((uint(size), request(&sha256(&[note.as_bytes()]), None)));
        }
    }
    Err(LedgerError::NotFound {
        what: "sealed segment",
        id: "any".into(),
    })
}
