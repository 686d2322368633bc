//! Who is told: signed, in few messages, again and again within bounds, and never in the way.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Result, bail};
use aws_lc_rs::hmac;
use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode, routing::post};
use portcullis::console::{Notifier, Pace};
use serde_json::Value;
use tokio::{net::TcpListener, sync::Notify};

use super::{PATIENCE, POLICY, Upstream};
use crate::{
    people,
    rig::{Rig, response},
};

const KEY: &str = "a key of the receiver's";

/// What receives, and first says no so many times.
#[derive(Clone, Default)]
struct Receiver(Arc<Inner>);

#[derive(Default)]
struct Inner {
    got: Mutex<Vec<(HeaderMap, Bytes)>>,
    failures: Mutex<u32>,
    more: Notify,
}

impl Receiver {
    async fn start(failures: u32) -> Result<(Self, String)> {
        let receiver = Self::default();
        *receiver.0.failures.lock().unwrap() = failures;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let app = Router::new()
            .route("/hook", post(take))
            .with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok((receiver, url))
    }

    /// The messages, once there are so many requests.
    async fn requests(&self, count: usize) -> Result<Vec<(HeaderMap, Bytes)>> {
        let waiting = async {
            loop {
                let more = self.0.more.notified();
                let got = self.0.got.lock().unwrap().clone();
                if got.len() >= count {
                    return got;
                }
                more.await;
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(got) => Ok(got),
            Err(_) => bail!("not {count} requests"),
        }
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    receiver.0.got.lock().unwrap().push((headers, body));
    receiver.0.more.notify_waiters();
    let mut failures = receiver.0.failures.lock().unwrap();
    if *failures > 0 {
        *failures -= 1;
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    StatusCode::OK
}

fn json(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap()
}

fn pace(gap: u64) -> Pace {
    Pace {
        gap: Duration::from_millis(gap),
        retry: Duration::from_millis(5),
        tries: 3,
    }
}

async fn rig(targets: &str) -> Result<Rig> {
    let more = format!(
        "{}[console]\nlisten = \"127.0.0.1:1\"\nurl = \"https://approvals.example.com\"\n{targets}\
         [[credential]]\nname = \"key\"\nfile = \"{{dir}}/key\"\n",
        people::APPROVALS
    );
    Rig::with(POLICY, |dir| {
        std::fs::write(dir.join("key"), KEY)?;
        std::os::unix::fs::PermissionsExt::set_mode(
            &mut std::fs::metadata(dir.join("key"))?.permissions(),
            0o600,
        );
        std::fs::set_permissions(
            dir.join("key"),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )?;
        Ok(more)
    })
    .await
}

/// The workload asks for `n` things that are held.
async fn ask(rig: &Rig, upstream: &Upstream, n: usize) -> Result<Vec<tokio::io::DuplexStream>> {
    use tokio::io::AsyncWriteExt as _;
    let mut streams = Vec::new();
    for i in 0..n {
        let mut stream = rig.connect(upstream.address).await;
        let request = format!(
            "POST /customers/bob@example.com/{i}?mail=bob@example.com HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n",
            upstream.address
        );
        stream.write_all(request.as_bytes()).await?;
        streams.push(stream);
    }
    Ok(streams)
}

#[tokio::test]
async fn a_webhook_is_signed_masked_and_repeated_under_one_id() -> Result<()> {
    let (receiver, url) = Receiver::start(2).await?;
    let target = format!(
        "[[notify]]\nname = \"ops\"\nkind = \"webhook\"\nurl = \"{url}\"\nkey_credential = \"key\"\n"
    );
    let rig = rig(&target).await?;
    let notifier = Notifier::start_with(&rig.core.desk, &rig.config, pace(5))?;
    let upstream = Upstream::start(super::OK).await?;
    let _streams = ask(&rig, &upstream, 1).await?;
    let got = receiver.requests(3).await?;
    let ids: Vec<_> = got
        .iter()
        .map(|(h, _)| h["portcullis-event"].to_str().unwrap())
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    for (headers, body) in &got {
        let text = headers["portcullis-signature"].to_str()?;
        let (t, v1) = text.split_once(",v1=").unwrap();
        let t = t.strip_prefix("t=").unwrap();
        let mut signed = format!("{t}.").into_bytes();
        signed.extend_from_slice(body);
        let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
        assert!(hmac::verify(&key, &signed, &hex::decode(v1)?).is_ok());
    }
    let message = json(&got[2].1);
    assert_eq!(message["id"], ids[0]);
    let event = &message["events"][0];
    let id = event["request"]["id"].as_str().unwrap();
    assert_eq!(
        event["link"],
        format!("https://approvals.example.com/requests/{id}")
    );
    assert_eq!(
        (&event["kind"], &event["request"]["workload"]),
        (&"asked".into(), &"bot".into())
    );
    assert!(!message.to_string().contains("bob@example.com"), "{message}");
    until(|| notifier.status()[0].sent == 1).await?;
    assert_eq!(
        (notifier.status()[0].failed, &notifier.status()[0].error),
        (0, &None)
    );
    Ok(())
}

#[tokio::test]
async fn a_burst_is_one_message() -> Result<()> {
    let (receiver, url) = Receiver::start(0).await?;
    let target = format!("[[notify]]\nname = \"chat\"\nkind = \"slack\"\nurl = \"{url}\"\n");
    let rig = rig(&target).await?;
    let _notifier = Notifier::start_with(&rig.core.desk, &rig.config, pace(1_500))?;
    let upstream = Upstream::start(super::OK).await?;
    let _first = ask(&rig, &upstream, 1).await?;
    receiver.requests(1).await?;
    // Within the gap.
    let _rest = ask(&rig, &upstream, 40).await?;
    people::open(&rig.core.front.shared.approvals, 40)
        .await
        .or_else(|_| {
            let open = rig.core.front.shared.approvals.overview().open;
            anyhow::ensure!(open.len() >= 40, "{}", open.len());
            Ok::<_, anyhow::Error>(open)
        })?;
    let got = receiver.requests(2).await?;
    assert_eq!(got.len(), 2);
    let (one, many) = (json(&got[0].1), json(&got[1].1));
    assert!(
        one["blocks"]
            .to_string()
            .contains("approvals.example.com/requests/"),
        "{one}"
    );
    let text = many["text"].as_str().unwrap();
    assert!(text.contains("asked for") && text.contains("open on"), "{text}");
    assert!(many["blocks"].as_array().unwrap().len() < 10);
    assert!(!many.to_string().contains("bob@example.com"));
    Ok(())
}

#[tokio::test]
async fn a_target_that_is_gone_is_on_record_and_in_nobodys_way() -> Result<()> {
    let (receiver, url) = Receiver::start(u32::MAX).await?;
    let target = format!("[[notify]]\nname = \"cards\"\nkind = \"teams\"\nurl = \"{url}\"\n");
    let rig = rig(&target).await?;
    let notifier = Notifier::start_with(&rig.core.desk, &rig.config, pace(5))?;
    let upstream = Upstream::start(super::OK).await?;
    let mut streams = ask(&rig, &upstream, 1).await?;
    let approvals = &rig.core.front.shared.approvals;
    let open = people::open(approvals, 1).await?;
    let ada = people::human("ada", &["dba"]);
    approvals.answer(open[0].id, &ada, people::yes()).await?;
    assert!(response(&mut streams[0]).await?.starts_with("HTTP/1.1 200"));
    let sql = "SELECT body FROM entry WHERE json_extract(body, '$.event') = 'notification_failed'";
    let entry = rig.await_rows(sql).await?.remove(0);
    assert!(entry.contains("cards") && entry.contains("503"), "{entry}");
    let got = receiver.requests(3).await?;
    let card = json(&got[0].1);
    assert_eq!(card["attachments"][0]["content"]["type"], "AdaptiveCard");
    until(|| notifier.status()[0].failed > 0).await?;
    assert!(
        notifier.status()[0]
            .error
            .as_deref()
            .unwrap_or_default()
            .contains("503")
    );
    Ok(())
}

async fn until(mut there: impl FnMut() -> bool) -> Result<()> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !there() {
        anyhow::ensure!(tokio::time::Instant::now() < deadline, "it does not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
