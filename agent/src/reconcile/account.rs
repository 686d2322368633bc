//! One cgroup's numbers held against each other.
//!
//! A connect is redirected, then sent (or fails on this host: `unsent`), then accepted or abandoned, then taken by the
//! agent, then on record, turned away or refused by the ledger. Each step is counted on its own; here they are compared.
//! The numbers are read one after the other while connections go on, so one reading may be off by what was on its way.
//! [`Best`] keeps, of several readings, the one that is nearest to no difference: what is really lost is in all of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    connection::Tallied,
    redirect::{Counters, Outcome, bpf::Counted},
};

/// What is known of a cgroup from one reconciliation to the next, and from one run of the agent to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Account {
    /// The workload's name.
    pub workload: String,
    /// Sessions on record.
    pub recorded: u64,
    /// Turned away at the limit, or refused by the ledger.
    pub refused: u64,
    /// Accepted for an agent that ended before they were on record.
    pub lost: u64,
    /// Differences that were reported already.
    pub reported: Best,
    /// The counters as they were last, those that are not zero, by name.
    pub outcomes: BTreeMap<String, u64>,
}

/// What a cgroup's connections were accounted for when this run began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Start {
    /// Accepted by then, as the kernel counted.
    pub accepted: u64,
    /// On record, refused or lost by then; `None` when no earlier reconciliation is known.
    pub settled: Option<u64>,
    /// Sessions that this run's reader of the ledger had counted by then.
    pub read: u64,
    /// Sessions on record before what that reader reads.
    pub recorded: u64,
    /// Refused by earlier runs.
    pub refused: u64,
    /// What was accepted before and not taken in this run; known once the queue was seen empty.
    pub base: Option<u64>,
}

/// One reading of one cgroup, in the order in which its parts are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// At the first reading of this reconciliation.
    pub first: Tallied,
    /// Just before the kernel's counters.
    pub before: Tallied,
    pub counted: Counted,
    /// Just after.
    pub after: Tallied,
    /// Sessions on record in this run.
    pub recorded: u64,
}

/// The differences of the best readings so far; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Best {
    /// More sent than redirected.
    pub sent: i64,
    /// Sent, and neither accepted, nor abandoned, nor in flight.
    pub unsettled: i64,
    /// Accepted, not taken by this run, and not accounted for when it began.
    pub untaken: i64,
    /// Taken, and neither on record nor turned away.
    pub unrecorded: i64,
}

fn get(counters: &Counters, outcome: Outcome) -> i64 {
    counters.get(outcome).cast_signed()
}

impl Reading {
    /// Sent, and neither accepted, nor abandoned, nor in flight.
    fn unsettled(&self) -> i64 {
        let counters = &self.counted.counters;
        get(counters, Outcome::TcpSent)
            - get(counters, Outcome::TcpAccepted)
            - get(counters, Outcome::TcpAbandoned)
            - self.counted.in_flight.cast_signed()
    }

    /// Accepted, and not taken in this run: with an empty queue, what was accepted before it.
    pub(super) fn untaken(&self) -> i64 {
        self.accepted() - self.after.taken.cast_signed()
    }

    fn accepted(&self) -> i64 {
        get(&self.counted.counters, Outcome::TcpAccepted)
    }

    /// The differences as this one reading has them, but for those that were reported.
    pub(super) fn differences(&self, reported: &Best, base: u64) -> Best {
        let counters = &self.counted.counters;
        let sent = get(counters, Outcome::TcpSent) - get(counters, Outcome::TcpRedirected);
        let untaken =
            |t: &Tallied| self.accepted() - t.taken.cast_signed() - base.cast_signed() - reported.untaken;
        let unrecorded = |t: &Tallied| {
            let due = t.taken - t.turned_away - t.unrecorded;
            due.cast_signed() - self.recorded.cast_signed() - reported.unrecorded
        };
        Best {
            sent: (sent - reported.sent).max(0),
            unsettled: self.unsettled() - reported.unsettled,
            untaken: between(untaken(&self.after), untaken(&self.before)),
            // What was taken by the first reading has had the time since then to get on record.
            unrecorded: between(unrecorded(&self.first), unrecorded(&self.after)),
        }
    }
}

/// A difference that is known to lie between two: none, if that may be.
fn between(low: i64, high: i64) -> i64 {
    if low > 0 { low } else { high.min(0) }
}

impl Best {
    /// Of each difference, what is nearer to none.
    pub(super) fn and(self, other: Self) -> Self {
        let nearer = |a: i64, b: i64| if a.abs() <= b.abs() { a } else { b };
        Self {
            sent: nearer(self.sent, other.sent),
            unsettled: nearer(self.unsettled, other.unsettled),
            untaken: nearer(self.untaken, other.untaken),
            unrecorded: nearer(self.unrecorded, other.unrecorded),
        }
    }

    /// For a cgroup whose counters were read for the last time when its tag went: what was in flight then may have
    /// been taken since.
    pub(super) fn closed(self) -> Self {
        Self {
            untaken: self.untaken.max(0),
            ..self
        }
    }

    /// With what was reported before.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            unsettled: self.unsettled + other.unsettled,
            untaken: self.untaken + other.untaken,
            unrecorded: self.unrecorded + other.unrecorded,
        }
    }

    pub(super) fn is_none(self) -> bool {
        self == Self::default()
    }
}

impl Start {
    /// What an end of the agent explains: at most what was accepted and not accounted for when this run began. `untaken`
    /// is what is accepted and not taken now, with an empty queue. The part that is explained, and the rest.
    pub(super) fn lost(&self, untaken: i64) -> (u64, i64) {
        let Some(settled) = self.settled else {
            return (0, 0);
        };
        let missing = untaken - settled.cast_signed();
        let most = self.accepted.saturating_sub(settled).cast_signed();
        let explained = missing.clamp(0, most);
        (explained.cast_unsigned(), missing - explained)
    }
}

/// The counters that are not zero, by name.
pub(super) fn outcomes(counters: &Counters) -> BTreeMap<String, u64> {
    let all = Outcome::ALL
        .iter()
        .map(|o| (o.as_str().to_owned(), counters.get(*o)));
    all.filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balanced() -> Reading {
        let mut counters = Counters::default();
        for (outcome, count) in [
            (Outcome::TcpRedirected, 12),
            (Outcome::TcpSent, 10),
            (Outcome::TcpAccepted, 7),
            (Outcome::TcpAbandoned, 2),
        ] {
            counters.by_outcome[outcome as usize] = count;
        }
        let tallied = Tallied {
            taken: 7,
            turned_away: 1,
            enqueued: 5,
            unrecorded: 1,
        };
        Reading {
            first: tallied,
            before: tallied,
            counted: Counted {
                counters,
                in_flight: 1,
            },
            after: tallied,
            recorded: 5,
        }
    }

    fn count(reading: &mut Reading, outcome: Outcome) -> &mut u64 {
        &mut reading.counted.counters.by_outcome[outcome as usize]
    }

    fn changed(change: impl FnOnce(&mut Reading)) -> Best {
        let mut reading = balanced();
        change(&mut reading);
        reading.differences(&Best::default(), 0)
    }

    #[test]
    fn numbers_that_fit_make_no_difference() {
        assert!(changed(|_| {}).is_none());
        // What was accepted before this run, and accounted for.
        let mut later = balanced();
        for outcome in [Outcome::TcpAccepted, Outcome::TcpSent, Outcome::TcpRedirected] {
            *count(&mut later, outcome) += 100;
        }
        assert!(later.differences(&Best::default(), 100).is_none());
    }

    #[test]
    fn each_step_that_loses_one_is_seen() {
        let evicted = changed(|r| r.counted.in_flight = 0);
        assert_eq!((evicted.unsettled, evicted.untaken), (1, 0));
        let lost = changed(|r| {
            for tallied in [&mut r.first, &mut r.before, &mut r.after] {
                tallied.taken -= 1;
                tallied.enqueued -= 1;
            }
            r.recorded -= 1;
        });
        assert_eq!((lost.untaken, lost.unrecorded), (1, 0));
        assert_eq!(changed(|r| r.recorded -= 1).unrecorded, 1);
        assert_eq!(changed(|r| r.recorded += 1).unrecorded, -1);
        assert_eq!(changed(|r| *count(r, Outcome::TcpRedirected) = 9).sent, 1);
    }

    #[test]
    fn what_is_on_its_way_is_no_difference() {
        // Two were taken while the counters were read, and one of them is on record.
        let moving = changed(|r| {
            r.after.taken += 2;
            *count(r, Outcome::TcpAccepted) += 1;
            *count(r, Outcome::TcpSent) += 1;
            r.recorded += 1;
        });
        assert!(moving.is_none(), "{moving:?}");
        // But what is missing is missing in spite of them.
        let missing = changed(|r| {
            r.after.taken += 2;
            *count(r, Outcome::TcpAccepted) += 3;
            r.recorded -= 1;
        });
        assert_eq!((missing.untaken, missing.unrecorded), (1, 1));
    }

    #[test]
    fn what_was_reported_is_not_reported_again() {
        let mut reading = balanced();
        reading.recorded -= 1;
        let found = reading.differences(&Best::default(), 0);
        assert!(reading.differences(&Best::default().plus(found), 0).is_none());
    }

    #[test]
    fn of_several_readings_the_nearest_counts() {
        let (a, b) = (
            Best {
                unsettled: -1,
                untaken: 3,
                ..Best::default()
            },
            Best {
                unsettled: 2,
                untaken: 2,
                ..Best::default()
            },
        );
        let best = a.and(b);
        assert_eq!((best.unsettled, best.untaken), (-1, 2));
        assert_eq!(
            Best {
                untaken: -2,
                ..Best::default()
            }
            .closed()
            .untaken,
            0
        );
    }

    #[test]
    fn an_end_of_the_agent_explains_what_was_missing_when_the_next_began_and_no_more() {
        let start = Start {
            accepted: 100,
            settled: Some(90),
            ..Start::default()
        };
        // Four of the ten that were missing waited in a queue that this run has.
        assert_eq!(start.lost(96), (6, 0));
        assert_eq!(start.lost(90), (0, 0));
        assert_eq!(start.lost(103), (10, 3), "three were lost by this run");
        assert_eq!(start.lost(88), (0, -2), "more on record than was accepted");
        let first = Start {
            settled: None,
            ..start
        };
        assert_eq!(first.lost(96), (0, 0));
    }
}
