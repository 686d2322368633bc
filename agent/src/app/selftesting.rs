//! Self-tests in the running agent: the route by which one is put on record, and the last one, for `status`.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    extract::{ConnectInfo, State},
    routing::post,
};
use serde_json::{Value, json};

use super::{
    agent::Agent,
    control::{Caller, Refused},
};
use crate::{identity::Actor, model::EntryKind, selftest::Report};

/// The file's name in the data directory. Nothing of it is evidence: the entry is.
const FILE: &str = "selftest.last";
/// The most doors of a report, and characters of one text in it.
const DOORS_MAX: usize = 200;
const TEXT_MAX: usize = 1000;

/// The last self-test.
pub(super) struct Last {
    file: PathBuf,
    report: Mutex<Option<Report>>,
}

impl Last {
    /// What an earlier run has kept.
    pub(super) fn read(dir: &Path) -> Self {
        let file = dir.join(FILE);
        let text = std::fs::read(&file).ok();
        let report = text.and_then(|text| serde_json::from_slice(&text).ok());
        Self {
            file,
            report: Mutex::new(report),
        }
    }

    pub(super) fn get(&self) -> Option<Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, report: Report) {
        let text = serde_json::to_vec(&report).unwrap_or_default();
        if let Err(error) = std::fs::write(&self.file, text) {
            tracing::warn!("{}: {error}", self.file.display());
        }
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
    }
}

/// What operators have to know.
pub(super) fn problems(last: &Last) -> Vec<String> {
    let Some(report) = last.get() else {
        return Vec::new();
    };
    let failed = report.doors.iter().filter(|row| row.failed);
    failed
        .map(|row| {
            let by = row.mechanism.as_deref().unwrap_or("nothing");
            format!(
                "the self-test of {} found {} open, which {by} should close: {}",
                report.at, row.door, row.how
            )
        })
        .collect()
}

pub(super) fn routes(agent: Arc<Agent>) -> Router {
    Router::new().route("/v1/selftest", post(done)).with_state(agent)
}

/// Puts a self-test on record.
async fn done(
    State(agent): State<Arc<Agent>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(report): Json<Report>,
) -> Result<Json<Value>, Refused> {
    let long = |row: &crate::selftest::Row| row.how.len().max(row.door.len()) > TEXT_MAX;
    if report.doors.len() > DOORS_MAX || report.kernel.len() > TEXT_MAX || report.doors.iter().any(long) {
        return Err(Refused::new("this is no report of a self-test"));
    }
    let event = if report.failed() > 0 {
        "selftest_failed"
    } else {
        "selftest"
    };
    let detail = json!({
        "actor": Actor::from(caller), "at": report.at, "doors": report.doors, "kernel": report.kernel,
    });
    let entry = json!({ "event": event, "detail": detail });
    agent
        .record(EntryKind::Agent, entry)
        .await
        .map_err(Refused::new)?;
    agent.selftest.set(report);
    Ok(Json(json!({})))
}
