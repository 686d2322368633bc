//! Sessions of the page: who a browser's cookie stands for, and until when.
//!
//! Invariants: a cookie's value is 256 random bits and kept only as its hash; a session never outlives the sign-in it
//! came from; the number of sessions and of sign-ins under way is bounded.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lc_rs::{constant_time, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

use crate::{identity::Attempt, model::Approver};

/// Sessions of all approvers.
const MAX_SESSIONS: usize = 1_000;
/// Sign-ins under way. Anyone can begin one, so the oldest gives way: it takes so many within one to disturb it.
const MAX_ATTEMPTS: usize = 10_000;
/// Without a human's act.
const IDLE: i64 = 30 * 60;
/// From the first click to the issuer's answer.
const ATTEMPT: Duration = Duration::from_secs(600);

type Key = [u8; 32];

/// One signed-in browser.
#[derive(Clone)]
pub struct Session {
    /// Who.
    pub approver: Arc<Approver>,
    /// What each form carries.
    pub csrf: Arc<str>,
    ends_at: i64,
    seen_at: i64,
}

impl Session {
    /// Whether a form is this session's.
    #[must_use]
    pub fn owns(&self, token: &str) -> bool {
        constant_time::verify_slices_are_equal(self.csrf.as_bytes(), token.as_bytes()).is_ok()
    }
}

/// A sign-in under way.
pub struct Pending {
    /// What the issuer's answer must fit.
    pub attempt: Attempt,
    /// The request to show afterwards. An id and no address, so that nobody is sent anywhere else.
    pub then: Option<Uuid>,
    begun_at: i64,
}

/// All of them.
#[derive(Default)]
pub struct Sessions {
    live: Mutex<HashMap<Key, Session>>,
    pending: Mutex<HashMap<Key, Pending>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn random() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

fn key(cookie: &str) -> Key {
    let mut key = [0; 32];
    key.copy_from_slice(digest::digest(&digest::SHA256, cookie.as_bytes()).as_ref());
    key
}

impl Sessions {
    /// Begins a sign-in; gives the cookie's value.
    pub fn begin(&self, attempt: Attempt, then: Option<Uuid>, now: i64) -> String {
        let cookie = random();
        let pending = Pending {
            attempt,
            then,
            begun_at: now,
        };
        let mut all = lock(&self.pending);
        make_room(&mut all, MAX_ATTEMPTS, |one| one.begun_at);
        all.insert(key(&cookie), pending);
        cookie
    }

    /// Ends a sign-in, once: what it was, if the cookie, the state and the time fit.
    pub fn finish(&self, cookie: &str, state: &str, now: i64) -> Option<Pending> {
        let pending = lock(&self.pending).remove(&key(cookie))?;
        let fits = constant_time::verify_slices_are_equal(pending.attempt.state.as_bytes(), state.as_bytes())
            .is_ok();
        let age = u64::try_from(now.saturating_sub(pending.begun_at)).unwrap_or(0);
        (fits && age <= ATTEMPT.as_secs()).then_some(pending)
    }

    /// A session for somebody until `ends_at`; gives the cookie's value.
    pub fn open(&self, approver: Arc<Approver>, ends_at: i64, now: i64) -> String {
        let cookie = random();
        let session = Session {
            approver,
            csrf: random().into(),
            ends_at,
            seen_at: now,
        };
        let mut all = lock(&self.live);
        all.retain(|_, one| one.ends_at > now && one.seen_at + IDLE > now);
        make_room(&mut all, MAX_SESSIONS, |one| one.seen_at);
        all.insert(key(&cookie), session);
        cookie
    }

    /// The session of a cookie, if it is still one. `acted` says that a human did something, as opposed to a page that
    /// loaded itself again.
    pub fn get(&self, cookie: &str, now: i64, acted: bool) -> Option<Session> {
        let key = key(cookie);
        let mut all = lock(&self.live);
        let session = all.get_mut(&key)?;
        if session.ends_at <= now || session.seen_at + IDLE <= now {
            all.remove(&key);
            return None;
        }
        if acted {
            session.seen_at = now;
        }
        Some(session.clone())
    }

    /// Signs out.
    pub fn close(&self, cookie: &str) {
        lock(&self.live).remove(&key(cookie));
    }
}

/// Takes the oldest out where there are `max`.
fn make_room<T>(all: &mut HashMap<Key, T>, max: usize, at: impl Fn(&T) -> i64) {
    while all.len() >= max {
        let Some(oldest) = all.iter().min_by_key(|(_, one)| at(one)).map(|(key, _)| *key) else {
            return;
        };
        all.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn approver() -> Arc<Approver> {
        Arc::new(Approver {
            issuer: "i".into(),
            subject: "s".into(),
            name: "n".into(),
            groups: Arc::from([]),
            token_id: "t".into(),
            via: "web",
            authenticated_at: 0,
            expires_at: 100_000,
        })
    }

    #[test]
    fn sessions_end_by_themselves() {
        let all = Sessions::default();
        let cookie = all.open(approver(), 10_000, 0);
        assert!(all.get("another", 0, true).is_none());
        assert!(all.get(&cookie, IDLE - 1, false).is_some());
        // A page that loads itself again keeps nobody signed in.
        assert!(all.get(&cookie, IDLE, false).is_none());
        let cookie = all.open(approver(), 10_000, 0);
        let mut now = 0;
        while now + IDLE / 2 < 10_000 {
            now += IDLE / 2;
            assert!(all.get(&cookie, now, true).is_some());
        }
        assert!(all.get(&cookie, 10_000, true).is_none());
        let cookie = all.open(approver(), 10_000, 0);
        all.close(&cookie);
        assert!(all.get(&cookie, 0, true).is_none());
    }

    #[test]
    fn a_sign_in_is_finished_once_by_its_own_browser() {
        let all = Sessions::default();
        let begin = || {
            let attempt = Attempt::new();
            let state = attempt.state.clone();
            (all.begin(attempt, None, 0), state)
        };
        let (cookie, state) = begin();
        assert!(all.finish("another", &state, 0).is_none());
        assert!(all.finish(&cookie, &state, 0).is_some());
        assert!(all.finish(&cookie, &state, 0).is_none());
        let (cookie, _) = begin();
        assert!(all.finish(&cookie, &state, 0).is_none());
        let (cookie, state) = begin();
        assert!(all.finish(&cookie, &state, 601).is_none());
    }

    #[test]
    fn the_number_is_bounded() {
        let all = Sessions::default();
        let first = all.open(approver(), 10_000, 0);
        for now in 1..=i64::try_from(MAX_SESSIONS).unwrap() {
            all.open(approver(), 10_000, now);
        }
        assert_eq!(lock(&all.live).len(), MAX_SESSIONS);
        assert!(all.get(&first, 1, true).is_none());
        for now in 0..12_000 {
            all.begin(Attempt::new(), None, now);
        }
        assert_eq!(lock(&all.pending).len(), MAX_ATTEMPTS);
    }
}
