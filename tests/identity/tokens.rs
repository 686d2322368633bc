//! Tokens that are wrong in one way each, against the embedded issuer.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use e2e::issuer::Issuer;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use portcullis::{clock::Clock, model::Reason};
use serde_json::{Value, json};

use crate::rig::{AUDIENCE, Rig, loopback, stopped_clock, timing};

#[tokio::test]
async fn a_good_token_is_an_identity() {
    let rig = Rig::new().await;
    assert_eq!(rig.handle.check().unwrap_err(), Reason::IdentityMissing);
    rig.put(&rig.minted(
        "deploy-bot",
        3600,
        &json!({ "jti": "t-1", "groups": ["b", "a", "b"] }),
    ));
    rig.bound("deploy-bot").await;
    let identity = rig.handle.check().unwrap();
    assert_eq!(&*identity.issuer, rig.issuer.url());
    assert_eq!(&*identity.issuer_name, "i");
    assert_eq!(&*identity.token_id, "t-1");
    assert_eq!(*identity.key_id, rig.issuer.public_key(false).0);
    assert_eq!(
        identity.groups.iter().map(|g| &**g).collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert_eq!(identity.on_behalf_of, None);
    let status = rig.identities.status().remove(0);
    assert!(status.valid && status.last_error.is_none(), "{status:?}");
}

#[tokio::test]
async fn each_wrong_claim_has_its_reason() {
    let rig = Rig::new().await;
    let far = 4_000_000_000_u64;
    let cases = [
        (
            json!({ "aud": "https://other.example" }),
            Reason::IdentityWrongAudience,
        ),
        (json!({ "aud": [] }), Reason::IdentityWrongAudience),
        (json!({ "aud": null }), Reason::IdentityWrongAudience),
        (json!({ "aud": { "a": AUDIENCE } }), Reason::IdentityWrongAudience),
        (
            json!({ "aud": format!("{AUDIENCE}/") }),
            Reason::IdentityWrongAudience,
        ),
        (
            json!({ "iss": "https://other.example" }),
            Reason::IdentityWrongIssuer,
        ),
        (
            json!({ "iss": format!("{}/", rig.issuer.url()) }),
            Reason::IdentityWrongIssuer,
        ),
        (json!({ "iss": [rig.issuer.url()] }), Reason::IdentityWrongIssuer),
        (json!({ "iss": null }), Reason::IdentityWrongIssuer),
        (json!({ "exp": 1_000_000_000 }), Reason::IdentityExpired),
        (json!({ "exp": null }), Reason::IdentityInvalid),
        // CVE-2026-25537: a date in text must not count as none.
        (json!({ "exp": "9999999999" }), Reason::IdentityInvalid),
        (json!({ "exp": -1 }), Reason::IdentityInvalid),
        (json!({ "exp": 1e300 }), Reason::IdentityInvalid),
        (json!({ "exp": u64::MAX }), Reason::IdentityInvalid),
        (json!({ "nbf": far }), Reason::IdentityNotYetValid),
        (json!({ "nbf": "0" }), Reason::IdentityInvalid),
        (json!({ "iat": far }), Reason::IdentityNotYetValid),
        (json!({ "sub": null }), Reason::IdentityInvalid),
        (json!({ "sub": "" }), Reason::IdentityInvalid),
        (json!({ "sub": 7 }), Reason::IdentityInvalid),
        (json!({ "groups": 7 }), Reason::IdentityInvalid),
        (json!({ "groups": ["a", 7] }), Reason::IdentityInvalid),
        (json!({ "act": "x" }), Reason::IdentityInvalid),
        (json!({ "act": {} }), Reason::IdentityInvalid),
        (
            json!({ "act": { "sub": "x", "iss": "https://other.example" } }),
            Reason::IdentityInvalid,
        ),
    ];
    for (extra, reason) in cases {
        // From no identity, and from a valid one.
        rig.put(&rig.minted("w", 3600, &extra));
        rig.denied(reason).await;
        rig.put(&rig.good("fine"));
        rig.bound("fine").await;
        rig.put(&rig.minted("w", 3600, &extra));
        if reason == Reason::IdentityNotYetValid {
            // Not wrong, only early: what is held stays.
            crate::rig::until("the error shows", || {
                rig.identities.status()[0].last_error.is_some()
            })
            .await;
            assert!(rig.handle.check().is_ok());
            rig.put("rubbish");
            rig.denied(Reason::IdentityInvalid).await;
        } else {
            rig.denied(reason).await;
        }
    }
}

#[tokio::test]
async fn other_forms_of_good_claims() {
    let lines = "groups_claim = \"realm.roles\"\n[issuer.required_claims]\n\"env.stage\" = \"prod\"\nverified = \"true\"";
    let rig = Rig::with(
        Issuer::start(loopback()).await.unwrap(),
        Clock::System,
        lines,
        timing(),
    )
    .await;
    let good = json!({
        "aud": ["https://other.example", AUDIENCE],
        "exp": 4_000_000_000.5,
        "realm": { "roles": "x  y" },
        "env": { "stage": "prod" },
        "verified": true,
        "sub": "alice",
        "act": { "sub": "bot", "act": { "sub": "earlier" } },
        "jti": null,
    });
    rig.put(&rig.minted("unused", 3600, &good));
    rig.bound("bot").await;
    let identity = rig.handle.check().unwrap();
    assert_eq!(identity.on_behalf_of.as_deref(), Some("alice"));
    assert_eq!(identity.groups.len(), 2);
    assert_eq!(identity.expires_at, 4_000_000_000);
    assert_eq!(identity.token_id.len(), 32);
    for wrong in [
        json!({ "verified": false }),
        json!({ "env": { "stage": "dev" } }),
        json!({ "env": null }),
    ] {
        let mut claims = good.clone();
        for (key, value) in wrong.as_object().unwrap() {
            claims[key] = value.clone();
        }
        rig.put(&rig.minted("unused", 3600, &claims));
        rig.denied(Reason::IdentityInvalid).await;
        rig.put(&rig.minted("unused", 3600, &good));
        rig.bound("bot").await;
    }
}

#[tokio::test]
async fn skew_is_bounded() {
    let (clock, _at) = stopped_clock();
    let issuer = Issuer::start(loopback()).await.unwrap();
    let rig = Rig::with(issuer, clock.clone(), "skew = \"30s\"", timing()).await;
    let now = clock.now_seconds();
    for (extra, expected) in [
        (json!({ "exp": now - 29 }), None),
        (json!({ "exp": now - 30 }), Some(Reason::IdentityExpired)),
        (json!({ "nbf": now + 30 }), None),
        (json!({ "nbf": now + 31 }), Some(Reason::IdentityNotYetValid)),
        (json!({ "iat": now + 30 }), None),
        (json!({ "iat": now + 31 }), Some(Reason::IdentityNotYetValid)),
    ] {
        rig.put("rubbish");
        rig.denied(Reason::IdentityInvalid).await;
        let mut claims = json!({ "iat": now, "nbf": now, "exp": now + 60 });
        claims
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        rig.put(&rig.minted("w", 0, &claims));
        match expected {
            None => rig.bound("w").await,
            Some(reason) => rig.denied(reason).await,
        }
    }
}

/// A token signed with whatever key, under whatever header.
fn forged(header: &Value, claims: &Value, key: Option<(&EncodingKey, Algorithm)>) -> String {
    let message = format!(
        "{}.{}",
        B64.encode(header.to_string()),
        B64.encode(claims.to_string())
    );
    let signature = key.map_or(String::new(), |(key, algorithm)| {
        jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap()
    });
    format!("{message}.{signature}")
}

#[tokio::test]
async fn forgeries() {
    let rig = Rig::new().await;
    let hour = Duration::from_secs(3600);
    let claims = Value::Object(rig.issuer.claims("root", AUDIENCE, &[], hour, &json!({})).claims);
    let (ec, ec_pem) = rig.issuer.public_key(false);
    let (rsa, rsa_pem) = rig.issuer.public_key(true);
    let own = rcgen::KeyPair::generate().unwrap();
    let own_ec = EncodingKey::from_ec_pem(own.serialize_pem().as_bytes()).unwrap();
    let own_rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let own_rsa = EncodingKey::from_rsa_pem(own_rsa.serialize_pem().as_bytes()).unwrap();
    let own_jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&own_ec, Algorithm::ES256).unwrap();
    let ec_secret = EncodingKey::from_secret(ec_pem.as_bytes());
    let rsa_secret = EncodingKey::from_secret(rsa_pem.as_bytes());

    let unsigned = [
        json!({ "alg": "none", "kid": ec }),
        json!({ "alg": "NoNe" }),
        json!({ "kid": ec }),
        json!({ "alg": 7, "kid": ec }),
    ];
    // Symmetric with a public key as secret; the type of another key; a key brought along.
    let signed = [
        (json!({ "alg": "HS256", "kid": ec }), &ec_secret, Algorithm::HS256),
        (
            json!({ "alg": "HS256", "kid": rsa }),
            &rsa_secret,
            Algorithm::HS256,
        ),
        (json!({ "alg": "RS256", "kid": ec }), &own_rsa, Algorithm::RS256),
        (json!({ "alg": "ES256", "kid": rsa }), &own_ec, Algorithm::ES256),
        (json!({ "alg": "PS256", "kid": rsa }), &own_rsa, Algorithm::PS256),
        (json!({ "alg": "ES256", "kid": ec }), &own_ec, Algorithm::ES256),
        (json!({ "alg": "ES256" }), &own_ec, Algorithm::ES256),
        (
            json!({ "alg": "ES256", "kid": ec, "jwk": own_jwk }),
            &own_ec,
            Algorithm::ES256,
        ),
        (
            json!({ "alg": "ES256", "kid": ec, "jku": "http://127.0.0.1:9/" }),
            &own_ec,
            Algorithm::ES256,
        ),
        (
            json!({ "alg": "ES256", "kid": ec, "crit": ["exp"] }),
            &own_ec,
            Algorithm::ES256,
        ),
    ];
    let mut tokens: Vec<_> = unsigned
        .iter()
        .map(|header| forged(header, &claims, None))
        .collect();
    for (header, key, algorithm) in &signed {
        tokens.push(forged(header, &claims, Some((key, *algorithm))));
    }
    tokens.extend(broken(&rig.good("root"), &claims));
    for token in &tokens {
        rig.put(&rig.good("fine"));
        rig.bound("fine").await;
        rig.put(token);
        rig.denied(Reason::IdentityInvalid).await;
    }
    // Nothing that was said has any of a token's parts in it.
    let said = rig.said();
    for part in tokens
        .iter()
        .flat_map(|token| token.split('.'))
        .filter(|part| part.len() > 4)
    {
        assert!(!said.contains(part), "{part} in {said}");
    }
    // A key id that the issuer never had.
    let header = json!({ "alg": "ES256", "kid": "mine" });
    rig.put(&forged(&header, &claims, Some((&own_ec, Algorithm::ES256))));
    rig.denied(Reason::IdentityUnknownKey).await;
}

/// A good token, spoilt in each way.
fn broken(good: &str, claims: &Value) -> Vec<String> {
    let (message, signature) = good.rsplit_once('.').unwrap();
    let header = message.split_once('.').unwrap().0;
    vec![
        format!("{message}."),
        good[..good.len() - 2].to_owned(),
        format!("{header}.{}.{signature}", B64.encode(claims.to_string())),
        message.to_owned(),
        format!("{good}.x"),
        format!("{good}=="),
        "{\"a\":1}".into(),
        "a".repeat(20 * 1024),
    ]
}

#[tokio::test]
async fn header_forms() {
    let rig = Rig::new().await;
    let hour = Duration::from_secs(3600);
    for (n, typ) in [None, Some("JWT"), Some("at+jwt"), Some("application/at+JWT")]
        .into_iter()
        .enumerate()
    {
        for rsa in [false, true] {
            let sub = format!("s{n}-{rsa}");
            let mut mint = rig.issuer.claims(&sub, AUDIENCE, &[], hour, &json!({}));
            (mint.rsa, mint.typ) = (rsa, typ.map(str::to_owned));
            rig.put(&rig.issuer.sign(&mint).unwrap());
            rig.bound(&sub).await;
        }
    }
    for typ in ["logout+jwt", "dpop+jwt", ""] {
        rig.put(&rig.good("fine"));
        rig.bound("fine").await;
        let mut mint = rig.issuer.claims("w", AUDIENCE, &[], hour, &json!({}));
        mint.typ = Some(typ.into());
        rig.put(&rig.issuer.sign(&mint).unwrap());
        rig.denied(Reason::IdentityInvalid).await;
    }
    // `crit`, well signed.
    rig.put(&rig.good("fine"));
    rig.bound("fine").await;
    let mut header = Header::new(Algorithm::ES256);
    header.crit = Some(vec!["x".into()]);
    header.kid = Some(rig.issuer.public_key(false).0);
    let claims = rig.issuer.claims("w", AUDIENCE, &[], hour, &json!({})).claims;
    rig.put(&rig.issuer.sign_as(&header, &claims).unwrap());
    rig.denied(Reason::IdentityInvalid).await;
    assert!(
        rig.identities.status()[0]
            .last_error
            .as_ref()
            .unwrap()
            .contains("critical")
    );
}

#[tokio::test]
async fn algorithms_are_the_issuers() {
    let issuer = Issuer::start(loopback()).await.unwrap();
    let rig = Rig::with(issuer, Clock::System, "algorithms = [\"RS256\"]", timing()).await;
    rig.put(&rig.good("w"));
    rig.denied(Reason::IdentityInvalid).await;
    let mut mint = rig
        .issuer
        .claims("w", AUDIENCE, &[], Duration::from_secs(60), &json!({}));
    mint.rsa = true;
    rig.put(&rig.issuer.sign(&mint).unwrap());
    rig.bound("w").await;
}
