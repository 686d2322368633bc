//! The life of an identity: refreshed, replaced, expired, revoked, restored, reloaded.

use std::time::Duration;

use e2e::issuer::Issuer;
use portcullis::{
    clock::Clock,
    identity::{Identities, IdentityError},
    model::{Reason, WorkloadName},
};
use serde_json::json;

use crate::rig::{ADMIN, Rig, advance, config, loopback, name, sink, stopped_clock, timing, until};

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn refreshed_tokens_keep_connections_and_other_subjects_end_them() {
    let rig = Rig::new().await;
    rig.put(&rig.good("a"));
    rig.bound("a").await;
    let (identity, mut ended) = rig.handle.bind().unwrap();
    // In place, not renamed.
    std::fs::write(rig.token_file(), rig.good("a")).unwrap();
    until("refreshed", || {
        rig.handle.check().is_ok_and(|i| i.token_id != identity.token_id)
    })
    .await;
    assert!(futures(&mut ended).is_none());
    rig.put(&rig.good("b"));
    assert_eq!(
        tokio::time::timeout(LIMIT, ended).await.unwrap(),
        Reason::IdentityReplaced
    );
    rig.bound("b").await;
    assert_eq!(rig.events(), ["bound", "refreshed", "bound"]);
}

/// One poll.
fn futures(ended: &mut portcullis::identity::Ended) -> Option<Reason> {
    use std::{future::Future as _, pin::Pin, task::Context};
    let mut context = Context::from_waker(std::task::Waker::noop());
    match Pin::new(ended).poll(&mut context) {
        std::task::Poll::Ready(reason) => Some(reason),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn half_written_files_end_nothing() {
    let rig = Rig::new().await;
    rig.put(&rig.good("a"));
    rig.bound("a").await;
    let mut ended = rig.handle.ended();
    let fresh = rig.good("a");
    // A file that is written slowly, in place, is wrong again and again but never twice the same.
    for part in (0..fresh.len()).step_by(7) {
        std::fs::write(rig.token_file(), &fresh[..part]).unwrap();
        tokio::task::yield_now().await;
        assert!(futures(&mut ended).is_none());
    }
    std::fs::write(rig.token_file(), &fresh).unwrap();
    // Nor does a file that is gone for a while.
    std::fs::remove_file(rig.token_file()).unwrap();
    until("the error shows", || {
        rig.identities.status()[0].last_error.is_some()
    })
    .await;
    assert!(rig.handle.check().is_ok());
    rig.put(&rig.good("a"));
    until("the error goes", || {
        rig.identities.status()[0].last_error.is_none()
    })
    .await;
    assert!(futures(&mut ended).is_none());
}

#[tokio::test]
async fn expiry_ends_operations_and_connections() {
    let (clock, at) = stopped_clock();
    let now = clock.now_seconds();
    let lines = "skew = \"5s\"\nalgorithms = [\"ES256\"]";
    let rig = Rig::with(Issuer::start(loopback()).await.unwrap(), clock, lines, timing()).await;
    let claims = json!({ "iat": now, "nbf": null, "exp": now + 60 });
    rig.put(&rig.minted("a", 0, &claims));
    rig.bound("a").await;
    let ended = rig.handle.ended();
    advance(&at, 64);
    assert!(rig.handle.check().is_ok());
    advance(&at, 1);
    // At once, with no task having run.
    assert_eq!(rig.handle.check().unwrap_err(), Reason::IdentityExpired);
    assert_eq!(rig.handle.bind().err(), Some(Reason::IdentityExpired));
    assert_eq!(
        tokio::time::timeout(LIMIT, ended).await.unwrap(),
        Reason::IdentityExpired
    );
    assert_eq!(rig.handle.ended().await, Reason::IdentityExpired);
    until("told", || {
        rig.events().contains(&"expired:identity_expired".into())
    })
    .await;
    rig.put(&rig.good("a"));
    rig.bound("a").await;
}

#[tokio::test]
async fn a_hundred_connections_end_on_a_real_clock() {
    let rig = Rig::with(
        Issuer::start(loopback()).await.unwrap(),
        Clock::System,
        "skew = \"0s\"",
        timing(),
    )
    .await;
    rig.put(&rig.minted("a", 3, &json!({})));
    rig.bound("a").await;
    let waiting: Vec<_> = (0..100).map(|_| tokio::spawn(rig.handle.ended())).collect();
    for task in waiting {
        assert_eq!(
            tokio::time::timeout(LIMIT, task).await.unwrap().unwrap(),
            Reason::IdentityExpired
        );
    }
    assert_eq!(rig.handle.check().unwrap_err(), Reason::IdentityExpired);
}

#[tokio::test]
async fn revoked_at_once_and_over_restarts() {
    let rig = Rig::new().await;
    rig.put(&rig.good("a"));
    rig.bound("a").await;
    let ended = rig.handle.ended();
    rig.identities.revoke(&name(), ADMIN).unwrap();
    assert_eq!(rig.handle.check().unwrap_err(), Reason::IdentityRevoked);
    assert_eq!(
        tokio::time::timeout(LIMIT, ended).await.unwrap(),
        Reason::IdentityRevoked
    );
    rig.identities.revoke(&name(), ADMIN).unwrap();
    // A fresh token does not restore it.
    rig.put(&rig.good("a"));
    until("refreshed", || rig.events().contains(&"refreshed".into())).await;
    assert_eq!(rig.handle.check().unwrap_err(), Reason::IdentityRevoked);

    let (events, _) = sink();
    let again = Identities::start_with(&rig.config, Clock::System, events, timing()).unwrap();
    again.settled().await;
    let status = again.status().remove(0);
    assert_eq!(status.reason, Some(Reason::IdentityRevoked));
    assert!(
        status.revoked_since.is_some() && status.subject.as_deref() == Some("a"),
        "{status:?}"
    );
    drop(again);

    rig.identities.restore(&name(), ADMIN).unwrap();
    assert!(rig.handle.check().is_ok(), "at once: the token was kept fresh");
    rig.identities.restore(&name(), ADMIN).unwrap();
    assert_eq!(
        rig.events(),
        ["bound", "revoked:identity_revoked", "refreshed", "restored"]
    );
    assert!(
        rig.said()
            .contains(r#""actor":{"pid":42,"uid":0}"#.replace('"', "\\\"").as_str()),
        "{}",
        rig.said()
    );

    let stranger = WorkloadName::new("stranger").unwrap();
    for result in [
        rig.identities.revoke(&stranger, ADMIN),
        rig.identities.restore(&stranger, ADMIN),
    ] {
        assert!(
            matches!(result, Err(IdentityError::UnknownWorkload(_))),
            "{result:?}"
        );
    }
}

#[tokio::test]
async fn a_revocation_that_cannot_be_stored_holds() {
    let rig = Rig::new().await;
    rig.put(&rig.good("a"));
    rig.bound("a").await;
    std::fs::write(&rig.config.host.data_dir, "a file in the way").unwrap();
    let result = rig.identities.revoke(&name(), ADMIN);
    assert!(
        matches!(result, Err(IdentityError::RevocationsWrite { .. })),
        "{result:?}"
    );
    assert_eq!(rig.handle.check().unwrap_err(), Reason::IdentityRevoked);
    assert!(rig.identities.restore(&name(), ADMIN).is_err());
    assert_eq!(rig.handle.check().unwrap_err(), Reason::IdentityRevoked);
    // And again once it can.
    std::fs::remove_file(&rig.config.host.data_dir).unwrap();
    rig.identities.revoke(&name(), ADMIN).unwrap();
    assert!(rig.config.host.data_dir.join("revoked.json").exists());
}

#[tokio::test]
async fn no_start_with_an_unreadable_list() {
    let rig = Rig::new().await;
    std::fs::create_dir_all(&rig.config.host.data_dir).unwrap();
    std::fs::write(rig.config.host.data_dir.join("revoked.json"), "{\"v\":1,").unwrap();
    let (events, _) = sink();
    let result = Identities::start_with(&rig.config, Clock::System, events, timing());
    assert!(matches!(
        result.err(),
        Some(IdentityError::RevocationsRead { .. })
    ));
}

#[tokio::test]
async fn reload_disturbs_only_what_changed() {
    let rig = Rig::new().await;
    rig.put(&rig.good("a"));
    rig.bound("a").await;
    let mut ended = rig.handle.ended();
    let asked = rig.issuer.requests("/jwks");

    // Another workload joins.
    let mut both = rig.config.clone();
    let mut second = both.workload[0].clone();
    second.name = WorkloadName::new("v").unwrap();
    both.workload.push(second);
    rig.identities.reload(&both).unwrap();
    rig.identities.settled().await;
    assert!(
        rig.identities
            .handle(&both.workload[1].name)
            .unwrap()
            .check()
            .is_ok()
    );
    assert_eq!((futures(&mut ended), rig.issuer.requests("/jwks")), (None, asked));

    // What cannot be used changes nothing.
    let mut bad = both.clone();
    bad.workload.remove(0);
    bad.issuer[0].algorithms = vec!["HS256".into()];
    assert!(matches!(
        rig.identities.reload(&bad),
        Err(IdentityError::Algorithm { .. })
    ));
    assert_eq!(rig.identities.status().len(), 2);

    // Another skew: the same token, verified anew.
    let mut skew = both.clone();
    skew.issuer[0].skew = Duration::from_secs(7);
    rig.identities.reload(&skew).unwrap();
    until("verified anew", || rig.issuer.requests("/jwks") > asked).await;
    assert!(rig.handle.check().is_ok());
    assert!(futures(&mut ended).is_none());

    // Another audience: this token is none any more.
    let mut audience = both.clone();
    audience.issuer[0].audience = "https://other.example".into();
    rig.identities.reload(&audience).unwrap();
    rig.denied(Reason::IdentityWrongAudience).await;
    assert_eq!(
        tokio::time::timeout(LIMIT, ended).await.unwrap(),
        Reason::IdentityWrongAudience
    );

    // Gone.
    rig.identities.reload(&both).unwrap();
    rig.bound("a").await;
    let ended = rig.handle.ended();
    let mut gone = both.clone();
    gone.workload.remove(0);
    rig.identities.reload(&gone).unwrap();
    assert_eq!(rig.handle.check().unwrap_err(), Reason::WorkloadUnknown);
    assert_eq!(ended.await, Reason::WorkloadUnknown);
    assert!(rig.identities.handle(&name()).is_none());
    assert!(rig.events().contains(&"removed:workload_unknown".into()));

    // And back, revoked or not as it was.
    rig.identities.reload(&both).unwrap();
    until("back", || rig.identities.handle(&name()).unwrap().check().is_ok()).await;
}

#[tokio::test]
async fn issuers_that_cannot_be_used() {
    let rig = Rig::new().await;
    for (url, lines) in [
        ("http://issuer.example", ""),
        ("https://issuer.example", "ca_file = \"/nowhere\""),
        ("https://issuer.example", "algorithms = [\"none\"]"),
        ("https://issuer.example/?a=b", ""),
    ] {
        let config = config(&rig.dir, url, lines, "token_file = \"/t\"");
        let (events, _) = sink();
        assert!(
            Identities::start(&config, Clock::System, events).is_err(),
            "{url} {lines}"
        );
    }
}
