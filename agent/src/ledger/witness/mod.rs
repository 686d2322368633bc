//! Witnesses (c2sp.org/tlog-witness): others who see each checkpoint, check that it goes on from the one before, and
//! cosign it, so that not even who holds the host key can show two histories.
//!
//! A task of its own for each, off the writer's path. One that is slow, absent or says no delays nothing; what it said
//! last is in the status, and it is asked again after a growing pause.

pub mod cosignature;
mod submit;

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use reqwest::{Method, Url};
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::{
    cosignature::WitnessKey,
    submit::{Answer, Refusal},
};
use super::{
    Ledger, LedgerError,
    leaves::{from_entry, leaves, tree_at},
    note::split,
    parts::parts,
    queue::{Beside, lock},
    read,
    store::uint,
    tree::{CompactRange, Hash, Prover},
};
use crate::{
    config,
    io::fetch::{FetchError, Fetcher, Request, SetupError},
    model::{EntryKind, Rfc3339},
};

/// The pauses after a failure: from, and up to.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));
/// How far a witness's clock may be from this host's, in seconds.
const SKEW: u64 = 15 * 60;

/// How a witness fares, for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessStatus {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// How many entries the last checkpoint covers that it cosigned.
    pub size: u64,
    /// When it did, by its own clock, RFC 3339.
    pub at: Option<String>,
    /// Why it did not cosign since, if it did not.
    pub error: Option<String>,
}

/// Why witnesses cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum WitnessSetupError {
    /// The client.
    #[error("[[ledger.witness]] {name}: {why}")]
    Client {
        /// The witness.
        name: String,
        /// Why.
        why: SetupError,
    },
    /// The file with roots.
    #[error("[[ledger.witness]] {name}: ca_file: {why}")]
    Roots {
        /// The witness.
        name: String,
        /// Why.
        why: std::io::Error,
    },
    /// The key, which the configuration has checked.
    #[error("[[ledger.witness]]: key: {0}")]
    Key(#[from] super::note::NoteError),
    /// The URL, likewise.
    #[error("[[ledger.witness]]: url: {0}")]
    Url(&'static str),
}

/// The tasks that ask witnesses. They end when this is dropped.
#[derive(Default)]
pub struct Witnesses {
    states: Vec<Arc<Mutex<WitnessStatus>>>,
    tasks: Vec<tokio::task::AbortHandle>,
}

impl Drop for Witnesses {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Witnesses {
    /// Starts a task for each witness of the configuration.
    ///
    /// # Errors
    /// When a client cannot be made; a witness that does not answer is none of these.
    pub fn start(ledger: &Ledger, config: &[config::Witness]) -> Result<Self, WitnessSetupError> {
        let mut witnesses = Self::default();
        for one in config {
            let key = WitnessKey::parse(&one.key)?;
            let name = || key.name().to_owned();
            let pem = one.ca_file.as_ref().map(std::fs::read).transpose();
            let pem = pem.map_err(|why| WitnessSetupError::Roots { name: name(), why })?;
            let fetcher = Fetcher::new(pem.as_deref(), one.timeout)
                .map_err(|why| WitnessSetupError::Client { name: name(), why })?;
            let state = Arc::new(Mutex::new(WitnessStatus {
                name: name(),
                url: one.url.clone(),
                ..WitnessStatus::default()
            }));
            let asker = Asker {
                ledger: ledger.clone(),
                url: endpoint(&one.url).ok_or(WitnessSetupError::Url("is not a URL"))?,
                key,
                fetcher,
                interval: one.interval,
                state: Arc::clone(&state),
                known: None,
                old: 0,
                custody: 0,
            };
            witnesses.tasks.push(tokio::spawn(asker.run()).abort_handle());
            witnesses.states.push(state);
        }
        Ok(witnesses)
    }

    /// How they fare.
    #[must_use]
    pub fn status(&self) -> Vec<WitnessStatus> {
        self.states.iter().map(|state| lock(state).clone()).collect()
    }
}

/// `PREFIX/add-checkpoint`
fn endpoint(prefix: &str) -> Option<Url> {
    Url::parse(&format!("{}/add-checkpoint", prefix.trim_end_matches('/'))).ok()
}

/// The size of the last checkpoint that a witness cosigned, and when. It is in one of the last parts, or nowhere near.
fn last_of(dir: &Path, key: &WitnessKey) -> Result<Option<(u64, u64)>, LedgerError> {
    for part in parts(dir)?.iter().rev().take(8) {
        let conn = part.open()?;
        let mut statement = conn.prepare("SELECT size, signature FROM witness ORDER BY size DESC")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let line: String = row.get(1)?;
            if let Some(time) = key.time(&line) {
                return Ok(Some((uint(row.get(0)?), time)));
            }
        }
    }
    Ok(None)
}

/// Seconds since 1970 UTC as RFC 3339.
fn shown(time: u64) -> String {
    Rfc3339(
        i64::try_from(time)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000_000_000),
    )
    .to_string()
}

/// Why a round did not end in a cosignature.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Fetch(#[from] FetchError),
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Ledger(#[from] LedgerError),
}

/// A checkpoint with its proof, ready to be sent.
struct Offer {
    note: String,
    size: u64,
    proof: Vec<Hash>,
    /// The tree of that size: where the next proof begins.
    range: CompactRange,
}

struct Asker {
    ledger: Ledger,
    url: Url,
    key: WitnessKey,
    fetcher: Fetcher,
    interval: Duration,
    state: Arc<Mutex<WitnessStatus>>,
    /// The tree that the witness has seen, where it is known.
    known: Option<CompactRange>,
    /// How many entries the witness has seen.
    old: u64,
    /// Entries about custody when it was last asked, so that its own entries are no reason to ask again.
    custody: u64,
}

impl Asker {
    async fn run(mut self) {
        self.remember().await;
        let mut pause = PAUSES.0;
        loop {
            let next = match self.round().await {
                Ok(()) => {
                    lock(&self.state).error = None;
                    pause = PAUSES.0;
                    self.interval
                }
                Err(Failed::Ledger(LedgerError::Closed)) => return,
                Err(error) => {
                    tracing::warn!(witness = self.key.name(), %error, "no cosignature");
                    lock(&self.state).error = Some(error.to_string());
                    let now = pause;
                    pause = (pause * 2).min(PAUSES.1);
                    now.max(self.interval.min(PAUSES.1))
                }
            };
            tokio::time::sleep(next).await;
        }
    }

    /// What this witness cosigned last, from the file.
    async fn remember(&mut self) {
        self.custody = self.ledger.custody();
        let (dir, key) = (self.ledger.shared().dir.clone(), self.key.clone());
        let found = tokio::task::spawn_blocking(move || last_of(&dir, &key));
        // Without it the witness itself says what it has seen.
        if let Ok(Ok(Some((size, time)))) = found.await {
            self.old = size;
            let mut state = lock(&self.state);
            (state.size, state.at) = (size, Some(shown(time)));
        }
    }

    /// Asks once, and once more where the witness has seen something else than was thought.
    async fn round(&mut self) -> Result<(), Failed> {
        let custody = self.ledger.custody();
        let head = self.ledger.status().checkpoint_size;
        let (news, own) = (head.saturating_sub(self.old), custody - self.custody);
        if head == 0 || (self.old > 0 && news <= own) {
            return Ok(());
        }
        for again in [true, false] {
            let offer = self.offer().await?;
            let text = split(&offer.note).map_or("", |(text, _)| text);
            let body = submit::request(self.old, &offer.proof, &offer.note);
            let request = Request::new(Method::POST).bytes("text/plain", body.into_bytes(), "*/*");
            let answer = self.fetcher.send(&self.url, request).await?;
            match submit::read(answer.status, &answer.body, &self.key, text)? {
                Answer::Cosigned { line, time } => {
                    self.record(&offer, line, time).await?;
                    self.custody = custody;
                    return Ok(());
                }
                Answer::Size(seen) if seen > offer.size => {
                    let size = self.ledger.size().0;
                    if seen > size {
                        return Err(Refusal::Behind { seen, size }.into());
                    }
                    // Of a checkpoint that is not to be seen yet: the next one goes on from there.
                    (self.old, self.known) = (seen, None);
                    return Ok(());
                }
                Answer::Size(seen) => self.old = seen,
            }
            self.known = None;
            if !again {
                return Err(Refusal::Form.into());
            }
        }
        Ok(())
    }

    /// The newest checkpoint, with the proof from what the witness has seen.
    async fn offer(&self) -> Result<Offer, Failed> {
        let (ledger, old, known) = (self.ledger.clone(), self.old, self.known.clone());
        let made = tokio::task::spawn_blocking(move || -> Result<Offer, LedgerError> {
            let shared = ledger.shared();
            let live = shared.live().0;
            let conn = read::open(&live)?;
            let sql = "SELECT size, note FROM checkpoint ORDER BY size DESC LIMIT 1";
            let (size, note) = conn.query_row(sql, [], |r| Ok((uint(r.get(0)?), r.get::<_, String>(1)?)))?;
            // A host that loses power must not come back with less than a witness has seen.
            shared.sync().map_err(|e| LedgerError::file(&live, &e))?;
            let dir = shared.dir.clone();
            let mut range = match known.filter(|known| known.size() == old) {
                Some(known) => known,
                None if old == 0 => CompactRange::default(),
                None => tree_at(&dir, old)?,
            };
            let missing = || LedgerError::Database {
                why: "no proof can be made; run verify".into(),
            };
            let mut prover = (old > 0)
                .then(|| Prover::consistency(&range, old, size).ok_or_else(missing))
                .transpose()?;
            if old == 0 {
                range = tree_at(&dir, size)?;
            } else {
                let conns = from_entry(&dir, old)?;
                leaves(&conns, old, size, |leaf| {
                    range.append(leaf);
                    if let Some(prover) = &mut prover {
                        prover.leaf(leaf);
                    }
                })?;
            }
            let proof = match prover {
                Some(prover) => prover.finish().ok_or_else(missing)?,
                None => Vec::new(),
            };
            Ok(Offer {
                note,
                size,
                proof,
                range,
            })
        });
        made.await
            .unwrap_or(Err(LedgerError::Closed))
            .map_err(Failed::from)
    }

    /// Puts a cosignature on record.
    async fn record(&mut self, offer: &Offer, line: String, time: u64) -> Result<(), Failed> {
        let ns = self.ledger.shared().clock.now_ns();
        let now = u64::try_from(ns / 1_000_000_000).unwrap_or(0);
        if time.abs_diff(now) > SKEW {
            return Err(Refusal::Time(time).into());
        }
        let at = shown(time);
        let detail = json!({ "at": at, "size": offer.size, "witness": self.key.to_string() });
        let entry = super::entry(
            EntryKind::Ledger,
            ns,
            json!({ "event": "witnessed", "detail": detail }),
        );
        let beside = Beside::Witness {
            size: offer.size,
            signature: line.clone(),
        };
        self.ledger.append_beside(entry, beside).await?;
        (self.old, self.known) = (offer.size, Some(offer.range.clone()));
        let mut state = lock(&self.state);
        (state.size, state.at) = (offer.size, Some(at));
        Ok(())
    }
}
