//! Entries in the Common Event Format of `ArcSight` (CEF version 0, "ArcSight Common Event Format", revision 25).
//!
//! ```text
//! CEF:0|Portcullis|Portcullis|VERSION|SIGNATURE|NAME|SEVERITY|key=value key=value ...
//! ```
//!
//! The signature is [`View::code`] and never changes for the same kind of event. Keys are ArcSight's own; what has none
//! is in `cs1` to `cs6`, `cn1` to `cn3` and `deviceCustomDate1`, each with its label. Values are cut where the format
//! bounds them, with `...` at the end: the entry itself, by its `externalId`, has all of it.

use serde_json::Value;

use super::view::{HostFacts, Severity, View};

/// An entry as one line of CEF.
#[must_use]
pub fn cef(view: &View<'_>, host: &HostFacts) -> String {
    let mut line = Line(String::with_capacity(1024));
    line.0.push_str("CEF:0");
    let severity = match view.severity() {
        Severity::Informational => "2",
        Severity::Low => "4",
        Severity::Medium => "6",
        Severity::High => "8",
        Severity::Critical => "10",
    };
    let (code, name) = (view.code(), name(view));
    for part in ["Portcullis", "Portcullis", &host.version, &code, &name, severity] {
        line.header(part);
    }
    line.0.push('|');
    who(&mut line, view, host);
    what(&mut line, view);
    custom(&mut line, view);
    line.0
}

/// What kind of event it is, for a human; the same for the same signature.
fn name(view: &View<'_>) -> String {
    let action = view.text("action");
    match view.kind() {
        "operation" => format!("{action} {}", view.event()),
        "outcome" => format!("operation ended: {}", view.event()),
        "session" => format!("connection {}", view.event()),
        "approval" => format!("approval {}", view.event()),
        "workload" => format!("identity {}", view.event()),
        "change" => format!("{} changed", view.event()),
        "gap" => "records are missing".into(),
        "" => "not an entry".into(),
        kind => format!("{kind} {}", view.event()),
    }
}

fn who(line: &mut Line, view: &View<'_>, host: &HostFacts) {
    let body = view.body;
    let text = |part: &str, member: &str| body[part][member].as_str().unwrap_or_default();
    let at_ms = view.at_ns() / 1_000_000;
    line.number("rt", Some(at_ms));
    line.text("dvchost", &host.host, 100);
    line.text("externalId", view.id(), 40);
    line.text("cat", view.kind(), 1023);
    line.text("shost", &host.host, 1023);
    let process = &body["process"];
    line.number("spid", process["pid"].as_i64());
    line.text("sproc", text("process", "exe"), 1023);
    let subject = match text("identity", "subject") {
        "" => text("detail", "subject"),
        subject => subject,
    };
    match (subject, text("approver", "subject")) {
        ("", "") => line.text("suser", view.workload(), 1023),
        // The human who answered acts; the workload is what it is about.
        (_, approver) if !approver.is_empty() => {
            line.text("suser", approver, 1023);
            line.text("duser", view.workload(), 1023);
        }
        (subject, _) => line.text("suser", subject, 1023),
    }
    let actor = match &body["actor"] {
        Value::Null => &body["detail"]["actor"],
        actor => actor,
    };
    let uid = actor["uid"].as_i64().or_else(|| process["uid"].as_i64());
    line.number("suid", uid);
    let to = &body["destination"];
    if let Some(address) = to["address"].as_str()
        && let Ok(address) = address.parse::<std::net::IpAddr>()
    {
        // `dst` is for version 4 alone.
        let key = if address.is_ipv4() { "dst" } else { "c6a3" };
        line.text(key, &address.to_string(), 45);
        if address.is_ipv6() {
            line.text("c6a3Label", "Destination IPv6 Address", 1023);
        }
        line.text("proto", "TCP", 31);
    }
    line.number("dpt", to["port"].as_i64().filter(|p| (0..=65_535).contains(p)));
    line.text("dhost", to["name"].as_str().unwrap_or_default(), 1023);
}

fn what(line: &mut Line, view: &View<'_>) {
    let body = view.body;
    let act = match view.kind() {
        "operation" => view.text("decision"),
        _ => view.event(),
    };
    line.text("act", act, 63);
    if let Some(success) = view.success() {
        line.text("outcome", if success { "success" } else { "failure" }, 63);
    }
    line.text("reason", view.text("reason"), 1023);
    line.text("app", view.text("protocol"), 31);
    line.number("in", body["bytes_down"].as_i64());
    line.number("out", body["bytes_up"].as_i64());
    let part = body["context"].as_object().and_then(|c| c.values().next());
    if let Some(part) = part {
        line.text("requestMethod", part["method"].as_str().unwrap_or_default(), 1023);
        let (host, path) = (part["host"].as_str(), part["path"].as_str().unwrap_or_default());
        if let Some(host) = host {
            let scheme = part["scheme"].as_str().unwrap_or("https");
            let query = part["query"]
                .as_str()
                .map(|q| format!("?{q}"))
                .unwrap_or_default();
            line.text("request", &format!("{scheme}://{host}{path}{query}"), 1023);
        } else if let Some(statement) = part["text"].as_str() {
            line.text("request", statement, 1023);
        }
    }
    line.text("msg", &view.message(), 1023);
}

fn custom(line: &mut Line, view: &View<'_>) {
    let body = view.body;
    let policies: Vec<&str> = body["policies"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let resource = match body["resource"]["id"].as_str() {
        Some(id) => id.to_owned(),
        None => body["detail"]
            .as_object()
            .filter(|d| !d.is_empty())
            .map(|_| body["detail"].to_string())
            .unwrap_or_default(),
    };
    let resource_label = if body["resource"]["id"].is_string() {
        "Resource"
    } else {
        "Detail"
    };
    for (key, label, value) in [
        ("cs1", "Workload", view.workload()),
        ("cs2", "Policies", &*policies.join(",")),
        ("cs3", "Session", view.text("session")),
        ("cs4", "Correlation", view.correlation()),
        ("cs5", "Status", view.text("status")),
        ("cs6", resource_label, &*resource),
    ] {
        if !value.is_empty() {
            line.text(key, value, 4000);
            line.text(&format!("{key}Label"), label, 1023);
        }
    }
    let sequence = i64::try_from(view.seq).unwrap_or(i64::MAX);
    for (key, label, value) in [
        ("cn1", "Ledger Sequence", Some(sequence)),
        ("cn2", "Duration Microseconds", body["duration_us"].as_i64()),
        ("cn3", "Values Masked", masked(&body["masked"])),
    ] {
        if value.is_some() {
            line.number(key, value);
            line.text(&format!("{key}Label"), label, 1023);
        }
    }
    let expires = body["identity"]["expires_at"]
        .as_str()
        .or(body["detail"]["expires_at"].as_str());
    if let Some(at) = expires.and_then(|t| t.parse::<jiff::Timestamp>().ok()) {
        line.number("deviceCustomDate1", Some(at.as_millisecond()));
        line.text("deviceCustomDate1Label", "Identity Expires", 1023);
    }
}

/// How many values were masked.
fn masked(counts: &Value) -> Option<i64> {
    let counts = counts.as_object()?;
    Some(
        counts
            .values()
            .filter_map(Value::as_i64)
            .fold(0, i64::saturating_add),
    )
}

/// The line so far.
struct Line(String);

impl Line {
    /// A field of the header: a bar and a backslash are escaped, and there are no line breaks.
    fn header(&mut self, text: &str) {
        self.0.push('|');
        for c in text.chars().take(512) {
            match c {
                '|' | '\\' => self.0.extend(['\\', c]),
                c if c.is_control() => self.0.push(' '),
                c => self.0.push(c),
            }
        }
    }

    /// A member of the extension, at most `limit` characters of it; none where it is empty.
    fn text(&mut self, key: &str, text: &str, limit: usize) {
        if text.is_empty() {
            return;
        }
        self.key(key);
        let long = text.chars().nth(limit).is_some();
        let kept = if long { limit.saturating_sub(3) } else { limit };
        for c in text.chars().take(kept) {
            match c {
                '=' | '\\' => self.0.extend(['\\', c]),
                '\n' => self.0.push_str("\\n"),
                '\r' => self.0.push_str("\\r"),
                c if c.is_control() => self.0.push(' '),
                c => self.0.push(c),
            }
        }
        if long {
            self.0.push_str("...");
        }
    }

    fn number(&mut self, key: &str, number: Option<i64>) {
        if let Some(number) = number {
            self.key(key);
            self.0.push_str(&number.to_string());
        }
    }

    fn key(&mut self, key: &str) {
        if !self.0.ends_with('|') {
            self.0.push(' ');
        }
        self.0.push_str(key);
        self.0.push('=');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(body: &Value) -> String {
        let text = body.to_string();
        let view = View {
            seq: 3,
            text: &text,
            body,
        };
        let facts = HostFacts {
            host: "host-1".into(),
            version: "1|2\\".into(),
            raw: false,
        };
        cef(&view, &facts)
    }

    #[test]
    fn what_has_a_meaning_is_escaped() {
        let line = of(&serde_json::json!({
            "kind": "session", "event": "cl|ose\\\n", "reason": "a=b\\c\nd|e\r", "workload": "w",
        }));
        assert_eq!(
            line,
            "CEF:0|Portcullis|Portcullis|1\\|2\\\\|session.close|connection cl\\|ose\\\\ |2|rt=0 dvchost=host-1 \
             cat=session shost=host-1 suser=w act=cl|ose\\\\\\n outcome=success reason=a\\=b\\\\c\\nd|e\\r \
             msg=w session cl|ose\\\\\\n a\\=b\\\\c\\nd|e\\r cs1=w cs1Label=Workload cn1=3 cn1Label=Ledger Sequence"
        );
    }

    #[test]
    fn long_values_are_cut() {
        let line = of(&serde_json::json!({ "kind": "agent", "reason": "é".repeat(2000) }));
        assert!(line.contains(&format!(" reason={}... ", "é".repeat(1020))));
    }

    proptest! {
        #[test]
        fn one_line_whatever_is_in_it(reason in ".{0,40}", kind in "[a-z]{0,9}", event in ".{0,20}") {
            let line = of(&serde_json::json!({ "kind": kind, "event": event, "reason": reason, "decision": event }));
            prop_assert!(!line.contains(['\n', '\r']));
            prop_assert!(line.starts_with("CEF:0|Portcullis|Portcullis|1\\|2\\\\|"));
        }
    }
}
