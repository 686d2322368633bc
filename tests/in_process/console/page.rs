//! The page, as somebody uses it.

use anyhow::Result;
use e2e::issuer::Human;

use super::{Browser, Desk, ada};
use crate::rig::response;

#[tokio::test]
async fn a_yes_with_a_reason_lets_the_operation_pass() -> Result<()> {
    let desk = Desk::new().await?;
    let (mut workload, view) = desk.held("POST", "/invoices/7").await?;
    let mut browser = desk.browser(&ada()).await?;
    let queue = browser.get("/").await?;
    assert_eq!(queue.status, 200);
    assert!(
        queue.body.contains(&format!("/requests/{}", view.id)),
        "{}",
        queue.body
    );
    assert!(queue.body.contains("bot") && queue.body.contains("http-equiv=\"refresh\""));

    let path = format!("/requests/{}", view.id);
    let page = browser.get(&path).await?;
    for part in [
        "/invoices/7",
        "agent-7",
        "changes of production need a DBA",
        "writes",
        "0 of 1",
    ] {
        assert!(page.body.contains(part), "{part} is not in {}", page.body);
    }
    let csrf = page.field("csrf")?;
    let answer = format!("{path}/answer");
    let without = browser
        .post(
            &answer,
            &[("csrf", &csrf), ("verdict", "approve"), ("reason", "  ")],
        )
        .await?;
    assert_eq!(without.status, 400);
    assert!(without.body.contains("a reason is required"), "{}", without.body);
    let given = [
        ("csrf", csrf.as_str()),
        ("verdict", "approve"),
        ("reason", "asked the owner"),
    ];
    let done = browser.post(&answer, &given).await?;
    assert_eq!(
        (done.status, done.header("location")),
        (303, format!("{path}?done=approved").as_str())
    );
    assert!(response(&mut workload).await?.starts_with("HTTP/1.1 200"));

    let after = browser.get(done.header("location")).await?;
    assert!(after.body.contains("Your yes is on record.") && after.body.contains("asked the owner"));
    let again = browser.post(&answer, &given).await?;
    assert_eq!(again.status, 409, "{}", again.body);
    let history = browser.get("/history").await?;
    assert!(
        history.body.contains(&path) && history.body.contains("asked the owner"),
        "{}",
        history.body
    );
    let entry = desk.entries("approved", 1).await?.remove(0);
    assert!(
        entry.contains("\"via\":\"web\"") && entry.contains("\"subject\":\"ada\""),
        "{entry}"
    );
    assert!(desk.entries("signed_in", 1).await?[0].contains("\"subject\":\"ada\""));
    Ok(())
}

#[tokio::test]
async fn a_no_is_final() -> Result<()> {
    let desk = Desk::new().await?;
    let (mut workload, view) = desk.held("POST", "/x").await?;
    let mut browser = desk.browser(&ada()).await?;
    let path = format!("/requests/{}", view.id);
    let csrf = browser.get(&path).await?.field("csrf")?;
    let form = [
        ("csrf", csrf.as_str()),
        ("verdict", "deny"),
        ("reason", "not today"),
    ];
    let done = browser.post(&format!("{path}/answer"), &form).await?;
    assert_eq!(done.status, 303, "{}", done.body);
    let answer = response(&mut workload).await?;
    assert!(
        answer.starts_with("HTTP/1.1 403") && answer.contains("approval_denied"),
        "{answer}"
    );
    assert!(desk.upstream.seen().is_empty());
    Ok(())
}

#[tokio::test]
async fn two_people_are_two_people() -> Result<()> {
    let desk = Desk::new().await?;
    let (mut workload, view) = desk.held("DELETE", "/db").await?;
    let path = format!("/requests/{}", view.id);
    for (subject, status) in [("ben", 303), ("ben", 409), ("cleo", 303)] {
        let mut browser = desk.browser(&Human::new(subject, &["oncall"])).await?;
        let page = browser.get(&path).await?;
        let csrf = page.field("csrf")?;
        let form = [("csrf", csrf.as_str()), ("verdict", "approve"), ("reason", "yes")];
        let done = browser.post(&format!("{path}/answer"), &form).await?;
        assert!(
            done.status == status || (status == 409 && done.status == 400),
            "{subject}: {} {}",
            done.status,
            done.body
        );
        if subject == "ben" {
            let page = browser.get(&path).await?;
            assert!(
                page.body.contains("1 of 2") && page.body.contains("You have answered."),
                "{}",
                page.body
            );
        }
    }
    assert!(response(&mut workload).await?.starts_with("HTTP/1.1 200"));
    Ok(())
}

#[tokio::test]
async fn a_grant_for_a_time_serves_others_and_is_ended() -> Result<()> {
    let desk = Desk::new().await?;
    let (mut workload, view) = desk.held("POST", "/a").await?;
    assert!(!view.shapes.is_empty());
    let mut browser = desk.browser(&ada()).await?;
    let path = format!("/requests/{}", view.id);
    let page = browser.get(&path).await?;
    assert!(page.body.contains("value=\"grant-0\""), "{}", page.body);
    let csrf = page.field("csrf")?;
    let form = [
        ("csrf", csrf.as_str()),
        ("verdict", "approve"),
        ("reason", "a release"),
        ("scope", "grant-0"),
        ("minutes", "15"),
    ];
    assert_eq!(browser.post(&format!("{path}/answer"), &form).await?.status, 303);
    assert!(response(&mut workload).await?.starts_with("HTTP/1.1 200"));
    let grants = browser.get("/grants").await?;
    assert!(
        grants.body.contains(&view.shapes[0]) || grants.body.contains("a release"),
        "{}",
        grants.body
    );
    let csrf = grants.field("csrf")?;
    let end = format!("/grants/{}/end", view.id);
    let refused = browser.post(&end, &[("csrf", &csrf), ("reason", "")]).await?;
    assert_eq!(refused.status, 400);
    let ended = browser
        .post(&end, &[("csrf", &csrf), ("reason", "released")])
        .await?;
    assert_eq!(ended.header("location"), "/grants?done=ended");
    assert!(browser.get("/grants").await?.body.contains("None."));
    Ok(())
}

#[tokio::test]
async fn breaking_the_glass_takes_two() -> Result<()> {
    let desk = Desk::new().await?;
    let (mut workload, _) = desk.held("POST", "/x").await?;
    let mut first = desk.browser(&Human::new("ben", &["breakers"])).await?;
    let mut second = desk.browser(&Human::new("cleo", &["breakers"])).await?;
    let csrf = first.get("/break-glass").await?.field("csrf")?;
    let form = [
        ("csrf", csrf.as_str()),
        ("workload", "bot"),
        ("minutes", "10"),
        ("reason", "the house is on fire"),
    ];
    let asked = first.post("/break-glass", &form).await?;
    assert_eq!(
        asked.header("location"),
        "/break-glass?done=asked",
        "{}",
        asked.body
    );
    let page = second.get("/break-glass").await?;
    assert!(page.body.contains("the house is on fire"));
    let confirm = page
        .body
        .split("action=\"/break-glass/")
        .nth(1)
        .and_then(|r| r.split('"').next());
    let confirm = format!("/break-glass/{}", confirm.unwrap());
    let own = first
        .post(&confirm, &[("csrf", &csrf), ("reason", "me too")])
        .await?;
    assert_eq!(own.status, 403, "{}", own.body);
    let csrf = page.field("csrf")?;
    let given = second
        .post(&confirm, &[("csrf", &csrf), ("reason", "I see it")])
        .await?;
    assert_eq!(
        given.header("location"),
        "/break-glass?done=given",
        "{}",
        given.body
    );
    assert!(response(&mut workload).await?.starts_with("HTTP/1.1 200"));
    Ok(())
}

#[tokio::test]
async fn a_link_survives_the_sign_in_and_signing_out_ends_it() -> Result<()> {
    let desk = Desk::new().await?;
    let (_workload, view) = desk.held("POST", "/x").await?;
    let path = format!("/requests/{}", view.id);
    let mut browser = Browser::new(desk.address);
    let away = browser.get(&path).await?;
    assert_eq!(away.header("location"), format!("/sign-in?then={}", view.id));
    let page = browser.get(away.header("location")).await?;
    let start = format!("/sign-in/start?then={}", view.id);
    assert!(page.body.contains(&format!("href=\"{start}\"")), "{}", page.body);
    desk.rig.issuer.present(&ada());
    let done = browser.sign_in(desk.rig.issuer.address(), &start).await?;
    assert_eq!(done.header("location"), path);
    let page = browser.get(&path).await?;
    let before = browser.cookies.clone();
    let out = browser
        .post("/sign-out", &[("csrf", &page.field("csrf")?)])
        .await?;
    assert_eq!(out.header("location"), "/sign-in");
    assert!(browser.cookies.is_empty());
    browser.cookies = before;
    assert_eq!(browser.get("/").await?.header("location"), "/sign-in");
    Ok(())
}

#[tokio::test]
async fn who_approves_nothing_sees_nothing() -> Result<()> {
    let desk = Desk::new().await?;
    let (_workload, _) = desk.held("POST", "/x").await?;
    desk.rig.issuer.present(&Human::new("eve", &["staff"]));
    let mut browser = Browser::new(desk.address);
    let back = browser
        .through_the_issuer(desk.rig.issuer.address(), "/sign-in/start")
        .await?;
    let done = browser.get(&back).await?;
    assert_eq!(done.status, 403);
    assert!(
        done.body.contains("none of the groups") && browser.cookies.keys().all(|k| !k.contains("session"))
    );
    assert_eq!(browser.get("/").await?.header("location"), "/sign-in");
    assert!(desk.entries("not_admitted", 1).await?[0].contains("eve"));
    Ok(())
}

#[tokio::test]
async fn what_one_may_not_answer_has_no_form() -> Result<()> {
    let desk = Desk::new().await?;
    let (_workload, view) = desk.held("POST", "/x").await?;
    let path = format!("/requests/{}", view.id);
    let tried = [
        (
            Human::new("ben", &["oncall"]),
            "none of these",
            "none of the groups",
        ),
        (
            Human::new("agent-7", &["dba"]),
            "in your name",
            "themselves asked for",
        ),
    ];
    for (human, shown, refused) in tried {
        let mut browser = desk.browser(&human).await?;
        let page = browser.get(&path).await?;
        assert!(
            page.body.contains(shown) && !page.body.contains("value=\"approve\""),
            "{}",
            page.body
        );
        // The page only says so early: what counts is checked where it counts.
        let csrf = page.field("csrf")?;
        let form = [
            ("csrf", csrf.as_str()),
            ("verdict", "approve"),
            ("reason", "please"),
        ];
        let answer = browser.post(&format!("{path}/answer"), &form).await?;
        assert_eq!(answer.status, 403);
        assert!(answer.body.contains(refused), "{}", answer.body);
    }
    assert_eq!(desk.open().len(), 1);
    assert_eq!(desk.entries("refused", 2).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn many_that_are_alike_are_one_row_and_a_flood_is_shown() -> Result<()> {
    let desk = Desk::configured("open_per_workload = 6\n", "").await?;
    let mut held = Vec::new();
    for n in 0..5 {
        held.push(desk.held("POST", &format!("/orders/{n}")).await?);
    }
    let _one = desk.held("DELETE", "/db").await?;
    let mut workload = desk.rig.connect(desk.upstream.address).await;
    let request = format!(
        "POST /orders/9 HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n",
        desk.upstream.address
    );
    let refused = crate::rig::exchange(&mut workload, &request).await?;
    assert!(refused.contains("approval_overloaded"), "{refused}");
    let mut browser = desk.browser(&ada()).await?;
    let queue = browser.get("/").await?.body;
    assert!(queue.contains("bot asks faster than humans answer"), "{queue}");
    assert!(
        queue.contains("× 5") && queue.matches("<summary").count() == 1,
        "{queue}"
    );
    for (_, view) in &held {
        assert!(queue.contains(&format!("/requests/{}", view.id)));
    }
    assert!(queue.contains("0 of 2"), "{queue}");
    let still = browser.get("/?still=1").await?.body;
    assert!(
        !still.contains("http-equiv") && still.contains("<details open>"),
        "{still}"
    );
    Ok(())
}

/// What is held is shown and recorded masked, wherever it is told.
#[tokio::test]
async fn personal_data_is_masked_for_approvers_too() -> Result<()> {
    let desk = Desk::new().await?;
    let (mut workload, view) = desk
        .held("POST", "/customers/bob@example.com?mail=ann@example.com")
        .await?;
    let mut browser = desk.browser(&ada()).await?;
    for path in [
        "/".to_owned(),
        format!("/requests/{}", view.id),
        "/history".to_owned(),
    ] {
        let body = browser.get(&path).await?.body;
        assert!(
            !body.contains("@example.com") && body.replace("%3A", ":").contains("masked:email"),
            "{path}: {body}"
        );
    }
    let path = format!("/requests/{}", view.id);
    let csrf = browser.get(&path).await?.field("csrf")?;
    let form = [
        ("csrf", csrf.as_str()),
        ("verdict", "approve"),
        ("reason", "ann@example.com asked for it"),
        ("scope", "grant-0"),
        ("minutes", "5"),
    ];
    assert_eq!(browser.post(&format!("{path}/answer"), &form).await?.status, 303);
    assert!(response(&mut workload).await?.starts_with("HTTP/1.1 200"));
    let grants = browser.get("/grants").await?.body;
    assert!(
        grants.contains("masked:email") && !grants.contains("@example.com"),
        "{grants}"
    );
    desk.entries("approved", 1).await?;
    let leaks = desk
        .rig
        .rows("SELECT body FROM entry WHERE body LIKE '%@example.com%'")?;
    assert!(leaks.is_empty(), "{leaks:?}");
    Ok(())
}
