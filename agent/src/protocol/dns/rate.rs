//! How much a workload asks, within about a minute: what policy limits where names are used as a channel.
//!
//! Counted for what is asked, allowed or not. A "zone" is the last two labels of a name. Where that is a public suffix
//! of two labels more is counted together than belongs together, so that the bias is upwards.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hickory_resolver::proto::rr::Name;

use crate::{
    model::WorkloadName,
    policy::{Recent, written},
};

/// The window is so many slots: the running one and those before it, so between 50 and 60 seconds.
const SLOTS: u64 = 6;
const SLOT: Duration = Duration::from_secs(10);
/// Zones that are counted apart for one workload; past it the one that was asked about longest ago is forgotten.
const ZONES: usize = 256;
/// Names of a zone that are told apart; more count as so many.
const NAMES: usize = 1024;

/// The counts of all workloads.
#[derive(Default)]
pub struct Rates {
    begun: std::sync::OnceLock<Instant>,
    hasher: RandomState,
    workloads: Mutex<HashMap<WorkloadName, Counts>>,
}

#[derive(Default)]
struct Counts {
    queries: Window,
    zones: HashMap<Arc<str>, Zone>,
}

#[derive(Default)]
struct Zone {
    bytes: Window,
    /// By hash of the name, the slot in which it was asked for last. The hash is keyed, so that nobody can choose names
    /// that are taken for the same.
    names: HashMap<u64, u64>,
    slot: u64,
}

/// A sum over the slots.
#[derive(Default)]
struct Window([(u64, i64); SLOTS as usize]);

impl Window {
    fn add(&mut self, slot: u64, n: i64) -> i64 {
        if let Some(place) = self.0.get_mut((slot % SLOTS) as usize) {
            if place.0 != slot {
                *place = (slot, 0);
            }
            place.1 += n;
        }
        let within = self.0.iter().filter(|(at, _)| at + SLOTS > slot);
        within.map(|(_, n)| n).sum()
    }
}

impl Rates {
    /// Counts a query.
    pub fn count(&self, workload: &WorkloadName, name: &Name, now: Instant) -> Recent {
        let begun = *self.begun.get_or_init(|| now);
        // Not zero, which is what an empty window has.
        let slot = SLOTS + now.saturating_duration_since(begun).as_secs() / SLOT.as_secs();
        let name = name.to_lowercase();
        let zone = written(&name.trim_to(2));
        let hash = self.hasher.hash_one(&name);
        let bytes = i64::try_from(name.len()).unwrap_or(i64::MAX);
        let mut workloads = self.workloads.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = workloads.entry(workload.clone()).or_default();
        let queries = counts.queries.add(slot, 1);
        if counts.zones.len() >= ZONES && !counts.zones.contains_key(&zone) {
            counts.make_room(slot);
        }
        let zone = counts.zones.entry(zone).or_default();
        if zone.slot != slot {
            zone.slot = slot;
            zone.names.retain(|_, at| *at + SLOTS > slot);
        }
        if zone.names.len() < NAMES || zone.names.contains_key(&hash) {
            zone.names.insert(hash, slot);
        }
        Recent {
            queries,
            names: i64::try_from(zone.names.len()).unwrap_or(i64::MAX),
            bytes: zone.bytes.add(slot, bytes),
        }
    }
}

impl Counts {
    fn make_room(&mut self, slot: u64) {
        self.zones.retain(|_, zone| zone.slot + SLOTS > slot);
        if self.zones.len() >= ZONES {
            let oldest = self.zones.iter().min_by_key(|(_, zone)| zone.slot);
            if let Some(oldest) = oldest.map(|(name, _)| Arc::clone(name)) {
                self.zones.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(rates: &Rates, who: &str, name: &str, at: Instant) -> Recent {
        let who = WorkloadName::new(who).unwrap();
        rates.count(&who, &Name::from_ascii(name).unwrap(), at)
    }

    #[test]
    fn queries_names_and_bytes_of_a_minute() {
        let (rates, now) = (Rates::default(), Instant::now());
        let recent = |queries, names, bytes| Recent {
            queries,
            names,
            bytes,
        };
        assert_eq!(ask(&rates, "one", "a.evil.example.", now), recent(1, 1, 15));
        assert_eq!(ask(&rates, "one", "A.evil.example.", now), recent(2, 1, 30));
        assert_eq!(ask(&rates, "one", "b.c.Evil.example.", now), recent(3, 2, 47));
        assert_eq!(ask(&rates, "one", "www.other.test.", now).names, 1);
        assert_eq!(ask(&rates, "two", "b.evil.example.", now), recent(1, 1, 15));
        let later = now + Duration::from_secs(30);
        assert_eq!(ask(&rates, "one", "d.evil.example.", later), recent(5, 3, 62));
        let later = now + Duration::from_secs(61);
        assert_eq!(ask(&rates, "one", "e.evil.example.", later), recent(2, 2, 30));
        let later = now + Duration::from_secs(3600);
        assert_eq!(ask(&rates, "one", "e.evil.example.", later), recent(1, 1, 15));
    }

    #[test]
    fn what_a_workload_costs_is_bounded() {
        let (rates, now) = (Rates::default(), Instant::now());
        for n in 0..2 * NAMES {
            ask(&rates, "one", &format!("{n}.evil.example."), now);
        }
        let last = ask(&rates, "one", "x.evil.example.", now);
        assert_eq!(last.names, NAMES as i64);
        for n in 0..2 * ZONES {
            ask(&rates, "one", &format!("x.z{n}.example{n}."), now);
        }
        let workloads = rates.workloads.lock().unwrap();
        assert!(workloads.values().next().unwrap().zones.len() <= ZONES);
    }
}
