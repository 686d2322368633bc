//! Custody: an export was made, by whom, of what, and which file came of it.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{ConnectInfo, State},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};

use super::{
    Agent,
    control::{Caller, Refused},
};
use crate::model::EntryKind;

/// The most bytes of a file's name, and of what was asked for as JSON.
const TEXT_MAX: usize = 4096;

/// The route by which an export is put on record.
pub(super) fn routes(agent: &Arc<Agent>) -> Router {
    Router::new()
        .route("/v1/export", post(exported))
        .with_state(Arc::clone(agent))
}

/// What the command says of the export that it made.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    /// The file's name.
    file: String,
    /// What was asked for.
    asked: serde_json::Map<String, Value>,
    /// Its SHA-256, hex.
    sha256: String,
    /// Its size.
    bytes: u64,
    /// What it holds, for an export of entries.
    exported: Option<Holds>,
}

#[derive(serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
struct Holds {
    entries: u64,
    first: u64,
    frames: u64,
    root: String,
    selected: u64,
}

async fn exported(
    State(agent): State<Arc<Agent>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(told): Json<Told>,
) -> Result<Response, Refused> {
    let asked = Value::Object(told.asked);
    let hash = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if told.file.len() > TEXT_MAX
        || asked.to_string().len() > TEXT_MAX
        || !hash(&told.sha256)
        || !told.exported.as_ref().is_none_or(|e| hash(&e.root))
    {
        return Err(Refused::new("this is not what is known of an export"));
    }
    // Who a user is may be asked of a server.
    let (login, login_uid) = tokio::task::spawn_blocking(move || login(caller))
        .await
        .map_err(Refused::new)?;
    let mut actor = json!({ "pid": caller.pid, "uid": caller.uid });
    if let Some(login) = login {
        actor["login"] = login.into();
    }
    if let Some(uid) = login_uid {
        actor["login_uid"] = uid.into();
    }
    let mut detail = json!({ "asked": asked, "bytes": told.bytes, "file": told.file, "sha256": told.sha256 });
    if let Some(exported) = told.exported {
        detail["exported"] = json!(exported);
    }
    let members = json!({ "event": "exported", "actor": actor, "detail": detail });
    agent
        .record(EntryKind::Ledger, members)
        .await
        .map_err(Refused::new)?;
    Ok(Json(json!({})).into_response())
}

/// The name and id that the caller logged in with, which stay with a process whatever user it becomes; the name of its
/// user where nobody has logged in.
fn login(caller: Caller) -> (Option<String>, Option<u32>) {
    let name = |uid: u32| {
        let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
        user.map(|u| u.name)
    };
    let audit = std::fs::read_to_string(format!("/proc/{}/loginuid", caller.pid));
    let logged_in = audit
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok())
        .filter(|uid| *uid != u32::MAX);
    (name(logged_in.unwrap_or(caller.uid)), logged_in)
}
