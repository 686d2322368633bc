//! What is managed: tags, workloads, configuration, the agent, and the ledger itself.

use serde_json::Value;

use super::{
    super::view::{HostFacts, View},
    event::{self, Activity, ENTITY, ERROR, EVENT_LOG, FINDING, LIFECYCLE, OTHER, admin, text, time, user},
    out::Out,
};

/// A workload was put under control, taken out, revoked or restored.
pub(super) fn workload(view: &View<'_>, host: &HostFacts) -> String {
    let activity: Activity<'_> = match view.event() {
        "tagged" => (6, "Enroll"),
        "removed" => (7, "Unenroll"),
        "revoked" => (12, "Suspend"),
        "restored" => (13, "Resume"),
        "" => (0, "Unknown"),
        other => (OTHER, other),
    };
    let detail = &view.body["detail"];
    event::write(view, host, &ENTITY, activity, &["event", "workload"], |o| {
        admin(o, &detail["actor"]);
        o.object("entity", |o| {
            o.number("type_id", 2);
            o.text("type", "User");
            o.text("name", name(view.workload()));
            user(o, "user", view.workload(), detail);
        });
        o.text("comment", text(detail, "message"));
    })
}

fn name(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}

/// Configuration, policy, tag, revocation, credential or key changed.
pub(super) fn change(view: &View<'_>, host: &HostFacts) -> String {
    let subject = view.text("subject");
    let detail = &view.body["detail"];
    let (before, after) = (&view.body["before"], &view.body["after"]);
    let activity: Activity<'_> = match (subject, text(detail, "act"), text(detail, "event")) {
        (_, "revoke", _) => (12, "Suspend"),
        (_, "restore", _) => (13, "Resume"),
        ("credential", _, "obtained") => (1, "Create"),
        ("credential", _, "revoked") => (4, "Delete"),
        ("credential", _, "expired") => (11, "Deactivate"),
        ("tag", ..) if before.is_null() => (1, "Create"),
        ("tag", ..) if after.is_null() => (4, "Delete"),
        _ => (3, "Update"),
    };
    let named = [
        text(detail, "reference"),
        text(detail, "cgroup"),
        text(detail, "workload"),
    ];
    let what = named.into_iter().find(|t| !t.is_empty()).unwrap_or(name(subject));
    event::write(view, host, &ENTITY, activity, &["actor", "subject"], |o| {
        admin(o, &view.body["actor"]);
        o.object("entity", |o| entity(o, subject, what, before));
        if !after.is_null() {
            o.object("entity_result", |o| entity(o, subject, what, after));
        }
        o.text("comment", text(detail, "message"));
    })
}

fn entity(o: &mut Out, subject: &str, what: &str, version: &Value) {
    let (kind, word) = match subject {
        "policy" => (5, "Policy"),
        "revocation" => (2, "User"),
        _ => (OTHER, name(subject)),
    };
    o.number("type_id", kind);
    o.text("type", word);
    o.text("name", what);
    o.text("version", version.as_str().unwrap_or_default());
}

/// The agent started, stopped, or met a failure.
pub(super) fn agent(view: &View<'_>, host: &HostFacts) -> String {
    let mapped = ["actor", "event"];
    if view.event() == "exported" {
        return ledger(view, host);
    }
    if view.success() == Some(false) {
        return event::write(view, host, &ERROR, (1, "General Error"), &mapped, |_| {});
    }
    let activity: Activity<'_> = match view.event() {
        "started" => (3, "Start"),
        "stopped" => (4, "Stop"),
        "" => (0, "Unknown"),
        other => (OTHER, other),
    };
    event::write(view, host, &LIFECYCLE, activity, &mapped, |o| {
        admin(o, &view.body["actor"]);
        o.object("app", |o| {
            o.text("name", "Portcullis");
            o.text("vendor_name", "Portcullis");
            o.text("version", &host.version);
        });
    })
}

/// The ledger's own custody; and whatever this version does not know.
pub(super) fn ledger(view: &View<'_>, host: &HostFacts) -> String {
    let activity: Activity<'_> = match view.event() {
        "exported" => (3, "Export"),
        "segment_sealed" => (4, "Archive"),
        "key_rotated" => (5, "Rotate"),
        "payload_purged" | "entries_purged" => (2, "Delete"),
        "" => (0, "Unknown"),
        other => (OTHER, other),
    };
    event::write(view, host, &EVENT_LOG, activity, &["actor", "event"], |o| {
        admin(o, &view.body["actor"]);
        o.text("log_name", "ledger");
        o.text("log_provider", "portcullis");
        o.number("log_type_id", 2);
        o.text("log_type", "Application");
        let file = ["file", "out", "path", "name"]
            .iter()
            .map(|m| text(&view.body["detail"], m))
            .find(|t| !t.is_empty());
        if let Some(file) = file.filter(|f| !f.ends_with('/')) {
            o.object("file", |o| {
                o.text("name", file.rsplit('/').next().unwrap_or(file));
                o.text("path", file);
                o.number("type_id", 1);
            });
        }
    })
}

/// Something could not be recorded: somebody should look.
pub(super) fn gap(view: &View<'_>, host: &HostFacts) -> String {
    event::write(view, host, &FINDING, (1, "Create"), &[], |o| {
        o.number("action_id", 3);
        o.text("action", "Observed");
        o.number("disposition_id", 19);
        o.text("disposition", "Alert");
        time(o, "start_time", view.text("from"));
        time(o, "end_time", view.text("to"));
        o.number_of("count", &view.body["detail"]["count"]);
        o.object("finding_info", |o| {
            o.text("uid", name(view.id()));
            o.text("title", "Records are missing from the ledger");
            o.text(
                "desc",
                "Something happened that could not be recorded; the counts are in unmapped.detail.",
            );
            o.array("types", |o| o.item("audit_loss"));
            time(o, "first_seen_time", view.text("from"));
            time(o, "last_seen_time", view.text("to"));
            time(o, "created_time", view.text("at"));
        });
    })
}
