//! HTTP to receivers: one connection, one request at a time, every answer bounded. HTTP/1.1, or HTTP/2 for gRPC.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Request,
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::AbortHandle;

use super::{
    Class, Context, ShipError,
    net::{Target, Tls},
};

/// Bytes read of an answer; what a receiver says beyond is not needed.
const MAX_ANSWER: usize = 256 << 10;
/// Characters shown of one.
const SHOWN: usize = 200;

/// A client of one receiver.
pub(super) struct Web {
    target: Target,
    http2: bool,
    /// Taken out while a request is under way.
    open: Option<Open>,
    /// `https://host:port`
    origin: String,
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

struct Open {
    sender: Sender,
    peer: String,
    task: AbortHandle,
    used: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What came back.
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Empty where there were none.
    pub trailers: HeaderMap,
    /// Who answered.
    pub peer: String,
}

impl Answer {
    /// The beginning of the body, as a line for a human.
    pub(super) fn shown(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let text: String = text
            .chars()
            .take(SHOWN)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        format!("{} {}", self.status, text.trim()).trim_end().into()
    }

    /// A header's text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// When it wants to be asked again: `Retry-After` in seconds (RFC 9110 section 10.2.3; a date is not looked at).
    pub(super) fn retry_after(&self) -> Option<std::time::Duration> {
        let seconds = self.header("retry-after")?.trim().parse().ok()?;
        Some(std::time::Duration::from_secs(seconds))
    }
}

impl Web {
    /// To the receiver of a URL that was checked. Asks nobody yet.
    pub(super) fn new(
        url: &reqwest::Url,
        ca_file: Option<std::path::PathBuf>,
        certificate: Option<String>,
        http2: bool,
    ) -> Result<Self, ShipError> {
        let local = |why: &str| ShipError::temporary(Class::Local, format!("{url}: {why}"));
        let host = url.host_str().ok_or_else(|| local("has no host"))?;
        let port = url.port_or_known_default().ok_or_else(|| local("has no port"))?;
        let tls = match url.scheme() {
            "https" => Some(Tls::new(host, ca_file, certificate)?),
            _ => None,
        };
        Ok(Self {
            origin: format!("{}://{host}:{port}", url.scheme()),
            target: Target {
                host: host.into(),
                port,
                tls,
            },
            http2,
            open: None,
        })
    }

    /// `scheme://host:port`, for the request's URI and for receipts.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// Asks, and reads the answer. A connection that turns out to be closed since its last use is replaced once.
    pub(super) async fn send(
        &mut self,
        context: &Context,
        request: &Request<Full<Bytes>>,
    ) -> Result<Answer, ShipError> {
        let mut open = match self.open.take() {
            Some(open) if open.sender.is_usable() => open,
            _ => self.connect(context).await?,
        };
        loop {
            let used = std::mem::replace(&mut open.used, true);
            match open.exchange(request.clone()).await {
                Ok(answer) => {
                    self.open = Some(open);
                    return Ok(answer);
                }
                Err(e) if used && !e.is_timeout() => {
                    tracing::debug!(receiver = %self.origin, "a kept connection is gone: {e}");
                    open = self.connect(context).await?;
                }
                Err(e) => return Err(self.broken(&e)),
            }
        }
    }

    fn broken(&self, e: &hyper::Error) -> ShipError {
        let mut why = format!("{}: {e}", self.origin);
        if let Some(cause) = std::error::Error::source(e) {
            why.push_str(&format!(": {cause}"));
        }
        ShipError::temporary(Class::Broken, why)
    }

    async fn connect(&self, context: &Context) -> Result<Open, ShipError> {
        let alpn: &[&[u8]] = if self.http2 { &[b"h2"] } else { &[b"http/1.1"] };
        let connected = self.target.connect(context, alpn).await?;
        let agreed: Option<Arc<str>> = connected.alpn;
        if self.http2 && self.target.tls.is_some() && agreed.as_deref() != Some("h2") {
            let why = format!("{}: it does not speak HTTP/2", self.origin);
            return Err(ShipError::temporary(Class::Broken, why));
        }
        let stream = TokioIo::new(connected.stream);
        let broken = |e: hyper::Error| self.broken(&e);
        let (sender, task) = if self.http2 {
            let (sender, driver) = http2::handshake(TokioExecutor::new(), stream)
                .await
                .map_err(broken)?;
            (
                Sender::Two(sender),
                tokio::spawn(async move { drop(driver.await) }),
            )
        } else {
            let (sender, driver) = http1::handshake(stream).await.map_err(broken)?;
            (
                Sender::One(sender),
                tokio::spawn(async move { drop(driver.await) }),
            )
        };
        Ok(Open {
            sender,
            peer: connected.peer.to_string(),
            task: task.abort_handle(),
            used: false,
        })
    }
}

impl Sender {
    fn is_usable(&self) -> bool {
        match self {
            Self::One(sender) => !sender.is_closed(),
            Self::Two(sender) => !sender.is_closed(),
        }
    }
}

impl Open {
    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
        let response = match &mut self.sender {
            Sender::One(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Two(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let (head, mut body) = response.into_parts();
        let (bytes, trailers) = read(&mut body).await?;
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: bytes,
            trailers,
            peer: self.peer.clone(),
        })
    }
}

/// Reads on to the end, so that the connection can be used again, but keeps only the beginning.
async fn read(body: &mut Incoming) -> Result<(Bytes, HeaderMap), hyper::Error> {
    let (mut bytes, mut trailers) = (BytesMut::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                let room = MAX_ANSWER.saturating_sub(bytes.len());
                bytes.extend_from_slice(&data[..data.len().min(room)]);
            }
            Err(frame) => {
                if let Ok(found) = frame.into_trailers() {
                    trailers = found;
                }
            }
        }
    }
    Ok((bytes.freeze(), trailers))
}
