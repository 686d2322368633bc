//! Events as OTLP logs, over gRPC or protobuf over HTTP.
//!
//! A batch is one export request, taken when the collector answers so. An event is a log record whose body is OCSF as a
//! structured value, or the entry's text; `log.record.uid` is the entry's id.

mod answer;
mod proto;
mod record;

use std::io::Write as _;

use bytes::{BufMut as _, Bytes};
use flate2::{Compression, write::GzEncoder};
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::{
    Request,
    header::{self, HeaderName, HeaderValue},
};
use prost::Message as _;
use zeroize::Zeroizing;

use super::{Accepted, Class, Context, Event, EventSink, ShipError, form::Form, web::Web};
use crate::config::ship::{self, OtlpProtocol};

/// Where gRPC has it, and where HTTP has it unless the URL says otherwise.
const METHOD: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const PATH: &str = "/v1/logs";

/// The sink.
pub struct Otlp {
    form: Form,
    context: Context,
    config: ship::Otlp,
    web: Web,
    /// The request's target.
    uri: String,
}

impl Otlp {
    /// To the collector of a configuration that was checked. Asks nobody yet.
    ///
    /// # Errors
    /// When the file with roots cannot be used.
    pub fn new(config: &ship::Otlp, form: Form, context: Context) -> Result<Self, ShipError> {
        let local = |why: String| ShipError::temporary(Class::Local, why);
        let url = reqwest::Url::parse(&config.url).map_err(|e| local(e.to_string()))?;
        let grpc = config.protocol == OtlpProtocol::Grpc;
        let web = Web::new(&url, config.ca_file.clone(), config.certificate.clone(), grpc)?;
        let path = match url.path() {
            _ if grpc => METHOD,
            "" | "/" => PATH,
            path => path,
        };
        Ok(Self {
            // HTTP/2 has scheme and host beside the path; HTTP/1.1 has the path alone, and a header.
            uri: if grpc {
                format!("{}{path}", web.origin())
            } else {
                path.into()
            },
            form,
            context,
            config: config.clone(),
            web,
        })
    }

    fn is_grpc(&self) -> bool {
        self.config.protocol == OtlpProtocol::Grpc
    }

    /// The request of a batch.
    async fn request(&self, batch: &[Event]) -> Result<Request<Full<Bytes>>, ShipError> {
        let local = |why: String| ShipError::temporary(Class::Local, why);
        let message = record::request(batch, &self.form, self.context.clock.now_ns()).encode_to_vec();
        let message = if self.config.gzip {
            gzip(&message)?
        } else {
            message
        };
        let mut request = Request::post(&self.uri);
        if self.is_grpc() {
            request = request
                .header(header::CONTENT_TYPE, "application/grpc")
                .header(header::TE, "trailers");
            if self.config.gzip {
                request = request.header("grpc-encoding", "gzip");
            }
        } else {
            let host = self.web.origin().split("://").nth(1).unwrap_or_default();
            request = request
                .header(header::CONTENT_TYPE, "application/x-protobuf")
                .header(header::HOST, host);
            if self.config.gzip {
                request = request.header(header::CONTENT_ENCODING, "gzip");
            }
        }
        request = request.header(
            header::USER_AGENT,
            concat!("portcullis/", env!("CARGO_PKG_VERSION")),
        );
        if let (Some(name), Some(credential)) = (&self.config.header, &self.config.credential) {
            let secret = self.context.secret(credential).await?;
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| local(e.to_string()))?;
            request = request.header(name, secret_value(&self.config.header_prefix, &secret)?);
        }
        let body = if self.is_grpc() {
            framed(&message, self.config.gzip)?
        } else {
            message.into()
        };
        request.body(Full::new(body)).map_err(|e| local(e.to_string()))
    }
}

impl EventSink for Otlp {
    fn send<'a>(&'a mut self, batch: &'a [Event]) -> BoxFuture<'a, Result<Accepted, ShipError>> {
        Box::pin(async move {
            let request = self.request(batch).await?;
            let answer = self.web.send(&self.context, &request).await?;
            if self.is_grpc() {
                answer::grpc(&answer, batch, self.web.origin())
            } else {
                answer::http(&answer, batch, self.web.origin())
            }
        })
    }

    fn lasts(&self) -> bool {
        true
    }
}

/// A header's value that is not shown anywhere.
pub(super) fn secret_value(prefix: &str, secret: &str) -> Result<HeaderValue, ShipError> {
    let text = Zeroizing::new(format!("{prefix}{secret}"));
    let mut value = HeaderValue::from_str(&text).map_err(|_| {
        ShipError::temporary(
            Class::Denied,
            "the secret can be no header: it has other than visible characters",
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Compressed as RFC 1952 has it.
pub(super) fn gzip(bytes: &[u8]) -> Result<Vec<u8>, ShipError> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .map_err(|e| ShipError::temporary(Class::Local, e.to_string()))
}

/// gRPC's five bytes before a message.
fn framed(message: &[u8], compressed: bool) -> Result<Bytes, ShipError> {
    let length = u32::try_from(message.len()).map_err(|_| ShipError::TooLarge {
        why: "more than 4 GiB".into(),
    })?;
    let mut framed = Vec::with_capacity(message.len() + 5);
    framed.put_u8(u8::from(compressed));
    framed.put_u32(length);
    framed.extend_from_slice(message);
    Ok(framed.into())
}
