//! Which names a workload has asked for, and the addresses that it was told: for the connections that follow.
//!
//! An answer is tied to the workload that it was given to and to nobody else: what one workload makes a resolver say
//! counts for no other. What counts is the name that was asked for, not those in a chain behind it: only of that one
//! the host's resolvers were asked where it is.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::model::WorkloadName;

/// How many addresses are kept of one workload; past it the half that ends first goes.
const ADDRESSES: usize = 4096;
/// How many names are kept of one address; past it the one that ends first goes.
const NAMES: usize = 16;
/// No answer counts for longer, whatever its TTL.
const LONGEST: Duration = Duration::from_secs(3600);

/// The answers of all workloads.
#[derive(Default)]
pub(super) struct Answers(Mutex<HashMap<WorkloadName, Told>>);

/// Those of one.
#[derive(Default)]
struct Told {
    by_address: HashMap<IpAddr, Vec<Tie>>,
    /// Answers so far: the latest has the largest number.
    count: u64,
}

struct Tie {
    name: Arc<str>,
    until: Instant,
    number: u64,
}

impl Answers {
    /// A workload was told that `name` (lower case, no dot at the end) has these addresses.
    pub(super) fn learn(
        &self,
        workload: &WorkloadName,
        name: &Arc<str>,
        addresses: impl Iterator<Item = (IpAddr, Duration)>,
        grace: Duration,
        now: Instant,
    ) {
        let mut all = self.lock();
        let told = all.entry(workload.clone()).or_default();
        told.count += 1;
        let number = told.count;
        for (address, ttl) in addresses {
            told.make_room(now);
            let tie = Tie {
                name: Arc::clone(name),
                until: now + ttl.min(LONGEST) + grace,
                number,
            };
            let ties = told.by_address.entry(address.to_canonical()).or_default();
            ties.retain(|t| t.name != tie.name && t.until > now);
            if ties.len() >= NAMES
                && let Some(first) = (0..ties.len()).min_by_key(|at| ties[*at].until)
            {
                ties.remove(first);
            }
            ties.push(tie);
        }
    }

    /// The names that a workload was told an address for, the one that it asked for last first.
    pub(super) fn names(&self, workload: &WorkloadName, address: IpAddr, now: Instant) -> Vec<Arc<str>> {
        let all = self.lock();
        let ties = all
            .get(workload)
            .and_then(|t| t.by_address.get(&address.to_canonical()));
        let mut ties: Vec<&Tie> = ties.into_iter().flatten().filter(|t| t.until > now).collect();
        ties.sort_by_key(|t| std::cmp::Reverse(t.number));
        ties.into_iter().map(|t| Arc::clone(&t.name)).collect()
    }

    /// Whether a workload was told that `name` has this address.
    pub(super) fn has(&self, workload: &WorkloadName, name: &str, address: IpAddr, now: Instant) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        let all = self.lock();
        let ties = all
            .get(workload)
            .and_then(|t| t.by_address.get(&address.to_canonical()));
        ties.into_iter()
            .flatten()
            .any(|t| t.until > now && t.name.eq_ignore_ascii_case(name))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<WorkloadName, Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn make_room(&mut self, now: Instant) {
        if self.by_address.len() < ADDRESSES {
            return;
        }
        let last = |ties: &Vec<Tie>| ties.iter().map(|t| t.until).max().unwrap_or(now);
        let mut ends: Vec<_> = self.by_address.values().map(last).collect();
        ends.sort_unstable();
        let middle = ends[ends.len() / 2].max(now);
        self.by_address.retain(|_, ties| last(ties) > middle);
        // All end at the same moment: which of them goes makes no difference, but half has to.
        if self.by_address.len() >= ADDRESSES {
            let mut kept = 0;
            self.by_address.retain(|_, _| {
                kept += 1;
                kept <= ADDRESSES / 2
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(name: &str) -> WorkloadName {
        WorkloadName::new(name).unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn learn(answers: &Answers, who: &str, name: &str, to: &str, ttl: u64, now: Instant) {
        let told = std::iter::once((address(to), Duration::from_secs(ttl)));
        answers.learn(&workload(who), &name.into(), told, Duration::from_secs(60), now);
    }

    #[test]
    fn the_name_asked_for_last_comes_first_and_nobody_else_sees_it() {
        let (answers, now) = (Answers::default(), Instant::now());
        learn(&answers, "one", "db.internal", "192.0.2.7", 300, now);
        learn(&answers, "one", "other.example", "192.0.2.7", 300, now);
        let names = |who: &str| answers.names(&workload(who), address("::ffff:192.0.2.7"), now);
        assert_eq!(names("one"), ["other.example".into(), "db.internal".into()]);
        assert!(names("two").is_empty());
        learn(&answers, "one", "db.internal", "192.0.2.7", 300, now);
        assert_eq!(&*names("one")[0], "db.internal");
        assert!(answers.has(&workload("one"), "DB.internal.", address("192.0.2.7"), now));
        assert!(!answers.has(&workload("one"), "db.internal", address("192.0.2.8"), now));
        assert!(!answers.has(&workload("two"), "db.internal", address("192.0.2.7"), now));
    }

    #[test]
    fn an_answer_ends_after_its_ttl_and_the_grace() {
        let (answers, now) = (Answers::default(), Instant::now());
        learn(&answers, "one", "a.example", "192.0.2.7", 5, now);
        learn(
            &answers,
            "one",
            "b.example",
            "192.0.2.7",
            u64::from(u32::MAX),
            now,
        );
        let names = |after: u64| {
            let at = now + Duration::from_secs(after);
            answers.names(&workload("one"), address("192.0.2.7"), at).len()
        };
        assert_eq!((names(64), names(65), names(3659), names(3660)), (2, 1, 1, 0));
    }

    #[test]
    fn what_one_workload_costs_is_bounded() {
        let (answers, now) = (Answers::default(), Instant::now());
        learn(&answers, "two", "kept.example", "192.0.2.7", 1, now);
        for n in 0..40 {
            learn(
                &answers,
                "one",
                &format!("{n}.example"),
                "192.0.2.7",
                300 + n,
                now,
            );
        }
        let names = answers.names(&workload("one"), address("192.0.2.7"), now);
        assert_eq!((names.len(), &*names[0]), (NAMES, "39.example"));
        for n in 0..3 * ADDRESSES as u32 {
            let to = std::net::Ipv4Addr::from(0xC612_0000 + n).to_string();
            // Half of them at the same moment, so that neither way of making room is left out.
            learn(
                &answers,
                "one",
                "many.example",
                &to,
                u64::from(n % 2) * u64::from(n),
                now,
            );
        }
        let all = answers.lock();
        assert!(all[&workload("one")].by_address.len() <= ADDRESSES);
        assert_eq!(all[&workload("two")].by_address.len(), 1);
    }
}
