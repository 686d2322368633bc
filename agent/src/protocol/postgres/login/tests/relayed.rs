//! Logins that pass through: what the workload has, as it is.

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

use super::{
    scram::{check, reject},
    *,
};

/// A workload's side of SCRAM-SHA-256: the offer that it saw.
async fn prove(peer: &mut Peer, password: &[u8], binding: ChannelBinding) -> Result<String, String> {
    let offer = match peer.message().await {
        Some((b'R', body)) if body[..4] == [0, 0, 0, 10] => body[4..].escape_ascii().to_string(),
        Some(other) => return Err(error(&other)),
        None => return Err("closed".into()),
    };
    let mut scram = ScramSha256::new(password, binding);
    let mut initial = b"SCRAM-SHA-256\0".to_vec();
    initial.extend_from_slice(&u32::try_from(scram.message().len()).unwrap().to_be_bytes());
    initial.extend_from_slice(scram.message());
    peer.say(b'p', &initial).await;
    match peer.message().await {
        Some((b'R', body)) => scram.update(&body[4..]).unwrap(),
        Some(other) => return Err(error(&other)),
        None => return Err("closed".into()),
    }
    let answer = scram.message().to_vec();
    peer.say(b'p', &answer).await;
    match peer.message().await {
        Some((b'R', body)) => scram.finish(&body[4..]).map_err(|e| e.to_string())?,
        Some(other) => return Err(error(&other)),
        None => return Err("closed".into()),
    }
    Ok(offer)
}

#[tokio::test]
async fn scram_passes_and_plus_is_taken_out_of_the_offer() {
    let bench = Bench::new(ALLOW);
    bench.play(|mut peer| async move {
        peer.accept_tls(false).await;
        peer.startup().await;
        let said = check(
            &mut peer,
            &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"],
            "s3cr3t",
            None,
        )
        .await
        .unwrap();
        assert_eq!((&*said.mechanism, &*said.binding), ("SCRAM-SHA-256", "n"));
        peer.consent(&[0; 4]).await;
    });
    let went = bench
        .run(None, async |mut peer| {
            peer.ask_tls(&[]).await;
            peer.send(&ada()).await;
            let offer = prove(&mut peer, b"s3cr3t", ChannelBinding::unsupported()).await;
            assert_eq!(offer.as_deref(), Ok(r"SCRAM-SHA-256\x00\x00"));
            peer.until_ready().await
        })
        .await;
    went.established();
    drop(went);
    let text = format!("{:?}", bench.entries());
    assert!(!text.contains("s3cr3t"), "{text}");
}

#[tokio::test]
async fn a_login_that_would_bind_is_told_so_and_its_second_try_is_encrypted_upstream() {
    let bench = Bench::new(ALLOW);
    for _ in 0..2 {
        bench.play(|mut peer| async move {
            // Both times over TLS, whatever the workload's own leg is.
            peer.accept_tls(false).await;
            peer.startup().await;
            if check(
                &mut peer,
                &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"],
                "s3cr3t",
                None,
            )
            .await
            .is_ok()
            {
                peer.consent(&[0; 4]).await;
            }
        });
    }
    let went = bench
        .run(None, async |mut peer| {
            peer.ask_tls(&[]).await;
            peer.send(&ada()).await;
            prove(&mut peer, b"s3cr3t", ChannelBinding::unrequested()).await
        })
        .await;
    let text = went.workload.unwrap_err();
    assert!(
        text.contains("channel binding cannot pass") && text.contains("channel_binding=disable"),
        "{text}"
    );
    let went = bench
        .run(None, async |mut peer| {
            peer.send(&ada()).await;
            prove(&mut peer, b"s3cr3t", ChannelBinding::unsupported())
                .await
                .unwrap();
            peer.until_ready().await
        })
        .await;
    // The name that was verified the first time still is.
    assert_eq!(&*went.established().target.server, NAME);
    assert_eq!(bench.server.dials(), ["tcp", "tls", "tcp", "tls"]);
}

#[tokio::test]
async fn binding_is_no_matter_to_a_server_that_does_not_offer_it() {
    let bench = Bench::new(ALLOW);
    bench.play(|mut peer| async move {
        peer.accept_tls(false).await;
        peer.startup().await;
        check(&mut peer, &["SCRAM-SHA-256"], "s3cr3t", None)
            .await
            .unwrap();
        peer.consent(&[0; 4]).await;
    });
    let went = bench
        .run(None, async |mut peer| {
            peer.ask_tls(&[]).await;
            peer.send(&ada()).await;
            prove(&mut peer, b"s3cr3t", ChannelBinding::unrequested())
                .await
                .unwrap();
            peer.until_ready().await
        })
        .await;
    went.established();
}

#[tokio::test]
async fn nothing_left_of_the_offer_is_an_error() {
    let bench = Bench::new(ALLOW);
    bench.play(|mut peer| async move {
        peer.startup().await;
        assert!(
            check(&mut peer, &["SCRAM-SHA-256-PLUS"], "x", None)
                .await
                .is_err()
        );
    });
    let went = bench
        .run(None, async |mut peer| {
            peer.send(&ada()).await;
            peer.until_ready().await
        })
        .await;
    assert!(error(&went.workload[0]).contains("bound to a TLS connection"));
}

#[tokio::test]
async fn a_mechanism_that_was_not_offered_is_refused() {
    for chosen in [
        &b"SCRAM-SHA-256-PLUS\0\0\0\0\x01p"[..],
        b"OTHER\0\xff\xff\xff\xff",
        b"SCRAM-SHA-256\0\0\0\0\x09y",
    ] {
        let bench = Bench::new(ALLOW);
        bench.play(|mut peer| async move {
            peer.startup().await;
            peer.say(b'R', b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")
                .await;
            assert_eq!(peer.message().await, None, "nothing goes up");
        });
        let went = bench
            .run(None, async |mut peer| {
                peer.send(&ada()).await;
                peer.expect(b'R').await;
                peer.say(b'p', chosen).await;
                peer.until_ready().await
            })
            .await;
        assert!(
            error(&went.workload[0]).contains("C=08P01"),
            "{}",
            chosen.escape_ascii()
        );
    }
}

#[tokio::test]
async fn passwords_pass_and_leave_no_trace() {
    for challenge in [&[0, 0, 0, 3][..], &[0, 0, 0, 5, 1, 2, 3, 4]] {
        let bench = Bench::new(ALLOW);
        bench.play(move |mut peer| async move {
            peer.startup().await;
            peer.say(b'R', challenge).await;
            assert_eq!(peer.expect(b'p').await, b"s3cr3t\0");
            peer.consent(&[0; 4]).await;
        });
        let went = bench
            .run(None, async |mut peer| {
                peer.send(&ada()).await;
                assert_eq!(peer.expect(b'R').await, challenge);
                peer.say(b'p', b"s3cr3t\0").await;
                peer.until_ready().await
            })
            .await;
        went.established();
        drop(went);
        let stored = std::fs::read(bench.rig.dir.path().join("ledger.db")).unwrap();
        let text = format!("{:?}{}", bench.entries(), stored.escape_ascii());
        assert!(!text.contains("s3cr3t"));
    }
}

#[tokio::test]
async fn a_password_in_clear_text_does_not_lose_its_encryption() {
    let mut bench = Bench::new(ALLOW);
    bench.configure(
        "[[upstream]]\nname = \"billing\"\nprotocol = \"postgres\"\nhost = \"127.0.0.1\"\nport = 5432\ntls = \"disable\"\n",
    );
    bench.play(|mut peer| async move {
        peer.startup().await;
        peer.say(b'R', &[0, 0, 0, 3]).await;
        assert_eq!(peer.message().await, None);
    });
    let went = bench
        .run(None, async |mut peer| {
            peer.ask_tls(&[]).await;
            peer.send(&ada()).await;
            peer.until_ready().await
        })
        .await;
    assert!(error(&went.workload[0]).contains("clear text"));
}

#[tokio::test]
async fn methods_that_are_not_carried_are_refused() {
    for (challenge, word) in [
        (&[0, 0, 0, 7][..], "GSSAPI"),
        (&[0, 0, 0, 9], "SSPI"),
        (&[0, 0, 0, 2], "Kerberos"),
        (&[0, 0, 0, 99], "unknown method"),
        (&[0, 0, 0, 11, 1], "do not go together"),
        (&[0, 0, 0, 12, 1], "do not go together"),
    ] {
        let bench = Bench::new(ALLOW);
        bench.play(move |mut peer| async move {
            peer.startup().await;
            peer.say(b'R', challenge).await;
            assert_eq!(peer.message().await, None);
        });
        let went = bench
            .run(None, async |mut peer| {
                peer.send(&ada()).await;
                peer.until_ready().await
            })
            .await;
        let text = error(&went.workload[0]);
        assert!(text.contains(word), "{text}");
    }
}

#[tokio::test]
async fn the_servers_refusal_is_passed_on_and_recorded() {
    let bench = Bench::new(ALLOW);
    bench.play(|mut peer| async move {
        peer.startup().await;
        reject(&mut peer, "28P01").await;
    });
    let went = bench
        .run(None, async |mut peer| {
            peer.send(&ada()).await;
            peer.until_ready().await
        })
        .await;
    assert!(matches!(went.result, Ok(None)));
    assert!(error(&went.workload[0]).contains("password authentication failed"));
    let outcome = bench
        .entries()
        .into_iter()
        .find(|e| e["kind"] == "outcome")
        .unwrap();
    assert_eq!(outcome["status"], "28P01");
}

#[tokio::test]
async fn only_a_password_may_answer_a_challenge() {
    for sent in [&b"Q\0\0\0\x05\0"[..], b"X\0\0\0\x04", b"p\0\x10\0\0"] {
        let bench = Bench::new(ALLOW);
        bench.play(|mut peer| async move {
            peer.startup().await;
            peer.say(b'R', &[0, 0, 0, 3]).await;
            assert_eq!(peer.message().await, None, "nothing goes up");
        });
        let went = bench
            .run(None, async |mut peer| {
                peer.send(&ada()).await;
                peer.expect(b'R').await;
                peer.send(sent).await;
                peer.until_ready().await
            })
            .await;
        assert!(error(&went.workload[0]).contains("expected a password response"));
    }
}
