//! Calls to AWS through the whole agent: what the workload signed with never goes up, and what cannot be signed, or
//! can be read in two ways, does not go at all.

use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    net::{TcpListener, TcpStream},
};

use super::rig::{Rig, memfind};

const ALLOW: &str = r#"@id("all") permit(principal, action, resource);"#;
const ID: &str = "AKIAREALKEY";
const SECRET: &str = "r3al/Secret+Key";
const SIGNED: &str = "Authorization: AWS4-HMAC-SHA256 Credential=DUMMY/20260101/eu-west-1/SERVICE/aws4_request, \
    SignedHeaders=host;x-amz-date, Signature=00\r\nX-Amz-Date: 20260101T000000Z\r\nX-Amz-Security-Token: DUMMY\r\n";

/// What the service was sent: all bytes of each request.
type Seen = Arc<Mutex<Vec<String>>>;

async fn service() -> Result<(SocketAddr, Seen)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let seen = Seen::default();
    let keep = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&keep)));
        }
    });
    Ok((address, seen))
}

async fn serve(mut stream: TcpStream, seen: Seen) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    let mut bytes = String::new();
    loop {
        let read = stream.read_buf(&mut buffer).await?;
        bytes.push_str(&String::from_utf8_lossy(&buffer));
        buffer.clear();
        let length = |head: &str| {
            let line = head.lines().find_map(|l| l.strip_prefix("Content-Length: "));
            line.and_then(|l| l.parse::<usize>().ok()).unwrap_or(0)
        };
        let whole = bytes
            .split_once("\r\n\r\n")
            .is_some_and(|(head, body)| body.len() >= length(head));
        if whole || read == 0 {
            if !bytes.is_empty() {
                seen.lock().unwrap().push(std::mem::take(&mut bytes));
            }
            if read == 0 {
                return Ok(());
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await?;
        }
    }
}

fn keys(dir: &Path) -> Result<()> {
    let path = dir.join("keys");
    std::fs::write(
        &path,
        format!("[default]\naws_access_key_id = {ID}\naws_secret_access_key = {SECRET}\n"),
    )?;
    Ok(std::fs::set_permissions(
        path,
        std::fs::Permissions::from_mode(0o600),
    )?)
}

async fn rig(to: SocketAddr, with_keys: bool) -> Result<Rig> {
    Rig::with(ALLOW, |dir| {
        if with_keys {
            keys(dir)?;
        }
        Ok(format!(
            "[[credential]]\nname = \"aws\"\naws_keys_file = \"{{dir}}/keys\"\n\
             [[upstream]]\nname = \"aws\"\nprotocol = \"http\"\nhost = \"localhost\"\nport = {}\nplaintext = true\n\
             inject = {{ aws-sigv4 = \"aws\" }}\n",
            to.port()
        ))
    })
    .await
}

/// Sends a request and reads its answer, on a connection that stays.
async fn ask(stream: &mut DuplexStream, request: &str) -> Result<String> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let read = async {
        loop {
            if let Some(end) = memfind(&answer, b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
                let length = head
                    .lines()
                    .find_map(|l| l.strip_prefix("content-length: ")?.parse::<usize>().ok());
                if answer.len() >= end + 4 + length.unwrap_or(0) {
                    return Ok::<_, std::io::Error>(());
                }
            }
            if stream.read_buf(&mut answer).await? == 0 {
                return Ok(());
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read)
        .await
        .context("no answer")??;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn request(line: &str, service: &str, lines: &str, body: &str) -> String {
    let signed = if service.is_empty() {
        String::new()
    } else {
        SIGNED.replace("SERVICE", service)
    };
    let length = if body.is_empty() {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    format!("{line} HTTP/1.1\r\nHost: localhost\r\n{signed}{lines}{length}\r\n{body}")
}

#[tokio::test]
async fn what_goes_up_is_signed_with_the_real_keys_alone() -> Result<()> {
    let (to, seen) = service().await?;
    let rig = rig(to, true).await?;
    let mut stream = rig.connect(to).await;
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let presigned = "GET /b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=DUMMY%2F20260101%2Feu-west-1%2Fs3%2Faws4_request\
        &X-Amz-Date=20260101T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Security-Token=DUMMY&X-Amz-Signature=00";
    let body = format!(
        "5;chunk-signature={0}\r\nhello\r\n0;chunk-signature={0}\r\n\r\n",
        "0".repeat(64)
    );
    let streaming =
        "X-Amz-Content-Sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\nX-Amz-Decoded-Content-Length: 5\r\n";
    for request in [
        request("POST /", "ec2", form, "Action=DescribeInstances"),
        request("GET /b/k", "s3", "", ""),
        request(presigned, "", "", ""),
        request("PUT /b/k", "s3", streaming, &body),
    ] {
        let answer = ask(&mut stream, &request).await?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{request}\n{answer}");
    }
    let seen = seen.lock().unwrap().clone();
    ensure!(seen.len() == 4, "{seen:?}");
    for request in &seen {
        ensure!(
            !request.contains("DUMMY") && !request.contains(SECRET),
            "{request}"
        );
        ensure!(request.contains(ID), "{request}");
    }
    ensure!(
        seen[3].contains("\r\nhello\r\n0;chunk-signature=") && !seen[3].contains(&"0".repeat(64)),
        "{}",
        seen[3]
    );
    let actions = rig.rows("SELECT json_extract(body, '$.context.aws.action') FROM entry WHERE json_extract(body, '$.action') = 'aws:call'")?;
    ensure!(
        actions
            == [
                "ec2:DescribeInstances",
                "s3:GetObject",
                "s3:GetObject",
                "s3:PutObject"
            ],
        "{actions:?}"
    );
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_signed_stays_here() -> Result<()> {
    let (to, seen) = service().await?;
    // No keys at all.
    let without = rig(to, false).await?;
    let mut stream = without.connect(to).await;
    let answer = ask(&mut stream, &request("GET /b/k", "s3", "", "")).await?;
    ensure!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    // Keys, and requests that they cannot sign.
    let with = rig(to, true).await?;
    for (request, words) in [
        (request("GET /b/k", "", "", ""), "which service"),
        (
            request(
                "POST /b",
                "s3",
                "Content-Type: multipart/form-data; boundary=x\r\n",
                "--x--",
            ),
            "a form",
        ),
        (
            request(
                "GET /b/k?X-Amz-Credential=DUMMY%2F20260101%2Feu-west-1%2Fs3%2Faws4_request",
                "",
                "",
                "",
            ),
            "presigned",
        ),
        (
            request(
                "PUT /b/k",
                "s3",
                "X-Amz-Content-Sha256: STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD\r\n",
                "0\r\n\r\n",
            ),
            "stream",
        ),
    ] {
        let mut stream = with.connect(to).await;
        let answer = ask(&mut stream, &request).await?;
        ensure!(
            answer.starts_with("HTTP/1.1 502") && answer.contains(words),
            "{request}\n{answer}"
        );
        ensure!(!answer.contains(ID) && !answer.contains(SECRET), "{answer}");
    }
    ensure!(seen.lock().unwrap().is_empty(), "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn what_has_two_readings_is_refused_on_a_connection_that_stays() -> Result<()> {
    let (to, seen) = service().await?;
    let rig = rig(to, true).await?;
    let mut stream = rig.connect(to).await;
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    for request in [
        request(
            "POST /",
            "ec2",
            form,
            "Action=DescribeInstances&Action=TerminateInstances",
        ),
        request(
            "POST /?Action=DescribeInstances",
            "ec2",
            form,
            "Action=TerminateInstances",
        ),
        request(
            "POST /",
            "ec2",
            form,
            "Action=DescribeInstances&AWSAccessKeyId=DUMMY&Signature=x",
        ),
        request("PUT /b/k?acl&tagging", "s3", "", "x"),
        request(
            "POST /",
            "ec2",
            "X-Amz-Target: DynamoDB_20120810.GetItem\r\n",
            "{}",
        ),
    ] {
        let answer = ask(&mut stream, &request).await?;
        ensure!(answer.starts_with("HTTP/1.1 400"), "{request}\n{answer}");
    }
    let answer = ask(&mut stream, &request("GET /b/k", "s3", "", "")).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    ensure!(seen.lock().unwrap().len() == 1, "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn a_stream_that_is_not_what_it_says_does_not_get_through() -> Result<()> {
    let (to, seen) = service().await?;
    let rig = rig(to, true).await?;
    let zeroes = "0".repeat(64);
    let streaming = "X-Amz-Content-Sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\n";
    for body in [
        "5\r\nhello\r\n0\r\n\r\n".to_owned(),
        format!("5;chunk-signature={zeroes}\r\nhello\r\n0;chunk-signature={zeroes}\r\n\r\nsmuggled"),
        format!("800001;chunk-signature={zeroes}\r\n"),
    ] {
        let mut stream = rig.connect(to).await;
        let _cut = ask(&mut stream, &request("PUT /b/k", "s3", streaming, &body)).await;
    }
    for request in seen.lock().unwrap().iter() {
        ensure!(
            !request.contains(&zeroes) && !request.contains("smuggled") && !request.contains("DUMMY"),
            "{request}"
        );
    }
    Ok(())
}
