//! The whole of it on a ledger of its own, with a kernel that counts what the test says.

use std::sync::Mutex;

use super::*;
use crate::{
    config::Durability,
    connection::Tag,
    ledger,
    model::{Entry, EntryKind, Transport},
    redirect::Outcome,
};

const CGROUP: CgroupId = CgroupId(7);

#[derive(Default)]
struct Counting(Mutex<BTreeMap<CgroupId, Counted>>);

impl Kernel for Counting {
    fn counted(&self) -> Result<BTreeMap<CgroupId, Counted>, RedirectError> {
        Ok(lock(&self.0).clone())
    }

    fn unanswered(&self) -> Unanswered {
        Unanswered {
            unread: 7,
            ..Unanswered::default()
        }
    }
}

/// A host whose kernel, agent and ledger the test makes.
struct Host {
    dir: tempfile::TempDir,
    kernel: Arc<Counting>,
}

/// One run of the agent on it.
struct Run {
    tally: Tally,
    ledger: Ledger,
    reconciler: Reconciler,
}

impl Host {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            kernel: Arc::default(),
        }
    }

    fn start(&self) -> Run {
        let options = ledger::Options::new("host-1", Durability::Process);
        let ledger = Ledger::open(self.dir.path(), options).unwrap();
        let (tally, workloads) = (Tally::default(), Workloads::default());
        let tag = Tag {
            workload: WorkloadName::new("bot").unwrap(),
            cgroup: "/bot".into(),
            source: "config",
        };
        workloads.add(CGROUP, tag);
        let reconciler = Reconciler::start(Parts {
            kernel: Arc::clone(&self.kernel) as Arc<dyn Kernel>,
            tally: tally.clone(),
            workloads,
            ledger: ledger.clone(),
            dir: self.dir.path().into(),
            clock: Clock::System,
            boot: "b".into(),
        });
        // Tagged by the first run; the next one finds it.
        lock(&self.kernel.0).entry(CGROUP).or_default();
        Run {
            tally,
            ledger,
            reconciler: reconciler.unwrap(),
        }
    }

    /// So many connects more, sent and accepted.
    fn accepted(&self, count: u64) {
        for outcome in [Outcome::TcpRedirected, Outcome::TcpSent, Outcome::TcpAccepted] {
            self.count(outcome, count.cast_signed());
        }
    }

    fn count(&self, outcome: Outcome, by: i64) {
        let mut all = lock(&self.kernel.0);
        let slot = &mut all.get_mut(&CGROUP).unwrap().counters.by_outcome[outcome as usize];
        *slot = slot.checked_add_signed(by).unwrap();
    }
}

impl Run {
    /// So many connections taken, and their sessions on record.
    async fn took(&self, count: u64) {
        for _ in 0..count {
            self.tally.taken(CGROUP, Transport::Tcp);
            let body = serde_json::json!({ "cgroup_id": CGROUP.0, "event": "open" });
            let serde_json::Value::Object(body) = body else {
                panic!()
            };
            let entry = Entry::of(EntryKind::Session, Clock::System.now_ns(), body);
            self.ledger.append(entry).await.unwrap();
            self.tally.opened(CGROUP, Transport::Tcp, true);
        }
    }

    async fn found(&self) -> Vec<(What, i64)> {
        let before = self.reconciler.status().differences.len();
        let status = self.reconciler.run().await.unwrap();
        let new = status.differences.iter().skip(before);
        new.map(|difference| (difference.what, difference.count))
            .collect()
    }
}

#[tokio::test]
async fn what_fits_is_recorded_as_that() {
    let host = Host::new();
    let run = host.start();
    host.accepted(3);
    run.took(3).await;
    assert_eq!(run.found().await, []);
    let mut tail = ledger::Tail::new(host.dir.path(), Seq(3));
    let entry = tail.read(run.ledger.size(), 10, 1 << 20).unwrap().remove(0);
    let body: serde_json::Value = serde_json::from_str(&entry.body).unwrap();
    assert_eq!(body["event"], "reconciled");
    assert_eq!(body["detail"]["resolver"]["unread"], 7);
    assert_eq!(body["detail"]["cgroups"][0]["sessions"], 3);
    assert_eq!(body["detail"]["cgroups"][0]["outcomes"]["tcp_accepted"], 3);
    assert_eq!(body["detail"]["read"], serde_json::json!({ "from": 0, "to": 3 }));
}

#[tokio::test]
async fn each_difference_is_told_once_and_stays_a_problem_until_it_is_acknowledged() {
    let host = Host::new();
    let run = host.start();
    host.accepted(3);
    run.took(2).await;
    assert_eq!(run.found().await, [(What::Untaken, 1)]);
    assert_eq!(run.found().await, []);
    host.count(Outcome::TcpSent, 1);
    assert_eq!(run.found().await, [(What::SentUnasked, 1), (What::Unsettled, 1)]);
    host.count(Outcome::TcpRedirected, -1);
    let fell = run.found().await;
    assert!(fell.contains(&(What::CounterFell, 1)), "{fell:?}");
    assert!(run.reconciler.problems().len() >= 4);
    drop(run);
    let next = host.start();
    assert!(
        next.reconciler.problems().len() >= 4,
        "the next run knows of them"
    );
    next.reconciler.acknowledge();
    assert_eq!(next.reconciler.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn a_session_that_nothing_was_accepted_for_is_a_difference() {
    let host = Host::new();
    let run = host.start();
    host.accepted(1);
    run.took(2).await;
    assert_eq!(run.found().await, [(What::Untaken, -1)]);
}

#[tokio::test]
async fn an_end_of_the_agent_explains_what_it_left_and_nothing_later() {
    let host = Host::new();
    let run = host.start();
    host.accepted(5);
    run.took(5).await;
    assert_eq!(run.found().await, []);
    // Two more on record and three not, when it ends.
    host.accepted(5);
    run.took(2).await;
    drop(run);

    let run = host.start();
    host.accepted(4);
    run.took(4).await;
    assert_eq!(run.found().await, []);
    assert_eq!(run.reconciler.status().lost_at_restart, 3);
    host.accepted(1);
    assert_eq!(run.found().await, [(What::Untaken, 1)]);
}

#[tokio::test]
async fn a_cgroup_that_goes_is_accounted_for_with_its_last_counters() {
    let host = Host::new();
    let run = host.start();
    host.accepted(2);
    run.took(1).await;
    run.reconciler.closing(CGROUP, &WorkloadName::new("bot").unwrap());
    lock(&host.kernel.0).clear();
    assert_eq!(run.found().await, [(What::Untaken, 1)]);
    assert_eq!(run.found().await, []);
    assert_eq!(run.reconciler.status().cgroups, 0, "it is forgotten");
}
