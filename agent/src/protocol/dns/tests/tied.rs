//! Answers, and the connections that follow them.

use super::{
    fake::{Resolver, ask, query},
    *,
};
use crate::protocol::{Protocol, conformance::Turn, conformance::Upstream, http::Http, tcp::Tcp};

/// A connection of the rig's workload to an address, and whether it went upstream.
async fn connects(rig: &Rig, protocol: &dyn Protocol, to: &str, sent: &[u8]) -> bool {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let gate = rig.gate(to.parse().unwrap(), None);
    let (near, mut far) = tokio::io::duplex(4096);
    let upstream = Upstream::new(&[Turn::closing(sent, b"HTTP/1.1 204 No Content\r\n\r\n")]);
    let workload = async {
        far.write_all(sent).await.unwrap();
        let _ = far.shutdown().await;
        let mut down = Vec::new();
        let _ = far.read_to_end(&mut down).await;
    };
    let (_, _how_it_ended) = tokio::join!(workload, protocol.serve(Box::new(near), &upstream, &gate));
    upstream.dials.load(std::sync::atomic::Ordering::Relaxed) > 0
}

const BY_NAME: &str = r#"
@id("ask") permit (principal, action == Action::"dns:query", resource);
@id("db") permit (principal, action == Action::"tcp:connect", resource)
when {
  context.destination has name && context.destination.name_verified && context.destination.name == "db.internal"
};
@id("web") permit (principal, action == Action::"http:request", resource in HttpHost::"db.internal")
when { context.http.host_verified };
"#;

#[tokio::test]
async fn a_connection_is_known_by_the_name_that_was_resolved() {
    let resolver = Resolver::start(TABLE).await;
    let (rig, dns) = (resolver.rig(BY_NAME), Dns::default());
    let get = b"GET / HTTP/1.1\r\nHost: db.internal\r\nConnection: close\r\n\r\n";
    assert!(
        !connects(&rig, &Tcp, "192.0.2.7:5432", b"x").await,
        "nothing was resolved"
    );
    assert!(
        !connects(&rig, &Http, "192.0.2.7:80", get).await,
        "nothing was resolved"
    );
    let went = ask(&rig, &dns, &[query(1, "DB.internal.", RecordType::A)]).await;
    assert_eq!(went.only().answers.len(), 1);
    assert!(connects(&rig, &Tcp, "192.0.2.7:5432", b"x").await);
    assert!(connects(&rig, &Tcp, "[::ffff:192.0.2.7]:5432", b"x").await);
    assert!(connects(&rig, &Http, "192.0.2.7:80", get).await);
    assert!(
        !connects(&rig, &Tcp, "192.0.2.8:5432", b"x").await,
        "another address"
    );
    // Asked for last, another name of the address is what it is known by.
    let sql = "json_extract(body, '$.action') = 'tcp:connect'";
    let entry = entries(&rig, sql, 2).await.remove(1);
    assert_eq!(
        entry["context"]["tcp"]["names"],
        serde_json::json!(["db.internal"])
    );
    assert_eq!(entry["destination"]["name"], "db.internal");
    assert_eq!(entry["destination"]["name_verified"], true);
}

#[tokio::test]
async fn a_host_that_may_not_be_looked_up_is_not_looked_up_for_it_either() {
    const WEB: &str = r#"@id("web") permit (principal, action == Action::"http:request", resource)
when { context.http.host_verified };"#;
    let get = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let rig = Rig::new(WEB);
    let to = "192.0.2.7:80";
    assert!(!connects(&rig, &Http, to, get("data.evil.invalid").as_bytes()).await);
    let names = &rig.shared.names;
    assert!(
        !names.has_looked_up("data.evil.invalid"),
        "it would have carried the name out"
    );
    // What nobody has to be asked for is known all the same.
    assert!(connects(&rig, &Http, to, get("192.0.2.7").as_bytes()).await);
    assert!(connects(&rig, &Http, "127.0.0.1:80", get("localhost").as_bytes()).await);
}

#[tokio::test]
async fn the_database_is_known_by_it_too() {
    use crate::protocol::postgres::Postgres;
    const DATABASE: &str = r#"
@id("ask") permit (principal, action == Action::"dns:query", resource);
@id("db") permit (principal, action == Action::"sql:connect", resource in DatabaseServer::"db.internal");
"#;
    let resolver = Resolver::start(TABLE).await;
    let (rig, dns) = (resolver.rig(DATABASE), Dns::default());
    let startup = b"\0\0\0\x1f\0\x03\0\0user\0ada\0database\0app\0\0";
    let to = "192.0.2.7:5432";
    assert!(!connects(&rig, &Postgres::default(), to, startup).await);
    ask(&rig, &dns, &[query(1, "db.internal.", RecordType::A)]).await;
    assert!(connects(&rig, &Postgres::default(), to, startup).await);
}

#[tokio::test]
async fn a_name_that_stands_for_this_host_proves_nothing() {
    const LOOP: &str = r#"
@id("ask") permit (principal, action == Action::"dns:query", resource);
@id("named") permit (principal, action == Action::"tcp:connect", resource) when { context.destination has name };
"#;
    let resolver = Resolver::start(TABLE).await;
    let (rig, dns) = (resolver.rig(LOOP), Dns::default());
    let went = ask(&rig, &dns, &[query(1, "loop.example.", RecordType::A)]).await;
    assert_eq!(
        went.only().answers[0].data.to_string(),
        "127.0.0.1",
        "it is passed on"
    );
    let outcome = &entries(&rig, "json_extract(body, '$.kind') = 'outcome'", 1).await[0];
    assert_eq!(outcome["answer"]["counts"], false);
    assert!(!connects(&rig, &Tcp, "127.0.0.1:5432", b"x").await);
    ask(&rig, &dns, &[query(1, "localhost.", RecordType::A)]).await;
    assert!(connects(&rig, &Tcp, "127.0.0.1:5432", b"x").await);
}

#[tokio::test]
async fn only_the_name_asked_for_counts() {
    let resolver = Resolver::start(TABLE).await;
    let (rig, dns) = (resolver.rig(ALLOW), Dns::default());
    ask(&rig, &dns, &[query(1, "www.example.", RecordType::A)]).await;
    let names = rig.gate("192.0.2.8:80".parse().unwrap(), None).told_names();
    assert_eq!(names, ["www.example".into()]);
    ask(&rig, &dns, &[query(2, "cdn.example.", RecordType::A)]).await;
    let names = rig.gate("192.0.2.8:80".parse().unwrap(), None).told_names();
    assert_eq!(names, ["cdn.example".into(), "www.example".into()]);
}

#[tokio::test]
async fn dns_over_https_can_be_told_from_other_requests() {
    const NO_DNS: &str = r#"
@id("all") permit (principal, action, resource);
@id("doh") forbid (principal, action == Action::"http:request", resource) when { context.http has dns && context.http.dns };
"#;
    let rig = Rig::new(NO_DNS);
    for (request, goes) in [
        (
            "GET /dns-query?dns=AAAB HTTP/1.1\r\nHost: 192.0.2.8\r\n\r\n",
            false,
        ),
        (
            "POST /x HTTP/1.1\r\nHost: 192.0.2.8\r\nContent-Type: application/dns-message\r\nContent-Length: 0\r\n\r\n",
            false,
        ),
        ("GET /resolve HTTP/1.1\r\nHost: dns.google\r\n\r\n", false),
        ("GET /other HTTP/1.1\r\nHost: 192.0.2.8\r\n\r\n", true),
    ] {
        assert_eq!(
            connects(&rig, &Http, "192.0.2.8:80", request.as_bytes()).await,
            goes,
            "{request}"
        );
    }
    assert!(
        !connects(
            &rig,
            &Http,
            "9.9.9.9:80",
            b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
        )
        .await
    );
}
