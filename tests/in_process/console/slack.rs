//! Clicks in Slack, real ones and forged ones.

use anyhow::Result;
use aws_lc_rs::hmac;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Desk, ada, browser::Answer, browser::exchange};
use crate::rig::response;

const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";

/// A desk that Slack may send to, and the file of the secret that it shares with it; `UADA` is ada, `UBOT` the workload's own subject.
async fn desk() -> Result<(tempfile::TempPath, Desk)> {
    let secret = tempfile::NamedTempFile::new()?.into_temp_path();
    std::fs::write(&secret, SECRET)?;
    let more = format!(
        "slack_signing_credential = \"slack\"\nslack_users = {{ UADA = \"ada\", UBOT = \"agent-7\" }}\n\
         [[credential]]\nname = \"slack\"\nfile = \"{}\"\n",
        secret.display()
    );
    Ok((secret, Desk::with(&more).await?))
}

fn payload(user: &str, action: &str, request: Uuid, reason: &str) -> String {
    let payload = json!({
        "type": "block_actions", "trigger_id": Uuid::now_v7(), "user": { "id": user }, "response_url": "https://evil.example/x",
        "actions": [{ "action_id": action, "value": request }],
        "state": { "values": { "reason": { "reason": { "type": "plain_text_input", "value": reason } } } },
    });
    let mut url = reqwest::Url::parse("http://form/").unwrap();
    url.query_pairs_mut().append_pair("payload", &payload.to_string());
    url.query().unwrap().to_owned()
}

fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn sign(secret: &str, at: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("v0:{at}:{body}").as_bytes());
    format!("v0={}", hex::encode(tag))
}

async fn send(desk: &Desk, at: &str, signature: &str, body: &str) -> Result<Answer> {
    let host = desk.address.to_string();
    let headers = [
        ("Host", host.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("X-Slack-Request-Timestamp", at),
        ("X-Slack-Signature", signature),
    ];
    exchange(desk.address, "POST", "/slack/actions", &headers, body).await
}

/// A click that Slack signed.
async fn click(desk: &Desk, body: &str) -> Result<Answer> {
    let at = now().to_string();
    send(desk, &at, &sign(SECRET, &at, body), body).await
}

fn text(answer: &Answer) -> String {
    let said: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    said["text"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_click_counts_for_somebody_who_is_signed_in() -> Result<()> {
    let (_secret, desk) = desk().await?;
    let (mut workload, view) = desk.held("POST", "/x").await?;
    let yes = |reason: &str| payload("UADA", "approve", view.id, reason);
    let said = click(&desk, &yes("looks right")).await?;
    assert_eq!(said.status, 200);
    assert!(text(&said).contains("Sign in on the page first"), "{}", said.body);
    assert!(
        text(&said).contains(&format!("/requests/{}|", view.id)),
        "{}",
        said.body
    );
    desk.browser(&ada()).await?;
    let said = click(&desk, &yes(" ")).await?;
    assert!(text(&said).contains("Write a reason"), "{}", said.body);
    let said = click(&desk, &payload("UEVE", "approve", view.id, "x")).await?;
    assert!(text(&said).contains("nobody's"), "{}", said.body);
    assert!(desk.open()[0].answers.is_empty());
    let said = click(&desk, &yes("looks right")).await?;
    assert!(text(&said).contains("said yes"), "{}", said.body);
    assert!(response(&mut workload).await?.starts_with("HTTP/1.1 200"));
    let entry = desk.entries("approved", 1).await?.remove(0);
    assert!(
        entry.contains("\"via\":\"slack\"") && entry.contains("\"subject\":\"ada\""),
        "{entry}"
    );
    Ok(())
}

#[tokio::test]
async fn a_forged_or_repeated_click_is_refused_and_recorded() -> Result<()> {
    let (_secret, desk) = desk().await?;
    let (_workload, view) = desk.held("POST", "/x").await?;
    let (_other, second) = desk.held("POST", "/y").await?;
    desk.browser(&ada()).await?;
    let body = payload("UADA", "approve", view.id, "mine");
    let (at, old) = (now().to_string(), (now() - 301).to_string());
    let right = sign(SECRET, &at, &body);
    let other = payload("UADA", "approve", second.id, "mine");
    for (what, at, signature, body) in [
        ("none", at.as_str(), "", &body),
        ("another secret's", &at, &sign("x", &at, &body), &body),
        ("an old one", &old, &sign(SECRET, &old, &body), &body),
        ("another body's", &at, &right, &other),
        ("another time's", &(now() + 1).to_string(), &right, &body),
    ] {
        let said = send(&desk, at, signature, body).await?;
        assert_eq!(said.status, 401, "{what}: {}", said.body);
    }
    assert!(desk.open().iter().all(|v| v.answers.is_empty()));
    let denied = payload("UADA", "deny", view.id, "no");
    let signature = sign(SECRET, &at, &denied);
    assert_eq!(send(&desk, &at, &signature, &denied).await?.status, 200);
    assert_eq!(send(&desk, &at, &signature, &denied).await?.status, 401);
    assert_eq!(desk.open().len(), 1);
    assert!(desk.entries("stranger", 1).await?[0].contains("slack"));
    Ok(())
}

#[tokio::test]
async fn slack_gives_no_more_than_the_sign_in() -> Result<()> {
    let (_secret, desk) = desk().await?;
    let (_workload, view) = desk.held("POST", "/x").await?;
    desk.browser(&e2e::issuer::Human::new("agent-7", &["dba"]))
        .await?;
    let said = click(&desk, &payload("UBOT", "approve", view.id, "please")).await?;
    assert!(text(&said).contains("themselves"), "{}", said.body);
    let other = e2e::issuer::Human::new("ada", &["oncall"]);
    desk.browser(&other).await?;
    let said = click(&desk, &payload("UADA", "approve", view.id, "please")).await?;
    assert!(text(&said).contains("none of the groups"), "{}", said.body);
    assert_eq!(desk.open().len(), 1);
    Ok(())
}
