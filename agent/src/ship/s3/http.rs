//! How object_store speaks HTTP here: with the agent's own TLS, and with an eye on what is said.

use std::{
    error::Error as _,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use hyper::{
    HeaderMap,
    body::{Body, Frame, SizeHint},
};
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
        HttpService,
    },
};

use crate::ship::Pace;

/// The most that is read of an error.
const ERROR_MAX: usize = 64 << 10;

/// What was said last.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// The status; `None` where there was no answer.
    pub status: Option<u16>,
    /// Why there was none.
    pub broken: Option<(HttpErrorKind, String)>,
    /// The headers.
    pub headers: HeaderMap,
    /// `Code` and `Message` of an error, where it has such.
    pub error: Option<(String, String)>,
}

impl Said {
    /// A header that is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// When to come again.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.header("retry-after")?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
    }
}

/// What is asked through a client, and what was said; clones share it.
#[derive(Clone)]
pub(super) struct Watched {
    client: reqwest::Client,
    pace: Pace,
    said: Arc<Mutex<Said>>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

impl Watched {
    /// Each piece that goes up or comes down is a sign of life for `pace`.
    pub(super) fn new(client: reqwest::Client, pace: Pace) -> Self {
        Self {
            client,
            pace,
            said: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was said last.
    pub(super) fn said(&self) -> Said {
        self.lock().clone()
    }

    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        *self.lock() = Said::default();
        let answer = self.exchange(request).await;
        if let Err(error) = &answer {
            let mut cause = error.source();
            while let Some(next) = cause.and_then(|cause| cause.source()) {
                cause = Some(next);
            }
            let why = cause.map_or_else(|| error.to_string(), ToString::to_string);
            self.lock().broken = Some((error.kind(), why));
        }
        answer
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let url = reqwest::Url::parse(&parts.uri.to_string())
            .map_err(|e| HttpError::new(HttpErrorKind::Request, e))?;
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        let pace = self.pace.clone();
        *request.body_mut() = Some(reqwest::Body::wrap(Watching { body, pace }));
        let response = self.client.execute(request).await.map_err(broken)?;
        self.pace.alive();
        let (parts, body) = hyper::Response::<reqwest::Body>::from(response).into_parts();
        {
            let mut said = self.lock();
            said.status = Some(parts.status.as_u16());
            said.headers = parts.headers.clone();
        }
        let pace = self.pace.clone();
        let body = Watching { body, pace }.map_err(broken);
        if parts.status.is_success() {
            return Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)));
        }
        // An error is short: it is read here, so that it can be told.
        let read = http_body_util::Limited::new(body, ERROR_MAX).collect().await;
        let bytes = read.map_or_else(|_| Bytes::new(), http_body_util::Collected::to_bytes);
        self.lock().error = parse(&bytes);
        Ok(HttpResponse::from_parts(parts, bytes.into()))
    }
}

impl HttpService for Watched {
    fn call<'a, 'b>(&'a self, request: HttpRequest) -> BoxFuture<'b, Result<HttpResponse, HttpError>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.ask(request))
    }
}

impl HttpConnector for Watched {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

/// A body whose every piece is a sign of life.
struct Watching<B> {
    body: B,
    pace: Pace,
}

impl<B: Body + Unpin> Body for Watching<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.pace.alive();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn broken(error: reqwest::Error) -> HttpError {
    let kind = if error.is_timeout() {
        HttpErrorKind::Timeout
    } else if error.is_connect() {
        HttpErrorKind::Connect
    } else {
        HttpErrorKind::Interrupted
    };
    HttpError::new(kind, error.without_url())
}

/// `Code` and `Message` of S3's XML for errors. Nothing else of it is looked at: it may tell what was signed.
fn parse(body: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(body).ok()?;
    let member = |name: &str| {
        let rest = text.split_once(&format!("<{name}>"))?.1;
        Some(rest.split_once(&format!("</{name}>"))?.0.to_owned())
    };
    Some((member("Code")?, member("Message").unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_error_only_code_and_message_are_told() {
        let xml = "<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>no</Message>\
                   <StringToSign>AWS4</StringToSign></Error>";
        let told = parse(xml.as_bytes()).unwrap();
        assert_eq!(told, ("SignatureDoesNotMatch".into(), "no".into()));
        assert_eq!(parse(b"<html>"), None);
        assert_eq!(parse(b"\xff"), None);
    }
}
