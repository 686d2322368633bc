//! HTTP archive 1.2 (<http://www.softwareishard.com/blog/har-12-spec/>) of a session that speaks HTTP.
//!
//! What was masked is masked here. An operation that was denied has a response of status 0 and says why in its comment;
//! the workload got an answer of the agent's own. Of the parts of the time only their sum is on record: `timings` divides
//! it by where the payload lies between entries.

use std::io::{Read as _, Write};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::gather::{Exchange, Payload, each};
use crate::ledger::replay::Replay;

/// The most header lines of a message.
const HEADERS: usize = 256;
/// The most bytes of a body when it is decompressed.
const BODY: u64 = 32 << 20;

/// Writes the archive; how many requests there were.
pub(super) fn write(replay: Replay, out: &mut impl Write) -> anyhow::Result<u64> {
    let creator = json!({ "name": "portcullis", "version": env!("CARGO_PKG_VERSION") });
    write!(
        out,
        "{{\"log\":{{\"version\":\"1.2\",\"creator\":{creator},\"entries\":["
    )?;
    let mut count = 0;
    each(replay, |exchange| {
        anyhow::ensure!(
            exchange.operation["protocol"] == "http",
            "this session speaks {}: HAR is for HTTP, `--format jsonl` is for databases",
            exchange.operation["protocol"]
        );
        out.write_all(if count > 0 { b",\n" } else { b"\n" })?;
        serde_json::to_writer(&mut *out, &entry(exchange))?;
        count += 1;
        Ok(())
    })?;
    out.write_all(b"\n]}}\n")?;
    Ok(count)
}

fn entry(exchange: &Exchange) -> Value {
    let op = &exchange.operation;
    let outcome = exchange.outcome.as_ref();
    let us = outcome
        .and_then(|o| o["duration_us"].as_i64())
        .unwrap_or(0)
        .max(0);
    let request = Message::read(&exchange.up, true);
    let response = Message::read(&exchange.down, false);
    let mut entry = json!({
        "startedDateTime": op["at"],
        "time": ms(us),
        "request": request_of(op, &request, &exchange.up),
        "response": response_of(&response, &exchange.down),
        "cache": {},
        "timings": timings(us, exchange),
        "serverIPAddress": op["destination"]["address"],
        "connection": op["session"],
        "comment": comment(exchange),
        "_portcullis": {
            "action": op["action"],
            "decision": op["decision"],
            "masked": outcome.map(|o| o["masked"].clone()),
            "operation": op["id"],
            "outcome": outcome.map(|o| o["reason"].clone()),
            "policies": op["policies"],
            "reason": op["reason"],
            "subject": op["identity"]["subject"],
            "workload": op["workload"],
        },
    });
    if op["destination"]["address"].is_null() {
        entry["serverIPAddress"] = "".into();
    }
    entry
}

/// Microseconds as milliseconds.
fn ms(us: i64) -> Value {
    // Below 2^53: exact.
    #[allow(clippy::cast_precision_loss)]
    let ms = us as f64 / 1000.0;
    ms.into()
}

fn timings(us: i64, exchange: &Exchange) -> Value {
    let span = |p: &Payload| match (p.first_ns, p.last_ns) {
        (Some(first), Some(last)) => last.saturating_sub(first).max(0) / 1000,
        _ => 0,
    };
    let send = span(&exchange.up).min(us);
    let receive = span(&exchange.down).min(us - send);
    json!({
        "send": ms(send),
        "wait": ms(us - send - receive),
        "receive": ms(receive),
        "comment": "only their sum is on record",
    })
}

fn comment(exchange: &Exchange) -> String {
    let op = &exchange.operation;
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let mut said = format!("{}: {}", text(&op["decision"]), text(&op["reason"]));
    match &exchange.outcome {
        Some(outcome) => said += &format!("; {}", text(&outcome["reason"])),
        None if op["decision"] == "allow" => said += "; no end is on record",
        None => {}
    }
    let left_out = exchange.up.left_out + exchange.down.left_out;
    if left_out > 0 {
        said += &format!("; {left_out} bytes of payload are left out");
    }
    said
}

/// A request or response as it was recorded: head and content, without its framing.
#[derive(Default)]
struct Message<'a> {
    /// Method and target, or status and phrase.
    start: (String, String),
    version: &'static str,
    headers: Vec<(String, String)>,
    head_bytes: usize,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Empty where there is none, or none that can be read.
    fn read(payload: &'a Payload, request: bool) -> Self {
        let mut bytes = payload.bytes.as_slice();
        loop {
            let mut lines = [httparse::EMPTY_HEADER; HEADERS];
            let found = if request {
                let mut head = httparse::Request::new(&mut lines);
                match head.parse(bytes) {
                    Ok(httparse::Status::Complete(n)) => {
                        let start = (head.method.unwrap_or("").into(), head.path.unwrap_or("").into());
                        Some((n, start, head.version, owned(head.headers)))
                    }
                    _ => None,
                }
            } else {
                let mut head = httparse::Response::new(&mut lines);
                match head.parse(bytes) {
                    Ok(httparse::Status::Complete(n)) => {
                        let status = head.code.unwrap_or(0).to_string();
                        Some((
                            n,
                            (status, head.reason.unwrap_or("").into()),
                            head.version,
                            owned(head.headers),
                        ))
                    }
                    _ => None,
                }
            };
            let Some((n, start, version, headers)) = found else {
                return Self::default();
            };
            let body = bytes.get(n..).unwrap_or_default();
            // Interim responses come before the one that counts.
            if !request && start.0.starts_with('1') && start.0 != "101" && !body.is_empty() {
                bytes = body;
                continue;
            }
            return Self {
                start,
                version: if version == Some(0) {
                    "HTTP/1.0"
                } else {
                    "HTTP/1.1"
                },
                headers,
                head_bytes: n,
                body,
            };
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| &**value)
    }

    fn headers(&self) -> Vec<Value> {
        let pairs = self.headers.iter();
        pairs
            .map(|(name, value)| json!({ "name": name, "value": value }))
            .collect()
    }

    /// Of `Cookie`, all; of each `Set-Cookie`, name and value.
    fn cookies(&self, header: &str) -> Vec<Value> {
        let lines = self
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(header));
        let all = header.eq_ignore_ascii_case("cookie");
        let pairs = lines.flat_map(|(_, line)| line.split(';').take(if all { usize::MAX } else { 1 }));
        pairs
            .filter_map(|pair| pair.trim().split_once('='))
            .map(|(name, value)| json!({ "name": name, "value": value }))
            .collect()
    }

    /// The content decompressed, where that can be done.
    fn content(&self) -> Vec<u8> {
        let gzip = self
            .header("content-encoding")
            .is_some_and(|e| e.eq_ignore_ascii_case("gzip"));
        // A request's is stored decoded.
        if gzip && self.body.starts_with(&[0x1f, 0x8b]) {
            let mut plain = Vec::new();
            let read = flate2::read::MultiGzDecoder::new(self.body)
                .take(BODY)
                .read_to_end(&mut plain);
            if read.is_ok() || !plain.is_empty() {
                return plain;
            }
        }
        self.body.to_vec()
    }
}

fn owned(headers: &[httparse::Header<'_>]) -> Vec<(String, String)> {
    let headers = headers.iter();
    headers
        .map(|h| (h.name.to_owned(), String::from_utf8_lossy(h.value).into_owned()))
        .collect()
}

fn request_of(op: &Value, message: &Message<'_>, payload: &Payload) -> Value {
    let http = match &op["context"]["aws"] {
        Value::Null => &op["context"]["http"],
        aws => aws,
    };
    let text = |v: &Value| v.as_str().map(String::from);
    let method = Some(message.start.0.clone()).filter(|m| !m.is_empty());
    let method = method.or_else(|| text(&http["method"])).unwrap_or_default();
    let target = Some(message.start.1.clone()).filter(|t| !t.is_empty());
    let target = target.unwrap_or_else(|| {
        let path = text(&http["path"]).unwrap_or_else(|| "/".into());
        text(&http["query"]).map_or_else(|| path.clone(), |query| format!("{path}?{query}"))
    });
    let host = message.header("host").map(String::from);
    let host = host
        .or_else(|| text(&http["host"]))
        .or_else(|| text(&op["destination"]["address"]))
        .unwrap_or_default();
    let port = op["destination"]["port"].as_i64().unwrap_or(0);
    let scheme = text(&http["scheme"]).unwrap_or_else(|| if port == 80 { "http" } else { "https" }.into());
    let url = if target.starts_with('/') || target == "*" {
        format!("{scheme}://{host}{target}")
    } else {
        target
    };
    let query: Vec<Value> = reqwest::Url::parse(&url).map_or_else(
        |_| Vec::new(),
        |url| {
            let pairs = url.query_pairs();
            pairs
                .map(|(name, value)| json!({ "name": name, "value": value }))
                .collect()
        },
    );
    let mut request = json!({
        "method": method,
        "url": url,
        "httpVersion": if message.version.is_empty() { "HTTP/1.1" } else { message.version },
        "cookies": message.cookies("cookie"),
        "headers": message.headers(),
        "queryString": query,
        "headersSize": if message.head_bytes > 0 { size(message.head_bytes) } else { -1 },
        "bodySize": if payload.left_out > 0 { -1 } else { size(message.body.len()) },
    });
    if !message.body.is_empty() {
        let content = message.content();
        let kind = message
            .header("content-type")
            .unwrap_or("application/octet-stream");
        // postData has no encoding for what is no text.
        request["postData"] = match String::from_utf8(content) {
            Ok(text) => json!({ "mimeType": kind, "text": text }),
            Err(e) => json!({ "mimeType": kind, "text": STANDARD.encode(e.as_bytes()), "comment": "base64" }),
        };
    }
    request
}

fn response_of(message: &Message<'_>, payload: &Payload) -> Value {
    let content = message.content();
    let kind = message.header("content-type").unwrap_or("");
    let length = size(content.len());
    let content = match String::from_utf8(content) {
        Ok(text) => json!({ "size": length, "mimeType": kind, "text": text }),
        Err(e) => {
            json!({ "size": length, "mimeType": kind, "text": STANDARD.encode(e.as_bytes()), "encoding": "base64" })
        }
    };
    json!({
        "status": message.start.0.parse::<i64>().unwrap_or(0),
        "statusText": message.start.1,
        "httpVersion": if message.version.is_empty() { "HTTP/1.1" } else { message.version },
        "cookies": message.cookies("set-cookie"),
        "headers": message.headers(),
        "content": content,
        "redirectURL": message.header("location").unwrap_or(""),
        "headersSize": if message.head_bytes > 0 { size(message.head_bytes) } else { -1 },
        "bodySize": if payload.left_out > 0 { -1 } else { size(message.body.len()) },
    })
}

fn size(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
