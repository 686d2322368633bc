//! What was asked and answered: of this run of the agent, and beyond it from the ledger.

use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{Frame, Page, SignedIn, render, when::When};
use crate::{approval::View, ledger};

/// Ended requests of this run that are listed.
const MAX_ENDED: usize = 100;
/// Entries on one page, and pages.
const PER_PAGE: usize = 50;
const MAX_PAGE: usize = 40;
/// How far back the record is read, in nanoseconds.
const SINCE: i64 = 30 * 24 * 3600 * 1_000_000_000;

/// Reading backwards through a long ledger takes seconds of a core: one at a time.
static READING: Semaphore = Semaphore::const_new(1);

#[derive(Template)]
#[template(path = "history.html")]
struct HistoryPage {
    frame: Frame,
    ended: Vec<Ended>,
    entries: Vec<Line>,
    older: Option<usize>,
    problem: String,
}

struct Ended {
    id: Uuid,
    summary: String,
    workload: String,
    state: &'static str,
    by: String,
    at: When,
}

struct Line {
    event: String,
    line: String,
    at: When,
    body: String,
}

#[derive(Deserialize)]
pub(super) struct Which {
    #[serde(default)]
    page: usize,
}

pub(super) async fn show(
    State(page): State<Page>,
    SignedIn(session): SignedIn,
    Query(which): Query<Which>,
) -> Response {
    let now = page.now();
    let number = which.page.min(MAX_PAGE);
    let overview = page.desk.parts().approvals.overview();
    let (entries, problem) = match read(&page, number).await {
        Ok(entries) => (entries, String::new()),
        Err(error) => (Vec::new(), format!("The ledger cannot be read: {error}")),
    };
    let more = entries.len() > PER_PAGE && number < MAX_PAGE;
    let history = HistoryPage {
        frame: page.frame(Some(&session), "history"),
        ended: if number == 0 {
            let ended = overview.ended.iter().take(MAX_ENDED);
            ended.map(|view| row(view, now)).collect()
        } else {
            Vec::new()
        },
        entries: entries
            .iter()
            .take(PER_PAGE)
            .map(|body| line(body, now))
            .collect(),
        older: more.then_some(number + 1),
        problem,
    };
    render(StatusCode::OK, &history)
}

/// One page of entries, and one more where there are more.
async fn read(page: &Page, number: usize) -> Result<Vec<Value>, String> {
    let parts = page.desk.parts();
    let (path, since) = (parts.ledger_file.clone(), parts.clock.now_ns() - SINCE);
    let _one = READING.acquire().await.map_err(|e| e.to_string())?;
    let skip = number * PER_PAGE;
    let reading = tokio::task::spawn_blocking(move || ledger::approvals(&path, since, skip + PER_PAGE + 1));
    let mut all = reading
        .await
        .map_err(|e| e.to_string())?
        .map_err(|e| e.to_string())?;
    Ok(all.split_off(skip.min(all.len())))
}

fn row(view: &View, now: i64) -> Ended {
    let by: Vec<_> = view.answers.iter().map(|a| a.name.as_str()).collect();
    Ended {
        id: view.id,
        summary: view.summary.clone(),
        workload: view.workload.clone(),
        state: view.state.as_str(),
        by: by.join(", "),
        at: When::new(view.ended_at.as_deref().unwrap_or_default(), now),
    }
}

/// An entry in one line, from the members that it has.
fn line(body: &Value, now: i64) -> Line {
    let word = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
    let parts = [
        word("/workload"),
        word("/action"),
        word("/resource/id"),
        word("/approver/name"),
        word("/reason"),
    ];
    let event = word("/event").unwrap_or_default().replace('_', " ");
    Line {
        event,
        line: parts.into_iter().flatten().collect::<Vec<_>>().join(" · "),
        at: When::new(word("/at").unwrap_or_default(), now),
        body: serde_json::to_string_pretty(body).unwrap_or_default(),
    }
}
