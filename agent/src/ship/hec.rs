//! Events to Splunk's HTTP Event Collector, as Splunk documents it ("Format events for HTTP Event Collector", "HTTP
//! Event Collector REST API endpoints", "About HTTP Event Collector Indexer Acknowledgment").
//!
//! A batch is one request to `/services/collector/event`, its events one after the other. It counts as taken when
//! Splunk says `"code":0`, or, with `acknowledge`, when it says that the batch is indexed.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::{Request, header};
use serde_json::{Map, Value, json, value::RawValue};
use tokio::time::sleep;
use uuid::Uuid;

use super::{
    Accepted, Class, Context, Event, EventSink, Receipt, Rejected, ShipError,
    form::{Form, view},
    otlp::{gzip, secret_value},
    web::{Answer, Web},
};
use crate::config::ship::{self, EventFormat};

/// The first and the longest pause between two questions whether a batch is indexed.
const ASK: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// The sink.
pub struct SplunkHec {
    form: Form,
    context: Context,
    config: ship::SplunkHec,
    web: Web,
    /// What acknowledgements are counted in; another for each sink.
    channel: String,
}

/// What Splunk says.
#[derive(serde::Deserialize)]
struct Said {
    code: i64,
    #[serde(default)]
    text: String,
    #[serde(rename = "ackId")]
    ack: Option<u64>,
    #[serde(rename = "invalid-event-number")]
    invalid: Option<usize>,
}

/// One event as Splunk takes it.
#[derive(serde::Serialize)]
struct Sent<'a> {
    time: &'a RawValue,
    host: &'a str,
    source: &'a str,
    sourcetype: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<&'a str>,
    event: &'a RawValue,
    fields: Value,
}

/// What an answer asks for.
enum Verdict {
    Taken(Said),
    /// This one of the batch is wrong, and those before it may be taken.
    Invalid(usize, String),
    Failed(ShipError),
}

impl SplunkHec {
    /// To the collector of a configuration that was checked. Asks nobody yet.
    ///
    /// # Errors
    /// When the file with roots cannot be used.
    pub fn new(config: &ship::SplunkHec, form: Form, context: Context) -> Result<Self, ShipError> {
        let url = reqwest::Url::parse(&config.url)
            .map_err(|e| ShipError::temporary(Class::Local, e.to_string()))?;
        Ok(Self {
            web: Web::new(&url, config.ca_file.clone(), None, false)?,
            form,
            context,
            config: config.clone(),
            channel: Uuid::now_v7().to_string(),
        })
    }

    fn body(&self, batch: &[Event]) -> Result<Vec<u8>, ShipError> {
        let local = |e: serde_json::Error| ShipError::temporary(Class::Local, e.to_string());
        let mut body = Vec::with_capacity(batch.len() * 2048);
        for event in batch {
            let view = view(event);
            let text = self.form.body(event);
            let is_json = self.form.format != EventFormat::Cef && event.json.is_object();
            let text = if is_json { text } else { json!(text).to_string() };
            let at = view.at_ns().max(0);
            let time = format!("{}.{:09}", at / 1_000_000_000, at % 1_000_000_000);
            let sent = Sent {
                time: &RawValue::from_string(time).map_err(local)?,
                host: &self.form.facts.host,
                source: "portcullis",
                sourcetype: &self.config.sourcetype,
                index: self.config.index.as_deref(),
                event: &RawValue::from_string(text).map_err(local)?,
                // Indexed: by these a copy is known, and an entry found.
                fields: json!({ "entry_id": view.id(), "seq": view.seq.to_string(), "kind": view.kind() }),
            };
            serde_json::to_writer(&mut body, &sent).map_err(local)?;
            body.push(b'\n');
        }
        Ok(body)
    }

    async fn post(&mut self, path: &str, body: Vec<u8>, zip: bool) -> Result<Answer, ShipError> {
        let token = self.context.secret(&self.config.credential).await?;
        let origin = self.web.origin().to_owned();
        let host = origin.split("://").nth(1).unwrap_or_default();
        let mut request = Request::post(path)
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "application/json")
            .header(
                header::USER_AGENT,
                concat!("portcullis/", env!("CARGO_PKG_VERSION")),
            )
            .header(header::AUTHORIZATION, secret_value("Splunk ", &token)?);
        if self.config.acknowledge {
            request = request.header("X-Splunk-Request-Channel", &self.channel);
        }
        let body = if zip {
            request = request.header(header::CONTENT_ENCODING, "gzip");
            gzip(&body)?
        } else {
            body
        };
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| ShipError::temporary(Class::Local, e.to_string()))?;
        self.web.send(&self.context, &request).await
    }

    async fn try_send(&mut self, batch: &[Event]) -> Result<Accepted, ShipError> {
        let body = self.body(batch)?;
        let answer = self
            .post("/services/collector/event", body, self.config.gzip)
            .await?;
        match verdict(&answer, batch.len(), self.web.origin()) {
            Verdict::Taken(said) => {
                let receipt = self.acknowledged(&answer, &said).await?;
                Ok(Accepted::all(batch, receipt))
            }
            Verdict::Failed(error) => Err(error),
            Verdict::Invalid(at, why) => {
                let rejected = vec![Rejected {
                    seq: batch[at].seq,
                    class: Class::Invalid,
                    why,
                }];
                // Splunk does not say whether it took those before it: they are sent by themselves.
                let mut accepted = if at == 0 {
                    Accepted::default()
                } else {
                    let before = Box::pin(self.try_send(&batch[..at])).await?;
                    if before.done < at {
                        return Ok(before);
                    }
                    before
                };
                accepted.done = at + 1;
                accepted.rejected.extend(rejected);
                Ok(accepted)
            }
        }
    }

    /// Waits until Splunk says that it is indexed, where that is wanted. The worker's patience bounds it.
    async fn acknowledged(&mut self, answer: &Answer, said: &Said) -> Result<Receipt, ShipError> {
        let mut detail = Map::new();
        detail.insert("peer".into(), answer.peer.as_str().into());
        let place = self.web.origin().to_owned();
        if !self.config.acknowledge {
            return Ok(Receipt { place, detail });
        }
        let Some(ack) = said.ack else {
            let why = format!(
                "{place}: no acknowledgement is offered for this token: enable it there, or not here"
            );
            return Err(ShipError::temporary(Class::Missing, why));
        };
        let path = format!("/services/collector/ack?channel={}", self.channel);
        let (mut pause, most) = ASK;
        loop {
            let body = json!({ "acks": [ack] }).to_string().into_bytes();
            let answer = self.post(&path, body, false).await?;
            if answer.status != 200 {
                return match verdict(&answer, 1, &place) {
                    Verdict::Failed(error @ ShipError::Temporary { .. }) => Err(error),
                    _ => Err(ShipError::temporary(
                        Class::Broken,
                        format!("{place}: {}", answer.shown()),
                    )),
                };
            }
            let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            match said["acks"][ack.to_string()].as_bool() {
                Some(true) => {
                    detail.insert("indexed".into(), true.into());
                    detail.insert("ack_id".into(), ack.into());
                    return Ok(Receipt { place, detail });
                }
                Some(false) => {}
                None => {
                    let why = format!(
                        "{place}: not an answer about acknowledgements: {}",
                        answer.shown()
                    );
                    return Err(ShipError::temporary(Class::Broken, why));
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(most);
        }
    }
}

impl EventSink for SplunkHec {
    fn send<'a>(&'a mut self, batch: &'a [Event]) -> BoxFuture<'a, Result<Accepted, ShipError>> {
        Box::pin(self.try_send(batch))
    }

    fn lasts(&self) -> bool {
        true
    }
}

/// What Splunk's answer means: by its code, and where it has none, by the status.
fn verdict(answer: &Answer, events: usize, place: &str) -> Verdict {
    let why = format!("{place}: {}", answer.shown());
    let temporary = |class: Class| {
        Verdict::Failed(ShipError::Temporary {
            class,
            why: why.clone(),
            after: answer.retry_after(),
        })
    };
    let Ok(said) = serde_json::from_slice::<Said>(&answer.body) else {
        return match answer.status {
            401 | 403 => temporary(Class::Denied),
            404 => temporary(Class::Missing),
            413 => Verdict::Failed(ShipError::TooLarge { why }),
            429 | 502..=504 => temporary(Class::Busy),
            _ => temporary(Class::Broken),
        };
    };
    match (said.code, answer.status) {
        (0, 200..=299) => Verdict::Taken(said),
        // Token disabled, required, wrong; query string authorization.
        (1..=4 | 16 | 21 | 22, _) => temporary(Class::Denied),
        // No data, invalid format, event field required or blank, indexed fields: an event's own fault.
        (5 | 6 | 12 | 13 | 15, _) => match said.invalid {
            Some(at) if at < events => Verdict::Invalid(at, format!("{why} ({})", said.text)),
            _ => Verdict::Failed(ShipError::permanent(Class::Invalid, why)),
        },
        // The index, the channel, acknowledgements: for an admin.
        (7 | 10 | 11 | 14, _) => temporary(Class::Missing),
        // Busy, queues full, shutting down, at capacity.
        (9 | 18..=20 | 23 | 24 | 26 | 27, _) | (_, 429 | 503) => temporary(Class::Busy),
        (_, 413) => Verdict::Failed(ShipError::TooLarge { why }),
        _ => temporary(Class::Broken),
    }
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::*;

    fn of(status: u16, body: &str) -> Verdict {
        let answer = Answer {
            status,
            headers: HeaderMap::new(),
            body: body.to_owned().into(),
            trailers: HeaderMap::new(),
            peer: String::new(),
        };
        verdict(&answer, 3, "p")
    }

    fn class(status: u16, body: &str) -> Class {
        match of(status, body) {
            Verdict::Failed(ShipError::Temporary { class, .. }) => class,
            _ => panic!("{status} {body} is not temporary"),
        }
    }

    #[test]
    fn codes() {
        assert!(matches!(
            of(200, r#"{"text":"Success","code":0,"ackId":3}"#),
            Verdict::Taken(Said { ack: Some(3), .. })
        ));
        assert_eq!(class(403, r#"{"text":"Invalid token","code":4}"#), Class::Denied);
        assert_eq!(class(503, r#"{"text":"Server is busy","code":9}"#), Class::Busy);
        assert_eq!(
            class(
                400,
                r#"{"text":"Incorrect index","code":7,"invalid-event-number":0}"#
            ),
            Class::Missing
        );
        assert_eq!(
            class(500, r#"{"text":"Internal server error","code":8}"#),
            Class::Broken
        );
        assert_eq!(class(200, "<html>"), Class::Broken);
        assert_eq!(class(502, "<html>"), Class::Busy);
        let invalid = r#"{"text":"Invalid data format","code":6,"invalid-event-number":2}"#;
        assert!(matches!(of(400, invalid), Verdict::Invalid(2, _)));
        // A number that the batch does not have: halving finds the one.
        let invalid = r#"{"text":"Invalid data format","code":6,"invalid-event-number":3}"#;
        assert!(matches!(
            of(400, invalid),
            Verdict::Failed(ShipError::Permanent { .. })
        ));
        assert!(matches!(
            of(413, "no"),
            Verdict::Failed(ShipError::TooLarge { .. })
        ));
    }
}
