//! Which entries an export has with their body.

use std::{borrow::Cow, collections::BTreeSet};

use super::ExportOptions;
use crate::model::Rfc3339;

/// The members by which entries are selected.
#[derive(serde::Deserialize)]
pub(super) struct Members<'a> {
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    #[serde(borrow)]
    pub at: Cow<'a, str>,
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    #[serde(borrow, default)]
    pub event: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub decision: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub workload: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub session: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub operation: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub subject: Option<Cow<'a, str>>,
}

/// [`ExportOptions`], made ready.
pub(super) struct Selection<'a> {
    options: &'a ExportOptions,
    since: Option<String>,
    until: Option<String>,
    kinds: Option<BTreeSet<&'static str>>,
}

impl<'a> Selection<'a> {
    pub(super) fn new(options: &'a ExportOptions) -> Self {
        let text = |ns: Option<i64>| ns.map(|ns| Rfc3339(ns).to_string());
        let kinds = (!options.controls.is_empty()).then(|| super::questions::kinds(options.controls.iter()));
        Self {
            options,
            since: text(options.since_ns),
            until: text(options.until_ns),
            kinds,
        }
    }

    /// Whether everything is.
    pub(super) fn is_all(&self) -> bool {
        let o = self.options;
        self.since.is_none()
            && self.until.is_none()
            && self.kinds.is_none()
            && o.workload.is_none()
            && o.session.is_none()
    }

    /// Whether an entry that is no outcome is taken; an outcome goes with its operation.
    pub(super) fn takes(&self, entry: &Members<'_>) -> bool {
        // Without the rotation of keys what was signed afterwards cannot be verified.
        if entry.kind == "ledger" && entry.event.as_deref() == Some("key_rotated") {
            return true;
        }
        if self.since.as_deref().is_some_and(|s| *entry.at < *s)
            || self.until.as_deref().is_some_and(|u| *entry.at >= *u)
        {
            return false;
        }
        // What is not on record concerns every question.
        if entry.kind == "gap" {
            return true;
        }
        self.kinds
            .as_ref()
            .is_none_or(|kinds| kinds.contains(&*entry.kind))
            && self.names(entry)
    }

    /// Whether an entry is of the workload or session asked for.
    fn names(&self, entry: &Members<'_>) -> bool {
        if let Some(session) = &self.options.session {
            return entry.session.as_deref() == Some(session);
        }
        match &self.options.workload {
            None => true,
            Some(workload) if entry.workload.as_deref() == Some(workload) => true,
            Some(_) => match &*entry.kind {
                "agent" => true,
                "change" => match entry.subject.as_deref() {
                    Some("config" | "policy" | "key") => true,
                    Some("credential") => entry.workload.is_none(),
                    _ => false,
                },
                _ => false,
            },
        }
    }
}
