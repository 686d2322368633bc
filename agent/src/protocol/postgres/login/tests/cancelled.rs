//! Cancel requests: the workload's own, and nobody else's.

use super::*;
use crate::protocol::postgres::login::cancel::Cancels;

const REAL: [u8; 4] = [0xde, 0xad, 0xbe, 0xef];

/// Logs in and gives the process and key that the workload was told.
async fn log_in(bench: &Bench) -> (Went<()>, u32, Vec<u8>) {
    bench.play(|mut peer| async move {
        peer.startup().await;
        peer.consent(&REAL).await;
        peer.message().await;
    });
    let went = bench
        .run(None, async |mut peer| {
            peer.send(&ada()).await;
            peer.until_ready().await
        })
        .await;
    let key = went.workload.iter().find(|m| m.0 == b'K').unwrap().1.clone();
    let process = u32::from_be_bytes(key[..4].try_into().unwrap());
    let went = Went {
        result: went.result,
        workload: (),
        operations: went.operations,
    };
    (went, process, key[4..].to_vec())
}

fn request(process: u32, key: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::write_untagged(&mut out, |out| {
        out.put_u32(80_877_102);
        out.put_u32(process);
        out.put_slice(key);
    });
    out.to_vec()
}

async fn cancel(bench: &Bench, process: u32, key: &[u8]) -> Went<Vec<u8>> {
    let request = request(process, key);
    bench
        .run(None, async |mut peer| {
            peer.send(&request).await;
            let mut answer = Vec::new();
            while let Some(byte) = peer.byte().await {
                answer.push(byte);
            }
            answer
        })
        .await
}

/// A server that hears a cancel request, and closes.
fn listen(bench: &Bench) -> tokio::sync::oneshot::Receiver<Option<First>> {
    let (tell, heard) = tokio::sync::oneshot::channel();
    bench.play(|mut peer| async move {
        let _ = tell.send(peer.first().await);
    });
    heard
}

#[tokio::test]
async fn the_real_key_goes_up_for_the_mapped_one() {
    let bench = Bench::new(ALLOW);
    let (session, process, key) = log_in(&bench).await;
    assert_eq!(process, 7, "notifications carry it");
    assert!(key.len() == 4 && key != REAL);
    let heard = listen(&bench);
    let went = cancel(&bench, process, &key).await;
    assert!(matches!(went.result, Ok(None)) && went.workload.is_empty());
    let expected = First::Cancel {
        process: 7,
        key: REAL.into(),
    };
    assert_eq!(heard.await.unwrap(), Some(expected));
    assert_eq!(bench.shared.cancels.len(), 1);
    drop(session);
    assert_eq!(bench.shared.cancels.len(), 0, "it ends with the session");
    let went = cancel(&bench, process, &key).await;
    assert_eq!(went.reason(), Some(Reason::TargetUnknown));
    let entries = bench.entries();
    let cancels: Vec<_> = entries.iter().filter(|e| e["action"] == "sql:cancel").collect();
    assert_eq!(cancels[0]["decision"], "allow");
    assert_eq!(cancels[0]["resource"]["id"], "127.0.0.1:5432/app");
    assert_eq!(
        (&cancels[1]["decision"], &cancels[1]["reason"]),
        (&"deny".into(), &"target_unknown".into())
    );
}

#[tokio::test]
async fn what_is_not_ones_own_cannot_be_cancelled() {
    let bench = Bench::new(ALLOW);
    let (session, process, key) = log_in(&bench).await;
    let dials = bench.server.dials().len();
    let mut wrong = key.clone();
    wrong[3] ^= 1;
    for (process, key) in [
        (process, &wrong[..]),
        (process + 1, &key),
        (process, &REAL),
        (process, &[0; 32]),
    ] {
        let went = cancel(&bench, process, key).await;
        assert_eq!((went.reason(), went.operations), (Some(Reason::TargetUnknown), 1));
        assert!(went.workload.is_empty(), "no word");
    }
    // Another workload that got to know the key, and one that goes elsewhere.
    let gate = bench.rig.gate(TO, None);
    let elsewhere = bench.rig.gate("127.0.0.2:5432".parse().unwrap(), None);
    let cancels: &Cancels = &bench.shared.cancels;
    assert!(cancels.finds(gate.workload(), TO, process, &key));
    assert!(!cancels.finds(&other_workload(), TO, process, &key));
    assert!(!cancels.finds(elsewhere.workload(), elsewhere.original_dst().0, process, &key));
    assert_eq!(bench.server.dials().len(), dials);
    drop(session);
}

#[tokio::test]
async fn cancelling_is_an_operation() {
    let bench = Bench::new(r#"permit (principal, action == Action::"sql:connect", resource);"#);
    let (session, process, key) = log_in(&bench).await;
    let went = cancel(&bench, process, &key).await;
    assert_eq!(
        (went.reason(), went.operations),
        (Some(Reason::PolicyDefaultDeny), 1)
    );
    assert_eq!(bench.server.dials(), ["tcp"]);
    drop(session);
}

#[tokio::test]
async fn a_cancel_request_goes_the_way_of_its_session() {
    let bench = Bench::new(ALLOW);
    bench.play(|mut peer| async move {
        peer.accept_tls(false).await;
        peer.startup().await;
        peer.consent(&REAL).await;
        peer.message().await;
    });
    let session = bench
        .run(None, async |mut peer| {
            peer.ask_tls(&[]).await;
            peer.send(&ada()).await;
            peer.until_ready().await
        })
        .await;
    let key = session.workload.iter().find(|m| m.0 == b'K').unwrap().1[4..].to_vec();
    let (tell, heard) = tokio::sync::oneshot::channel();
    bench.play(|mut peer| async move {
        peer.accept_tls(false).await;
        let _ = tell.send(peer.first().await);
    });
    // Libraries before version 17 ask without TLS.
    let went = cancel(&bench, 7, &key).await;
    assert!(matches!(went.result, Ok(None)));
    assert!(matches!(heard.await.unwrap(), Some(First::Cancel { .. })));
    assert_eq!(bench.server.dials(), ["tcp", "tls", "tcp", "tls"]);
}
