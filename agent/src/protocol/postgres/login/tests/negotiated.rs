//! The first messages: TLS or not, versions, what is refused in words.

use super::*;

/// A server that lets everyone in.
async fn trusting(mut peer: Peer) {
    peer.startup().await;
    peer.consent(&[1, 2, 3, 4]).await;
}

#[tokio::test]
async fn a_plain_login_at_every_split_point() {
    let message = ada();
    for at in 0..=message.len() {
        let bench = Bench::new(ALLOW);
        let bytes = message.clone();
        bench.play(move |mut peer| async move {
            let mut got = BytesMut::new();
            while got.len() < bytes.len() {
                peer.stream().read_buf(&mut got).await.unwrap();
            }
            assert_eq!(got, bytes, "to the byte");
            peer.consent(&[1, 2, 3, 4]).await;
        });
        let went = bench
            .run(None, async |mut peer| {
                peer.send(&message[..at]).await;
                tokio::task::yield_now().await;
                peer.send(&message[at..]).await;
                peer.until_ready().await
            })
            .await;
        let established = went.established();
        assert_eq!(
            (&*established.target.database, &*established.target.role),
            ("app", "ada")
        );
        assert_eq!(&*established.target.server, "127.0.0.1:5432");
        assert_eq!(&*established.parameters["client_encoding"], "UTF8");
        let tags: Vec<u8> = went.workload.iter().map(|m| m.0).collect();
        assert_eq!(
            (tags.as_slice(), went.operations),
            (&b"RSSKZ"[..], 1),
            "split at {at}"
        );
        assert_eq!(bench.server.dials(), ["tcp"]);
    }
}

#[tokio::test]
async fn tls_after_gssenc_was_declined() {
    let bench = Bench::new(ALLOW);
    bench.play(|mut peer| async move {
        peer.accept_tls(false).await;
        trusting(peer).await;
    });
    let went = bench
        .run(None, async |mut peer| {
            peer.send(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30]).await;
            assert_eq!(peer.byte().await, Some(b'N'));
            peer.ask_tls(&[b"postgresql"]).await;
            peer.send(&ada()).await;
            peer.until_ready().await
        })
        .await;
    assert_eq!(&*went.established().target.server, NAME);
    assert!(went.established().target.destination.name_verified);
    assert_eq!(bench.server.dials(), ["tcp", "tls"]);
}

#[tokio::test]
async fn direct_tls_stays_direct() {
    // The spine has ended it before the protocol sees the connection.
    let bench = Bench::new(ALLOW);
    bench.play(|mut peer| async move {
        peer.accept_tls(true).await;
        trusting(peer).await;
    });
    let went = bench
        .run(Some(NAME), async |mut peer| {
            peer.send(&ada()).await;
            peer.until_ready().await
        })
        .await;
    assert_eq!(&*went.established().target.server, NAME);
}

#[tokio::test]
async fn bytes_before_the_handshake_are_refused() {
    let bench = Bench::new(ALLOW);
    let went = bench
        .run(None, async |mut peer| {
            let mut bytes = vec![0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
            bytes.extend_from_slice(&ada());
            peer.send(&bytes).await;
            peer.until_ready().await
        })
        .await;
    let text = error(&went.workload[0]);
    assert!(
        text.contains("C=08P01") && text.contains("unencrypted data after SSL"),
        "{text}"
    );
    assert_eq!(
        (went.reason(), went.operations),
        (Some(Reason::ProtocolAmbiguous), 1)
    );
    assert!(bench.server.dials().is_empty());
}

#[tokio::test]
async fn a_server_without_tls_is_refused_unless_it_may() {
    for (mode, passes) in [
        (None, false),
        (Some("prefer"), true),
        (Some("disable"), true),
        (Some("require"), false),
    ] {
        let mut bench = Bench::new(ALLOW);
        if let Some(mode) = mode {
            bench.configure(&format!(
                "[[upstream]]\nname = \"billing\"\nprotocol = \"postgres\"\nhost = \"127.0.0.1\"\nport = 5432\ntls = \"{mode}\"\n"
            ));
        }
        bench.play(move |mut peer| async move {
            match peer.first().await {
                Some(First::Ssl) => {
                    assert_ne!(mode, Some("disable"));
                    peer.send(b"N").await;
                    if peer.first().await.is_some() {
                        peer.consent(&[0; 4]).await;
                    }
                }
                Some(First::Startup(_)) => peer.consent(&[0; 4]).await,
                other => panic!("{other:?}"),
            }
        });
        let went = bench
            .run(None, async |mut peer| {
                peer.ask_tls(&[]).await;
                peer.send(&ada()).await;
                peer.until_ready().await
            })
            .await;
        if passes {
            assert_eq!(&*went.established().target.server, "billing");
        } else {
            let text = error(&went.workload[0]);
            assert!(
                text.contains("does not support SSL") && text.contains("C=08006"),
                "{text}"
            );
            assert_eq!(went.operations, 1);
        }
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_verified_is_refused() {
    let mut bench = Bench::new(ALLOW);
    bench.configure(
        "[[upstream]]\nname = \"billing\"\nprotocol = \"postgres\"\nhost = \"127.0.0.1\"\nport = 5432\n\
         tls = \"require\"\nserver_name = \"other.internal\"\n",
    );
    bench.play(|mut peer| async move { peer.accept_tls(false).await });
    let went = bench
        .run(None, async |mut peer| {
            peer.send(&ada()).await;
            peer.until_ready().await
        })
        .await;
    let text = error(&went.workload[0]);
    assert!(
        text.contains("not trusted") && text.contains("reason=upstream_untrusted"),
        "{text}"
    );
}

#[tokio::test]
async fn a_denied_login_reaches_nobody() {
    let bench = Bench::new(DENY);
    let went = bench
        .run(None, async |mut peer| {
            peer.send(&ada()).await;
            peer.until_ready().await
        })
        .await;
    let text = error(&went.workload[0]);
    for part in [
        "S=FATAL",
        "V=FATAL",
        "C=42501",
        "not here",
        "policies=no",
        "entry=",
        "H=Do not retry",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!((went.reason(), went.operations), (Some(Reason::PolicyForbid), 1));
    assert!(bench.server.dials().is_empty());
    bench.rig.identity.revoke();
    let went = bench
        .run(None, async |mut peer| {
            peer.send(&ada()).await;
            peer.until_ready().await
        })
        .await;
    assert!(error(&went.workload[0]).contains("C=28000"));
}

#[tokio::test]
async fn replication_and_application_are_policy_inputs() {
    let bench = Bench::new(
        r#"permit (principal, action == Action::"sql:connect", resource == Database::"127.0.0.1:5432/app")
           when { !context.connect.replication && context.connect has application && context.connect.application == "tool"
                  && context.connect.role == "ada" && !context.connect.brokered && context.complete };"#,
    );
    let usual = [("user", "ada"), ("database", "app"), ("application_name", "tool")];
    for (more, passes) in [
        (None, true),
        (Some(("replication", "database")), false),
        (Some(("replication", "on")), false),
        (Some(("options", "-c role=root")), false),
        (Some(("options", "-c session_authorization=root")), false),
        (Some(("role", "root")), false),
        (Some(("options", "-e")), false),
        (Some(("options", "-c search_path=x")), true),
    ] {
        let message = startup_message(3 << 16, &usual.into_iter().chain(more).collect::<Vec<_>>());
        bench.play(trusting);
        let went = bench
            .run(None, async |mut peer| {
                peer.send(&message).await;
                peer.until_ready().await
            })
            .await;
        if passes {
            assert_eq!(went.established().replication, startup::Replication::No);
        } else {
            assert!(error(&went.workload[0]).contains("C=42501"), "{more:?}");
        }
        bench.server.plays.lock().unwrap().clear();
    }
}

#[tokio::test]
async fn what_cannot_be_carried_is_refused_in_words() {
    let sjis = startup_message(3 << 16, &[("user", "a"), ("client_encoding", "Shift-JIS")]);
    let switched = startup_message(3 << 16, &[("user", "a"), ("options", "--client-encoding=gbk")]);
    let twice = startup_message(3 << 16, &[("user", "a"), ("User", "b")]);
    let nobody = startup_message(3 << 16, &[("database", "a")]);
    let four = startup_message(4 << 16, &[("user", "a")]);
    let ssl_twice = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30].repeat(2);
    for (sent, skip, words) in [
        (&sjis[..], 0, ["C=0A000", "Shift-JIS", "UTF8"]),
        (&switched[..], 0, ["C=0A000", "gbk", "UTF8"]),
        (
            &twice[..],
            0,
            ["C=08P01", "two ways", "reason=protocol_ambiguous"],
        ),
        (&nobody[..], 0, ["C=28000", "no PostgreSQL user", "FATAL"]),
        (&four[..], 0, ["C=0A000", "4.0", "3.0 to 3.2"]),
        (&ssl_twice[..], 1, ["C=0A000", "1234.5680", "FATAL"]),
        (
            b"GET / HTTP/1.1\r\n\r\n",
            0,
            ["C=54000", "startup packet", "FATAL"],
        ),
        (b"\0\0\0\x05", 0, ["C=08P01", "startup packet", "FATAL"]),
        (b"\0\0\0\x20\0\x03\0\0us", 0, ["C=08P01", "ended inside", "FATAL"]),
    ] {
        let bench = Bench::new(ALLOW);
        let went = bench
            .run(None, async |mut peer| {
                peer.send(sent).await;
                for _ in 0..skip {
                    peer.byte().await;
                }
                let _ = peer.stream().shutdown().await;
                peer.until_ready().await
            })
            .await;
        let text = error(&went.workload[0]);
        assert!(words.iter().all(|w| text.contains(w)), "{text}");
        assert_eq!(went.operations, 1, "{text}");
        assert!(bench.server.dials().is_empty());
        let entry = bench
            .entries()
            .into_iter()
            .find(|e| e["kind"] == "operation")
            .unwrap();
        assert_eq!(
            (&entry["action"], &entry["decision"]),
            (&"sql:connect".into(), &"deny".into())
        );
    }
}

#[tokio::test]
async fn version_two_is_answered_in_its_own_form() {
    let bench = Bench::new(ALLOW);
    let went = bench
        .run(None, async |mut peer| {
            peer.send(&startup_message(2 << 16, &[])).await;
            let mut text = Vec::new();
            while let Some(byte) = peer.byte().await {
                text.push(byte);
            }
            text
        })
        .await;
    assert!(
        went.workload
            .starts_with(b"EFATAL:  unsupported frontend protocol 2.0")
    );
    assert!(went.workload.ends_with(b"\n\0"));
}

#[tokio::test]
async fn silence_and_slowness_end_in_time() {
    for sent in [&b""[..], b"\0\0\0\x20\0\x03"] {
        let mut bench = Bench::new(ALLOW);
        bench.rig.limits.handshake_timeout = Duration::from_millis(80);
        let went = bench
            .run(None, async |mut peer| {
                peer.send(sent).await;
                peer.until_ready().await
            })
            .await;
        assert!(error(&went.workload[0]).contains("C=57P05"));
        assert_eq!((went.reason(), went.operations), (Some(Reason::Timeout), 1));
    }
    let mut bench = Bench::new(ALLOW);
    bench.rig.limits.handshake_timeout = Duration::from_millis(80);
    bench.play(|mut peer| async move {
        peer.startup().await;
        peer.message().await;
    });
    let went = bench
        .run(None, async |mut peer| {
            peer.send(&ada()).await;
            peer.until_ready().await
        })
        .await;
    assert!(error(&went.workload[0]).contains("took too long"));
}

#[tokio::test]
async fn going_away_costs_no_operation() {
    let bench = Bench::new(ALLOW);
    for asks in [false, true] {
        let went = bench
            .run(None, async |mut peer| {
                if asks {
                    peer.send(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30]).await;
                    assert_eq!(peer.byte().await, Some(b'N'));
                }
                let _ = peer.stream().shutdown().await;
            })
            .await;
        assert!(matches!(went.result, Ok(None)));
        assert_eq!(went.operations, 0);
    }
}

#[tokio::test]
async fn versions_and_extensions_are_negotiated() {
    const V3_2: u32 = 3 << 16 | 2;
    for (asked, server, extension, told) in [
        (3 << 16, None, false, None),
        (3 << 16, None, true, Some((3 << 16, 1))),
        (V3_2, None, false, None),
        (V3_2, Some(3 << 16), false, Some((3 << 16, 0))),
        (3 << 16 | 9999, None, true, Some((V3_2, 1))),
        (3 << 16 | 9999, Some(3 << 16), false, Some((3 << 16, 0))),
    ] {
        let bench = Bench::new(ALLOW);
        bench.play(move |mut peer| async move {
            let startup = peer.startup().await;
            assert!(
                startup.extensions.is_empty(),
                "an extension that is not known here stays here"
            );
            assert_eq!(startup.version.0, if asked == 3 << 16 { asked } else { V3_2 });
            if let Some(newest) = server {
                peer.say(b'v', &[&u32::to_be_bytes(newest)[..], &[0; 4]].concat())
                    .await;
            }
            let long = startup.version.0 == V3_2 && server.is_none();
            peer.consent(if long { &[9; 256] } else { &[9; 4] }).await;
        });
        let mut parameters = vec![("user", "ada")];
        parameters.extend(extension.then_some(("_pq_.x", "1")));
        let went = bench
            .run(None, async |mut peer| {
                peer.send(&startup_message(asked, &parameters)).await;
                peer.until_ready().await
            })
            .await;
        let mut messages = went.workload.iter();
        if let Some((newest, count)) = told {
            let (tag, body) = messages.next().unwrap();
            let mut r = Reader::new(body);
            assert_eq!((*tag, r.u32(), r.u32()), (b'v', Ok(newest), Ok(count)));
            assert_eq!(r.rest(), if extension { &b"_pq_.x\0"[..] } else { b"" });
        }
        assert_eq!(messages.next().unwrap().0, b'R');
        let key = &messages.find(|m| m.0 == b'K').unwrap().1;
        went.established();
        let long = told.map_or(asked, |t| t.0) == V3_2;
        assert_eq!(
            key.len(),
            4 + if long { 32 } else { 4 },
            "a key as long as the version lets it be"
        );
        assert!(!key.ends_with(&[9; 4]), "not the server's");
    }
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_ends_the_login() {
    for (tag, body) in [
        (b'v', &[0, 3, 0, 2, 0, 0, 0, 0][..]),
        (b'v', &[0, 2, 0, 0, 0, 0, 0, 0]),
        (b'v', &[0, 3, 0, 0, 0, 0, 0, 1, b'x', 0]),
        (b'D', b""),
        (b'Z', b"I"),
        (b'R', b"\0\0"),
        (b'E', b"no end"),
    ] {
        let bench = Bench::new(ALLOW);
        bench.play(move |mut peer| async move {
            peer.startup().await;
            peer.say(tag, body).await;
            peer.message().await;
        });
        let went = bench
            .run(None, async |mut peer| {
                peer.send(&ada()).await;
                peer.until_ready().await
            })
            .await;
        let text = error(&went.workload[0]);
        assert!(text.contains("broke the protocol"), "{text}");
        assert_eq!(went.reason(), Some(Reason::UpstreamProtocolError));
    }
    for (tag, body) in [
        (b'K', &b"\0\0\0\x01\0\0\0\0\0"[..]),
        (b'Z', b"T"),
        (b'T', b"\0\0"),
        (b'S', b"a\0b"),
        (b'R', b"\0\0\0\0"),
    ] {
        let bench = Bench::new(ALLOW);
        bench.play(move |mut peer| async move {
            peer.startup().await;
            peer.say(b'R', &[0; 4]).await;
            peer.say(tag, body).await;
            peer.message().await;
        });
        let went = bench
            .run(None, async |mut peer| {
                peer.send(&ada()).await;
                peer.until_ready().await
            })
            .await;
        let last = went.workload.last().unwrap();
        assert!(error(last).contains("C=08P01"), "{last:?}");
    }
}

#[tokio::test]
async fn an_encoding_that_the_role_has_is_refused_too() {
    let bench = Bench::new(ALLOW);
    bench.play(|mut peer| async move {
        peer.startup().await;
        peer.say(b'R', &[0; 4]).await;
        peer.say(b'S', b"client_encoding\0SJIS\0").await;
        peer.message().await;
    });
    let went = bench
        .run(None, async |mut peer| {
            peer.send(&ada()).await;
            peer.until_ready().await
        })
        .await;
    assert!(error(went.workload.last().unwrap()).contains("SJIS"));
}

#[tokio::test]
async fn what_is_sensitive_in_a_login_is_masked_on_record() {
    let bench = Bench::new(ALLOW);
    bench.play(trusting);
    let went = bench
        .run(None, async |mut peer| {
            let parameters = [
                ("user", "ada"),
                ("database", "app"),
                ("application_name", "for a.person@example.com"),
                ("options", "-c x.y=b.person@example.com"),
            ];
            peer.send(&startup_message(3 << 16, &parameters)).await;
            peer.until_ready().await
        })
        .await;
    went.established();
    drop(went);
    let entries = bench.entries();
    let text = format!("{entries:?}");
    assert!(
        !text.contains("person@example") && text.contains("masked:email"),
        "{text}"
    );
}

#[tokio::test]
async fn the_servers_words_are_masked() {
    let bench = Bench::new(r#"permit (principal, action == Action::"sql:connect", resource);"#);
    bench.play(|mut peer| async move {
        peer.startup().await;
        peer.say(b'R', &[0; 4]).await;
        peer.say(b'N', b"SNOTICE\0C00000\0Mfor a.person@example.com\0\0")
            .await;
        peer.say(b'E', b"SFATAL\0C53300\0Mtoo many: b.person@example.com\0\0")
            .await;
    });
    let went = bench
        .run(None, async |mut peer| {
            peer.send(&ada()).await;
            peer.until_ready().await
        })
        .await;
    let text = format!(
        "{}{}",
        went.workload[1].1.escape_ascii(),
        went.workload[2].1.escape_ascii()
    );
    assert!(
        text.contains("masked:email") && !text.contains("person@"),
        "{text}"
    );
    let outcome = bench
        .entries()
        .into_iter()
        .find(|e| e["kind"] == "outcome")
        .unwrap();
    assert_eq!(
        (&outcome["status"], &outcome["masked"]["email"]),
        (&"53300".into(), &2.into())
    );
}

#[test]
fn what_is_declared_or_agreed_on_decides() {
    use crate::protocol::{Detection, Hint, Protocol as _, postgres::Postgres};
    let detect = |declared, alpn, first_bytes| {
        Postgres::default().detect(&Hint {
            first_bytes,
            original_dst: TO,
            tls: Option::<&str>::is_some(&alpn),
            alpn,
            declared,
        })
    };
    let http: &[u8] = b"GET / HTTP/1.1\r\n";
    for (declared, alpn, bytes, verdict) in [
        (Some("postgres"), None, http, Detection::Yes),
        (Some("postgres"), None, b"", Detection::Yes),
        (Some("mysql"), None, &ada()[..], Detection::No),
        (None, Some("postgresql"), http, Detection::Yes),
        (None, Some("postgresql"), b"", Detection::Yes),
        (None, Some("http/1.1"), &ada()[..], Detection::No),
        (None, None, b"", Detection::NeedMore),
        (None, None, &ada()[..], Detection::Yes),
        (None, None, http, Detection::No),
    ] {
        assert_eq!(detect(declared, alpn, bytes), verdict, "{declared:?} {alpn:?}");
    }
}

#[tokio::test]
async fn replication_that_is_granted_is_carried_unread() {
    use crate::protocol::{Protocol as _, postgres::Postgres};
    let bench = Bench::new(ALLOW);
    bench.play(|mut peer| async move {
        assert_eq!(peer.startup().await.replication, startup::Replication::Physical);
        peer.consent(&[1, 2, 3, 4]).await;
        assert_eq!(peer.expect(b'Q').await, b"IDENTIFY_SYSTEM\0");
        peer.say(b'W', b"a.person@example.com").await;
        assert_eq!(peer.message().await, None);
    });
    let gate = bench.rig.gate(TO, None);
    let (near, far) = tokio::io::duplex(64 * 1024);
    let mut peer = bench.server.peer(Box::new(far));
    let workload = async {
        peer.send(&startup_message(3 << 16, &[("user", "a"), ("replication", "on")]))
            .await;
        peer.until_ready().await;
        peer.say(b'Q', b"IDENTIFY_SYSTEM\0").await;
        assert_eq!(peer.expect(b'W').await, b"a.person@example.com");
        peer.stream().shutdown().await.unwrap();
    };
    let postgres = Postgres::default();
    let served = postgres.serve(Box::new(near), &bench.server, &gate);
    let (result, ()) = tokio::join!(served, workload);
    result.unwrap();
    assert_eq!(gate.operations(), 1);
    let outcome = bench
        .entries()
        .into_iter()
        .find(|e| e["kind"] == "outcome")
        .unwrap();
    let sent = startup_message(3 << 16, &[("user", "a"), ("replication", "on")]).len() + 21;
    assert_eq!(outcome["bytes_up"], sent);
}
