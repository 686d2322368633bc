//! What must not work.

use anyhow::Result;
use e2e::issuer::Human;
use serde_json::json;

use super::{Browser, Desk, ada, browser::exchange};

/// One thing after another that a page of another site could make a signed-in browser send.
#[tokio::test]
async fn forms_of_other_sites_do_nothing() -> Result<()> {
    let desk = Desk::new().await?;
    let (_workload, view) = desk.held("POST", "/x").await?;
    let mut browser = desk.browser(&ada()).await?;
    let path = format!("/requests/{}", view.id);
    let csrf = browser.get(&path).await?.field("csrf")?;
    let answer = format!("{path}/answer");
    let own = browser.origin();
    let form = |csrf| [("csrf", csrf), ("verdict", "approve"), ("reason", "mine")];
    for headers in [
        &[][..],
        &[("Origin", "https://evil.example")],
        &[("Origin", "null")],
        &[("Origin", own.as_str()), ("Sec-Fetch-Site", "cross-site")],
        &[("Origin", "null"), ("Sec-Fetch-Site", "same-origin")],
        &[("Sec-Fetch-Site", "same-site")],
        &[("Sec-Fetch-Site", "none")],
    ] {
        let said = browser.post_from(&answer, &form(csrf.as_str()), headers).await?;
        assert_eq!(said.status, 403, "{headers:?}: {}", said.body);
    }
    let mut other = desk.browser(&Human::new("ben", &["dba"])).await?;
    let foreign = other.get(&path).await?.field("csrf")?;
    for wrong in ["", "x", foreign.as_str()] {
        let said = browser.post(&answer, &form(wrong)).await?;
        assert_eq!(said.status, 403, "{}", said.body);
    }
    let missing = browser
        .post(&answer, &[("verdict", "approve"), ("reason", "x")])
        .await?;
    assert!((400..500).contains(&missing.status));
    assert_eq!(desk.open().len(), 1);
    assert!(desk.open()[0].answers.is_empty());
    // The cookie alone is nothing to the API.
    let host = desk.address.to_string();
    let body = json!({ "approve": true, "reason": "x" }).to_string();
    let api = format!("/v1/approvals/{}/answer", view.id);
    let headers = [
        ("Host", host.as_str()),
        ("Content-Type", "application/json"),
        ("Origin", &own),
    ];
    assert_eq!(browser.send("POST", &api, &headers, &body).await?.status, 401);
    // With everything right it works.
    assert_eq!(browser.post(&answer, &form(&csrf)).await?.status, 303);
    Ok(())
}

#[tokio::test]
async fn only_the_configured_name_is_answered() -> Result<()> {
    let desk = Desk::new().await?;
    let mut browser = desk.browser(&ada()).await?;
    let own = desk.address.to_string();
    for headers in [
        &[("Host", "evil.example")][..],
        &[("Host", "127.0.0.1")],
        &[("Host", own.as_str()), ("Host", "evil.example")],
    ] {
        let answer = browser.send("GET", "/", headers, "").await?;
        assert_eq!(answer.status, 421, "{headers:?}");
        assert!(!answer.body.contains("Queue"));
    }
    let absolute = browser
        .send("GET", "http://evil.example/", &[("Host", &own)], "")
        .await?;
    assert_eq!(absolute.status, 421);
    Ok(())
}

#[tokio::test]
async fn every_answer_is_hardened() -> Result<()> {
    let desk = Desk::new().await?;
    let mut browser = desk.browser(&ada()).await?;
    for path in ["/", "/sign-in", "/nothing", "/style.css", "/v1/approvals"] {
        let answer = browser.get(path).await?;
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{path}"
        );
        assert!(
            !policy.contains("script") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("x-frame-options"), "DENY");
        assert!(!answer.body.contains("<script"));
    }
    let cookie = Browser::new(desk.address).get("/sign-in/start").await?;
    let cookie = cookie.header("set-cookie");
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax") && cookie.contains("Path=/"),
        "{cookie}"
    );
    Ok(())
}

/// A sign-in that another browser began would sign the victim in as the attacker, or hand the attacker the victim's.
#[tokio::test]
async fn a_sign_in_belongs_to_the_browser_that_began_it() -> Result<()> {
    let desk = Desk::new().await?;
    let issuer = desk.rig.issuer.address();
    desk.rig.issuer.present(&ada());
    let (mut one, mut two) = (Browser::new(desk.address), Browser::new(desk.address));
    let back = one.through_the_issuer(issuer, "/sign-in/start").await?;
    assert_eq!(two.get(&back).await?.status, 400);
    two.through_the_issuer(issuer, "/sign-in/start").await?;
    assert_eq!(two.get(&back).await?.status, 400);
    // Another issuer's answer (mix-up, RFC 9207), and none at all.
    let mut three = Browser::new(desk.address);
    let back = three.through_the_issuer(issuer, "/sign-in/start").await?;
    let (front, _) = back.split_once("&iss=").unwrap();
    assert_eq!(three.get(front).await?.status, 401);
    let mut four = Browser::new(desk.address);
    let back = four.through_the_issuer(issuer, "/sign-in/start").await?;
    let (front, _) = back.split_once("&iss=").unwrap();
    assert_eq!(
        four.get(&format!("{front}&iss=https%3A%2F%2Fevil.example"))
            .await?
            .status,
        401
    );
    // Once only.
    let back = one.through_the_issuer(issuer, "/sign-in/start").await?;
    assert_eq!(one.get(&back).await?.status, 303);
    assert_eq!(one.get(&back).await?.status, 400);
    desk.entries("stranger", 1).await?;
    Ok(())
}

#[tokio::test]
async fn nobody_is_sent_elsewhere() -> Result<()> {
    let desk = Desk::new().await?;
    let mut browser = Browser::new(desk.address);
    for then in ["https://evil.example", "//evil.example", "/\\evil.example"] {
        let answer = browser.get(&format!("/sign-in?then={then}")).await?;
        assert!(
            answer.status == 400 || !answer.body.contains("evil"),
            "{}",
            answer.body
        );
        let answer = browser.get(&format!("/sign-in/start?then={then}")).await?;
        assert!(answer.status == 400 || !answer.header("location").contains("evil"));
    }
    Ok(())
}

#[tokio::test]
async fn a_sign_in_that_is_too_old_counts_no_more() -> Result<()> {
    let desk = Desk::new().await?;
    let mut old = ada();
    old.seen = std::time::Duration::from_secs(3601);
    desk.rig.issuer.present(&old);
    let mut browser = Browser::new(desk.address);
    let back = browser
        .through_the_issuer(desk.rig.issuer.address(), "/sign-in/start")
        .await?;
    let done = browser.get(&back).await?;
    assert_eq!(done.status, 401);
    assert!(done.body.contains("too old"), "{}", done.body);
    let host = desk.address.to_string();
    let mut stale = Browser::new(desk.address);
    stale.cookies.insert("portcullis-session".into(), "A".repeat(43));
    let answer = stale.send("GET", "/", &[("Host", &host)], "").await?;
    assert_eq!(answer.header("location"), "/sign-in");
    Ok(())
}

/// Names, reasons and whatever a workload puts into an operation are text, and nothing else.
#[tokio::test]
async fn hostile_text_stays_text() -> Result<()> {
    let desk = Desk::new().await?;
    let path = "/a?q=%3Cscript%3Ealert(1)%3C/script%3E&x='onload='alert(1)";
    let (_workload, view) = desk.held("POST", path).await?;
    let mut human = ada();
    human.name = "<img src=x onerror=alert(1)>\u{202e}\u{1b}[31m".into();
    let mut browser = desk.browser(&human).await?;
    let page_path = format!("/requests/{}", view.id);
    let csrf = browser.get(&page_path).await?.field("csrf")?;
    let form = [
        ("csrf", csrf.as_str()),
        ("verdict", "approve"),
        ("reason", "\"><script>alert(2)</script>\u{202e}"),
    ];
    assert_eq!(
        browser.post(&format!("{page_path}/answer"), &form).await?.status,
        303
    );
    for path in ["/", page_path.as_str(), "/history", "/grants"] {
        let page = browser.get(path).await?;
        assert_eq!(page.status, 200);
        let body = page.body.replace("<!doctype", "");
        for bad in ["<script", "<img", "\u{202e}", "\u{1b}", "'onload"] {
            assert!(!body.contains(bad), "{bad:?} in {path}: {body}");
        }
    }
    let shown = browser.get(&page_path).await?.body;
    assert!(
        shown.contains("&lt;img src=x") && shown.contains("\\u{202e}"),
        "{shown}"
    );
    Ok(())
}

#[tokio::test]
async fn what_is_too_large_or_slow_is_dropped() -> Result<()> {
    let desk = Desk::new().await?;
    let mut browser = desk.browser(&ada()).await?;
    let huge = "x".repeat(20 * 1024);
    let answer = browser.post("/sign-out", &[("csrf", &huge)]).await?;
    assert_eq!(answer.status, 413, "{}", answer.body);
    let host = desk.address.to_string();
    let line = "x".repeat(64 * 1024);
    let head = exchange(
        desk.address,
        "GET",
        "/",
        &[("Host", &host), ("X-Long", &line)],
        "",
    )
    .await;
    assert!(head.is_err() || head?.status == 431);
    Ok(())
}

/// The page is no destination for a workload, by whatever address of this host.
#[tokio::test]
async fn a_workload_cannot_reach_the_page() -> Result<()> {
    let desk = Desk::new().await?;
    let port = desk.address.port();
    for to in [format!("127.0.0.1:{port}"), format!("127.0.0.9:{port}")] {
        let mut workload = desk.rig.connect(to.parse()?).await;
        let request = format!("GET / HTTP/1.1\r\nHost: {to}\r\n\r\n");
        let answer = crate::rig::exchange(&mut workload, &request).await?;
        assert!(answer.contains("upstream_is_agent"), "{answer}");
    }
    Ok(())
}

/// Without approvers nobody is one, not even who has just been.
#[tokio::test]
async fn whoever_is_signed_in_is_out_when_the_approvers_are_gone() -> Result<()> {
    let desk = Desk::new().await?;
    let (_workload, view) = desk.held("POST", "/x").await?;
    let mut browser = desk.browser(&ada()).await?;
    let path = format!("/requests/{}", view.id);
    let csrf = browser.get(&path).await?.field("csrf")?;
    let mut config = desk.rig.config.clone();
    config.approvals.issuer = None;
    desk.rig.core.desk.parts().approvers.reload(&config)?;
    let form = [
        ("csrf", csrf.as_str()),
        ("verdict", "approve"),
        ("reason", "still here"),
    ];
    let answer = browser.post(&format!("{path}/answer"), &form).await?;
    assert!(answer.header("location").starts_with("/sign-in"), "{answer:?}");
    assert!(
        browser
            .get("/sign-in")
            .await?
            .body
            .contains("This host has no approvers")
    );
    let host = desk.address.to_string();
    let bearer = format!("Bearer {}", desk.token(&ada())?);
    let headers = [("Host", host.as_str()), ("Authorization", bearer.as_str())];
    let answer = browser.send("GET", "/v1/approvals", &headers, "").await?;
    assert_eq!(answer.status, 403, "{}", answer.body);
    assert!(desk.open()[0].answers.is_empty());
    Ok(())
}
