//! Identities of workloads, and the humans who answer for what is held.

use serde_json::Value;

use super::{
    super::view::{HostFacts, View},
    event::{
        self, AUTHENTICATION, AUTHORIZE, Activity, OTHER, destination, human, observable, observables,
        process, session, text, user,
    },
    out::Out,
};

const OPENID: (i64, &str) = (4, "OpenID");

/// A workload's identity was verified, renewed, lost, or could not be had.
pub(super) fn identity(view: &View<'_>, host: &HostFacts) -> String {
    let activity: Activity<'_> = match view.event() {
        "bound" | "failed" => (1, "Logon"),
        "expired" => (2, "Logoff"),
        _ => (OTHER, "Token Refresh"),
    };
    let detail = &view.body["detail"];
    event::write(
        view,
        host,
        &AUTHENTICATION,
        activity,
        &["event", "workload"],
        |o| {
            o.number("auth_protocol_id", OPENID.0);
            o.text("auth_protocol", OPENID.1);
            o.number("logon_type_id", 5);
            o.text("logon_type", "OS Service");
            user_or_unknown(o, view.workload(), detail);
            session(o, "", detail);
            service(o);
            observables(o, &[("user.uid", observable::USER, text(detail, "subject"))]);
        },
    )
}

/// The service that is logged on to is this program's gate.
fn service(o: &mut Out) {
    o.object("service", |o| o.text("name", "portcullis"));
}

/// A user has to be there.
fn user_or_unknown(o: &mut Out, workload: &str, identity: &Value) {
    if workload.is_empty() && text(identity, "subject").is_empty() {
        o.object("user", |o| o.text("name", "unknown"));
    } else {
        user(o, "user", workload, identity);
    }
}

/// An approver signed in, or somebody tried to.
pub(super) fn sign_in(view: &View<'_>, host: &HostFacts) -> String {
    let by = &view.body["approver"];
    event::write(view, host, &AUTHENTICATION, (1, "Logon"), &["event"], |o| {
        o.number("auth_protocol_id", OPENID.0);
        o.text("auth_protocol", OPENID.1);
        o.number("logon_type_id", 3);
        o.text("logon_type", "Network");
        o.flag("is_remote", true);
        if text(by, "subject").is_empty() {
            o.object("user", |o| o.text("name", "unknown"));
        }
        human(o, "user", by);
        session(o, "", by);
        o.object("service", |o| o.text("name", "portcullis approvals"));
        observables(o, &[("user.uid", observable::USER, text(by, "subject"))]);
    })
}

/// Approvers were asked, answered, or what they gave ended.
pub(super) fn approval(view: &View<'_>, host: &HostFacts) -> String {
    let activity: Activity<'_> = match view.event() {
        "approved" | "denied" | "break_glass_given" => (1, "Assign Privileges"),
        "" => (0, "Unknown"),
        other => (OTHER, other),
    };
    let mapped = ["action", "covers", "event", "session", "workload"];
    let by = &view.body["approver"];
    event::write(view, host, &AUTHORIZE, activity, &mapped, |o| {
        if let Some((action, disposition)) = answer(view) {
            o.number("action_id", action.0);
            o.text("action", action.1);
            o.number("disposition_id", disposition.0);
            o.text("disposition", disposition.1);
        }
        o.object("actor", |o| {
            human(o, "user", by);
            if text(by, "subject").is_empty() {
                o.text("app_name", view.workload());
                process(o, "process", &view.body["process"]);
                user(o, "user", view.workload(), &view.body["identity"]);
            } else {
                session(o, "", by);
            }
        });
        user_or_unknown(o, view.workload(), &view.body["identity"]);
        o.object("session", |o| o.text("uid", view.text("session")));
        o.array("privileges", |o| o.item(&privilege(view)));
        destination(o, &view.body["destination"]);
        observables(o, &[("actor.user.uid", observable::USER, text(by, "subject"))]);
    })
}

type Word = (i64, &'static str);

fn answer(view: &View<'_>) -> Option<(Word, Word)> {
    Some(match view.event() {
        "approved" | "break_glass_given" => ((1, "Allowed"), (8, "Approved")),
        "denied" => ((2, "Denied"), (25, "Rejected")),
        "refused" => ((2, "Denied"), (26, "Unauthorized")),
        "expired" | "lapsed" => ((2, "Denied"), (2, "Blocked")),
        "grant_ended" => ((OTHER, "Ended"), (24, "Access Revoked")),
        "requested" => ((OTHER, "Held"), (14, "Delayed")),
        _ => return None,
    })
}

/// What it is about, as far as this entry says: the action and what it is asked of, what a grant covers, or the one
/// operation.
fn privilege(view: &View<'_>) -> String {
    let covers = view.text("covers");
    if !covers.is_empty() {
        return covers.into();
    }
    let action = view.text("action");
    if !action.is_empty() {
        return format!("{action} {}", text(&view.body["resource"], "id"))
            .trim_end()
            .into();
    }
    match (view.text("operation"), view.event()) {
        ("", event) if event.starts_with("break_glass") => "break-glass".into(),
        ("", _) => format!("approval {}", view.text("approval")),
        (operation, _) => format!("operation {operation}"),
    }
}
