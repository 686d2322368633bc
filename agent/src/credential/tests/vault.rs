//! Vault: secrets and users, logins and leases.

use std::{path::Path, time::Duration};

use super::{
    fake_vault::{self, ROLE_ID, SECRET_ID, Shared},
    rig::{Told, anyone, asker, eventually, parse, put, secret, start, timing, until},
    *,
};

const LOGIN: &str = "POST /v1/auth/approle/login";
const READ: &str = "GET /v1/secret/data/apps/crm";
const MAKE: &str = "GET /v1/database/creds/app";

struct Rig {
    dir: tempfile::TempDir,
    all: Credentials,
    told: Arc<Told>,
    vault: Shared,
}

/// A credential `v` in a Vault; `{dir}` in `more` is a directory.
async fn rig(more: &str, timing: Timing) -> Rig {
    let (address, vault) = fake_vault::start().await;
    let dir = tempfile::tempdir().unwrap();
    put(&dir.path().join("secret-id"), &format!("{SECRET_ID}\n"));
    let toml = format!(
        "[[credential]]\nname = \"v\"\n[credential.vault]\naddress = \"http://{address}\"\nnamespace = \"team\"\n{}",
        more.replace("{dir}", &dir.path().display().to_string())
    );
    let (all, told) = start(&toml, timing);
    Rig {
        dir,
        all,
        told,
        vault,
    }
}

fn approle(dir: &str) -> String {
    format!("approle = {{ role_id = \"{ROLE_ID}\", secret_id_file = \"{dir}/secret-id\" }}\n")
}

async fn kv(timing: Timing) -> Rig {
    let more = format!(
        "path = \"apps/crm\"\nfield = \"token\"\nrefresh = \"1s\"\n{}",
        approle("{dir}")
    );
    rig(&more, timing).await
}

async fn users(timing: Timing) -> Rig {
    rig(&format!("database_role = \"app\"\n{}", approle("{dir}")), timing).await
}

#[tokio::test]
async fn a_secret_is_read_once_and_again_when_it_is_time() {
    let rig = kv(timing()).await;
    for _ in 0..5 {
        assert_eq!(secret(&rig.all, "v", &anyone()).await.unwrap(), "kv-s3cret");
        assert_eq!(rig.told.announced("v"), ["kv-s3cret"]);
    }
    let count = |line| rig.vault.lock().unwrap().count(line);
    assert_eq!((count(LOGIN), count(READ)), (1, 1));
    // The same version is no event; another one is.
    until("read again", || count(READ) >= 2).await;
    assert_eq!(rig.told.words(), ["obtained 3"]);
    rig.vault.lock().unwrap().secret = Some((4, "kv-n3xt".into()));
    until("the next version", || rig.told.words().len() == 2).await;
    assert_eq!(rig.told.words()[1], "renewed 4");
    assert_eq!(secret(&rig.all, "v", &anyone()).await.unwrap(), "kv-n3xt");
    assert_eq!(rig.told.announced("v"), ["kv-n3xt"]);
    // A login that ended before its time is replaced.
    assert_eq!(count(LOGIN), 1);
    rig.vault.lock().unwrap().log_everyone_out();
    until("another login", || count(LOGIN) == 2).await;
    // What is deleted is gone at once, and told.
    rig.vault.lock().unwrap().secret = None;
    until("a failure", || rig.told.count(Event::Failed) == 1).await;
    let error = secret(&rig.all, "v", &anyone()).await.unwrap_err();
    assert!(
        error.contains("credential 'v'") && error.contains("404"),
        "{error}"
    );
    assert!(rig.told.announced("v").is_empty());
    rig.told
        .says_none_of(&["kv-s3cret", "kv-n3xt", SECRET_ID, "s.t0ken"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_asks_for_all_who_wait() {
    let rig = kv(timing()).await;
    let asking = (0..100).map(|_| {
        let all = rig.all.clone();
        tokio::spawn(async move { secret(&all, "v", &anyone()).await })
    });
    for answer in futures_util::future::join_all(asking).await {
        assert_eq!(answer.unwrap().unwrap(), "kv-s3cret");
    }
    // And when it cannot be had, they are told the same without asking again.
    assert_eq!(rig.vault.lock().unwrap().count(READ), 1);
    let patient = Timing {
        retry_min: Duration::from_secs(60),
        retry_asked: Duration::from_secs(60),
        ..timing()
    };
    let rig = kv(patient).await;
    rig.vault.lock().unwrap().secret = None;
    let asker = anyone();
    let asking = (0..100).map(|_| secret(&rig.all, "v", &asker));
    let answers = futures_util::future::join_all(asking).await;
    assert!(
        answers
            .iter()
            .all(|a| a.as_ref().is_err_and(|e| e.contains("404")))
    );
    assert_eq!(rig.vault.lock().unwrap().count(READ), 1);
    assert_eq!(rig.told.count(Event::Failed), 1);
}

#[tokio::test]
async fn who_goes_away_leaves_no_lease_behind() {
    let rig = users(timing()).await;
    let asker = anyone();
    let mut asking = Box::pin(rig.all.get("v", &asker));
    assert!(futures_util::poll!(&mut asking).is_pending());
    drop(asking);
    until("it is had all the same", || rig.told.count(Event::Obtained) == 1).await;
    let all = rig.all.get("v", &asker).await.unwrap();
    assert_eq!(all.user().map(|u| &**u), Some("v-app-2"));
    assert_eq!(rig.vault.lock().unwrap().count(MAKE), 1);
}

#[tokio::test]
async fn what_goes_wrong_is_said_without_a_secret() {
    for (fault, word) in [
        ((400, "application/json", "{}".to_owned()), "(400)"),
        (
            (
                403,
                "application/json",
                format!("{{\"errors\":[\"{SECRET_ID}\"]}}"),
            ),
            "permission denied (403)",
        ),
        ((500, "text/plain", SECRET_ID.to_owned()), "answered 500"),
        ((503, "application/json", "{}".to_owned()), "sealed"),
        ((200, "text/html", format!("<html>{SECRET_ID}")), "no JSON"),
        (
            (200, "application/json", format!("{{\"auth\":\"{SECRET_ID}\"}}")),
            "no JSON",
        ),
        (
            (200, "application/json", "{\"auth\":null}".to_owned()),
            "no login",
        ),
        ((307, "text/plain", String::new()), "redirects (307)"),
        (
            (200, "application/json", " ".repeat(300_000)),
            "longer than 256 KiB",
        ),
    ] {
        let rig = kv(timing()).await;
        rig.vault.lock().unwrap().fault = Some(fault);
        let error = secret(&rig.all, "v", &anyone()).await.unwrap_err();
        assert!(
            error.contains(word) && error.contains("/v1/auth/approle/login"),
            "{error}"
        );
        assert!(!error.contains(SECRET_ID), "{error}");
        rig.told.says_none_of(&[SECRET_ID]);
        // Good again, it is asked again.
        rig.vault.lock().unwrap().fault = None;
        assert_eq!(eventually(&rig.all, "v", &anyone()).await, "kv-s3cret");
    }
    for (change, word) in [("token", "no field"), ("nested", "no text")] {
        let field = if change == "token" { "toke" } else { change };
        let more = format!("path = \"apps/crm\"\nfield = \"{field}\"\n{}", approle("{dir}"));
        let rig = rig(&more, timing()).await;
        let error = secret(&rig.all, "v", &anyone()).await.unwrap_err();
        assert!(error.contains(word) && !error.contains("s3cret"), "{error}");
    }
}

#[tokio::test]
async fn what_comes_too_late_is_given_back() {
    let rig = users(timing()).await;
    let asker = anyone();
    let mut asking = Box::pin(rig.all.get("v", &asker));
    assert!(futures_util::poll!(&mut asking).is_pending());
    until("the login", || rig.vault.lock().unwrap().count(LOGIN) == 1).await;
    // Stopped while it is under way.
    rig.all.close().await;
    let _ = asking.await;
    assert!(rig.vault.lock().unwrap().leases.is_empty());
    assert!(rig.told.announced("v").is_empty());
    assert!(rig.all.get("v", &asker).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn roots_that_are_not_there_are_named() {
    let more = "path = \"apps/crm\"\ntoken_file = \"{dir}/secret-id\"\nca_file = \"{dir}/ca.pem\"\n";
    let rig = rig(more, timing()).await;
    let error = secret(&rig.all, "v", &anyone()).await.unwrap_err();
    assert!(error.contains("ca.pem") && error.contains("not found"), "{error}");
    put(&rig.dir.path().join("ca.pem"), "junk");
    let asker = anyone();
    until("the file to be read again", || {
        let asking = secret(&rig.all, "v", &asker);
        let answer = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(asking));
        answer.is_err_and(|e| e.contains("ca.pem") && e.contains("no certificate"))
    })
    .await;
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let more = "path = \"slow\"\ntoken_file = \"{dir}/secret-id\"\n";
    let quick = Timing {
        exchange: Duration::from_millis(100),
        ..timing()
    };
    let rig = rig(more, quick).await;
    let began = std::time::Instant::now();
    let error = secret(&rig.all, "v", &anyone()).await.unwrap_err();
    assert!(error.contains("/v1/secret/data/slow"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn out_of_reach_is_not_gone_until_it_is_stale() {
    let quick = Timing {
        stale: Duration::from_millis(10),
        ..timing()
    };
    let rig = kv(quick).await;
    assert_eq!(secret(&rig.all, "v", &anyone()).await.unwrap(), "kv-s3cret");
    rig.vault.lock().unwrap().fault = Some((500, "text/plain", String::new()));
    until("a failure", || rig.told.count(Event::Failed) == 1).await;
    assert_eq!(secret(&rig.all, "v", &anyone()).await.unwrap(), "kv-s3cret");
    until("its end", || rig.told.count(Event::Expired) == 1).await;
    assert!(secret(&rig.all, "v", &anyone()).await.is_err());
}

#[tokio::test]
async fn each_workload_logs_in_with_its_own_token() {
    let rig = rig(
        "path = \"apps/crm\"\nfield = \"token\"\njwt = { role = \"agents\" }\n",
        timing(),
    )
    .await;
    let (a, b) = (asker("a", "a", 1), asker("b", "b", 1));
    for _ in 0..3 {
        secret(&rig.all, "v", &a).await.unwrap();
        secret(&rig.all, "v", &b).await.unwrap();
    }
    let tokens =
        |of: &[&Asker]| -> Vec<String> { of.iter().map(|a| a.token.as_ref().unwrap().to_string()).collect() };
    assert_eq!(rig.vault.lock().unwrap().jwts, tokens(&[&a, &b]));
    assert_eq!(rig.told.announced("v/a"), ["kv-s3cret"]);
    // A fresh token of the same subject changes nothing; another subject starts anew.
    secret(&rig.all, "v", &asker("a", "a", 2)).await.unwrap();
    assert_eq!(rig.vault.lock().unwrap().jwts.len(), 2);
    let other = asker("a", "other", 3);
    secret(&rig.all, "v", &other).await.unwrap();
    // The login of the one before is not used for it.
    assert_eq!(rig.vault.lock().unwrap().jwts, tokens(&[&a, &b, &other]));
    let none = Asker { token: None, ..a };
    let error = secret(&rig.all, "v", &none).await.unwrap_err();
    assert!(error.contains("workload 'a' has no valid token"), "{error}");
    // The end of an identity is the end of what was had with it, and of the login.
    rig.all.end_workload(&WorkloadName::new("b").unwrap());
    assert!(rig.told.announced("v/b").is_empty());
    until("a log-out", || {
        rig.vault.lock().unwrap().count("POST /v1/auth/token/revoke-self") >= 2
    })
    .await;
    let lines = rig.all.status();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].workload.as_deref(), Some("a"));
}

#[tokio::test]
async fn leases_are_renewed_replaced_and_given_back() {
    let rig = users(timing()).await;
    rig.vault.lock().unwrap().lease_seconds = 2;
    let first = rig.all.password("v", &anyone()).await.unwrap();
    assert_eq!(first.user().map(|u| &**u), Some("v-app-2"));
    assert_eq!(first.secret().unwrap().expose(), b"db-s3cret-2");
    assert_eq!(&*first.version, "database/creds/app/2");
    let renewals = || rig.vault.lock().unwrap().count("PUT /v1/sys/leases/renew");
    until("a longer life", || {
        renewals() == 1 && rig.told.count(Event::Renewed) == 1
    })
    .await;
    let second = rig.all.get("v", &anyone()).await.unwrap();
    assert_eq!(second.version, first.version);
    assert!(second.expires_at > first.expires_at);
    // At the end of its longest life there is another one; the one before stays as long as it is held.
    rig.vault.lock().unwrap().extends = false;
    drop(second);
    until("another", || rig.told.count(Event::Renewed) == 2).await;
    let next = rig.all.get("v", &anyone()).await.unwrap();
    assert_eq!(&*next.version, "database/creds/app/4");
    assert_eq!(rig.told.announced("v"), ["db-s3cret-4"]);
    assert!(rig.vault.lock().unwrap().leases.contains_key(&*first.version));
    let lease = Arc::clone(&first.version);
    drop(first);
    until("the lease is given back, or has run out", || {
        !rig.vault.lock().unwrap().leases.contains_key(&*lease)
    })
    .await;
    drop(next);
    rig.all.close().await;
    assert!(rig.vault.lock().unwrap().leases.is_empty());
    assert!(rig.told.count(Event::Revoked) >= 2);
    assert!(rig.all.get("v", &anyone()).await.is_err());
    rig.told.says_none_of(&["db-s3cret", SECRET_ID, "s.t0ken"]);
}

#[tokio::test]
async fn a_lease_that_may_not_be_revoked_ends_with_its_login() {
    let rig = users(timing()).await;
    rig.vault.lock().unwrap().may_revoke = false;
    rig.all.get("v", &anyone()).await.unwrap();
    rig.all.close().await;
    assert!(rig.vault.lock().unwrap().leases.is_empty());
}

#[tokio::test]
async fn what_nobody_uses_is_given_back() {
    let quick = Timing {
        idle: Duration::ZERO,
        ..timing()
    };
    let rig = users(quick).await;
    rig.vault.lock().unwrap().lease_seconds = 1;
    let held = rig.all.get("v", &anyone()).await.unwrap();
    // Held, it is kept.
    until("a longer life", || rig.told.count(Event::Renewed) == 1).await;
    drop(held);
    until("it is given back", || rig.told.count(Event::Revoked) == 1).await;
    assert!(rig.vault.lock().unwrap().leases.is_empty());
    assert!(rig.told.announced("v").is_empty());
    assert_eq!(rig.all.status()[0].version, None);
}

#[tokio::test]
async fn a_changed_configuration_starts_anew() {
    let rig = users(timing()).await;
    let held = rig.all.get("v", &anyone()).await.unwrap();
    let path = rig.dir.path().join("pw");
    put(&path, "st4tic");
    rig.all.reload(&parse(&format!(
        "[[credential]]\nname = \"v\"\nfile = \"{}\"\n",
        path.display()
    )));
    assert_eq!(secret(&rig.all, "v", &anyone()).await.unwrap(), "st4tic");
    assert_eq!(
        rig.told.announced("v"),
        ["st4tic"],
        "and not taken back by the one before"
    );
    assert_eq!(rig.vault.lock().unwrap().leases.len(), 1);
    drop(held);
    until("it is given back", || rig.vault.lock().unwrap().leases.is_empty()).await;
    assert_eq!(rig.told.announced("v"), ["st4tic"]);
}

#[tokio::test]
async fn a_token_in_a_file_is_read_each_time() {
    let more =
        "path = \"apps/crm\"\nfield = \"number\"\nrefresh = \"1s\"\ntoken_file = \"{dir}/secret-id\"\n";
    let rig = rig(more, timing()).await;
    let file: &Path = &rig.dir.path().join("secret-id");
    let error = secret(&rig.all, "v", &anyone()).await.unwrap_err();
    assert!(error.contains("403"), "{error}");
    let login = rig.vault.lock().unwrap().new_token();
    put(file, &login);
    assert_eq!(eventually(&rig.all, "v", &anyone()).await, "7");
}
