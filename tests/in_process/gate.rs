//! One connection after another through the spine: identified, decided, masked, recorded, or refused with a reason.

use anyhow::Result;
use portcullis::{
    connection::Tag,
    identity::Actor,
    model::{CgroupId, WorkloadName},
};

use super::rig::{Rig, Upstream, closed, exchange};

const ALLOW: &str = r#"@id("all") permit(principal, action, resource);"#;
const READS: &str = r#"
@id("reads") permit(principal, action == Action::"http:request", resource) when { context.http.method == "GET" };
@id("no-delete") @reason("deleting is for people")
forbid(principal, action == Action::"http:request", resource) when { context.http.method == "DELETE" };
"#;
const CUSTOMER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 53\r\n\r\n{\"name\":\"Ann\",\"mail\":\"ann@example.com\",\"n\":1234567890}";

#[tokio::test]
async fn an_allowed_request_is_identified_masked_and_recorded() -> Result<()> {
    let rig = Rig::new(READS, "").await?;
    let upstream = Upstream::start(CUSTOMER).await?;
    let mut workload = rig.connect(upstream.address).await;
    let request = format!(
        "GET /customers/1?mail=bob@example.com HTTP/1.1\r\nHost: {}\r\n\r\n",
        upstream.address
    );
    let answer = exchange(&mut workload, &request).await?;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(
        answer.contains("[masked:email]") && !answer.contains("ann@example.com"),
        "{answer}"
    );
    assert!(
        upstream.seen()[0].contains("mail=bob@example.com"),
        "the destination gets what was sent"
    );

    let row = "SELECT subject || ' ' || action || ' ' || decision || ' ' || status FROM operations WHERE status = '200'";
    assert_eq!(rig.await_rows(row).await?, ["agent-7 http:request allow 200"]);
    let leaks = rig.rows("SELECT body FROM entry WHERE body LIKE '%@example.com%'")?;
    assert!(leaks.is_empty(), "{leaks:?}");
    let order = "SELECT json_extract(body,'$.kind') FROM entry WHERE json_extract(body,'$.kind') IN ('operation','outcome') ORDER BY seq";
    assert_eq!(rig.rows(order)?, ["operation", "outcome"]);
    Ok(())
}

#[tokio::test]
async fn a_denial_explains_itself_and_the_connection_lives_on() -> Result<()> {
    let rig = Rig::new(READS, "").await?;
    let upstream = Upstream::start(CUSTOMER).await?;
    let mut workload = rig.connect(upstream.address).await;
    let host = upstream.address;
    let answer = exchange(
        &mut workload,
        &format!("DELETE /customers/1 HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    )
    .await?;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let problem: serde_json::Value = serde_json::from_str(&answer[answer.find("\r\n\r\n").unwrap()..])?;
    assert_eq!(problem["reason"], "policy_forbid", "{problem}");
    assert_eq!(problem["policies"][0], "no-delete", "{problem}");
    let entry = problem["entry"].as_str().unwrap();
    let recorded = format!("SELECT decision FROM operations WHERE id = '{entry}'");
    assert_eq!(
        rig.rows(&recorded)?,
        ["deny"],
        "the entry is there before the workload is told"
    );
    assert!(
        upstream.seen().is_empty(),
        "nothing of a denied request goes upstream"
    );
    let answer = exchange(
        &mut workload,
        &format!("GET /customers/1 HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    )
    .await?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(upstream.seen().len(), 1);
    Ok(())
}

#[tokio::test]
async fn revocation_ends_live_connections_and_new_operations() -> Result<()> {
    let rig = Rig::new(ALLOW, "").await?;
    let upstream = Upstream::start(CUSTOMER).await?;
    let mut workload = rig.connect(upstream.address).await;
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", upstream.address);
    exchange(&mut workload, &request).await?;
    rig.core
        .front
        .identities
        .revoke(&WorkloadName::new("bot")?, Actor { pid: 1, uid: 0 })?;
    closed(&mut workload).await?;
    let mut again = rig.connect(upstream.address).await;
    let answer = exchange(&mut again, &request).await?;
    assert!(answer.contains("identity_revoked"), "{answer}");
    assert_eq!(upstream.seen().len(), 1);
    rig.core
        .front
        .identities
        .restore(&WorkloadName::new("bot")?, Actor { pid: 1, uid: 0 })?;
    let answer = exchange(&mut again, &request).await?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_cgroup_that_is_no_workload_gets_nothing() -> Result<()> {
    let rig = Rig::new(ALLOW, "").await?;
    let upstream = Upstream::start(CUSTOMER).await?;
    let mut stranger = rig.connect_from(CgroupId(9), upstream.address).await;
    closed(&mut stranger).await?;
    let reason =
        "SELECT json_extract(body,'$.reason') FROM entry WHERE json_extract(body,'$.event') = 'close'";
    assert_eq!(rig.await_rows(reason).await?, ["workload_unknown"]);
    assert!(upstream.seen().is_empty());
    Ok(())
}

#[tokio::test]
async fn bytes_of_no_known_protocol_need_a_grant_of_their_own() -> Result<()> {
    use tokio::io::AsyncWriteExt as _;
    let rig = Rig::new(READS, "").await?;
    let upstream = Upstream::start(CUSTOMER).await?;
    let mut workload = rig.connect(upstream.address).await;
    workload.write_all(b"\x00\x01\x02 what is this\r\n\r\n").await?;
    closed(&mut workload).await?;
    let row = "SELECT action || ' ' || decision FROM operations";
    assert_eq!(rig.await_rows(row).await?, ["tcp:connect deny"]);
    assert!(upstream.seen().is_empty());
    Ok(())
}

#[tokio::test]
async fn the_agent_does_not_talk_to_itself() -> Result<()> {
    let rig = Rig::new(ALLOW, "[redirect]\nport = 1\n").await?;
    let mut workload = rig.connect("127.0.0.1:1".parse()?).await;
    let answer = exchange(&mut workload, "GET / HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n").await?;
    assert!(answer.contains("upstream_is_agent"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_stopping_agent_ends_connections_between_operations() -> Result<()> {
    let rig = Rig::new(ALLOW, "").await?;
    let upstream = Upstream::start(CUSTOMER).await?;
    let mut workload = rig.connect(upstream.address).await;
    exchange(
        &mut workload,
        &format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", upstream.address),
    )
    .await?;
    let cut = rig
        .core
        .front
        .shared
        .drain
        .stop(std::time::Duration::from_secs(60))
        .await;
    assert_eq!(cut, 0, "an idle connection does not wait for the deadline");
    closed(&mut workload).await?;
    Ok(())
}

#[tokio::test]
async fn a_cgroup_at_its_limit_keeps_no_other_out() -> Result<()> {
    let rig = Rig::new(ALLOW, "[limits]\nworkload_connections = 2").await?;
    let other = CgroupId(9);
    rig.core.front.workloads.add(
        other,
        Tag {
            workload: WorkloadName::new("bot")?,
            cgroup: "/other".into(),
            source: "config",
        },
    );
    let upstream = Upstream::start(CUSTOMER).await?;
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", upstream.address);
    let mut first = rig.connect(upstream.address).await;
    let _second = rig.connect(upstream.address).await;
    let mut third = rig.connect(upstream.address).await;
    closed(&mut third).await?;
    let mut elsewhere = rig.connect_from(other, upstream.address).await;
    assert!(
        exchange(&mut elsewhere, &request)
            .await?
            .starts_with("HTTP/1.1 200")
    );
    assert!(exchange(&mut first, &request).await?.starts_with("HTTP/1.1 200"));
    drop(first);
    // Its place is given back when its session has ended.
    let ended = "SELECT 1 FROM entry WHERE json_extract(body,'$.event') = 'close'";
    assert_eq!(rig.await_rows(ended).await?.len(), 1);
    let again = async {
        loop {
            let mut fourth = rig.connect(upstream.address).await;
            if let Ok(answer) = exchange(&mut fourth, &request).await {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    let answer = tokio::time::timeout(std::time::Duration::from_secs(30), again).await?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}
