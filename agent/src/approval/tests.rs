//! Approvals against a real ledger and a real policy set, with a clock that is turned.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use uuid::Uuid;

use super::{
    Answer, AnswerError, Approvals, Ask, Parts, Payload, RequestError, Scope, State, Ticket, Told,
    shape::shapes,
};
use crate::{
    clock::Clock,
    config::{self, Durability},
    ledger::{Ledger, Options},
    model::{
        Approver, Decision, Destination, Effect, HoldTerms, Identity, Obligations, Operation, OperationId,
        Process, Reason, Requirement, Resource, SessionId, Value, WorkloadName,
    },
    policy::PolicyStore,
};

const START: i64 = 1_800_000_000_000_000_000;

struct World {
    dir: tempfile::TempDir,
    now: Arc<AtomicI64>,
    ledger: Ledger,
    policy: PolicyStore,
    approvals: Approvals,
}

fn world() -> World {
    world_with(|_| {})
}

fn world_with(change: impl FnOnce(&mut config::Approvals)) -> World {
    let dir = tempfile::tempdir().unwrap();
    let policies = dir.path().join("policies");
    std::fs::create_dir(&policies).unwrap();
    std::fs::write(policies.join("a.cedar"), "permit(principal, action, resource);").unwrap();
    let policy = PolicyStore::load(&config::Policy { dirs: vec![policies] }).unwrap();
    let ledger = Ledger::open(dir.path(), Options::new("test", Durability::Process)).unwrap();
    let now = Arc::new(AtomicI64::new(START));
    let mut config = config::Approvals {
        issuer: Some("people".into()),
        break_glass_group: Some("breakers".into()),
        ..Default::default()
    };
    change(&mut config);
    let approvals = Approvals::new(Parts {
        config,
        clock: Clock::Manual(Arc::clone(&now)),
        host: "test".into(),
        ledger: ledger.clone(),
        policy: policy.clone(),
        key: [1; 32],
        mask: Arc::new(|text| text.replace("hunter2", "[masked]")),
    });
    World {
        dir,
        now,
        ledger,
        policy,
        approvals,
    }
}

impl World {
    fn ask(&self, path: &str) -> Ask {
        self.ask_by(path, "agent-7", &[(&["dba"], 1)])
    }

    fn ask_by(&self, path: &str, subject: &str, asked: &[(&[&str], u8)]) -> Ask {
        let identity = Identity {
            issuer: "https://i".into(),
            issuer_name: "i".into(),
            subject: subject.into(),
            groups: ["agents".into()].into(),
            token_id: "t".into(),
            key_id: "k".into(),
            issued_at: None,
            expires_at: i64::MAX / 2_000_000_000,
            on_behalf_of: Some("owner".into()),
        };
        let requirements = asked.iter().map(|(groups, quorum)| Requirement {
            policy: "p".into(),
            groups: groups.iter().map(|g| (*g).into()).collect(),
            quorum: *quorum,
        });
        Ask {
            workload: WorkloadName::new("bot").unwrap(),
            identity: Arc::new(identity),
            session: SessionId::new(),
            process: Process {
                pid: 1,
                tid: 1,
                uid: 1,
                gid: 1,
                start_ns: 1,
                exe: None,
                cgroup: None,
                sha256: None,
                parents: Vec::new(),
            },
            operation: Arc::new(request(path)),
            decision: Arc::new(Decision {
                effect: Effect::Hold,
                reason: Reason::ApprovalRequired,
                message: Some("careful".into()),
                policies: ["p".into()].into(),
                controls: [].into(),
                approval: ["dba".into()].into(),
                hold: Some(Arc::new(HoldTerms {
                    requirements: requirements.collect(),
                    wait: None,
                })),
                policy_set: Arc::clone(self.policy.current().hash()),
                obligations: Obligations::default(),
            }),
            payload: Payload::default(),
        }
    }

    async fn held(&self, ask: Ask) -> (Uuid, Ticket) {
        let ticket = self.approvals.request(ask).await.unwrap();
        (ticket.id().expect("nothing serves it yet"), ticket)
    }

    /// Every entry about approvals: event and reason.
    fn events(&self) -> Vec<String> {
        self.ledger.close();
        let found = crate::ledger::approvals(self.dir.path(), 0, 10_000).unwrap();
        let event = |e: &serde_json::Value| {
            let reason = e["reason"].as_str().map_or(String::new(), |r| format!(" {r}"));
            format!("{}{reason}", e["event"].as_str().unwrap())
        };
        found.iter().rev().map(event).collect()
    }

    fn step(&self, seconds: i64) {
        self.now.fetch_add(seconds * 1_000_000_000, Ordering::SeqCst);
    }
}

fn request(path: &str) -> Operation {
    let facts = [
        ("method", "DELETE".into()),
        ("scheme", "https".into()),
        ("host", "api.internal".into()),
        ("port", 443.into()),
        ("path", path.into()),
        ("host_verified", true.into()),
    ];
    Operation {
        id: OperationId::new(),
        protocol: "http",
        action: "http:request",
        resource: Resource {
            kind: "HttpEndpoint",
            id: format!("api.internal{path}").into(),
            attributes: Vec::new(),
            parents: Vec::new(),
        },
        destination: Destination {
            address: [10, 0, 0, 1].into(),
            port: 443,
            name: Some("api.internal".into()),
            name_verified: true,
        },
        context: ("http", Value::record(facts)),
        recorded_context: None,
        recorded_resource: None,
        credential: None,
    }
}

fn human(subject: &str, groups: &[&str]) -> Approver {
    Approver {
        issuer: "https://people".into(),
        subject: subject.into(),
        name: subject.to_uppercase().into(),
        groups: groups.iter().map(|g| (*g).into()).collect(),
        token_id: "t".into(),
        via: "cli",
        authenticated_at: START / 1_000_000_000,
        expires_at: START / 1_000_000_000 + 3600,
    }
}

fn yes() -> Answer {
    yes_to(Scope::Once)
}

fn yes_to(scope: Scope) -> Answer {
    Answer {
        approve: true,
        reason: "checked".into(),
        scope,
    }
}

fn no() -> Answer {
    Answer {
        approve: false,
        reason: "not today, hunter2".into(),
        scope: Scope::Once,
    }
}

#[tokio::test]
async fn a_yes_reaches_what_waits_once_and_is_on_record_first() {
    let world = world();
    let (id, mut ticket) = world.held(world.ask("/a")).await;
    let seen = world.approvals.get(id).unwrap();
    assert_eq!(
        (seen.state, seen.waiting, seen.summary.as_str()),
        (State::Open, 1, "DELETE https://api.internal/a")
    );
    let view = world
        .approvals
        .answer(id, &human("ann", &["dba"]), yes())
        .await
        .unwrap();
    assert_eq!(view.state, State::Approved);
    let Told::Approved(approval) = ticket.told().await else {
        panic!()
    };
    assert_eq!((&*approval.approver, &*approval.group), ("ann", "dba"));
    // Used up: the same again is asked again.
    let (again, _ticket) = world.held(world.ask("/a")).await;
    assert_ne!(again, id);
    assert_eq!(world.events(), ["requested", "approved checked", "requested"]);
}

#[tokio::test]
async fn a_yes_that_comes_late_serves_the_retry_of_exactly_that() {
    let world = world();
    let (id, ticket) = world.held(world.ask("/a")).await;
    drop(ticket);
    assert_eq!(world.approvals.get(id).unwrap().waiting, 0);
    world
        .approvals
        .answer(id, &human("ann", &["dba"]), yes())
        .await
        .unwrap();
    // Another path, another body, another identity, another workload.
    let mut other = vec![
        world.ask("/b"),
        world.ask("/a"),
        world.ask_by("/a", "agent-8", &[(&["dba"], 1)]),
        world.ask("/a"),
    ];
    other[1].payload.digest = [9; 32];
    other[3].workload = WorkloadName::new("other").unwrap();
    for ask in other {
        assert!(world.approvals.request(ask).await.unwrap().id().is_some());
    }
    let mut served = world.approvals.request(world.ask("/a")).await.unwrap();
    assert!(served.id().is_none() && matches!(served.told().await, Told::Approved(_)));
    assert!(
        world
            .approvals
            .request(world.ask("/a"))
            .await
            .unwrap()
            .id()
            .is_some(),
        "once is once"
    );
}

#[tokio::test]
async fn who_may_not_answer_changes_nothing() {
    let world = world();
    let (id, _ticket) = world.held(world.ask("/a")).await;
    let answer =
        async |who: &Approver, answer| world.approvals.answer(id, who, answer).await.map(|v| v.state);
    assert!(
        matches!(answer(&human("eve", &["agents"]), yes()).await, Err(AnswerError::NotInGroup { groups }) if groups == ["dba"])
    );
    // The workload's own subject, and the human that it acts for, whatever groups they are in.
    for own in ["agent-7", "owner"] {
        assert!(matches!(
            answer(&human(own, &["dba"]), yes()).await,
            Err(AnswerError::SelfApproval)
        ));
        assert!(matches!(
            answer(&human(own, &["dba"]), no()).await,
            Err(AnswerError::SelfApproval)
        ));
    }
    let without = |reason: &str| Answer {
        reason: reason.into(),
        ..yes()
    };
    let ann = human("ann", &["dba"]);
    assert!(matches!(
        answer(&ann, without(" \n")).await,
        Err(AnswerError::ReasonMissing)
    ));
    assert!(matches!(
        answer(&ann, without(&"x".repeat(1_001))).await,
        Err(AnswerError::ReasonTooLong)
    ));
    let grant = |shape, minutes| yes_to(Scope::Grant { shape, minutes });
    assert!(matches!(
        answer(&ann, grant(9, 5)).await,
        Err(AnswerError::Shape(9))
    ));
    assert!(matches!(
        answer(&ann, grant(0, 0)).await,
        Err(AnswerError::GrantTooLong { .. })
    ));
    assert!(matches!(
        answer(&ann, grant(0, 481)).await,
        Err(AnswerError::GrantTooLong { most: 480, .. })
    ));
    assert!(matches!(
        world.approvals.answer(Uuid::now_v7(), &ann, yes()).await,
        Err(AnswerError::NotFound)
    ));
    let seen = world.approvals.get(id).unwrap();
    assert_eq!(
        (seen.state, seen.answers.len(), seen.waiting),
        (State::Open, 0, 1)
    );
    let events = world.events();
    assert!(
        events.contains(&"refused self_approval".into()) && events.contains(&"refused not_in_group".into())
    );
    assert!(!events.iter().any(|e| e.starts_with("approved")));
}

#[tokio::test]
async fn as_many_as_policy_asks_for_and_each_once() {
    let world = world();
    let ask = world.ask_by("/a", "agent-7", &[(&["dba"], 2), (&["security", "legal"], 1)]);
    let (id, mut ticket) = world.held(ask).await;
    let answer = async |who: &str, groups: &[&str]| {
        let answered = world.approvals.answer(id, &human(who, groups), yes()).await;
        answered.map(|v| v.state)
    };
    assert_eq!(answer("ann", &["dba"]).await.unwrap(), State::Open);
    assert!(matches!(
        answer("ann", &["dba", "security"]).await,
        Err(AnswerError::AlreadyAnswered)
    ));
    assert_eq!(answer("bob", &["dba"]).await.unwrap(), State::Open);
    let seen = world.approvals.get(id).unwrap();
    assert_eq!(seen.requirements[0].approved_by, ["ANN", "BOB"]);
    assert!(seen.requirements[1].approved_by.is_empty());
    assert_eq!(answer("cleo", &["legal"]).await.unwrap(), State::Approved);
    let Told::Approved(approval) = ticket.told().await else {
        panic!()
    };
    assert_eq!(
        approval.approvers.iter().map(|a| &**a).collect::<Vec<_>>(),
        ["ann", "bob", "cleo"]
    );
    assert_eq!(
        approval.groups.iter().map(|g| &**g).collect::<Vec<_>>(),
        ["dba", "legal"]
    );
}

#[tokio::test]
async fn one_no_ends_it_and_is_not_asked_again_for_a_while() {
    let world = world();
    let (id, mut ticket) = world.held(world.ask("/a")).await;
    let view = world
        .approvals
        .answer(id, &human("ann", &["dba"]), no())
        .await
        .unwrap();
    assert_eq!(view.state, State::Denied);
    let Told::Denied(why) = ticket.told().await else {
        panic!()
    };
    assert_eq!(
        &*why, "ANN: not today, [masked]",
        "what humans write is masked, too"
    );
    let again = world.approvals.request(world.ask("/a")).await;
    assert!(matches!(again, Err(RequestError::Denied(_))));
    assert!(matches!(
        world.approvals.answer(id, &human("bob", &["dba"]), yes()).await,
        Err(AnswerError::NotOpen("denied"))
    ));
    world.step(901);
    assert!(
        world
            .approvals
            .request(world.ask("/a"))
            .await
            .unwrap()
            .id()
            .is_some()
    );
}

#[tokio::test]
async fn identical_operations_are_one_request_and_a_count_is_bound() {
    let world = world();
    let (id, mut first) = world.held(world.ask("/a")).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        let (same, ticket) = world.held(world.ask("/a")).await;
        assert_eq!(same, id);
        others.push(ticket);
    }
    assert_eq!(world.approvals.get(id).unwrap().waiting, 4);
    let seen = Scope::Waiting { count: 2 };
    world
        .approvals
        .answer(id, &human("ann", &["dba"]), yes_to(seen))
        .await
        .unwrap();
    assert!(matches!(first.told().await, Told::Approved(_)));
    assert!(matches!(others[0].told().await, Told::Approved(_)));
    // Those that came after what was seen ask again.
    assert!(matches!(others[1].told().await, Told::Again));
    assert!(matches!(others[2].told().await, Told::Again));
    let (next, _ticket) = world.held(world.ask("/a")).await;
    assert_ne!(next, id);
}

#[tokio::test]
async fn a_grant_covers_its_shape_for_its_time() {
    let world = world();
    let (id, mut ticket) = world.held(world.ask("/invoices/1")).await;
    let (covered, mut other) = world.held(world.ask("/invoices/2")).await;
    let (outside, _kept) = world.held(world.ask("/customers/1")).await;
    let shown = world.approvals.get(id).unwrap().shapes.clone();
    assert_eq!(
        shown[1],
        "any DELETE below https://api.internal/invoices/, with any query and body"
    );
    let grant = Scope::Grant { shape: 1, minutes: 1 };
    world
        .approvals
        .answer(id, &human("ann", &["dba"]), yes_to(grant))
        .await
        .unwrap();
    for ticket in [&mut ticket, &mut other] {
        assert!(matches!(ticket.told().await, Told::Again));
    }
    assert_eq!(world.approvals.get(covered).unwrap().state, State::Approved);
    assert_eq!(world.approvals.get(outside).unwrap().state, State::Open);
    let serves = async |path: &str| {
        world
            .approvals
            .request(world.ask(path))
            .await
            .unwrap()
            .id()
            .is_none()
    };
    assert!(serves("/invoices/1").await && serves("/invoices/3/lines").await);
    assert!(!serves("/invoices").await && !serves("/invoicesx").await);
    world.step(59);
    assert!(serves("/invoices/1").await);
    world.step(2);
    assert!(!serves("/invoices/1").await, "its minute is over");
    world.approvals.sweep();
    assert!(world.approvals.overview().grants.is_empty());
    assert!(world.events().contains(&"grant_ended expired".into()));
}

#[tokio::test]
async fn who_answers_for_one_policy_does_not_answer_for_another() {
    let world = world();
    let (id, _ticket) = world.held(world.ask("/invoices/1")).await;
    // The same operation, held by a policy that asks somebody else as well: a request of its own.
    let stricter: &[(&[&str], u8)] = &[(&["dba"], 1), (&["legal"], 1)];
    let (other, _kept) = world.held(world.ask_by("/invoices/1", "agent-7", stricter)).await;
    assert_ne!(other, id);
    let grant = yes_to(Scope::Grant { shape: 1, minutes: 5 });
    world
        .approvals
        .answer(id, &human("ann", &["dba"]), grant)
        .await
        .unwrap();
    assert_eq!(world.approvals.get(other).unwrap().state, State::Open);
    let serves = async |asked| {
        let ask = world.ask_by("/invoices/2", "agent-7", asked);
        world.approvals.request(ask).await.unwrap().id().is_none()
    };
    assert!(serves(&[(&["dba"], 1)]).await);
    assert!(!serves(stricter).await && !serves(&[(&["dba"], 2)]).await);
}

#[tokio::test]
async fn what_is_over_ends_with_its_reason() {
    let world = world();
    let (_, mut ticket) = world.held(world.ask("/a")).await;
    let bot = WorkloadName::new("bot").unwrap();
    world.approvals.end_workload(&bot, "identity_revoked");
    assert!(matches!(ticket.told().await, Told::Over(Reason::ApprovalLapsed)));
    // A grant ends with the identity, too.
    let (id, ticket) = world.held(world.ask("/a")).await;
    drop(ticket);
    world
        .approvals
        .answer(id, &human("ann", &["dba"]), yes())
        .await
        .unwrap();
    world.approvals.end_workload(&bot, "identity_revoked");
    let (id, mut ticket) = world.held(world.ask("/a")).await;
    // The policy changes under an open request and under a grant.
    std::fs::write(
        world.dir.path().join("policies/b.cedar"),
        "forbid(principal, action, resource);",
    )
    .unwrap();
    world.policy.reload().unwrap();
    assert!(matches!(
        world.approvals.answer(id, &human("ann", &["dba"]), yes()).await,
        Err(AnswerError::PolicyChanged)
    ));
    world.approvals.sweep();
    assert!(matches!(ticket.told().await, Told::Over(Reason::ApprovalLapsed)));
    let (_, mut ticket) = world.held(world.ask("/a")).await;
    world.step(3601);
    world.approvals.sweep();
    assert!(matches!(ticket.told().await, Told::Over(Reason::ApprovalTimeout)));
    let (_, mut ticket) = world.held(world.ask("/a")).await;
    world.approvals.stop();
    assert!(matches!(ticket.told().await, Told::Over(Reason::Draining)));
    let events = world.events();
    for end in [
        "lapsed identity_revoked",
        "lapsed policy_changed",
        "expired unanswered",
        "lapsed agent_stopped",
    ] {
        assert!(events.iter().any(|e| e == end), "{end}: {events:?}");
    }
}

#[tokio::test]
async fn a_stepped_clock_approves_nothing() {
    let world = world();
    let (id, ticket) = world.held(world.ask("/a")).await;
    drop(ticket);
    world
        .approvals
        .answer(id, &human("ann", &["dba"]), yes())
        .await
        .unwrap();
    world.step(-120);
    assert!(
        world
            .approvals
            .request(world.ask("/a"))
            .await
            .unwrap()
            .id()
            .is_some()
    );
    let (id, _ticket) = world.held(world.ask("/b")).await;
    world.step(-120);
    assert!(matches!(
        world.approvals.answer(id, &human("ann", &["dba"]), yes()).await,
        Err(AnswerError::NotOpen("expired"))
    ));
}

#[tokio::test]
async fn a_wait_ends_and_the_request_stays_open() {
    let world = world();
    let mut ask = world.ask("/a");
    let mut decision = (*ask.decision).clone();
    decision.hold = decision.hold.map(|terms| {
        Arc::new(HoldTerms {
            wait: Some(Duration::from_millis(20)),
            ..(*terms).clone()
        })
    });
    ask.decision = Arc::new(decision);
    let (id, mut ticket) = world.held(ask).await;
    // Sooner than the configuration's five minutes: the policy's own time counts.
    assert!(matches!(ticket.told().await, Told::TimedOut));
    drop(ticket);
    assert_eq!(world.approvals.get(id).unwrap().state, State::Open);
}

#[tokio::test]
async fn nobody_to_ask_is_no() {
    let world = world_with(|config| config.issuer = None);
    let answer = world.approvals.request(world.ask("/a")).await;
    assert!(matches!(answer, Err(RequestError::NoApprovers)));
}

#[tokio::test]
async fn what_one_workload_fills_is_bounded() {
    let world = world_with(|config| {
        config.open_per_workload = 2;
        config.held_per_workload = 3;
        config.held_bytes_per_workload = 2_000;
    });
    let mut tickets = Vec::new();
    for path in ["/a", "/b"] {
        tickets.push(world.held(world.ask(path)).await.1);
    }
    let full = async |ask: Ask| matches!(world.approvals.request(ask).await, Err(RequestError::Full(_)));
    assert!(full(world.ask("/c")).await, "two requests are open");
    let mut large = world.ask("/a");
    large.payload.bytes = 2_001;
    // The same operation as the first, so that only its bytes are in the way.
    assert!(full(large).await);
    tickets.push(world.held(world.ask("/a")).await.1);
    assert!(full(world.ask("/a")).await, "three operations are held");
    assert_eq!(world.approvals.overview().floods[0].refused, 3);
    let mut other = world.ask("/c");
    other.workload = WorkloadName::new("other").unwrap();
    assert!(!full(other).await, "another workload has room of its own");
    drop(tickets);
    assert!(!full(world.ask("/a")).await);
    assert!(world.approvals.overview().floods.is_empty());
    // What an open request keeps counts without anybody in its line.
    let long = world_with(|config| config.held_bytes_per_workload = 3_000);
    let path = format!("/{}", "x".repeat(900));
    drop(long.held(long.ask(&path)).await);
    assert!(matches!(
        long.approvals.request(long.ask(&format!("{path}y"))).await,
        Err(RequestError::Full(_))
    ));
}

#[tokio::test]
async fn the_glass_is_broken_by_two() {
    let world = world();
    let bot = WorkloadName::new("bot").unwrap();
    let (ann, bob) = (human("ann", &["breakers"]), human("bob", &["breakers"]));
    let (id, mut ticket) = world.held(world.ask("/a")).await;
    let eve = human("eve", &["dba"]);
    assert!(matches!(
        world.approvals.break_glass(&eve, &bot, 5, "why").await,
        Err(AnswerError::NotInGroup { .. })
    ));
    assert!(matches!(
        world.approvals.break_glass(&ann, &bot, 61, "why").await,
        Err(AnswerError::GrantTooLong { .. })
    ));
    let asked = world
        .approvals
        .break_glass(&ann, &bot, 5, "outage")
        .await
        .unwrap();
    assert_eq!(
        world.approvals.get(id).unwrap().state,
        State::Open,
        "one is not enough"
    );
    assert!(matches!(
        world
            .approvals
            .confirm_break_glass(asked.id, &ann, "me again")
            .await,
        Err(AnswerError::SamePerson)
    ));
    let grant = world
        .approvals
        .confirm_break_glass(asked.id, &bob, "seen")
        .await
        .unwrap();
    assert_eq!((grant.scope.as_str(), grant.approvers.len()), ("break_glass", 2));
    assert!(matches!(ticket.told().await, Told::Again));
    let mut served = world.approvals.request(world.ask("/x")).await.unwrap();
    assert!(matches!(served.told().await, Told::Approved(a) if a.scope.as_str() == "break_glass"));
    // Not for the operations of one of the two.
    let own = world.ask_by("/x", "ann", &[(&["dba"], 1)]);
    assert!(world.approvals.request(own).await.unwrap().id().is_some());
    assert!(matches!(
        world.approvals.end_grant(grant.id, &eve, "no").await,
        Err(AnswerError::NotInGroup { .. })
    ));
    world.approvals.end_grant(grant.id, &bob, "over").await.unwrap();
    assert!(
        world
            .approvals
            .request(world.ask("/x"))
            .await
            .unwrap()
            .id()
            .is_some()
    );
    let events = world.events();
    for event in [
        "break_glass_asked outage",
        "break_glass_given seen",
        "refused same_person",
        "grant_ended ended_by_approver",
    ] {
        assert!(events.iter().any(|e| e == event), "{event}: {events:?}");
    }
}

#[tokio::test]
async fn five_hundred_answers_each_reach_their_own() {
    let world = world();
    let mut waiting = Vec::new();
    let mut ids = Vec::new();
    for n in 0..500 {
        let (id, mut ticket) = world.held(world.ask(&format!("/{n}"))).await;
        ids.push((n, id));
        waiting.push(tokio::spawn(async move { (n, id, ticket.told().await) }));
    }
    // An order of its own: 500 and 211 have no common divisor.
    for k in 0..500_usize {
        let (n, id) = ids[k * 211 % 500];
        let answer = if n % 3 == 0 { no() } else { yes() };
        world
            .approvals
            .answer(id, &human("ann", &["dba"]), answer)
            .await
            .unwrap();
    }
    for answer in waiting {
        let (n, id, told) = answer.await.unwrap();
        match told {
            Told::Approved(approval) => assert!(n % 3 != 0 && *approval.id == *id.to_string()),
            Told::Denied(_) => assert_eq!(n % 3, 0),
            other => panic!("{other:?}"),
        }
    }
    assert!(world.approvals.overview().open.is_empty());
}

#[tokio::test]
async fn without_a_ledger_nobody_is_asked_and_nothing_is_answered() {
    let world = world();
    let (id, _ticket) = world.held(world.ask("/a")).await;
    world.ledger.close();
    assert!(matches!(
        world.approvals.request(world.ask("/b")).await,
        Err(RequestError::Ledger(_))
    ));
    assert_eq!(world.approvals.overview().open.len(), 1);
    let answer = world.approvals.answer(id, &human("ann", &["dba"]), yes()).await;
    assert!(matches!(answer, Err(AnswerError::Ledger(_))));
    assert_eq!(world.approvals.get(id).unwrap().state, State::Open);
}

type Facts = Vec<(&'static str, Value)>;

fn statement(change: impl FnOnce(&mut Facts)) -> Arc<Operation> {
    let words = |words: &[&str]| Value::Set(words.iter().map(|w| (*w).into()).collect());
    let mut facts = vec![
        ("verbs", words(&["select"])),
        ("reads", words(&["billing.invoices"])),
        ("writes", words(&[])),
        ("read_schemas", words(&["billing"])),
        ("write_schemas", words(&[])),
        ("sensitive", words(&["email"])),
        ("role", "app".into()),
        ("complete", true.into()),
    ];
    change(&mut facts);
    let mut operation = request("/");
    operation.protocol = "postgres";
    operation.action = "sql:statement";
    operation.resource.kind = "Database";
    operation.resource.id = "db/app".into();
    operation.context = ("sql", Value::Record(facts.into_iter().collect()));
    Arc::new(operation)
}

#[test]
fn a_statements_shape_covers_no_more_than_it_says() {
    let words = |words: &[&str]| Value::Set(words.iter().map(|w| (*w).into()).collect());
    let shown = shapes(&statement(|_| {}));
    assert_eq!(
        shown[1].text,
        "any select on billing.* in db/app and reading no sensitive data but email"
    );
    let other = statement(|f| f[1].1 = words(&["billing.lines"]));
    assert!(!shown[0].covers(&other) && shown[1].covers(&other));
    assert!(
        shown[0].covers(&statement(|f| f[5].1 = words(&[]))),
        "less is covered"
    );
    let worse: [fn(&mut Facts); 7] = [
        |f| f[0].1 = Value::Set(["select".into(), "delete".into()].into()),
        |f| f[3].1 = Value::Set(["billing".into(), "hr".into()].into()),
        |f| f[4].1 = Value::Set(["billing".into()].into()),
        |f| f[5].1 = Value::Set(["us_ssn".into()].into()),
        |f| f.push(("unknown_functions", Value::Set(["app.f".into()].into()))),
        |f| f.push(("copied", Value::Set(["email".into()].into()))),
        |f| f[7].1 = false.into(),
    ];
    for (n, change) in worse.into_iter().enumerate() {
        assert!(!shown[1].covers(&statement(change)), "{n}");
    }
    assert!(
        !shown[1].covers(&statement(|f| f[6].1 = "admin".into())),
        "another role"
    );
    let elsewhere = {
        let mut other = (*statement(|_| {})).clone();
        other.resource.id = "db/other".into();
        other
    };
    assert!(!shown[1].covers(&elsewhere));
    // What changes every row, and what nobody understood, has no shape.
    assert!(shapes(&statement(|f| f.push(("has_where", false.into())))).is_empty());
    assert!(shapes(&statement(|f| f[7].1 = false.into())).is_empty());
}
