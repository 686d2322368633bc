//! The control socket: HTTP/1.1 over a unix socket that only root and root's group can open.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::{ConnectInfo, Request, State, connect_info::Connected},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::IncomingStream,
};
use serde::Deserialize;
use serde_json::json;
use tokio::net::UnixListener;

use super::{Agent, shipping};
use crate::connection::Tag;
use crate::{
    console::control_api,
    model::WorkloadName,
    redirect::{Kept, cgroup},
};

/// Who asks: the peer's credentials, from the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) uid: u32,
    pub(super) pid: i32,
}

impl From<Caller> for crate::identity::Actor {
    fn from(c: Caller) -> Self {
        Self {
            pid: c.pid,
            uid: c.uid,
        }
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        // Without credentials the caller counts as nobody; the socket's mode has let only root's group in anyway.
        stream.io().peer_cred().map_or(
            Self {
                uid: u32::MAX,
                pid: 0,
            },
            |c| Self {
                uid: c.uid(),
                pid: c.pid().unwrap_or(0),
            },
        )
    }
}

/// An error as its caller sees it: one sentence that says what to do.
pub(super) struct Refused(StatusCode, String);

impl Refused {
    pub(super) fn new(error: impl std::fmt::Display) -> Self {
        Self(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

/// The path of the socket in a run directory.
#[must_use]
pub fn socket(run_dir: &Path) -> PathBuf {
    run_dir.join("control.sock")
}

/// The socket that the service manager made, or a new one; an old one that nobody listens on is replaced.
pub(super) fn listen(run_dir: &Path, kept: &mut Kept) -> std::io::Result<UnixListener> {
    if let Some(listener) = kept.unix(&socket(run_dir)) {
        listener.set_nonblocking(true)?;
        return UnixListener::from_std(listener);
    }
    std::fs::create_dir_all(run_dir)?;
    // Readable by all, so that `portcullis run` can show a workload the trust bundle in it; the socket is not.
    std::fs::set_permissions(run_dir, std::fs::Permissions::from_mode(0o755))?;
    let path = socket(run_dir);
    match std::os::unix::net::UnixStream::connect(&path) {
        Ok(_) => {
            let message = format!(
                "{} is in use: another daemon is running with this run_dir",
                path.display()
            );
            return Err(std::io::Error::new(std::io::ErrorKind::AddrInUse, message));
        }
        Err(_) => match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        },
    }
    // Between bind and chmod the umask decides; 0177 leaves it to root alone.
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(&path);
    nix::sys::stat::umask(before);
    let listener = listener?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

pub(super) async fn serve(listener: UnixListener, agent: Arc<Agent>) {
    let drain = agent.front.shared.drain.clone();
    let desk = agent.approving.desk.clone();
    let app = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/credentials", get(credentials))
        .route("/metrics", get(metrics))
        .route("/v1/tag", post(tag))
        .route("/v1/untag", post(untag))
        .route("/v1/workload/revoke", post(revoke))
        .route("/v1/workload/restore", post(restore))
        .route("/v1/ledger/seal", post(seal))
        .with_state(Arc::clone(&agent))
        .merge(super::retention::router(Arc::clone(&agent)))
        .merge(super::exporting::routes(&agent))
        .merge(super::reconciling::routes(Arc::clone(&agent)))
        .merge(super::selftesting::routes(Arc::clone(&agent)))
        .merge(super::truth::routes(Arc::clone(&agent)))
        .merge(control_api(desk))
        .merge(shipping::routes(Arc::clone(&agent)))
        .layer(middleware::from_fn_with_state(Arc::clone(&agent), outsiders_only))
        // After the layer, and so for workloads as well: it says nothing but what the caller itself is.
        .route("/v1/self", get(of_caller).with_state(agent));
    let served = axum::serve(listener, app.into_make_service_with_connect_info::<Caller>())
        .with_graceful_shutdown(async move { drain.stopping().await });
    if let Err(e) = served.await {
        tracing::error!("the control socket ended: {e}");
    }
}

/// Refuses processes of workloads. The socket's mode keeps out who is not root; a workload may be root all the same,
/// and must neither restore nor untag itself.
async fn outsiders_only(
    State(agent): State<Arc<Agent>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    request: Request,
    next: Next,
) -> Response {
    // A process of another pid namespace has no id here.
    let cgroup = (caller.pid > 0)
        .then(|| cgroup::of_process(&caller.pid.to_string()).ok())
        .flatten();
    let Some(cgroup) = cgroup else {
        return Refused(StatusCode::FORBIDDEN, "the calling process cannot be told".into()).into_response();
    };
    if let Some(tag) = tag_of(&agent, &cgroup) {
        let why = format!("the calling process belongs to workload {}", tag.workload);
        return Refused(StatusCode::FORBIDDEN, why).into_response();
    }
    next.run(request).await
}

/// The tag that a cgroup is under.
fn tag_of(agent: &Agent, cgroup: &str) -> Option<Tag> {
    let all = agent.front.workloads.all().into_iter();
    all.map(|(_, tag)| tag).find(|tag| within(cgroup, &tag.cgroup))
}

/// What the calling process is: the workload that it belongs to, or none, and whether every program is in its place.
/// A unit that is started again within a cgroup that is tagged already learns by it that it is.
async fn of_caller(
    State(agent): State<Arc<Agent>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
) -> Result<Response, Refused> {
    let cgroup = cgroup::of_process(&caller.pid.to_string()).map_err(Refused::new)?;
    let attached = agent.control.attached().map_err(Refused::new)?;
    let tag = tag_of(&agent, &cgroup);
    Ok(Json(json!({
        "workload": tag.as_ref().map(|tag| &tag.workload),
        "cgroup": tag.as_ref().map(|tag| &tag.cgroup),
        "enforced": tag.is_some() && attached.iter().all(|program| program.ok),
    }))
    .into_response())
}

/// Whether a cgroup is another or below it.
fn within(cgroup: &str, ancestor: &str) -> bool {
    let parts = |path: &'_ str| path.trim_matches('/').to_owned();
    let (cgroup, ancestor) = (parts(cgroup), parts(ancestor));
    cgroup
        .strip_prefix(&ancestor)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

async fn status(State(agent): State<Arc<Agent>>) -> Json<super::Status> {
    Json(agent.status())
}

async fn credentials(State(agent): State<Arc<Agent>>) -> Json<Vec<super::CredentialStatus>> {
    Json(agent.credentials())
}

async fn metrics(State(agent): State<Arc<Agent>>) -> ([(&'static str, &'static str); 1], String) {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([("content-type", kind)], agent.metrics_text())
}

#[derive(Deserialize)]
struct TagRequest {
    cgroup: String,
    workload: WorkloadName,
}

async fn tag(
    State(agent): State<Arc<Agent>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(request): Json<TagRequest>,
) -> Result<Response, Refused> {
    let id = agent
        .tag(&request.cgroup, &request.workload, caller)
        .await
        .map_err(Refused::new)?;
    Ok(Json(json!({ "cgroup_id": id.0, "older": agent.older.of(id) })).into_response())
}

#[derive(Deserialize)]
struct UntagRequest {
    cgroup: String,
}

async fn untag(
    State(agent): State<Arc<Agent>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(request): Json<UntagRequest>,
) -> Result<Response, Refused> {
    agent.untag(&request.cgroup, caller).await.map_err(Refused::new)?;
    Ok(Json(json!({})).into_response())
}

#[derive(Deserialize)]
struct WorkloadRequest {
    workload: WorkloadName,
}

async fn revoke(
    State(agent): State<Arc<Agent>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(request): Json<WorkloadRequest>,
) -> Result<Response, Refused> {
    agent
        .revoke(&request.workload, caller)
        .await
        .map_err(Refused::new)?;
    Ok(Json(json!({})).into_response())
}

async fn restore(
    State(agent): State<Arc<Agent>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(request): Json<WorkloadRequest>,
) -> Result<Response, Refused> {
    agent
        .restore(&request.workload, caller)
        .await
        .map_err(Refused::new)?;
    Ok(Json(json!({})).into_response())
}

/// Seals what is recorded into a segment.
async fn seal(State(agent): State<Arc<Agent>>) -> Result<Response, Refused> {
    let sealed = agent.front.shared.ledger.seal().await.map_err(Refused::new)?;
    let path = sealed.as_ref().map(|s| s.path.display().to_string());
    Ok(Json(json!({ "segment": sealed, "path": path })).into_response())
}

#[cfg(test)]
mod tests {
    use super::within;

    #[test]
    fn cgroups_within_others() {
        assert!(within("/a/b", "/a") && within("/a", "/a/"));
        assert!(!within("/ab", "/a") && !within("/", "/a") && !within("/b/a", "/a"));
    }
}
