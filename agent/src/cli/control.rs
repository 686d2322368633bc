//! What every command that speaks to the daemon uses: HTTP over its control socket, JSON both ways.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;
use zeroize::Zeroizing;

/// Where the configuration is unless `--config` says otherwise.
pub const CONFIG_FILE: &str = "/etc/portcullis/portcullis.toml";
/// The control socket's name below `[host] run_dir`.
pub const SOCKET: &str = "control.sock";
/// The time for an answer, unless set.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The most that is read of an answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Why the daemon could not be asked, or said no.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error(
        "cannot reach the daemon at {socket}: {source}\n\
         Is the daemon running? Start it with `systemctl start portcullis` or `portcullis daemon`."
    )]
    NotRunning {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket is there, but not for this user.
    #[error("{socket}: permission denied: the control socket is for root and its group; run this as root")]
    NotAllowed {
        /// The socket.
        socket: PathBuf,
    },
    /// No answer in time.
    #[error("the daemon gave no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// It answered with an error.
    #[error("the daemon refused ({status}): {message}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// What it said.
        message: String,
    },
    /// The connection broke, or the answer is not what it should be.
    #[error("the daemon's answer cannot be used: {0}")]
    Broken(String),
}

/// The daemon's control socket.
#[derive(Clone)]
pub struct Control {
    socket: PathBuf,
    timeout: Duration,
    /// An approver's ID token.
    token: Option<Zeroizing<String>>,
}

impl Control {
    /// The socket below a `[host] run_dir`.
    #[must_use]
    pub fn new(run_dir: &Path) -> Self {
        Self {
            socket: run_dir.join(SOCKET),
            timeout: TIMEOUT,
            token: None,
        }
    }

    /// As an approver.
    #[must_use]
    pub fn with_token(mut self, token: Zeroizing<String>) -> Self {
        self.token = Some(token);
        self
    }

    /// With another time for an answer.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Asks for `path`.
    ///
    /// # Errors
    /// When the daemon cannot be reached, refuses, or answers something else than a `T`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ControlError> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    /// Sends `body` to `path`.
    ///
    /// # Errors
    /// As [`Control::get`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, ControlError> {
        let body = serde_json::to_vec(body).map_err(|e| ControlError::Broken(e.to_string()))?;
        self.call(Method::POST, path, body.into()).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ControlError> {
        let (status, bytes) = tokio::time::timeout(self.timeout, self.exchange(method, path, body))
            .await
            .map_err(|_| ControlError::Timeout(self.timeout))??;
        if !status.is_success() {
            return Err(ControlError::Refused {
                status,
                message: explain(&bytes),
            });
        }
        // An answer without content reads as JSON null, so that `()` can be asked for.
        let bytes: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(bytes).map_err(|e| ControlError::Broken(e.to_string()))
    }

    async fn connect(&self) -> Result<UnixStream, ControlError> {
        loop {
            let source = match UnixStream::connect(&self.socket).await {
                Ok(stream) => return Ok(stream),
                Err(e) => e,
            };
            let socket = self.socket.clone();
            match source.kind() {
                // Its queue is full; the time for the whole call bounds the wait.
                io::ErrorKind::WouldBlock => tokio::time::sleep(Duration::from_millis(10)).await,
                io::ErrorKind::PermissionDenied => return Err(ControlError::NotAllowed { socket }),
                _ => return Err(ControlError::NotRunning { socket, source }),
            }
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ControlError> {
        let stream = self.connect().await?;
        let broken = |e: hyper::Error| ControlError::Broken(e.to_string());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "portcullis")
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.as_str()));
        }
        let request = request
            .body(Full::new(body))
            .map_err(|e| ControlError::Broken(e.to_string()))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER)
                .collect()
                .await
                .map_err(|e| ControlError::Broken(e.to_string()))?;
            Ok((status, body.to_bytes()))
        };
        // The connection is driven here, beside the exchange: no task outlives the call.
        let mut connection = std::pin::pin!(connection);
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            biased;
            answer = &mut exchange => answer,
            ended = &mut connection => match ended {
                Ok(()) => exchange.await,
                Err(e) => Err(broken(e)),
            },
        }
    }
}

/// The words of an error answer: a member of problem JSON (RFC 9457) or the text itself, cut short.
pub(super) fn explain(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let member = json.as_ref().and_then(|v| {
        ["detail", "message", "error", "title"]
            .iter()
            .find_map(|k| v.get(k)?.as_str())
    });
    let text = member.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    let text: String = text.trim().chars().take(2_000).collect();
    if text.is_empty() {
        "it did not say why".into()
    } else {
        text
    }
}

/// Runs a command's asynchronous part on this thread alone.
///
/// # Errors
/// When no runtime can be made (no file descriptor left).
pub fn block_on<F: Future>(future: F) -> io::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(future))
}

/// An error and its causes in one line, without the causes that a message tells already.
#[must_use]
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::UnixListener,
    };

    use super::*;

    async fn answer(status: &str, body: &str) -> Result<serde_json::Value, ControlError> {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        let text = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 4096];
            let n = stream.read(&mut seen).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&seen[..n]).into_owned()
        });
        let control = Control::new(dir.path());
        let answer = control
            .post("/v1/tag", &serde_json::json!({"cgroup": "/x"}))
            .await;
        let seen = serving.await.unwrap();
        assert!(
            seen.starts_with("POST /v1/tag HTTP/1.1\r\n") && seen.ends_with(r#"{"cgroup":"/x"}"#),
            "{seen}"
        );
        answer
    }

    #[tokio::test]
    async fn answers_are_json() {
        assert_eq!(
            answer("200 OK", r#"{"cgroup_id":7}"#).await.unwrap()["cgroup_id"],
            7
        );
        let refused = answer("404 Not Found", r#"{"title":"t","detail":"no workload 'x'"}"#)
            .await
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the daemon refused (404 Not Found): no workload 'x'"
        );
        assert!(matches!(
            answer("200 OK", "oops").await,
            Err(ControlError::Broken(_))
        ));
    }

    #[tokio::test]
    async fn a_missing_daemon_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = Control::new(dir.path())
            .get::<()>("/v1/status")
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("Is the daemon running? Start it with"), "{error}");
        let _listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        let control = Control::new(dir.path()).with_timeout(Duration::from_millis(50));
        assert!(matches!(
            control.get::<()>("/v1/status").await,
            Err(ControlError::Timeout(_))
        ));
    }
}
