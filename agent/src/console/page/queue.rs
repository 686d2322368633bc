//! The queue: what is open, by workload and by what it is.

use std::{collections::BTreeMap, sync::Arc};

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use uuid::Uuid;

use super::{Frame, Page, SignedIn, render, when::When};
use crate::approval::{BreakGlassView, FloodView, View};

/// The query with which the queue loads itself again.
pub(super) const AGAIN: &str = "again=1";
/// Requests of one kind that are listed one by one.
const MAX_LISTED: usize = 50;

#[derive(Template)]
#[template(path = "queue.html")]
struct QueuePage {
    frame: Frame,
    total: usize,
    groups: Vec<Group>,
    floods: Vec<FloodView>,
    glasses: Vec<BreakGlassView>,
}

/// One workload's.
struct Group {
    workload: String,
    count: usize,
    rows: Vec<Row>,
}

/// Those of one workload that are alike.
struct Row {
    id: Uuid,
    summary: String,
    resource: String,
    who: String,
    asked: When,
    waiting: usize,
    progress: String,
    count: usize,
    /// One by one, where there are several.
    many: Vec<One>,
}

struct One {
    id: Uuid,
    asked: When,
    waiting: usize,
}

pub(super) async fn show(State(page): State<Page>, SignedIn(session): SignedIn) -> Response {
    let overview = page.desk.parts().approvals.overview();
    let queue = QueuePage {
        frame: page.frame(Some(&session), "queue"),
        total: overview.open.len(),
        groups: grouped(&overview.open, page.now()),
        floods: overview.floods,
        glasses: overview.break_glass,
    };
    render(StatusCode::OK, &queue)
}

/// By workload, the one that has waited longest first; within, by what it is.
fn grouped(open: &[Arc<View>], now: i64) -> Vec<Group> {
    let mut order: Vec<&str> = Vec::new();
    let mut by_workload: BTreeMap<&str, Vec<&Arc<View>>> = BTreeMap::new();
    for view in open {
        let all = by_workload.entry(&view.workload).or_default();
        if all.is_empty() {
            order.push(&view.workload);
        }
        all.push(view);
    }
    let groups = order.into_iter().filter_map(|workload| {
        let views = by_workload.remove(workload)?;
        Some(Group {
            workload: workload.to_owned(),
            count: views.len(),
            rows: alike(&views, now),
        })
    });
    groups.collect()
}

fn alike(views: &[&Arc<View>], now: i64) -> Vec<Row> {
    let mut rows: Vec<(&str, &str, Vec<&Arc<View>>)> = Vec::new();
    let mut places: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for view in views {
        let place = *places.entry((&view.summary, &view.resource)).or_insert_with(|| {
            rows.push((&view.summary, &view.resource, Vec::new()));
            rows.len() - 1
        });
        if let Some(row) = rows.get_mut(place) {
            row.2.push(view);
        }
    }
    rows.into_iter()
        .filter_map(|(_, _, same)| row(&same, now))
        .collect()
}

fn row(same: &[&Arc<View>], now: i64) -> Option<Row> {
    let first = same.first()?;
    let one = |view: &&Arc<View>| One {
        id: view.id,
        asked: When::new(&view.asked_at, now),
        waiting: view.waiting,
    };
    let groups: Vec<_> = first.requirements.iter().map(|r| r.groups.join(" or ")).collect();
    let progress = first.requirements.iter().filter(|r| r.quorum > 1);
    let progress: Vec<_> = progress
        .map(|r| format!("{} of {}", r.approved_by.len(), r.quorum))
        .collect();
    Some(Row {
        id: first.id,
        summary: first.summary.clone(),
        resource: first.resource.clone(),
        who: groups.join(" and "),
        asked: When::new(&first.asked_at, now),
        waiting: first.waiting,
        progress: progress.join(", "),
        count: same.len(),
        many: if same.len() > 1 {
            same.iter().take(MAX_LISTED).map(one).collect()
        } else {
            Vec::new()
        },
    })
}
