//! The API, as `portcullis approvals` uses it.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use e2e::issuer::Human;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use super::{
    Desk, ada,
    browser::{Answer, exchange, parse},
};
use crate::rig::response;

/// One request on the console's listener.
async fn ask(desk: &Desk, token: Option<&str>, method: &str, path: &str, body: &Value) -> Result<Answer> {
    let host = desk.address.to_string();
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("Host", host.as_str()), ("Content-Type", "application/json")];
    headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    exchange(desk.address, method, path, &headers, &body).await
}

/// One request on the control socket.
async fn ask_control(
    path: &Path,
    token: Option<&str>,
    method: &str,
    at: &str,
    body: &Value,
) -> Result<Answer> {
    let mut stream = UnixStream::connect(path).await?;
    let body = body.to_string();
    let bearer = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let text = format!(
        "{method} {at} HTTP/1.1\r\nHost: portcullis\r\nConnection: close\r\nContent-Type: application/json\r\n\
         {bearer}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await?;
    let mut raw = Vec::new();
    tokio::time::timeout(super::PATIENCE, stream.read_to_end(&mut raw)).await??;
    parse(&String::from_utf8(raw)?)
}

#[tokio::test]
async fn an_admin_may_look_and_an_approver_answers() -> Result<()> {
    let mut desk = Desk::new().await?;
    let control = desk.control()?;
    let (mut workload, view) = desk.held("POST", "/x").await?;
    let list = ask_control(&control, None, "GET", "/v1/approvals", &Value::Null).await?;
    let list: Value = serde_json::from_str(&list.body)?;
    assert_eq!(list["open"][0]["id"], json!(view.id));
    let answer = format!("/v1/approvals/{}/answer", view.id);
    let yes = json!({ "approve": true, "reason": "looked at it" });
    let without = ask_control(&control, None, "POST", &answer, &yes).await?;
    assert_eq!(without.status, 401, "being root is no approval: {}", without.body);
    let token = desk.token(&ada())?;
    let given = ask_control(&control, Some(&token), "POST", &answer, &yes).await?;
    assert_eq!(given.status, 200, "{}", given.body);
    assert_eq!(serde_json::from_str::<Value>(&given.body)?["state"], "approved");
    assert!(response(&mut workload).await?.starts_with("HTTP/1.1 200"));
    assert!(desk.entries("approved", 1).await?[0].contains("\"via\":\"cli\""));
    Ok(())
}

#[tokio::test]
async fn over_the_network_everything_takes_an_approver() -> Result<()> {
    let desk = Desk::new().await?;
    let (_workload, view) = desk.held("POST", "/x").await?;
    let show = format!("/v1/approvals/{}", view.id);
    let stranger = desk.token(&Human::new("eve", &["staff"]))?;
    let approver = desk.token(&ada())?;
    for path in ["/v1/approvals", "/v1/approvals/watch", show.as_str()] {
        for (token, status) in [
            (None, 401),
            (Some("a.b.c"), 401),
            (Some(stranger.as_str()), 403),
            (Some(&approver), 200),
        ] {
            let answer = ask(&desk, token, "GET", path, &Value::Null).await?;
            assert_eq!(answer.status, status, "{path}: {}", answer.body);
        }
    }
    let terms = ask(&desk, None, "GET", "/v1/approvals/sign-in", &Value::Null).await?;
    let terms: Value = serde_json::from_str(&terms.body)?;
    assert_eq!(
        (terms["client_id"].as_str(), terms["max_age"].as_u64()),
        (Some("approvers"), Some(3600))
    );
    Ok(())
}

/// Tokens that the issuer signed, and that are no human's sign-in here.
#[tokio::test]
async fn other_tokens_are_no_sign_in() -> Result<()> {
    let desk = Desk::new().await?;
    let (_workload, view) = desk.held("POST", "/x").await?;
    let issuer = &desk.rig.issuer;
    let hour = Duration::from_secs(3600);
    let mut old = ada();
    old.seen = hour + Duration::from_secs(5);
    let tokens = [
        (
            "a workload's",
            issuer.mint("ada", "portcullis", &["dba"], hour, &json!({}))?,
        ),
        (
            "an access token",
            issuer.mint("ada", "approvers", &["dba"], hour, &json!({}))?,
        ),
        ("another client's", issuer.id_token(&ada(), "other", &json!({}))?),
        (
            "a delegated one",
            issuer.id_token(&ada(), "approvers", &json!({ "act": { "sub": "bot" } }))?,
        ),
        (
            "another party's",
            issuer.id_token(&ada(), "approvers", &json!({ "azp": "other" }))?,
        ),
        ("an old one", issuer.id_token(&old, "approvers", &json!({}))?),
        (
            "an expired one",
            issuer.id_token(&ada(), "approvers", &json!({ "exp": 1_700_000_000 }))?,
        ),
    ];
    let answer = format!("/v1/approvals/{}/answer", view.id);
    let yes = json!({ "approve": true, "reason": "x" });
    for (what, token) in &tokens {
        let said = ask(&desk, Some(token), "POST", &answer, &yes).await?;
        assert_eq!(said.status, 401, "{what}: {}", said.body);
    }
    for (human, why) in [
        (Human::new("agent-7", &["dba"]), "themselves"),
        (Human::new("ben", &["oncall"]), "none of the groups"),
    ] {
        let token = desk.token(&human)?;
        let said = ask(&desk, Some(&token), "POST", &answer, &yes).await?;
        assert_eq!(said.status, 403);
        assert!(said.body.contains(why), "{}", said.body);
    }
    for bad in [
        json!({ "approve": true }),
        json!({ "approve": true, "reason": "x", "extra": 1 }),
        json!([]),
    ] {
        let token = desk.token(&ada())?;
        let said = ask(&desk, Some(&token), "POST", &answer, &bad).await?;
        assert_eq!(said.status, 400, "{}", said.body);
    }
    assert!(desk.open()[0].answers.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_watcher_is_told_at_once() -> Result<()> {
    let mut desk = Desk::new().await?;
    let control = desk.control()?;
    let watch = async |seen: &str| -> Result<Value> {
        let path = format!("/v1/approvals/watch?seen={seen}");
        let answer = ask_control(&control, None, "GET", &path, &Value::Null).await?;
        Ok(serde_json::from_str(&answer.body)?)
    };
    let now = watch("").await?;
    assert_eq!(now["overview"]["open"], json!([]));
    let seen = now["seen"].as_str().context("seen")?.to_owned();
    let next = watch(&seen);
    let held = desk.held("POST", "/x");
    let (next, held) = tokio::join!(next, held);
    let (_workload, view) = held?;
    assert_eq!(next?["overview"]["open"][0]["id"], json!(view.id));
    Ok(())
}
