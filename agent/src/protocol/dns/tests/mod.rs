//! Whole connections against a made-up resolver.

mod fake;
mod hostile;
mod tied;

use std::time::Duration;

use hickory_resolver::proto::{
    op::ResponseCode,
    rr::{RData, RecordType},
};

use self::fake::{Resolver, ask, entries, extended, framed, name, query, send};
use super::Dns;
use crate::{
    gate::testing::Rig,
    model::{SecretSink as _, Transport},
    protocol::conformance::{ALLOW, DENY},
};

const TABLE: &[(&str, u32, &str)] = &[
    ("db.internal.", 300, "192.0.2.7"),
    ("www.example.", 60, "cdn.example."),
    ("cdn.example.", 20, "192.0.2.8"),
    ("cdn.example.", 20, "2001:db8::8"),
    ("text.example.", 60, "txt:said with a secret-value in it"),
    ("loop.example.", 60, "127.0.0.1"),
];

#[tokio::test]
async fn what_is_allowed_is_answered_by_the_hosts_resolvers() {
    let resolver = Resolver::start(TABLE).await;
    let (rig, dns) = (resolver.rig(ALLOW), Dns::default());
    let went = ask(&rig, &dns, &[query(7, "Db.Internal.", RecordType::A)]).await;
    let answer = went.only();
    assert_eq!((answer.metadata.id, went.operations), (7, 1));
    assert!(answer.metadata.recursion_available && answer.metadata.recursion_desired);
    assert_eq!(
        answer.queries[0].name().to_string(),
        "Db.Internal.",
        "as it was asked"
    );
    assert_eq!(answer.answers[0].data.to_string(), "192.0.2.7");
    let chain = ask(&rig, &dns, &[query(8, "www.example.", RecordType::A)])
        .await
        .only();
    let data: Vec<_> = chain.answers.iter().map(|r| r.data.to_string()).collect();
    assert_eq!(data, ["cdn.example.", "192.0.2.8"]);
    let operation = &entries(&rig, "json_extract(body, '$.kind') = 'operation'", 2).await[1];
    assert_eq!(operation["action"], "dns:query");
    assert_eq!(operation["resource"]["id"], "www.example");
    assert_eq!(operation["destination"]["address"], "192.0.2.53");
    let record = &operation["context"]["dns"];
    assert_eq!(
        (&record["type"], &record["transport"]),
        (&"A".into(), &"tcp".into())
    );
    assert_eq!(
        (&record["labels"], &record["recent"]["queries"]),
        (&2.into(), &2.into())
    );
    let outcome = &entries(&rig, "json_extract(body, '$.kind') = 'outcome'", 2).await[1];
    assert_eq!(
        (&outcome["status"], &outcome["reason"]),
        (&"NOERROR".into(), &"completed".into())
    );
    let expected = serde_json::json!({
        "addresses": ["192.0.2.8"], "counts": true, "names": ["cdn.example"], "records": 2, "ttl": 20,
        "types": ["A", "CNAME"],
    });
    assert_eq!(outcome["answer"], expected);
}

#[tokio::test]
async fn every_split_of_the_bytes_gives_the_same_answers() {
    let resolver = Resolver::start(TABLE).await;
    let (rig, dns) = (resolver.rig(ALLOW), Dns::default());
    let bytes = framed(&[
        query(1, "db.internal.", RecordType::A),
        query(2, "nobody.example.", RecordType::AAAA),
        query(3, "cdn.example.", RecordType::AAAA),
    ]);
    for at in (0..bytes.len()).step_by(3) {
        let went = send(&rig, &dns, &[&bytes[..at], &bytes[at..]]).await;
        let mut seen: Vec<_> = (0..went.answers.len())
            .map(|n| went.message(n))
            .map(|m| (m.metadata.id, m.metadata.response_code, m.answers.len()))
            .collect();
        seen.sort_by_key(|(id, ..)| *id);
        let expected = [
            (1, ResponseCode::NoError, 1),
            (2, ResponseCode::NXDomain, 0),
            (3, ResponseCode::NoError, 1),
        ];
        assert_eq!(seen, expected, "{at}");
        assert!(went.result.is_ok() && went.operations == 3, "{at}");
    }
}

#[tokio::test]
async fn answers_are_cached_for_as_long_as_they_last_and_for_one_workload() {
    let resolver = Resolver::start(TABLE).await;
    let (rig, dns) = (resolver.rig(ALLOW), Dns::default());
    for _ in 0..3 {
        let went = ask(&rig, &dns, &[query(1, "db.internal.", RecordType::A)]).await;
        assert_eq!(went.only().answers.len(), 1);
    }
    assert_eq!(resolver.count(), 1);
    for _ in 0..2 {
        let none = ask(&rig, &dns, &[query(2, "nobody.example.", RecordType::A)])
            .await
            .only();
        assert_eq!(none.metadata.response_code, ResponseCode::NXDomain);
        assert!(
            matches!(none.authorities[0].data, RData::SOA(_)),
            "so that others can keep it, too"
        );
        let empty = ask(&rig, &dns, &[query(3, "db.internal.", RecordType::AAAA)])
            .await
            .only();
        assert_eq!(empty.metadata.response_code, ResponseCode::NoError);
        assert_eq!((empty.answers.len(), empty.authorities.len()), (0, 1));
    }
    assert_eq!(resolver.count(), 3, "negative answers are kept as well");
    let other = crate::model::WorkloadName::new("other").unwrap();
    let names = &rig.shared.names;
    assert!(names.told(&other, "192.0.2.7".parse().unwrap()).is_empty());
    let asked = names.look_up(&other, &name("db.internal."), RecordType::A).await;
    assert!(asked.is_ok_and(|(answered, counts)| answered.answers.len() == 1 && counts));
    assert_eq!(resolver.count(), 4, "what one was told is not told to another");
}

#[tokio::test]
async fn a_denied_name_is_refused_and_nobody_is_asked() {
    let resolver = Resolver::start(TABLE).await;
    let dns = Dns::default();
    let rig = resolver.rig(DENY);
    let went = ask(&rig, &dns, &[query(9, "db.internal.", RecordType::A)]).await;
    let answer = went.only();
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    let entry = &entries(&rig, "json_extract(body, '$.kind') = 'operation'", 1).await[0];
    let said = extended(&answer);
    let id = entry["id"].as_str().unwrap();
    assert!(
        said.starts_with("15 denied by Portcullis: policy_forbid") && said.contains(id),
        "{said}"
    );
    assert!(said.contains("not here"), "{said}");
    // By default, and in the tree of domains.
    let policy =
        r#"@id("below") permit (principal, action == Action::"dns:query", resource in DnsName::"internal");"#;
    let rig = resolver.rig(policy);
    let went = ask(&rig, &dns, &[query(1, "www.example.", RecordType::A)])
        .await
        .only();
    assert!(extended(&went).starts_with("18 "), "{}", extended(&went));
    let went = ask(&rig, &dns, &[query(2, "db.internal.", RecordType::A)])
        .await
        .only();
    assert_eq!(went.metadata.response_code, ResponseCode::NoError);
    assert_eq!(resolver.count(), 1);
    // Who does not speak EDNS is told without it.
    let mut plain = query(3, "www.example.", RecordType::A);
    plain.edns = None;
    let went = ask(&rig, &dns, &[plain]).await.only();
    assert_eq!(went.metadata.response_code, ResponseCode::Refused);
    assert!(went.edns.is_none());
}

#[tokio::test]
async fn a_held_name_waits_for_as_long_as_a_program_does() {
    const HELD: &str = r#"
@id("all") permit (principal, action, resource);
@id("ask") @approval("leads") forbid (principal, action == Action::"dns:query", resource in DnsName::"internal")
unless { context has approval };
"#;
    let resolver = Resolver::start(TABLE).await;
    let (rig, dns) = (resolver.rig(HELD), Dns::default());
    let patience = Duration::from_millis(50);
    rig.shared.names.configure(&crate::config::Dns {
        patience,
        ..resolver.settings()
    });
    let mut requests = std::collections::BTreeSet::new();
    for id in 1..4 {
        let went = ask(&rig, &dns, &[query(id, "db.internal.", RecordType::A)])
            .await
            .only();
        assert_eq!(went.metadata.response_code, ResponseCode::ServFail);
        let said = extended(&went);
        assert!(said.starts_with("18 held by Portcullis"), "{said}");
        requests.insert(said);
    }
    // Asked again it is the same request, though more was asked before it.
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!(resolver.count(), 0);
    let went = ask(&rig, &dns, &[query(9, "cdn.example.", RecordType::A)])
        .await
        .only();
    assert_eq!(went.metadata.response_code, ResponseCode::NoError);
}

#[tokio::test]
async fn credentials_pass_neither_way() {
    let resolver = Resolver::start(TABLE).await;
    let (rig, dns) = (resolver.rig(ALLOW), Dns::default());
    let text = || query(1, "text.example.", RecordType::TXT);
    assert_eq!(ask(&rig, &dns, &[text()]).await.only().answers.len(), 1);
    rig.shared.secrets.replace("a", &[b"secret-value"]);
    let went = ask(&rig, &dns, &[text()]).await.only();
    assert_eq!(went.metadata.response_code, ResponseCode::ServFail);
    assert!(went.answers.is_empty());
    for leak in ["x.secret-value.example.", "secret-.value.example."] {
        let went = ask(&rig, &dns, &[query(2, leak, RecordType::A)]).await.only();
        assert_eq!(went.metadata.response_code, ResponseCode::Refused, "{leak}");
        assert!(extended(&went).starts_with("15 denied by Portcullis: secret_leak"));
    }
    assert_eq!(resolver.count(), 1);
    let outcomes = entries(&rig, "json_extract(body, '$.kind') = 'outcome'", 2).await;
    assert_eq!(outcomes[1]["reason"], "secret_leak");
}

#[tokio::test]
async fn nobody_answers() {
    let resolver = Resolver::start(TABLE).await;
    let (rig, dns) = (resolver.rig(ALLOW), Dns::default());
    let went = ask(&rig, &dns, &[query(1, "silent.example.", RecordType::A)])
        .await
        .only();
    assert_eq!(went.metadata.response_code, ResponseCode::ServFail);
    assert!(
        extended(&went).starts_with("22 no resolver answered in time"),
        "{}",
        extended(&went)
    );
    let missing = crate::config::Dns {
        resolv_conf: rig.dir.path().join("resolv.conf"),
        ..Default::default()
    };
    rig.shared.names.configure(&missing);
    let went = ask(&rig, &dns, &[query(1, "db.internal.", RecordType::A)])
        .await
        .only();
    assert_eq!(went.metadata.response_code, ResponseCode::ServFail);
    assert!(
        extended(&went).contains("there is no resolver to ask"),
        "{}",
        extended(&went)
    );
    let outcome = &entries(&rig, "json_extract(body, '$.kind') = 'outcome'", 2).await[0];
    assert_eq!(
        (&outcome["reason"], &outcome["status"]),
        (&"timeout".into(), &"SERVFAIL".into())
    );
    // Written later, it is read: nothing has to be restarted.
    std::fs::write(&missing.resolv_conf, "nameserver 127.0.0.1\noptions timeout:1\n").unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let went = ask(&rig, &dns, &[query(1, "db.internal.", RecordType::A)])
            .await
            .only();
        if !extended(&went).contains("there is no resolver to ask") {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn memory_is_bounded_and_datagrams_are_short() {
    let resolver = Resolver::start(&[]).await;
    let (mut rig, dns) = (resolver.rig(ALLOW), Dns::default());
    rig.shared.names.configure(&crate::config::Dns {
        timeout: Duration::from_secs(30),
        ..resolver.settings()
    });
    let taken = fake::flood(&rig, &dns, &framed(&[query(1, "silent.example.", RecordType::A)])).await;
    assert!((1000..512 * 1024).contains(&taken), "{taken} bytes taken");
    const MANY: &[(&str, u32, &str)] = &[("many.example.", 60, "192.0.2.1"); 60];
    let resolver = Resolver::start(MANY).await;
    rig = resolver.rig(ALLOW);
    rig.transport = Transport::Udp;
    let mut plain = query(2, "many.example.", RecordType::A);
    plain.edns = None;
    let went = ask(&rig, &dns, &[query(1, "many.example.", RecordType::A), plain]).await;
    let mut sizes: Vec<_> = (0..2)
        .map(|at| (went.message(at), went.answers[at].len()))
        .collect();
    sizes.sort_by_key(|(m, _)| m.metadata.id);
    let [(whole, long), (cut, short)] = &sizes[..] else {
        panic!()
    };
    assert!(
        !whole.metadata.truncation && whole.answers.len() == 60 && *long <= 1232,
        "{long}"
    );
    assert!(
        cut.metadata.truncation && cut.answers.is_empty() && *short <= 512,
        "{short}"
    );
    assert_eq!(cut.queries[0].name(), &name("many.example."));
}
