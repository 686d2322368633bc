//! Approvals: what is held for humans, what they said, and what that lets pass.
//!
//! [`Approvals::request`] is the gate's side: it puts a held operation on record, and gives a [`Ticket`] to wait with.
//! [`Approvals::answer`] is the approvers' side. Both are on record before they have an effect. Nothing here lets an
//! operation pass by itself: an approval is put into the question that policy is asked again.
//!
//! Invariants: no answer, no yes. An approval is for exactly one workload, identity and policy set, and ends with any
//! of them. Whatever a workload can fill is bounded per workload.

mod answer;
mod ask;
mod book;
mod break_glass;
mod deadline;
mod end;
mod entries;
mod grant;
mod notice;
mod orphans;
mod rules;
mod shape;
mod show;
#[cfg(test)]
mod tests;
mod ticket;
mod view;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::hmac;
use tokio::sync::{broadcast, oneshot};
use uuid::Uuid;

pub use self::{
    ask::{Ask, Payload},
    notice::{Notice, NoticeKind},
    rules::AnswerError,
    ticket::{Ticket, Told},
    view::{
        Answer, AnswerView, BreakGlassView, FloodView, GrantView, Overview, RequirementView, Scope, State,
        View,
    },
};
use self::{
    book::{Book, Request},
    break_glass::Pending,
    deadline::Deadline,
};
use crate::{
    clock::Clock,
    config,
    ledger::{Ledger, LedgerError},
    model::Reason,
    policy::PolicyStore,
};

/// Notices that a slow listener may fall behind.
const NOTICES: usize = 1_024;

/// What the approvals of an agent are made of.
pub struct Parts {
    /// Bounds and times.
    pub config: config::Approvals,
    /// Time.
    pub clock: Clock,
    /// This host's name, in every entry.
    pub host: Arc<str>,
    /// The record.
    pub ledger: Ledger,
    /// The policy in force, which answers are bound to.
    pub policy: PolicyStore,
    /// The key of digests.
    pub key: [u8; 32],
    /// Masks what humans write.
    pub mask: Mask,
}

/// Masks what humans write, and what they are shown of shapes.
pub type Mask = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// The approvals of this agent; clones share them.
#[derive(Clone)]
pub struct Approvals(Arc<Inner>);

struct Inner {
    config: arc_swap::ArcSwap<config::Approvals>,
    clock: Clock,
    host: Arc<str>,
    ledger: Ledger,
    policy: PolicyStore,
    key: hmac::Key,
    mask: arc_swap::ArcSwap<Mask>,
    book: Mutex<Book>,
    pending: Mutex<BTreeMap<Uuid, Pending>>,
    /// One answer at a time, so that what is recorded is what it was decided on.
    answering: tokio::sync::Mutex<()>,
    notices: broadcast::Sender<Notice>,
    /// Where the page is, without a slash at its end.
    page: arc_swap::ArcSwapOption<String>,
}

/// Why an operation cannot wait for humans.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Nobody can be asked.
    #[error("this host has no approvers")]
    NoApprovers,
    /// A human said no to exactly this a short while ago.
    #[error("{0}")]
    Denied(Arc<str>),
    /// Too much waits already.
    #[error("{0}")]
    Full(&'static str),
    /// It cannot be recorded.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl RequestError {
    /// The reason, for entry and error.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::NoApprovers => Reason::ApprovalRequired,
            Self::Denied(_) => Reason::ApprovalDenied,
            Self::Full(_) => Reason::ApprovalOverloaded,
            Self::Ledger(_) => Reason::LedgerUnavailable,
        }
    }
}

impl Approvals {
    /// The approvals of an agent, without its task ([`Approvals::run`]).
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            config: arc_swap::ArcSwap::from_pointee(parts.config),
            clock: parts.clock,
            host: parts.host,
            ledger: parts.ledger,
            policy: parts.policy,
            key: hmac::Key::new(hmac::HMAC_SHA256, &parts.key),
            mask: arc_swap::ArcSwap::from_pointee(parts.mask),
            book: Mutex::default(),
            pending: Mutex::default(),
            answering: tokio::sync::Mutex::default(),
            notices: broadcast::channel(NOTICES).0,
            page: arc_swap::ArcSwapOption::empty(),
        }))
    }

    /// Says where approvers answer, so that whoever waits can be told.
    pub fn page_is_at(&self, url: Option<&str>) {
        let url = url.map(|url| Arc::new(url.trim_end_matches('/').to_owned()));
        self.0.page.store(url);
    }

    /// Where a request is answered, where there is a page.
    #[must_use]
    pub fn page(&self, id: Uuid) -> Option<Arc<str>> {
        let page = self.0.page.load();
        page.as_ref().map(|url| format!("{url}/requests/{id}").into())
    }

    /// Other masking rules from now on.
    pub fn mask_by(&self, mask: Mask) {
        self.0.mask.store(Arc::new(mask));
    }

    /// Other bounds and times from now on.
    pub fn reload(&self, config: config::Approvals) {
        self.0.config.store(Arc::new(config));
    }

    /// The most bytes that one workload may keep in memory.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.0.config.load().held_bytes_per_workload
    }

    /// The most bytes of a payload that is held.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.0.config.load().payload_bytes
    }

    /// What is open, granted and ended; long texts cut ([`Approvals::get`] has them whole).
    #[must_use]
    pub fn overview(&self) -> Overview {
        let now = self.0.now();
        let book = self.0.book();
        let floods = book.loads().filter(|(_, load)| load.refused > 0);
        Overview {
            open: book
                .requests
                .values()
                .filter(|r| r.recorded)
                .map(|r| Arc::new(r.view(State::Open, None).brief()))
                .collect(),
            ended: book.ended.iter().cloned().collect(),
            grants: book
                .grants
                .values()
                .filter(|g| !g.until.is_over(now))
                .map(grant::Grant::view)
                .collect(),
            floods: floods
                .map(|(workload, load)| FloodView {
                    workload: workload.to_string(),
                    refused: load.refused,
                })
                .collect(),
            break_glass: {
                drop(book);
                self.0.pending().values().map(Pending::view).collect()
            },
        }
    }

    /// One request, open (whole) or ended in this run of the agent (long texts cut).
    #[must_use]
    pub fn get(&self, id: Uuid) -> Option<Arc<View>> {
        let book = self.0.book();
        match book.requests.get(&id).filter(|r| r.recorded) {
            Some(request) => Some(Arc::new(request.view(State::Open, None))),
            None => book.ended.iter().find(|v| v.id == id).cloned(),
        }
    }

    /// Tells of every change from now on. A listener that falls behind looks at [`Approvals::overview`].
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.0.notices.subscribe()
    }

    /// Puts a held operation before the approvers, or finds what serves it already.
    ///
    /// # Errors
    /// When nobody can be asked, a human said no to it, too much waits, or it cannot be recorded.
    pub async fn request(&self, ask: Ask) -> Result<Ticket, RequestError> {
        let inner = &self.0;
        let config = inner.config.load_full();
        if config.issuer.is_none() {
            return Err(RequestError::NoApprovers);
        }
        let digest = ask.digest(&inner.key);
        let now = inner.now();
        let wait = ask
            .decision
            .hold
            .as_ref()
            .and_then(|h| h.wait)
            .unwrap_or(config.hold_time);
        let (told, hears) = oneshot::channel();
        let (id, number, opened) = {
            let mut book = inner.book();
            if let Some(approval) = book.serve(&ask, &digest, now) {
                return Ok(Ticket::served(approval));
            }
            if let Some(why) = book.denied(&digest, now) {
                return Err(RequestError::Denied(why));
            }
            let load = book.load(&ask.workload);
            let bytes = ask.payload.bytes;
            let found = book.find(&digest);
            let kept = if found.is_some() { 0 } else { ask.kept_bytes() };
            let full = if found.is_none() && load.open >= config.open_per_workload {
                Some("this workload has as many open requests as it may have")
            } else if load.held >= config.held_per_workload {
                Some("as many operations of this workload are held as may be")
            } else if load.bytes.saturating_add(bytes).saturating_add(kept)
                > config.held_bytes_per_workload as u64
            {
                Some("what is held of this workload fills the memory that it may")
            } else {
                None
            };
            if let Some(why) = full {
                let first = book.refuse(&ask.workload);
                drop(book);
                if first {
                    inner.tell(Notice::flood(&ask.workload));
                }
                return Err(RequestError::Full(why));
            }
            let id = found.unwrap_or_else(|| {
                let until = Deadline::after(config.request_time, now);
                let request = Request::new(ask, digest, now, until, &**inner.mask.load_full());
                let id = request.id;
                book.open(request);
                id
            });
            let until = Deadline::after(wait, now).at_ns();
            let number = book.wait(id, bytes, until, told).unwrap_or_default();
            (id, number, found.is_none())
        };
        let ticket = Ticket::waiting(self.clone(), id, number, hears, wait);
        if opened {
            self.record_opened(id).await?;
        }
        Ok(ticket)
    }

    /// Puts a new request on record; nobody sees it before.
    async fn record_opened(&self, id: Uuid) -> Result<(), LedgerError> {
        let inner = &self.0;
        let entry = {
            let mut book = inner.book();
            // It may have ended already, with the agent.
            let Some(request) = book.requests.get_mut(&id) else {
                return Ok(());
            };
            request.asking = true;
            entries::requested(request, &inner.host)
        };
        if let Err(error) = inner.ledger.append(entry).await {
            let word = book::Word::Over(Reason::LedgerUnavailable);
            inner.book().end(id, State::Lapsed, &word, inner.now());
            return Err(error);
        }
        let view = {
            let mut book = inner.book();
            book.requests.get_mut(&id).map(|request| {
                request.recorded = true;
                Arc::new(request.view(State::Open, None).brief())
            })
        };
        if let Some(view) = view {
            inner.tell(Notice::of(NoticeKind::Asked, view));
        }
        Ok(())
    }
}

impl Request {
    fn new(
        ask: Ask,
        digest: [u8; 32],
        asked_ns: i64,
        until: Deadline,
        mask: &(dyn Fn(&str) -> String + Send + Sync),
    ) -> Self {
        let mut shapes = shape::shapes(&ask.operation);
        for shape in &mut shapes {
            // It is matched by what the protocol understood, and only shown and recorded as text.
            shape.text = mask(&shape.text);
        }
        Self {
            id: Uuid::now_v7(),
            shapes,
            ask,
            digest,
            asked_ns,
            until,
            given: Vec::new(),
            waiters: std::collections::VecDeque::new(),
            recorded: false,
            asking: false,
        }
    }
}

/// The key of digests, from the host's key for masked hashes.
#[must_use]
pub fn digest_key(host_key: &[u8; 32]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, host_key);
    let mut derived = [0; 32];
    derived.copy_from_slice(hmac::sign(&key, b"portcullis approval digest").as_ref());
    derived
}

impl Inner {
    fn now(&self) -> i64 {
        self.clock.now_ns()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> MutexGuard<'_, BTreeMap<Uuid, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn masked(&self, text: &str) -> String {
        (self.mask.load_full())(text)
    }

    fn tell(&self, notice: Notice) {
        // Without listeners nobody has to be told.
        let _ = self.notices.send(notice);
    }
}
