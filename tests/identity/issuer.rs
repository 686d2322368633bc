//! Issuers that rotate, vanish, lie, or never stop talking.

use std::time::Duration;

use e2e::issuer::{Client, ClientAuth, Fault, Issuer};
use jsonwebtoken::Algorithm;
use portcullis::{clock::Clock, identity::Timing, model::Reason};
use serde_json::json;
use tempfile::TempDir;

use crate::rig::{AUDIENCE, Rig, advance, loopback, stopped_clock, timing, until};

const SECRET: &str = "s3cr3t+with/odd&characters=%";

#[tokio::test]
async fn rotation() {
    let rig = Rig::new().await;
    rig.put(&rig.good("a"));
    rig.bound("a").await;
    for sub in ["b", "c"] {
        rig.issuer.rotate(false).unwrap();
        rig.put(&rig.good(sub));
        rig.bound(sub).await;
    }
}

#[tokio::test]
async fn keys_that_are_gone_take_their_tokens_along() {
    let timing = Timing {
        jwks_refresh: Duration::from_millis(30),
        ..timing()
    };
    let rig = Rig::with(
        Issuer::start(loopback()).await.unwrap(),
        Clock::System,
        "",
        timing,
    )
    .await;
    rig.put(&rig.good("a"));
    rig.bound("a").await;
    let ended = rig.handle.ended();
    rig.issuer.rotate(true).unwrap();
    rig.denied(Reason::IdentityUnknownKey).await;
    assert_eq!(ended.await, Reason::IdentityUnknownKey);
    rig.put(&rig.good("a"));
    rig.bound("a").await;
}

#[tokio::test]
async fn unknown_keys_do_not_hammer_the_issuer() {
    let timing = Timing {
        refetch_min: Duration::from_secs(3600),
        ..timing()
    };
    let rig = Rig::with(
        Issuer::start(loopback()).await.unwrap(),
        Clock::System,
        "",
        timing,
    )
    .await;
    rig.put(&rig.good("a"));
    rig.bound("a").await;
    let stranger = Issuer::start(loopback()).await.unwrap();
    for n in 0..20 {
        let extra = json!({ "iss": rig.issuer.url(), "jti": n.to_string() });
        let hour = Duration::from_secs(3600);
        rig.put(&stranger.mint("a", AUDIENCE, &[], hour, &extra).unwrap());
        tokio::task::yield_now().await;
    }
    until("the error shows", || {
        rig.identities.status()[0]
            .last_error
            .as_ref()
            .is_some_and(|e| e.contains("key is not among"))
    })
    .await;
    assert!(
        rig.issuer.requests("/jwks") <= 2,
        "{}",
        rig.issuer.requests("/jwks")
    );
}

#[tokio::test]
async fn an_issuer_that_is_down() {
    let (clock, at) = stopped_clock();
    let (now, life) = (clock.now_seconds(), 1200);
    let rig = Rig::with(Issuer::start(loopback()).await.unwrap(), clock, "", timing()).await;
    rig.issuer.fault(Fault::Down, true);
    rig.put(&rig.minted("a", 600, &json!({})));
    rig.denied(Reason::IdentityIssuerUnreachable).await;
    rig.issuer.fault(Fault::Down, false);
    rig.bound("a").await;
    // With keys cached it is not needed, neither for the token held nor for the next one.
    rig.issuer.fault(Fault::Down, true);
    rig.put(&rig.minted("b", 0, &json!({ "exp": now + life })));
    rig.bound("b").await;
    let ended = rig.handle.ended();
    advance(&at, life + 29);
    assert!(rig.handle.check().is_ok(), "within the skew");
    advance(&at, 1);
    assert_eq!(rig.handle.check().unwrap_err(), Reason::IdentityExpired);
    assert_eq!(ended.await, Reason::IdentityExpired);
}

#[tokio::test]
async fn liars_and_babblers() {
    for (fault, reason, word) in [
        (Fault::WrongIssuer, Reason::IdentityWrongIssuer, "to the byte"),
        (Fault::HugeKeys, Reason::IdentityIssuerUnreachable, "256 KiB"),
        (Fault::RedirectKeys, Reason::IdentityIssuerUnreachable, "302"),
        (Fault::RedirectDiscovery, Reason::IdentityIssuerUnreachable, "302"),
    ] {
        let rig = Rig::new().await;
        rig.issuer.fault(fault, true);
        rig.put(&rig.good("a"));
        rig.denied(reason).await;
        let error = rig.identities.status().remove(0).last_error.unwrap();
        assert!(error.contains(word), "{fault:?}: {error}");
        rig.issuer.fault(fault, false);
        rig.bound("a").await;
    }
}

#[tokio::test]
async fn a_slow_issuer() {
    let timing = Timing {
        http_timeout: Duration::from_millis(200),
        ..timing()
    };
    let rig = Rig::with(
        Issuer::start(loopback()).await.unwrap(),
        Clock::System,
        "",
        timing,
    )
    .await;
    rig.issuer.fault(Fault::SlowKeys, true);
    rig.put(&rig.good("a"));
    rig.denied(Reason::IdentityIssuerUnreachable).await;
    rig.issuer.fault(Fault::SlowKeys, false);
    rig.bound("a").await;
}

#[tokio::test]
async fn tls_only_with_its_root() {
    for trusted in [true, false] {
        let issuer = Issuer::start_tls(loopback()).await.unwrap();
        let dir = TempDir::new().unwrap();
        let roots = dir.path().join("ca.pem");
        std::fs::write(&roots, issuer.ca_pem().unwrap()).unwrap();
        let lines = if trusted {
            format!("ca_file = \"{}\"", roots.display())
        } else {
            String::new()
        };
        let rig = Rig::with(issuer, Clock::System, &lines, timing()).await;
        rig.put(&rig.good("a"));
        if trusted {
            rig.bound("a").await;
        } else {
            rig.denied(Reason::IdentityIssuerUnreachable).await;
        }
    }
}

fn client(auth: ClientAuth, ttl: u64) -> Client {
    Client {
        auth,
        subject: "deploy-bot".into(),
        groups: vec!["agents".into()],
        ttl: Duration::from_secs(ttl),
    }
}

#[tokio::test]
async fn client_secret_by_basic_and_post() {
    for (method, form_has_it) in [("client_secret_basic", false), ("client_secret_post", true)] {
        let issuer = Issuer::start(loopback()).await.unwrap();
        issuer.client("my client", client(ClientAuth::Secret(SECRET.into()), 3600));
        issuer.auth_methods(&[method]);
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, format!("{SECRET}\n")).unwrap();
        let lines = format!(
            "client_id = \"my client\"\nclient_secret_file = \"{}\"\nscope = \"api\"",
            file.display()
        );
        let rig = Rig::of(issuer, dir, Clock::System, "", &lines, timing()).await;
        rig.bound("deploy-bot").await;
        let form = rig.issuer.last_form();
        let has = |key: &str, value: &str| form.contains(&(key.into(), value.into()));
        assert!(
            has("grant_type", "client_credentials") && has("scope", "api"),
            "{form:?}"
        );
        assert!(has("resource", AUDIENCE) && has("audience", AUDIENCE), "{form:?}");
        assert_eq!(has("client_secret", SECRET), form_has_it, "{form:?}");
        assert!(!rig.said().contains("s3cr3t"), "{}", rig.said());
    }
}

#[tokio::test]
async fn private_key_jwt_by_key_type() {
    for (kind, algorithm) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, Algorithm::ES256),
        (&rcgen::PKCS_ED25519, Algorithm::EdDSA),
        (&rcgen::PKCS_RSA_SHA256, Algorithm::RS256),
    ] {
        let pair = rcgen::KeyPair::generate_for(kind).unwrap();
        let issuer = Issuer::start(loopback()).await.unwrap();
        issuer.client(
            "c",
            client(ClientAuth::PublicKey(algorithm, pair.public_key_pem()), 3600),
        );
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("key.pem");
        std::fs::write(&file, pair.serialize_pem()).unwrap();
        let lines = format!("client_id = \"c\"\nprivate_key_file = \"{}\"", file.display());
        let rig = Rig::of(issuer, dir, Clock::System, "", &lines, timing()).await;
        rig.bound("deploy-bot").await;
    }
}

#[tokio::test]
async fn renewed_before_it_runs_out_and_kept_when_it_cannot_be() {
    let issuer = Issuer::start(loopback()).await.unwrap();
    issuer.client("c", client(ClientAuth::Secret(SECRET.into()), 9000));
    let (clock, at) = stopped_clock();
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, SECRET).unwrap();
    let lines = format!("client_id = \"c\"\nclient_secret_file = \"{}\"", file.display());
    let rig = Rig::of(issuer, dir, clock, "", &lines, timing()).await;
    rig.bound("deploy-bot").await;
    let first = rig.handle.check().unwrap();
    let ended = rig.handle.ended();

    // Before two thirds of its life nobody is asked.
    advance(&at, 5990);
    tokio::task::yield_now().await;
    assert_eq!(rig.issuer.requests("/token"), 1);
    advance(&at, 20);
    until("renewed", || {
        rig.handle.check().is_ok_and(|i| i.token_id != first.token_id)
    })
    .await;

    // This one (made by the host's clock, of which 6010 s are gone) is due for renewal in 1994 s, over in 2990 s
    // and the skew.
    rig.issuer.fault(Fault::TokensDown, true);
    advance(&at, 2000);
    until("tried and failed", || {
        rig.identities.status()[0].last_error.is_some()
    })
    .await;
    assert!(rig.handle.check().is_ok());
    assert_eq!(ended.reason(), None);
    advance(&at, 1100);
    assert_eq!(rig.handle.check().unwrap_err(), Reason::IdentityExpired);
    assert_eq!(ended.await, Reason::IdentityExpired);
    rig.denied(Reason::IdentityIssuerUnreachable).await;
    let failures = rig.events().iter().filter(|e| e.starts_with("failed")).count();
    assert!(failures <= 2, "{:?}", rig.events());
}

#[tokio::test]
async fn refused_clients() {
    let issuer = Issuer::start(loopback()).await.unwrap();
    issuer.client("c", client(ClientAuth::Secret("another".into()), 3600));
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("secret");
    let lines = format!("client_id = \"c\"\nclient_secret_file = \"{}\"", file.display());
    let rig = Rig::of(issuer, dir, Clock::System, "", &lines, timing()).await;
    // No file, then a wrong secret, then the right one: read anew each time.
    rig.denied(Reason::IdentityMissing).await;
    std::fs::write(&file, SECRET).unwrap();
    until("refused", || {
        rig.identities.status()[0]
            .last_error
            .as_ref()
            .is_some_and(|e| e.contains("invalid_client"))
    })
    .await;
    assert_eq!(rig.handle.check().unwrap_err(), Reason::IdentityMissing);
    std::fs::write(&file, "another").unwrap();
    rig.bound("deploy-bot").await;
    assert!(!rig.said().contains("s3cr3t"));
}

#[tokio::test]
async fn a_disowned_key_ends_what_cannot_be_renewed() {
    let issuer = Issuer::start(loopback()).await.unwrap();
    issuer.client("c", client(ClientAuth::Secret(SECRET.into()), 3600));
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, SECRET).unwrap();
    let lines = format!("client_id = \"c\"\nclient_secret_file = \"{}\"", file.display());
    let timing = Timing {
        jwks_refresh: Duration::from_millis(20),
        ..timing()
    };
    let (clock, at) = stopped_clock();
    let rig = Rig::of(issuer, dir, clock, "", &lines, timing).await;
    rig.bound("deploy-bot").await;
    let ended = rig.handle.ended();
    // The key goes, and there is a token under the new one: no end.
    let first = rig.handle.check().unwrap();
    rig.issuer.rotate(true).unwrap();
    until("under the new key", || {
        rig.handle.check().is_ok_and(|i| i.key_id != first.key_id)
    })
    .await;
    assert_eq!(ended.reason(), None);
    // Due for renewal, which fails; what is held stays until its key goes, too.
    rig.issuer.fault(Fault::TokensDown, true);
    advance(&at, 2500);
    until("tried and failed", || {
        rig.identities.status()[0].last_error.is_some()
    })
    .await;
    assert!(rig.handle.check().is_ok());
    rig.issuer.rotate(true).unwrap();
    assert_eq!(ended.await, Reason::IdentityUnknownKey);
    rig.issuer.fault(Fault::TokensDown, false);
    rig.bound("deploy-bot").await;
}
