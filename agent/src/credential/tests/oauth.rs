//! OAuth 2.0: client credentials and token exchange.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    rig::{Asked, Told, anyone, asker, json as answer, plain, put, secret, serve, start, timing, until},
    *,
};

const SECRET: &str = "cl1ent s3cret&";

/// What came to the token endpoint: its form, and its Authorization.
type Requests = Arc<Mutex<Vec<(BTreeMap<String, String>, String)>>>;

struct Rig {
    all: Credentials,
    told: Arc<Told>,
    requests: Requests,
    _dir: tempfile::TempDir,
}

/// An issuer with a token endpoint that answers by `reply`; `metadata` is added to what the issuer says of itself.
/// In `more`, `{dir}` and `{url}` stand for a directory with the secret and the issuer's URL.
async fn rig(
    more: &str,
    metadata: Value,
    reply: impl Fn(usize) -> (u16, Value) + Send + Sync + 'static,
) -> Rig {
    let seen = Requests::default();
    let requests = Arc::clone(&seen);
    let address = serve(move |asked: &Asked| {
        let base = format!("http://{}/realm", asked.header("host"));
        match asked.path.as_str() {
            "/realm/.well-known/openid-configuration" if metadata["rfc8414"] == json!(true) => {
                plain(404, "text/html", "no")
            }
            "/realm/.well-known/openid-configuration" | "/.well-known/oauth-authorization-server/realm" => {
                let mut all = json!({ "issuer": base, "token_endpoint": format!("{base}/token") });
                for (key, value) in metadata.as_object().unwrap() {
                    all[key] = value.clone();
                }
                answer(200, &all)
            }
            "/realm/token" => {
                let mut seen = seen.lock().unwrap();
                seen.push((asked.form(), asked.header("authorization").to_owned()));
                let (status, body) = reply(seen.len());
                answer(status, &body)
            }
            _ => plain(404, "text/plain", ""),
        }
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    put(&dir.path().join("secret"), SECRET);
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    put(&dir.path().join("key.pem"), &key);
    let more = more
        .replace("{dir}", &dir.path().display().to_string())
        .replace("{url}", &format!("http://{address}/realm"));
    let toml = format!("[[credential]]\nname = \"api\"\n[credential.oauth]\nclient_id = \"agent:1\"\n{more}");
    let (all, told) = start(&toml, timing());
    Rig {
        all,
        told,
        requests,
        _dir: dir,
    }
}

const WITH_SECRET: &str = "issuer = \"{url}\"\nclient_secret_file = \"{dir}/secret\"\n";

fn token(n: usize) -> (u16, Value) {
    let body = json!({ "access_token": format!("acc3ss-{n}"), "token_type": "bearer", "expires_in": 1 });
    (200, body)
}

fn lasting(n: usize) -> (u16, Value) {
    (
        200,
        json!({ "access_token": format!("acc3ss-{n}"), "token_type": "Bearer", "expires_in": 3600 }),
    )
}

#[tokio::test]
async fn client_credentials() {
    let more = format!("{WITH_SECRET}scope = \"a b\"\naudience = \"crm\"\nresource = \"https://crm/\"\n");
    let rig = rig(&more, json!({}), lasting).await;
    for workload in ["x", "y"] {
        let asker = asker(workload, workload, 1);
        assert_eq!(secret(&rig.all, "api", &asker).await.unwrap(), "acc3ss-1");
    }
    let requests = rig.requests.lock().unwrap();
    let [(form, authorization)] = requests.as_slice() else {
        panic!("one token for all")
    };
    let expected = [
        ("audience", "crm"),
        ("grant_type", "client_credentials"),
        ("resource", "https://crm/"),
        ("scope", "a b"),
    ];
    assert!(form.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(expected));
    let basic = format!("Basic {}", STANDARD.encode("agent%3A1:cl1ent+s3cret%26"));
    assert_eq!(*authorization, basic);
    assert_eq!(rig.told.announced("api"), ["acc3ss-1"]);
    let version = rig.told.words().remove(0);
    assert_eq!(version.len(), "obtained 01234567".len(), "{version}");
    rig.told.says_none_of(&["acc3ss", "cl1ent"]);
}

#[tokio::test]
async fn tokens_are_renewed_ahead_of_their_end() {
    let rig = rig(WITH_SECRET, json!({}), token).await;
    secret(&rig.all, "api", &anyone()).await.unwrap();
    until("other tokens", || rig.told.count(Event::Renewed) >= 2).await;
    assert_eq!(rig.told.count(Event::Expired), 0);
    assert_ne!(secret(&rig.all, "api", &anyone()).await.unwrap(), "acc3ss-1");
}

#[tokio::test]
async fn who_it_is_by_what_the_endpoint_knows() {
    let post = json!({ "token_endpoint_auth_methods_supported": ["client_secret_post"], "rfc8414": true });
    let rig_ = rig(WITH_SECRET, post, lasting).await;
    secret(&rig_.all, "api", &anyone()).await.unwrap();
    let (form, authorization) = rig_.requests.lock().unwrap().remove(0);
    assert_eq!(
        (form["client_id"].as_str(), form["client_secret"].as_str()),
        ("agent:1", SECRET)
    );
    assert_eq!(authorization, "");

    let more =
        "token_endpoint = \"{url}/token\"\nprivate_key_file = \"{dir}/key.pem\"\nprivate_key_id = \"k1\"\n";
    let rig_ = rig(more, json!({}), lasting).await;
    secret(&rig_.all, "api", &anyone()).await.unwrap();
    let (form, _) = rig_.requests.lock().unwrap().remove(0);
    assert_eq!(form["client_assertion_type"], crate::io::assertion::TYPE);
    let header = jsonwebtoken::decode_header(&form["client_assertion"]).unwrap();
    assert_eq!(header.kid.as_deref(), Some("k1"));
}

#[tokio::test]
async fn an_exchange_is_for_the_workloads_own_token() {
    let more = format!(
        "{WITH_SECRET}grant = \"token_exchange\"\nsubject_token_type = \"jwt\"\naudience = \"crm\"\n"
    );
    let exchanged = |n: usize| {
        let kind = "urn:ietf:params:oauth:token-type:jwt";
        (
            200,
            json!({ "access_token": format!("acc3ss-{n}"), "token_type": "N_A", "expires_in": 60, "issued_token_type": kind }),
        )
    };
    let rig = rig(&more, json!({}), exchanged).await;
    let (a, b) = (asker("a", "a", 1), asker("b", "b", 1));
    assert_eq!(secret(&rig.all, "api", &a).await.unwrap(), "acc3ss-1");
    assert_eq!(secret(&rig.all, "api", &b).await.unwrap(), "acc3ss-2");
    assert_eq!(secret(&rig.all, "api", &a).await.unwrap(), "acc3ss-1");
    let forms: Vec<_> = rig
        .requests
        .lock()
        .unwrap()
        .iter()
        .map(|(f, _)| f.clone())
        .collect();
    assert_eq!(
        forms[0]["grant_type"],
        "urn:ietf:params:oauth:grant-type:token-exchange"
    );
    assert_eq!(
        forms[0]["subject_token_type"],
        "urn:ietf:params:oauth:token-type:jwt"
    );
    assert_eq!(forms[0]["subject_token"], ***a.token.as_ref().unwrap());
    assert_eq!(forms[1]["subject_token"], ***b.token.as_ref().unwrap());
    assert_eq!(rig.told.announced("api/b"), ["acc3ss-2"]);
    rig.all.end_workload(&b.workload);
    assert!(rig.told.announced("api/b").is_empty());
}

#[tokio::test]
async fn what_it_says_instead_is_told_without_a_secret() {
    for (status, body, word) in [
        (
            401,
            json!({ "error": "invalid_client" }),
            "answered 401 (invalid_client)",
        ),
        (400, json!({ "error": "Secret cl1ent s3cret&!" }), "answered 400"),
        (500, json!("oops"), "answered 500"),
        (302, json!({}), "answered 302"),
        (200, json!({ "token": "acc3ss" }), "no access_token"),
        (
            200,
            json!({ "access_token": "acc3ss", "token_type": "mac" }),
            "not Bearer",
        ),
        (200, json!({ "access_token": "", "token_type": "bearer" }), "none"),
        (200, json!({ "access_token": "acc3ss\r\nx: y" }), "none"),
        (
            200,
            json!({ "access_token": "acc3ss", "expires_in": 0 }),
            "run out",
        ),
    ] {
        let rig = rig(WITH_SECRET, json!({}), move |_| (status, body.clone())).await;
        let error = secret(&rig.all, "api", &anyone()).await.unwrap_err();
        assert!(error.contains(word) && error.contains("/realm/token"), "{error}");
        assert!(!error.contains("cl1ent") && !error.contains("acc3ss"), "{error}");
        rig.told.says_none_of(&["cl1ent", "acc3ss"]);
    }
    for (metadata, word) in [
        (json!({ "issuer": "https://other.example" }), "another issuer"),
        (json!({ "token_endpoint": "http://tokens.example/" }), "https"),
        (json!({ "token_endpoint": null }), "no token_endpoint"),
    ] {
        let rig = rig(WITH_SECRET, metadata, lasting).await;
        let error = secret(&rig.all, "api", &anyone()).await.unwrap_err();
        assert!(error.contains(word), "{error}");
        assert!(
            rig.requests.lock().unwrap().is_empty(),
            "nobody is sent the secret"
        );
    }
}
