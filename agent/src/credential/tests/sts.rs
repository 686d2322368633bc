//! AWS STS: what is asked, and what its XML says.

use std::time::Duration;

use super::{
    rig::{Asked, Told, anyone, asker, plain, serve, start, timing, until},
    *,
};

type Requests = Arc<Mutex<Vec<Asked>>>;

/// An answer as the API reference shows one, whose keys end in so many seconds.
fn answer(serial: usize, seconds: i64) -> String {
    let at = Clock::System.now_ns() + seconds * 1_000_000_000;
    let at = crate::model::Rfc3339(at);
    format!(
        r#"<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult>
    <SubjectFromWebIdentityToken>a</SubjectFromWebIdentityToken>
    <AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/a</Arn></AssumedRoleUser>
    <Credentials>
      <SessionToken>t0ken+/{serial}==</SessionToken>
      <SecretAccessKey>s3cret/{serial}</SecretAccessKey>
      <Expiration>{at}</Expiration>
      <AccessKeyId>ASIA{serial}</AccessKeyId>
    </Credentials>
  </AssumeRoleWithWebIdentityResult>
  <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>
</AssumeRoleWithWebIdentityResponse>"#
    )
}

async fn rig(
    more: &str,
    reply: impl Fn(usize) -> (u16, String) + Send + Sync + 'static,
) -> (Credentials, Arc<Told>, Requests) {
    let seen = Requests::default();
    let requests = Arc::clone(&seen);
    let address = serve(move |asked| {
        let mut seen = seen.lock().unwrap();
        seen.push(Asked {
            method: asked.method.clone(),
            path: asked.path.clone(),
            headers: asked.headers.clone(),
            body: asked.body.clone(),
        });
        let (status, body) = reply(seen.len());
        plain(status, "text/xml", body)
    })
    .await;
    let toml = format!(
        "[[credential]]\nname = \"s3\"\n[credential.aws]\nrole_arn = \"arn:aws:iam::1:role/r\"\n\
         region = \"eu-central-1\"\nendpoint = \"http://{address}/\"\n{more}"
    );
    let (all, told) = start(&toml, timing());
    (all, told, requests)
}

#[tokio::test]
async fn a_role_is_assumed_with_the_workloads_token() {
    let (all, told, requests) = rig("duration = \"15m\"\n", |n| (200, answer(n, 900))).await;
    let a = asker("bot-a", "a", 1);
    let token = a.token.as_ref().unwrap().to_string();
    for _ in 0..3 {
        let material = all.get("s3", &a).await.unwrap();
        let keys = material.aws().unwrap();
        assert_eq!(&*keys.access_key_id, "ASIA1");
        assert_eq!(keys.secret_access_key.expose(), b"s3cret/1");
        assert_eq!(keys.session_token.as_ref().unwrap().expose(), b"t0ken+/1==");
        assert_eq!(&*material.version, "ASIA1");
        assert!(material.secret().is_none());
    }
    let form = requests.lock().unwrap()[0].form();
    let expected = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("DurationSeconds", "900"),
        ("RoleArn", "arn:aws:iam::1:role/r"),
        ("RoleSessionName", "bot-a"),
        ("Version", "2011-06-15"),
        ("WebIdentityToken", &token),
    ];
    assert!(form.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(expected));
    assert_eq!(requests.lock().unwrap().len(), 1);
    assert_eq!(told.announced("s3/bot-a"), ["s3cret/1", "t0ken+/1=="]);
    assert_eq!(told.words(), ["obtained ASIA1"]);
    // A name of one letter is too short for AWS; another workload has other keys.
    let other = all.get("s3", &asker("b", "b", 1)).await.unwrap();
    assert_eq!(&*other.version, "ASIA2");
    assert_eq!(
        requests.lock().unwrap()[1].form()["RoleSessionName"],
        "workload-b"
    );
    let error = all.get("s3", &anyone()).await.unwrap_err();
    assert!(matches!(error, CredentialError::NoToken { .. }), "{error}");
    // It is no password.
    let error = all.password("s3", &a).await.unwrap_err().to_string();
    assert!(
        error.contains("AWS keys") && error.contains("a password is needed"),
        "{error}"
    );
    told.says_none_of(&["s3cret", "t0ken", &token]);
}

#[tokio::test]
async fn keys_are_renewed_ahead_of_their_end() {
    let (all, told, _) = rig("session_name = \"s-1\"\n", |n| (200, answer(n, 1))).await;
    let a = asker("bot", "a", 1);
    let token = a.token.clone();
    all.tokens(Arc::new(move |_| token.clone()));
    let first = all.get("s3", &a).await.unwrap();
    until("other keys", || told.count(Event::Renewed) >= 2).await;
    assert_eq!(told.count(Event::Expired), 0, "before they end");
    // Who holds the ones before has them still.
    assert_eq!(first.aws().unwrap().secret_access_key.expose(), b"s3cret/1");
    let now = all.get("s3", &a).await.unwrap();
    assert_ne!(now.version, first.version);
}

#[tokio::test]
async fn what_has_run_out_is_not_used() {
    let failing = |n: usize| match n {
        1 => (200, answer(1, 1)),
        _ => (500, String::new()),
    };
    let (all, told, _) = rig("", failing).await;
    let a = asker("bot", "a", 1);
    let token = a.token.clone();
    all.tokens(Arc::new(move |_| token.clone()));
    all.get("s3", &a).await.unwrap();
    until("a failure", || told.count(Event::Failed) == 1).await;
    all.get("s3", &a).await.unwrap();
    until("the end", || told.count(Event::Expired) == 1).await;
    let error = all.get("s3", &a).await.unwrap_err().to_string();
    assert!(error.contains("answered 500"), "{error}");
    assert!(told.announced("s3/bot").is_empty());
}

#[tokio::test]
async fn what_it_says_instead_is_told_without_a_secret() {
    for (status, body, word) in [
        (
            400,
            "<ErrorResponse><Error><Code>InvalidIdentityToken</Code><Message>e30.</Message></Error></ErrorResponse>".into(),
            "answered 400 (InvalidIdentityToken)",
        ),
        (403, "<Error><Code>no word at all</Code></Error>".into(), "answered 403"),
        (302, String::new(), "answered 302"),
        (200, "<html>hello</html>".into(), "no Credentials"),
        (200, answer(1, 900).replace("ASIA1", "a b"), "AccessKeyId is none"),
        (200, answer(1, 900).replace("Expiration", "Expires"), "no Expiration"),
        (200, answer(1, -5), "run out"),
        (200, "x".repeat(300_000), "longer than 256 KiB"),
    ] {
        let (all, told, _) = rig("", move |_| (status, body.clone())).await;
        let a = asker("bot", "a", 1);
        let error = all.get("s3", &a).await.unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("credential 's3'"), "{error}");
        let token = a.token.unwrap();
        told.says_none_of(&[&token, "s3cret", "t0ken", "e30."]);
        assert!(!error.contains("e30."), "{error}");
    }
}

#[tokio::test]
async fn a_dead_endpoint_is_named() {
    let toml = "[[credential]]\nname = \"s3\"\n[credential.aws]\nrole_arn = \"arn:aws:iam::1:role/r\"\n\
                region = \"x\"\nendpoint = \"http://127.0.0.1:1/\"\n";
    let patient = Timing {
        exchange: Duration::from_secs(5),
        ..timing()
    };
    let (all, _) = start(toml, patient);
    let error = all
        .get("s3", &asker("bot", "a", 1))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("credential 's3': http://127.0.0.1:1/: "),
        "{error}"
    );
}
