//! Requests over HTTP that wait for a human, through the whole agent.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portcullis::{
    approval::{Approvals, Scope, State},
    identity::Actor,
    model::WorkloadName,
};
use tokio::io::AsyncWriteExt as _;

use super::{
    people::{APPROVALS, PAGE, human, no, open, waiting, yes},
    rig::{Rig, Upstream, exchange, response},
};

/// Deletes wait for long, POSTs for a moment, and nothing lifts the ban on PATCH.
const POLICY: &str = r#"
@id("all") permit(principal, action, resource);
@id("deletes") @reason("deleting is for people") @approval("owners") @hold("60s")
forbid(principal, action == Action::"http:request", resource)
when { context.http.method == "DELETE" } unless { context has approval };
@id("posts") @approval("owners") @hold("200ms")
forbid(principal, action == Action::"http:request", resource)
when { context.http.method == "POST" } unless { context has approval };
@id("patches") forbid(principal, action == Action::"http:request", resource) when { context.http.method == "PATCH" };
"#;
const DONE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone";

async fn site() -> Result<(Rig, Upstream, Approvals)> {
    let rig = Rig::new(POLICY, &format!("{PAGE}{APPROVALS}")).await?;
    let upstream = Upstream::start(DONE).await?;
    let approvals = rig.core.front.shared.approvals.clone();
    Ok((rig, upstream, approvals))
}

fn request(upstream: &Upstream, method: &str, path: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{more}", upstream.address)
}

fn delete(upstream: &Upstream, n: usize) -> String {
    request(upstream, "DELETE", &format!("/{n}"), "\r\n")
}

fn post(upstream: &Upstream, headers: &str, body: &str) -> String {
    let more = format!("{headers}Content-Length: {}\r\n\r\n{body}", body.len());
    request(upstream, "POST", "/orders", &more)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_at_once_get_each_their_own_answer() -> Result<()> {
    let (rig, upstream, approvals) = site().await?;
    let mut held = Vec::new();
    for n in 0..500 {
        let mut workload = rig.connect(upstream.address).await;
        let asked = delete(&upstream, n);
        held.push(tokio::spawn(async move {
            workload.write_all(asked.as_bytes()).await?;
            let patience = Duration::from_secs(60);
            tokio::time::timeout(patience, async {
                // `response` has a patience of its own; here it begins once the answer is due.
                let mut buffer = [0; 1];
                tokio::io::AsyncReadExt::read_exact(&mut workload, &mut buffer).await?;
                Ok::<_, anyhow::Error>(format!("H{}", response(&mut workload).await?))
            })
            .await?
        }));
    }
    let asked = open(&approvals, 500).await?;
    ensure!(upstream.seen().is_empty(), "something went up before the answer");
    let mut order: Vec<_> = (0..500).collect();
    // Each 211th: 211 and 500 have no common divisor.
    order.sort_by_key(|k| k * 211 % 500);
    for k in order {
        let n = number(&asked[k].summary)?;
        let answer = if n % 5 == 0 { no() } else { yes() };
        approvals
            .answer(asked[k].id, &human("ann", &["owners"]), answer)
            .await?;
    }
    for (n, answer) in held.into_iter().enumerate() {
        let answer = answer.await??;
        if n % 5 == 0 {
            ensure!(
                answer.contains("403") && answer.contains("ann: not in office hours"),
                "{n}: {answer}"
            );
        } else {
            ensure!(
                answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"),
                "{n}: {answer}"
            );
        }
    }
    let mut passed: Vec<usize> = upstream.seen().iter().map(|r| number(r)).collect::<Result<_>>()?;
    passed.sort_unstable();
    let expected: Vec<usize> = (0..500).filter(|n| n % 5 != 0).collect();
    ensure!(passed == expected, "{passed:?}");
    let rows = rig.rows("SELECT state || ' ' || count(*) FROM approvals GROUP BY state ORDER BY state")?;
    ensure!(rows == ["approved 400", "denied 100"], "{rows:?}");
    Ok(())
}

/// The number that a request's path is.
fn number(text: &str) -> Result<usize> {
    let path = text.split_whitespace().nth(1).context("no path")?;
    Ok(path.rsplit('/').next().unwrap_or_default().parse()?)
}

#[tokio::test]
async fn a_late_yes_serves_the_retry_and_nothing_that_was_changed() -> Result<()> {
    let (rig, upstream, approvals) = site().await?;
    let ask = async |text: String| {
        let mut workload = rig.connect(upstream.address).await;
        exchange(&mut workload, &text).await
    };
    let late = ask(post(&upstream, "", r#"{"amount":10}"#)).await?;
    let problem: serde_json::Value = serde_json::from_str(late.split("\r\n\r\n").nth(1).context("no body")?)?;
    ensure!(problem["reason"] == "approval_timeout", "{problem}");
    let request = open(&approvals, 1).await?.remove(0);
    let page = format!("https://approvals.example/requests/{}", request.id);
    ensure!(problem["approval"]["page"] == page.as_str(), "{problem}");
    ensure!(
        late.contains(&request.id.to_string()),
        "the request is not named: {late}"
    );
    ensure!(request.payload.contains("10"), "{request:?}");
    approvals
        .answer(request.id, &human("ann", &["owners"]), yes())
        .await?;
    // Another body, and a header that may have an effect.
    for changed in [
        post(&upstream, "", r#"{"amount":99}"#),
        post(&upstream, "X-Force: true\r\n", r#"{"amount":10}"#),
        post(&upstream, "Content-Type: text/plain\r\n", r#"{"amount":10}"#),
    ] {
        let answer = ask(changed).await?;
        ensure!(answer.contains("approval_timeout"), "{answer}");
    }
    ensure!(upstream.seen().is_empty());
    // Headers that change by themselves make no difference; nor does how the body is cut.
    let chunked = request_chunked(&upstream);
    let answer = ask(chunked).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    ensure!(upstream.seen().len() == 1);
    let again = ask(post(&upstream, "", r#"{"amount":10}"#)).await?;
    ensure!(again.contains("approval_timeout"), "once is once: {again}");
    Ok(())
}

fn request_chunked(upstream: &Upstream) -> String {
    let more = "Date: Wed, 25 Nov 2026 10:00:00 GMT\r\nTraceparent: 00-1-2-01\r\n\
                Transfer-Encoding: chunked\r\n\r\n4\r\n{\"am\r\n9\r\nount\":10}\r\n0\r\n\r\n";
    request(upstream, "POST", "/orders", more)
}

#[tokio::test]
async fn what_ends_meanwhile_is_told() -> Result<()> {
    let (rig, upstream, approvals) = site().await?;
    let mut workload = rig.connect(upstream.address).await;
    workload.write_all(delete(&upstream, 1).as_bytes()).await?;
    let asked = open(&approvals, 1).await?.remove(0);
    waiting(&approvals, asked.id, 1).await?;
    std::fs::write(
        rig.dir.path().join("policies/more.cedar"),
        "@id(\"x\") forbid(principal, action == Action::\"tcp:connect\", resource);",
    )?;
    rig.core.front.shared.policy.reload()?;
    approvals.sweep();
    let answer = response(&mut workload).await?;
    ensure!(
        answer.contains("403") && answer.contains("approval_lapsed"),
        "{answer}"
    );
    // The same connection goes on, and asks under the new policy.
    workload.write_all(delete(&upstream, 1).as_bytes()).await?;
    let asked = open(&approvals, 1).await?.remove(0);
    let bot = WorkloadName::new("bot")?;
    rig.core.front.identities.revoke(&bot, Actor { pid: 1, uid: 0 })?;
    super::rig::closed(&mut workload).await?;
    let ended = approvals.get(asked.id).context("it is gone")?;
    ensure!(ended.state == State::Lapsed, "{ended:?}");
    ensure!(upstream.seen().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_workload_that_goes_leaves_its_request() -> Result<()> {
    let (rig, upstream, approvals) = site().await?;
    let mut workload = rig.connect(upstream.address).await;
    workload.write_all(delete(&upstream, 1).as_bytes()).await?;
    let asked = open(&approvals, 1).await?.remove(0);
    waiting(&approvals, asked.id, 1).await?;
    drop(workload);
    waiting(&approvals, asked.id, 0).await?;
    approvals
        .answer(asked.id, &human("ann", &["owners"]), yes())
        .await?;
    let mut workload = rig.connect(upstream.address).await;
    let answer = exchange(&mut workload, &delete(&upstream, 1)).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_grant_and_broken_glass_lift_holds_and_no_more() -> Result<()> {
    let (rig, upstream, approvals) = site().await?;
    let mut workload = rig.connect(upstream.address).await;
    workload
        .write_all(request(&upstream, "DELETE", "/invoices/1", "\r\n").as_bytes())
        .await?;
    let asked = open(&approvals, 1).await?.remove(0);
    let mut grant = yes();
    grant.scope = Scope::Grant { shape: 1, minutes: 5 };
    approvals
        .answer(asked.id, &human("ann", &["owners"]), grant)
        .await?;
    ensure!(response(&mut workload).await?.starts_with("HTTP/1.1 200"));
    for (method, path, answer) in [
        ("DELETE", "/invoices/2", "200"),
        ("DELETE", "/invoices/3/lines", "200"),
        ("PATCH", "/invoices/4", "403"),
        ("POST", "/invoices/5", "403"),
    ] {
        let got = exchange(
            &mut workload,
            &request(&upstream, method, path, "Content-Length: 0\r\n\r\n"),
        )
        .await?;
        ensure!(
            got.starts_with(&format!("HTTP/1.1 {answer}")),
            "{method} {path}: {got}"
        );
    }
    let bot = WorkloadName::new("bot")?;
    let (ann, bob) = (human("ann", &["breakers"]), human("bob", &["breakers"]));
    let glass = approvals.break_glass(&ann, &bot, 5, "outage").await?;
    approvals
        .confirm_break_glass(glass.id, &bob, "yes, outage")
        .await?;
    for (method, answer) in [("POST", "200"), ("DELETE", "200"), ("PATCH", "403")] {
        let got = exchange(
            &mut workload,
            &request(&upstream, method, "/x", "Content-Length: 0\r\n\r\n"),
        )
        .await?;
        ensure!(got.starts_with(&format!("HTTP/1.1 {answer}")), "{method}: {got}");
    }
    let scopes = "SELECT scope || ' ' || count(*) FROM
                    (SELECT json_extract(body, '$.approval.scope') AS scope FROM entry
                     WHERE json_extract(body, '$.kind') = 'operation')
                  WHERE scope IS NOT NULL GROUP BY scope ORDER BY scope";
    let scopes = rig.rows(scopes)?;
    ensure!(scopes == ["break_glass 2", "grant 3"], "{scopes:?}");
    Ok(())
}

#[tokio::test]
async fn bodies_that_wait_share_what_their_workload_may_keep() -> Result<()> {
    let more = format!("{APPROVALS}held_bytes_per_workload = 300000\npayload_bytes = 300000\n");
    let rig = Rig::new(POLICY, &more).await?;
    let upstream = Upstream::start(DONE).await?;
    let body = "x".repeat(200_000);
    let mut slow = rig.connect(upstream.address).await;
    let begun = request(
        &upstream,
        "POST",
        "/slow",
        &format!("Content-Length: 250000\r\n\r\n{body}"),
    );
    slow.write_all(begun.as_bytes()).await?;
    let whole = post(&upstream, "", &body);
    let until = async |what: &str| {
        // The agent reads the slow body when it comes to it, and forgets it when it notices that nobody sends on.
        for _ in 0..500 {
            let mut workload = rig.connect(upstream.address).await;
            let answer = exchange(&mut workload, &whole).await?;
            if answer.contains(what) {
                return Ok(answer);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        anyhow::bail!("never {what}")
    };
    let full = until("\"reason\":\"overloaded\"").await?;
    ensure!(full.starts_with("HTTP/1.1 503"), "{full}");
    drop(slow);
    until("\"reason\":\"approval_timeout\"").await?;
    Ok(())
}
