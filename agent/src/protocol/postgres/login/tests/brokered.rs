//! Logins that the agent does itself.

use super::{
    scram::{check, reject},
    *,
};

/// A workload that says whatever and is let in, or not.
async fn whatever(mut peer: Peer) -> Vec<(u8, Vec<u8>)> {
    let parameters = [
        ("user", "anyone"),
        ("database", "app"),
        ("application_name", "tool"),
    ];
    peer.send(&startup_message(3 << 16, &parameters)).await;
    peer.until_ready().await
}

/// That nothing of the credential is in anything.
fn keeps_its_secret(bench: &Bench, workload: &[(u8, Vec<u8>)]) {
    let seen = format!(
        "{:?}",
        workload
            .iter()
            .map(|m| m.1.escape_ascii().to_string())
            .collect::<Vec<_>>()
    );
    let stored = format!("{:?}", bench.entries());
    assert!(!seen.contains("hunter2") && !stored.contains("hunter2"));
}

#[tokio::test]
async fn scram_bound_to_tls_where_both_can() {
    for (offered, tls, chosen, binding) in [
        (
            &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"][..],
            true,
            "SCRAM-SHA-256-PLUS",
            "p=tls-server-end-point",
        ),
        (&["SCRAM-SHA-256"], true, "SCRAM-SHA-256", "y"),
        (&["SCRAM-SHA-256"], false, "SCRAM-SHA-256", "n"),
    ] {
        let mut bench = Bench::new(ALLOW);
        bench.broker(if tls {
            "tls = \"require\"\n"
        } else {
            "tls = \"disable\"\n"
        });
        bench.play(move |mut peer| async move {
            if tls {
                peer.accept_tls(false).await;
            }
            let startup = peer.startup().await;
            assert_eq!(
                (&*startup.user, startup.database.as_deref()),
                ("svc", Some("app"))
            );
            assert_eq!(&*startup.settings["application_name"], "tool");
            let end_point = peer.tls.end_point.clone();
            let said = check(&mut peer, offered, "hunter2", Some(&end_point))
                .await
                .unwrap();
            assert_eq!((&*said.mechanism, &*said.binding), (chosen, binding));
            peer.consent(&[0; 4]).await;
        });
        let went = bench.run(None, whatever).await;
        let tags: Vec<u8> = went.workload.iter().map(|m| m.0).collect();
        assert_eq!(tags, b"RSSKZ", "one consent, and no challenge");
        let established = went.established();
        assert_eq!(
            (&*established.target.server, &*established.target.role),
            ("billing", "svc")
        );
        let seen = went.workload.clone();
        drop(went);
        let entries = bench.entries();
        let entry = entries.iter().find(|e| e["kind"] == "operation").unwrap();
        let context = &entry["context"]["connect"];
        assert_eq!(
            (&context["brokered"], &context["credential"]),
            (&true.into(), &"db-password".into())
        );
        assert_eq!(
            (&context["user"], &context["role"]),
            (&"anyone".into(), &"svc".into())
        );
        keeps_its_secret(&bench, &seen);
    }
}

#[tokio::test]
async fn md5_and_clear_text_over_tls_only() {
    for (challenge, tls, answer) in [
        // md5(md5("hunter2" + "svc") + salt)
        (
            &[0, 0, 0, 5, 1, 2, 3, 4][..],
            false,
            Some(postgres_protocol::authentication::md5_hash(
                b"svc",
                b"hunter2",
                [1, 2, 3, 4],
            )),
        ),
        (&[0, 0, 0, 3], true, Some("hunter2".to_owned())),
        (&[0, 0, 0, 3], false, None),
    ] {
        let mut bench = Bench::new(ALLOW);
        bench.broker(if tls { "tls = \"require\"\n" } else { "" });
        let expected = answer.clone();
        bench.play(move |mut peer| async move {
            if tls {
                peer.accept_tls(false).await;
            }
            peer.startup().await;
            peer.say(b'R', challenge).await;
            let got = peer.message().await;
            assert_eq!(got, expected.map(|text| (b'p', [text.as_bytes(), &[0]].concat())));
            if got.is_some() {
                peer.consent(&[0; 4]).await;
            }
        });
        let went = bench.run(None, whatever).await;
        if answer.is_some() {
            went.established();
        } else {
            assert!(error(&went.workload[0]).contains("clear text"));
        }
        let seen = went.workload.clone();
        drop(went);
        keeps_its_secret(&bench, &seen);
    }
}

#[tokio::test]
async fn a_refused_credential_is_not_the_workloads_affair() {
    let mut bench = Bench::new(ALLOW);
    bench.broker("");
    bench.play(|mut peer| async move {
        peer.startup().await;
        assert!(matches!(
            check(&mut peer, &["SCRAM-SHA-256"], "changed", None).await,
            Err("28P01")
        ));
        reject(&mut peer, "28P01").await;
    });
    let went = bench.run(None, whatever).await;
    let text = error(&went.workload[0]);
    assert!(
        text.contains("C=08004") && text.contains("28P01") && !text.contains("svc"),
        "{text}"
    );
    assert_eq!(went.reason(), Some(Reason::UpstreamUnreachable));
    // What is not about the credential is said as the server says it, unless it says the password.
    for (code, message, shown) in [
        ("3D000", "database \"app\" does not exist", true),
        ("XX000", "it is hunter2", false),
    ] {
        bench.play(move |mut peer| async move {
            peer.startup().await;
            peer.say(b'E', format!("SFATAL\0C{code}\0M{message}\0\0").as_bytes())
                .await;
        });
        let went = bench.run(None, whatever).await;
        assert_eq!(error(&went.workload[0]).contains(message), shown);
    }
}

#[tokio::test]
async fn a_server_that_proves_nothing_is_not_believed() {
    // A made-up verifier; a consent in the middle; a second challenge.
    for turn in 0..4 {
        let mut bench = Bench::new(ALLOW);
        bench.broker("");
        bench.play(move |mut peer| async move {
            peer.startup().await;
            peer.say(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0").await;
            let initial = peer.expect(b'p').await;
            let nonce = String::from_utf8(initial).unwrap();
            let nonce = nonce.rsplit(",r=").next().unwrap().to_owned();
            let first = |rounds: u32| format!("r={nonce}x,s=c2FsdA==,i={rounds}");
            match turn {
                0 => peer.say(b'R', &[0; 4]).await,
                1 => peer.say(b'R', &[0, 0, 0, 3]).await,
                2 => {
                    peer.say(b'R', &[&[0, 0, 0, 11], first(2_000_000_000).as_bytes()].concat())
                        .await
                }
                _ => {
                    peer.say(b'R', &[&[0, 0, 0, 11], first(4096).as_bytes()].concat())
                        .await;
                    peer.expect(b'p').await;
                    peer.say(b'R', b"\0\0\0\x0cv=AAAA").await;
                }
            }
            assert_eq!(peer.message().await, None);
        });
        let went = bench.run(None, whatever).await;
        let text = error(&went.workload[0]);
        let word = [
            "did not prove",
            "another proof",
            "iteration count",
            "did not prove",
        ][turn];
        assert!(text.contains(word), "{text}");
    }
}

#[tokio::test]
async fn no_credential_no_connection() {
    let mut bench = Bench::new(ALLOW);
    bench.broker("");
    std::fs::remove_file(bench.dir.path().join("password")).unwrap();
    let went = bench.run(None, whatever).await;
    let text = error(&went.workload[0]);
    assert!(
        text.contains("db-password") && text.contains("credential_unavailable"),
        "{text}"
    );
    assert!(!text.contains(&*bench.dir.path().to_string_lossy()), "{text}");
    assert!(bench.server.dials().is_empty());
    let outcome = bench
        .entries()
        .into_iter()
        .find(|e| e["kind"] == "outcome")
        .unwrap();
    assert_eq!(outcome["reason"], "credential_unavailable");
}

#[tokio::test]
async fn trust_needs_no_password() {
    let mut bench = Bench::new(ALLOW);
    bench.broker("");
    bench.play(|mut peer| async move {
        peer.startup().await;
        peer.consent(&[0; 4]).await;
    });
    bench.run(None, whatever).await.established();
}

#[tokio::test]
async fn a_role_is_taken_before_the_workload_is_let_in() {
    let rules = "roles = [{ group = \"others\", role = \"x\" }, { group = \"agents\", role = \"agent \\\"ro\\\"\" }]\n";
    for (agrees, word) in [
        (Some(true), ""),
        (Some(false), "could not take the role"),
        (None, "did not take a role"),
    ] {
        let mut bench = Bench::new(ALLOW);
        bench.broker(rules);
        bench.play(move |mut peer| async move {
            let startup = peer.startup().await;
            assert_eq!(&*startup.settings["role"], "agent \"ro\"");
            peer.consent(&[0; 4]).await;
            assert_eq!(peer.expect(b'Q').await, b"SET ROLE \"agent \"\"ro\"\"\"\0");
            match agrees {
                Some(true) => {
                    peer.say(b'S', b"is_superuser\0off\0").await;
                    peer.say(b'C', b"SET\0").await;
                }
                Some(false) => peer.say(b'E', b"SERROR\0C42501\0Mno\0\0").await,
                None => {}
            }
            peer.say(b'Z', b"I").await;
            peer.message().await;
        });
        let went = bench.run(None, whatever).await;
        let tags: Vec<u8> = went.workload.iter().map(|m| m.0).collect();
        if agrees == Some(true) {
            let established = went.established();
            assert_eq!(established.set_role.as_deref(), Some("agent \"ro\""));
            assert_eq!(&*established.target.role, "agent \"ro\"");
            assert_eq!(&*established.parameters["is_superuser"], "off");
            assert_eq!(tags, b"RSSKSZ", "one ReadyForQuery");
        } else {
            assert!(error(went.workload.last().unwrap()).contains(word));
            assert!(!tags.contains(&b'Z'), "never let in");
        }
    }
}

#[tokio::test]
async fn without_a_rule_that_fits_nobody_is_let_in() {
    let mut bench = Bench::new(ALLOW);
    bench.broker("roles = [{ group = \"others\", role = \"x\" }]\n");
    let went = bench.run(None, whatever).await;
    assert!(error(&went.workload[0]).contains("no role on \"billing\""));
    assert!(bench.server.dials().is_empty());
    assert_eq!(went.operations, 1);
}

#[tokio::test]
async fn who_it_is_cannot_be_set() {
    for (name, value) in [
        ("role", "postgres"),
        ("Session_Authorization", "postgres"),
        ("options", "-c role=postgres"),
        ("options", "--session-authorization=postgres"),
    ] {
        let mut bench = Bench::new(ALLOW);
        bench.broker("");
        let went = bench
            .run(None, async |mut peer| {
                peer.send(&startup_message(3 << 16, &[("user", "a"), (name, value)]))
                    .await;
                peer.until_ready().await
            })
            .await;
        let text = error(&went.workload[0]);
        assert!(
            text.contains("C=42501") && text.contains("cannot be set"),
            "{text}"
        );
        assert!(bench.server.dials().is_empty());
    }
}

#[tokio::test]
async fn the_database_of_one_that_names_none() {
    for (more, expected) in [("", "svc"), ("database = \"app\"\n", "app")] {
        let mut bench = Bench::new(ALLOW);
        bench.broker(more);
        bench.play(move |mut peer| async move {
            assert_eq!(peer.startup().await.database.as_deref(), Some(expected));
            peer.consent(&[0; 4]).await;
        });
        let went = bench
            .run(None, async |mut peer| {
                peer.send(&startup_message(3 << 16, &[("user", "a")])).await;
                peer.until_ready().await
            })
            .await;
        assert_eq!(&*went.established().target.database, expected);
    }
}

/// What documents of Vault's HTTP API a login that makes users needs.
async fn vault() -> std::net::SocketAddr {
    use axum::{Json, Router, routing::get};
    let made = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let make = move || {
        let n = made.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        let user = serde_json::json!({ "username": format!("v-orders-{n}"), "password": "hunter2" });
        let lease = format!("database/creds/orders/{n}");
        let lease =
            serde_json::json!({ "lease_id": lease, "lease_duration": 3600, "renewable": true, "data": user });
        std::future::ready(Json(lease))
    };
    let router = Router::new().route("/v1/database/creds/orders", get(make));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test]
async fn a_user_that_is_made_for_it_logs_in() {
    let address = vault().await;
    let mut bench = Bench::new(ALLOW);
    bench.broker("");
    let text = format!(
        "[[credential]]\nname = \"orders-login\"\n[credential.vault]\naddress = \"http://{address}\"\n\
         database_role = \"orders\"\ntoken_file = \"{}\"\n[[upstream]]\nname = \"billing\"\n\
         protocol = \"postgres\"\nhost = \"127.0.0.1\"\nport = 5432\nlogin = \"brokered\"\n\
         credential = \"orders-login\"\ndatabase = \"app\"\n",
        bench.dir.path().join("password").display()
    );
    bench.configure(&text);
    bench.play(|mut peer| async move {
        let startup = peer.startup().await;
        assert_eq!(
            (&*startup.user, startup.database.as_deref()),
            ("v-orders-1", Some("app"))
        );
        // Its name is in the proof, too.
        peer.say(b'R', &[0, 0, 0, 5, 1, 2, 3, 4]).await;
        let proof = postgres_protocol::authentication::md5_hash(b"v-orders-1", b"hunter2", [1, 2, 3, 4]);
        assert_eq!(peer.expect(b'p').await, [proof.as_bytes(), &[0]].concat());
        peer.consent(&[0; 4]).await;
    });
    let went = bench.run(None, whatever).await;
    let established = went.established();
    // Who makes it lives as long as the connection holds it; policy knows it by the credential's name.
    assert_eq!(
        &*established.login.as_ref().unwrap().version,
        "database/creds/orders/1"
    );
    assert_eq!(&*established.target.role, "orders-login");
    let seen = went.workload.clone();
    drop(went);
    let entries = bench.entries();
    let entry = entries.iter().find(|e| e["kind"] == "operation").unwrap();
    assert_eq!(entry["context"]["connect"]["credential"], "orders-login");
    keeps_its_secret(&bench, &seen);
}

#[tokio::test]
async fn a_login_never_goes_up_under_the_workloads_own_name() {
    let mut bench = Bench::new(ALLOW);
    bench.broker("");
    // As if a credential that made users had just been replaced by one that does not.
    if let Some(upstream) = &mut bench.rig.upstream {
        Arc::make_mut(upstream).user = None;
    }
    let went = bench.run(None, whatever).await;
    assert!(error(&went.workload[0]).contains("credential_unavailable"));
    assert!(bench.server.dials().is_empty());
}
