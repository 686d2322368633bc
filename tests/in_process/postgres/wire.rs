//! PostgreSQL's protocol as it is on the wire: a client that keeps every byte, for what drivers cannot be made to do.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use e2e::postgres::Role;
use postgres_protocol::{
    IsNull, Oid,
    authentication::{
        md5_hash,
        sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    },
    message::frontend,
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Whatever bytes go over.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

const PATIENCE: Duration = Duration::from_secs(20);

/// One message of the server's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub tag: u8,
    pub body: Bytes,
}

/// The fields of an error or a notice.
pub type Fields = BTreeMap<char, String>;

impl Message {
    /// The fields of an ErrorResponse or NoticeResponse.
    pub fn fields(&self) -> Fields {
        let parts = self.body.split(|b| *b == 0);
        let field = |part: &[u8]| {
            let (code, text) = part.split_first()?;
            Some((char::from(*code), String::from_utf8_lossy(text).into_owned()))
        };
        parts.filter_map(field).collect()
    }

    /// The values of a DataRow, as text.
    pub fn values(&self) -> Vec<Option<String>> {
        let mut body = self.body.clone();
        let count = body.get_u16();
        let value = |_| {
            let length = body.get_i32();
            let length = usize::try_from(length).ok()?;
            Some(String::from_utf8_lossy(&body.split_to(length)).into_owned())
        };
        (0..count).map(value).collect()
    }
}

/// What came back, up to ReadyForQuery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer(pub Vec<Message>);

impl Answer {
    /// The tags, as a text.
    pub fn tags(&self) -> String {
        self.0.iter().map(|m| char::from(m.tag)).collect()
    }

    /// The rows' values; NULL as "NULL".
    pub fn rows(&self) -> Vec<Vec<String>> {
        let rows = self.0.iter().filter(|m| m.tag == b'D').map(Message::values);
        rows.map(|row| {
            row.into_iter()
                .map(|v| v.unwrap_or_else(|| "NULL".into()))
                .collect()
        })
        .collect()
    }

    /// The only value of the only row.
    pub fn value(&self) -> Result<String> {
        match self.rows().as_slice() {
            [row] if row.len() == 1 => Ok(row[0].clone()),
            _ => bail!("not one value: {self:?}"),
        }
    }

    /// The first error.
    pub fn error(&self) -> Option<Fields> {
        self.0.iter().find(|m| m.tag == b'E').map(Message::fields)
    }

    /// The SQLSTATE of the first error, or nothing.
    pub fn sqlstate(&self) -> String {
        self.error()
            .and_then(|e| e.get(&'C').cloned())
            .unwrap_or_default()
    }

    /// The state of the transaction: `I`, `T` or `E`.
    pub fn state(&self) -> char {
        match self.0.last() {
            Some(Message { tag: b'Z', body }) => char::from(body[0]),
            _ => '?',
        }
    }
}

/// A connection.
pub struct Wire {
    stream: Box<dyn Stream>,
    buffer: BytesMut,
    /// Every byte that was received since it was last taken.
    pub heard: Vec<u8>,
    /// Whether to keep them.
    pub keep: bool,
    /// From BackendKeyData: process id and key.
    pub key: Option<(i32, Vec<u8>)>,
}

impl Wire {
    pub fn new(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            buffer: BytesMut::with_capacity(64 * 1024),
            heard: Vec::new(),
            keep: true,
            key: None,
        }
    }

    /// Asks for TLS, and trusts `roots`.
    pub async fn tls(mut stream: impl Stream + 'static, roots: &[u8], name: &'static str) -> Result<Self> {
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        stream.write_all(&request).await?;
        let answer = tokio::time::timeout(PATIENCE, stream.read_u8()).await??;
        ensure!(answer == b'S', "no TLS: {answer}");
        let mut store = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(roots) {
            store.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store)
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream =
            tokio::time::timeout(PATIENCE, connector.connect(ServerName::try_from(name)?, stream)).await??;
        Ok(Self::new(stream))
    }

    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// Ends its own direction only.
    pub async fn shut(&mut self) -> Result<()> {
        Ok(self.stream.shutdown().await?)
    }

    /// The next message; none when the other side has closed.
    pub async fn next(&mut self) -> Result<Option<Message>> {
        loop {
            if let Some(head) = self.buffer.first_chunk::<5>() {
                let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                if self.buffer.len() > length {
                    let mut body = self.buffer.split_to(1 + length).freeze();
                    if self.keep {
                        self.heard.extend_from_slice(&body);
                    }
                    let tag = body.get_u8();
                    body.advance(4);
                    return Ok(Some(Message { tag, body }));
                }
            }
            self.buffer.reserve(16 * 1024);
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer));
            if read.await.context("nothing came")?? == 0 {
                ensure!(self.buffer.is_empty(), "closed within a message");
                return Ok(None);
            }
        }
    }

    /// Everything up to ReadyForQuery; what came before the other side closed, where it does.
    pub async fn answer(&mut self) -> Result<Answer> {
        let mut all = Vec::new();
        while let Some(message) = self.next().await? {
            let last = message.tag == b'Z';
            all.push(message);
            if last {
                break;
            }
        }
        Ok(Answer(all))
    }

    /// Start-up and login. The answer has everything after the last authentication request.
    pub async fn login(&mut self, parameters: &[(&str, &str)], password: &str) -> Result<Answer> {
        let mut start = BytesMut::new();
        frontend::startup_message(parameters.iter().copied(), &mut start)?;
        self.send(&start).await?;
        let user = parameters.iter().find(|p| p.0 == "user").map_or("", |p| p.1);
        let mut scram = None;
        loop {
            let Some(message) = self.next().await? else {
                return Ok(Answer(Vec::new()));
            };
            if message.tag != b'R' {
                let error = message.tag == b'E';
                let mut all = vec![message];
                if !error {
                    all.extend(self.answer().await?.0);
                }
                let key = all.iter().find(|m| m.tag == b'K').map(|m| m.body.clone());
                self.key = key.map(|mut body| (body.get_i32(), body.to_vec()));
                return Ok(Answer(all));
            }
            let mut body = message.body;
            let mut out = BytesMut::new();
            match body.get_i32() {
                0 => continue,
                3 => frontend::password_message(password.as_bytes(), &mut out)?,
                5 => {
                    let salt = [body.get_u8(), body.get_u8(), body.get_u8(), body.get_u8()];
                    let hash = md5_hash(user.as_bytes(), password.as_bytes(), salt);
                    frontend::password_message(hash.as_bytes(), &mut out)?;
                }
                10 => {
                    let offered = String::from_utf8_lossy(&body).into_owned();
                    let offered: Vec<&str> = offered.split('\0').filter(|m| !m.is_empty()).collect();
                    // The agent ends TLS: a channel binding to the server's certificate cannot hold.
                    ensure!(offered == [SCRAM_SHA_256], "offered: {offered:?}");
                    let started = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
                    frontend::sasl_initial_response(SCRAM_SHA_256, started.message(), &mut out)?;
                    scram = Some(started);
                }
                11 => {
                    let scram = scram.as_mut().context("SCRAM goes on before it began")?;
                    scram.update(&body)?;
                    frontend::sasl_response(scram.message(), &mut out)?;
                }
                12 => {
                    scram
                        .as_mut()
                        .context("SCRAM ends before it began")?
                        .finish(&body)?;
                    continue;
                }
                other => bail!("authentication request {other}"),
            }
            self.send(&out).await?;
        }
    }

    /// Login to the fixtures' database as a role of theirs.
    pub async fn login_as(&mut self, role: Role) -> Result<Answer> {
        let parameters = [("user", role.name), ("database", e2e::postgres::DATABASE)];
        self.login(&parameters, role.password).await
    }

    /// A simple query.
    pub async fn query(&mut self, sql: &str) -> Result<Answer> {
        self.send(&query(sql)).await?;
        self.answer().await
    }
}

/// A simple query's message.
pub fn query(sql: &str) -> BytesMut {
    let mut out = BytesMut::new();
    frontend::query(sql, &mut out).unwrap();
    out
}

/// Any message.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// Messages of the extended protocol, one after the other.
#[derive(Default)]
pub struct Extended(pub BytesMut);

impl Extended {
    pub fn parse(mut self, name: &str, sql: &str, types: &[Oid]) -> Self {
        frontend::parse(name, sql, types.iter().copied(), &mut self.0).unwrap();
        self
    }

    /// Parameters as text; `formats` is of the results.
    pub fn bind(mut self, portal: &str, name: &str, parameters: &[Option<&str>], formats: &[i16]) -> Self {
        let put = |value: &Option<&str>, out: &mut BytesMut| match value {
            Some(text) => {
                out.extend_from_slice(text.as_bytes());
                Ok(IsNull::No)
            }
            None => Ok(IsNull::Yes),
        };
        let formats = formats.iter().copied();
        let bound = frontend::bind(portal, name, [], parameters, put, formats, &mut self.0);
        assert!(bound.is_ok(), "a Bind that cannot be written");
        self
    }

    pub fn describe(mut self, variant: u8, name: &str) -> Self {
        frontend::describe(variant, name, &mut self.0).unwrap();
        self
    }

    pub fn execute(mut self, portal: &str, rows: i32) -> Self {
        frontend::execute(portal, rows, &mut self.0).unwrap();
        self
    }

    pub fn close(mut self, variant: u8, name: &str) -> Self {
        frontend::close(variant, name, &mut self.0).unwrap();
        self
    }

    pub fn flush(mut self) -> Self {
        frontend::flush(&mut self.0);
        self
    }

    pub fn sync(mut self) -> BytesMut {
        frontend::sync(&mut self.0);
        self.0
    }
}

/// A FunctionCall with arguments and result as text.
pub fn function_call(oid: u32, arguments: &[&str]) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.extend_from_slice(&oid.to_be_bytes());
    // No formats: all text.
    body.extend_from_slice(&0u16.to_be_bytes());
    body.extend_from_slice(&u16::try_from(arguments.len()).unwrap().to_be_bytes());
    for argument in arguments {
        body.extend_from_slice(&u32::try_from(argument.len()).unwrap().to_be_bytes());
        body.extend_from_slice(argument.as_bytes());
    }
    body.extend_from_slice(&0u16.to_be_bytes());
    message(b'F', &body)
}

/// A CancelRequest.
pub fn cancel(key: &(i32, Vec<u8>)) -> Vec<u8> {
    let mut out = u32::try_from(12 + key.1.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(&80_877_102u32.to_be_bytes());
    out.extend_from_slice(&key.0.to_be_bytes());
    out.extend_from_slice(&key.1);
    out
}
