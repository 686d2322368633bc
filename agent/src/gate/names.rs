//! Whether a name that a workload speaks of really is the address it connected to.
//!
//! Over plain TCP a `Host` is only a claim. What the host's resolvers told this workload decides, while it lasts, or
//! else the host's own look-up, kept for a short time. Neither lets a name stand for this host or its link, see
//! `standing`.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hickory_resolver::proto::rr::{Name, RecordType};

use super::{
    answers::Answers,
    resolver::{Answered, LookUpError, Resolvers},
    standing::{is_own_word, may_stand},
};
use crate::{config::Dns, model::WorkloadName, policy::written};

/// How long an answer is used.
const FRESH: Duration = Duration::from_secs(30);
/// How long a look-up may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many names are kept; past it the oldest half goes.
const KEPT: usize = 4096;

/// How many names that a workload wrote are looked up within a minute.
const LOOK_UPS: u32 = 60;
const MINUTE: Duration = Duration::from_secs(60);

/// Look-ups by the host's resolver, kept for a while.
#[derive(Clone, Default)]
pub struct Names(Arc<Inner>);

#[derive(Default)]
struct Inner {
    answers: Mutex<HashMap<Arc<str>, Answer>>,
    /// What workloads were told.
    told: Answers,
    resolvers: Resolvers,
    /// Look-ups of names that workloads wrote: since when, and how many.
    rooms: Mutex<HashMap<WorkloadName, (Instant, u32)>>,
}

#[derive(Clone)]
struct Answer {
    at: Instant,
    addresses: Arc<[IpAddr]>,
}

impl Names {
    /// Asks whom the configuration says from now on.
    pub fn configure(&self, settings: &Dns) {
        let changed = *self.settings() != *settings;
        self.0.resolvers.configure(Arc::new(settings.clone()));
        if changed {
            // Which addresses count may have changed with it.
            self.lock().clear();
        }
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Arc<Dns> {
        self.0.resolvers.settings()
    }

    /// Asks the host's resolvers for a workload, and keeps what it is told: whether the name counts for the addresses
    /// in the answer, too.
    ///
    /// # Errors
    /// When there is no answer.
    pub(crate) async fn look_up(
        &self,
        workload: &WorkloadName,
        name: &Name,
        kind: RecordType,
    ) -> Result<(Answered, bool), LookUpError> {
        let answered = self.0.resolvers.look_up(workload, name, kind).await?;
        let settings = self.settings();
        let asked = written(name);
        let told = answered.answers.iter().filter_map(|record| {
            let address = record.data.ip_addr()?;
            may_stand(&settings, &asked, address).then(|| (address, Duration::from_secs(record.ttl.into())))
        });
        let told: Vec<_> = told.collect();
        let counts = !told.is_empty();
        if counts {
            let now = Instant::now();
            let told = told.into_iter();
            self.0.told.learn(workload, &asked, told, settings.grace, now);
        }
        Ok((answered, counts))
    }

    /// The names that a workload was told an address for, the one that it asked for last first.
    #[must_use]
    pub fn told(&self, workload: &WorkloadName, address: IpAddr) -> Vec<Arc<str>> {
        self.0.told.names(workload, address, Instant::now())
    }

    /// Whether `name` is `address`: as a workload was told, or as the host's admin wrote it into the hosts file. Nothing is
    /// asked.
    #[must_use]
    pub fn is_told(&self, workload: &WorkloadName, name: &str, address: IpAddr) -> bool {
        let written = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        self.0.told.has(workload, name, address, Instant::now())
            || is_own_word(&written, address.to_canonical())
    }

    /// Whether the host's own look-up of a name that a workload wrote includes `address`; so many such look-ups in a
    /// minute, and no more.
    pub async fn is_found(&self, workload: &WorkloadName, name: &str, address: IpAddr) -> bool {
        (self.fresh(name).is_some() || self.has_room(workload)) && self.includes(name, address).await
    }

    /// Whether a name has been looked up by the host lately, for tests.
    #[cfg(test)]
    pub(crate) fn has_looked_up(&self, name: &str) -> bool {
        self.fresh(name).is_some()
    }

    fn has_room(&self, workload: &WorkloadName) -> bool {
        let mut rooms = self.0.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, used) = rooms.entry(workload.clone()).or_insert((Instant::now(), 0));
        if since.elapsed() > MINUTE {
            (*since, *used) = (Instant::now(), 0);
        }
        *used += 1;
        *used <= LOOK_UPS
    }

    fn fresh(&self, name: &str) -> Option<Answer> {
        self.lock().get(name).filter(|a| a.at.elapsed() < FRESH).cloned()
    }

    /// Whether `name` is `address`: as a workload was told, or by the host's own look-up.
    pub async fn is(&self, workload: &WorkloadName, name: &str, address: IpAddr) -> bool {
        self.0.told.has(workload, name, address, Instant::now()) || self.includes(name, address).await
    }

    /// Whether the host's own look-up of `name` includes `address`. A name that is an address is compared as one.
    pub async fn includes(&self, name: &str, address: IpAddr) -> bool {
        let literal = name
            .strip_prefix('[')
            .and_then(|n| n.strip_suffix(']'))
            .unwrap_or(name);
        if let Ok(ip) = literal.parse::<IpAddr>() {
            return ip.to_canonical() == address.to_canonical();
        }
        let answer = match self.fresh(name) {
            Some(answer) => answer,
            None => self.own_look_up(name).await,
        };
        answer
            .addresses
            .iter()
            .any(|a| a.to_canonical() == address.to_canonical())
    }

    async fn own_look_up(&self, name: &str) -> Answer {
        let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((name, 0))).await;
        let addresses: Arc<[IpAddr]> = match found {
            Ok(Ok(found)) => {
                let settings = self.settings();
                let asked = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
                let found = found.map(|a| a.ip());
                found.filter(|a| may_stand(&settings, &asked, *a)).collect()
            }
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
        self.0.answers.lock().unwrap_or_else(PoisonError::into_inner)
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
