//! Where approvers answer, over real sockets, with an issuer that is asked for real.

mod api;
mod attacks;
mod browser;
mod notify;
mod page;
mod secure;
mod slack;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use e2e::issuer::Human;
use portcullis::{
    approval::View,
    console::{Console, control_api},
};
use serde_json::json;
use tokio::{
    io::DuplexStream,
    net::{TcpListener, UnixListener},
    task::AbortHandle,
};
use uuid::Uuid;

use self::browser::Browser;
use super::{
    people,
    rig::{Rig, Upstream},
};

/// Reading is free; writing takes a DBA, deleting two people of the on-call.
const POLICY: &str = r#"
@id("all") permit(principal, action, resource);
@id("writes") @reason("changes of production need a DBA") @approval("dba")
forbid(principal, action == Action::"http:request", resource) when { context.http.method == "POST" }
unless { context has approval };
@id("deletes") @approval("oncall") @quorum("2")
forbid(principal, action == Action::"http:request", resource) when { context.http.method == "DELETE" }
unless { context has approval };
"#;
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The approvers' client at the issuer.
const CLIENT: &str = "approvers";

/// An agent with its page, and an upstream behind it.
struct Desk {
    rig: Rig,
    upstream: Upstream,
    address: SocketAddr,
    serving: Vec<AbortHandle>,
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.serving.iter().for_each(AbortHandle::abort);
    }
}

impl Desk {
    async fn new() -> Result<Self> {
        Self::with("").await
    }

    /// `more` is added to the configuration, in `[console]`.
    async fn with(more: &str) -> Result<Self> {
        Self::configured("", more).await
    }

    /// The same with `terms` in `[approvals]`.
    async fn configured(terms: &str, more: &str) -> Result<Self> {
        let address = free().await?;
        let more = format!(
            "{}sign_in_age = \"1h\"\n{terms}[console]\nlisten = \"{address}\"\nurl = \"http://{address}\"\n{more}\n",
            people::APPROVALS
        );
        let rig = Rig::new(POLICY, &more).await?;
        let console = Console::bind(&rig.core.desk, &rig.config).await?;
        let console = console.context("a page")?;
        let drain = rig.core.front.shared.drain.clone();
        let serving = tokio::spawn(console.serve(drain)).abort_handle();
        Ok(Self {
            upstream: Upstream::start(OK).await?,
            rig,
            address,
            serving: vec![serving],
        })
    }

    /// Serves the API as the control socket does; the socket's path.
    fn control(&mut self) -> Result<std::path::PathBuf> {
        let path = self.rig.dir.path().join("control.sock");
        let listener = UnixListener::bind(&path)?;
        let app = control_api(self.rig.core.desk.clone());
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        self.serving.push(serving.abort_handle());
        Ok(path)
    }

    /// The workload asks for something that is held; its connection, and the request for approval.
    async fn held(&self, method: &str, path: &str) -> Result<(DuplexStream, Arc<View>)> {
        use tokio::io::AsyncWriteExt as _;
        let before: Vec<Uuid> = self.open().iter().map(|v| v.id).collect();
        let mut stream = self.rig.connect(self.upstream.address).await;
        let host = self.upstream.address;
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let open = people::open(&self.rig.core.front.shared.approvals, before.len() + 1).await?;
        let fresh = open
            .into_iter()
            .find(|v| !before.contains(&v.id))
            .context("a fresh one")?;
        Ok((stream, fresh))
    }

    fn open(&self) -> Vec<Arc<View>> {
        self.rig.core.front.shared.approvals.overview().open
    }

    /// A browser with somebody signed in.
    async fn browser(&self, human: &Human) -> Result<Browser> {
        let mut browser = Browser::new(self.address);
        self.rig.issuer.present(human);
        browser
            .sign_in(self.rig.issuer.address(), "/sign-in/start")
            .await?;
        Ok(browser)
    }

    /// An ID token of somebody, as `portcullis approvals login` keeps it.
    fn token(&self, human: &Human) -> Result<String> {
        self.rig.issuer.id_token(human, CLIENT, &json!({}))
    }

    /// Entries about approvals of an event, once there are so many.
    async fn entries(&self, event: &str, count: usize) -> Result<Vec<String>> {
        let sql = format!(
            "SELECT body FROM entry WHERE json_extract(body, '$.kind') = 'approval' \
             AND json_extract(body, '$.event') = '{event}' ORDER BY seq"
        );
        self.rig
            .await_rows(&format!("{sql} LIMIT 1 OFFSET {}", count - 1))
            .await?;
        self.rig.rows(&sql)
    }
}

/// An address that nobody listens on.
async fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?)
}

fn ada() -> Human {
    Human::new("ada", &["dba", "staff"])
}

/// Long enough for anything here that does not fail.
const PATIENCE: Duration = Duration::from_secs(20);
