//! The queue: what is open, by workload and by what it is.

use std::{collections::BTreeMap, sync::Arc};

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use uuid::Uuid;

use super::{Frame, Page, SignedIn, render, when::When};
use crate::approval::{BreakGlassView, FloodView, View};

/// The query with which the queue loads itself again.
pub(super) const AGAIN: &str = "again=1";
/// The query that keeps it from doing so: who reads must not be hurried (WCAG 2.2.1).
const STILL: &str = "still=1";
/// Requests of one kind that are listed one by one.
const MAX_LISTED: usize = 50;
/// From so many on, requests of one shape are one row.
const ALIKE: usize = 4;

#[derive(Template)]
#[template(path = "queue.html")]
struct QueuePage {
    frame: Frame,
    total: usize,
    still: bool,
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
    summary: String,
    asked: When,
    waiting: usize,
}

pub(super) async fn show(State(page): State<Page>, SignedIn(session): SignedIn, query: RawQuery) -> Response {
    let overview = page.desk.parts().approvals.overview();
    let queue = QueuePage {
        frame: page.frame(Some(&session), "queue"),
        total: overview.open.len(),
        still: query.0.as_deref() == Some(STILL),
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

/// Those that say the same in one row; and where many are of one shape, those.
fn alike(views: &[&Arc<View>], now: i64) -> Vec<Row> {
    let mut of_shape: BTreeMap<&str, usize> = BTreeMap::new();
    for view in views {
        *of_shape.entry(shape(view)).or_default() += 1;
    }
    let mut rows: Vec<(&str, Vec<&Arc<View>>)> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for view in views {
        let shape = shape(view);
        let many = of_shape.get(shape).is_some_and(|n| *n >= ALIKE);
        let title = if many { shape } else { view.summary.as_str() };
        let place = *places.entry(title).or_insert_with(|| {
            rows.push((title, Vec::new()));
            rows.len() - 1
        });
        if let Some(row) = rows.get_mut(place) {
            row.1.push(view);
        }
    }
    rows.into_iter()
        .filter_map(|(title, same)| row(title, &same, now))
        .collect()
}

/// The widest shape that it is of.
fn shape(view: &View) -> &str {
    view.shapes.last().map_or(view.summary.as_str(), String::as_str)
}

fn row(title: &str, same: &[&Arc<View>], now: i64) -> Option<Row> {
    let first = same.first()?;
    let one = |view: &&Arc<View>| One {
        id: view.id,
        summary: view.summary.clone(),
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
        summary: if same.len() > 1 { title } else { &first.summary }.to_owned(),
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
