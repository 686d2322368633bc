//! Whether a name that a workload speaks of really is the address it connected to.
//!
//! Over plain TCP a `Host` is only a claim. The host's own look-up decides; answers are kept for a short time.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long an answer is used.
const FRESH: Duration = Duration::from_secs(30);
/// How long a look-up may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many names are kept; past it the oldest half goes.
const KEPT: usize = 4096;

/// Look-ups by the host's resolver, kept for a while.
#[derive(Clone, Default)]
pub struct Names {
    answers: Arc<Mutex<HashMap<Arc<str>, Answer>>>,
}

#[derive(Clone)]
struct Answer {
    at: Instant,
    addresses: Arc<[IpAddr]>,
}

impl Names {
    /// Whether the host's own look-up of `name` includes `address`. A name that is an address is compared as one.
    pub async fn includes(&self, name: &str, address: IpAddr) -> bool {
        let literal = name
            .strip_prefix('[')
            .and_then(|n| n.strip_suffix(']'))
            .unwrap_or(name);
        if let Ok(ip) = literal.parse::<IpAddr>() {
            return ip.to_canonical() == address.to_canonical();
        }
        let known = self.lock().get(name).filter(|a| a.at.elapsed() < FRESH).cloned();
        let answer = match known {
            Some(answer) => answer,
            None => self.look_up(name).await,
        };
        answer
            .addresses
            .iter()
            .any(|a| a.to_canonical() == address.to_canonical())
    }

    async fn look_up(&self, name: &str) -> Answer {
        let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((name, 0))).await;
        let addresses: Arc<[IpAddr]> = match found {
            Ok(Ok(found)) => found.map(|a| a.ip()).collect(),
            // No answer proves nothing: the name stays unverified, for policy to judge.
            Ok(Err(_)) | Err(_) => Arc::from([]),
        };
        let answer = Answer {
            at: Instant::now(),
            addresses,
        };
        let mut answers = self.lock();
        if answers.len() >= KEPT {
            let mut ages: Vec<_> = answers.values().map(|a| a.at).collect();
            ages.sort_unstable();
            let middle = ages[ages.len() / 2];
            answers.retain(|_, a| a.at > middle);
        }
        answers.insert(name.into(), answer.clone());
        answer
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn literals_and_names() {
        let names = Names::default();
        assert!(names.includes("127.0.0.1", "127.0.0.1".parse().unwrap()).await);
        assert!(names.includes("[::1]", "::1".parse().unwrap()).await);
        assert!(!names.includes("127.0.0.2", "127.0.0.1".parse().unwrap()).await);
        assert!(names.includes("localhost", "127.0.0.1".parse().unwrap()).await);
        assert!(!names.includes("localhost", "127.0.0.9".parse().unwrap()).await);
    }
}
