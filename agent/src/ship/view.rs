//! An entry as what is shipped sees it: parsed once, with what all forms say alike: a stable code, a severity, a line for
//! a human. Nothing here trusts the entry's shape: a member that is missing or of another type is no member.

use serde_json::Value;

/// What is known of the host beside its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// Its name, as `[host] name` or the kernel has it.
    pub host: String,
    /// This program's version.
    pub version: String,
    /// Whether an OCSF event holds the entry's own text too (`raw_data`).
    pub raw: bool,
}

impl HostFacts {
    /// Of this program, on a host of this name.
    #[must_use]
    pub fn new(host: &str) -> Self {
        Self {
            host: host.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            raw: false,
        }
    }
}

/// How grave it is, as OCSF counts (`severity_id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Informational = 1,
    /// Worth a look.
    Low = 2,
    /// Something was refused, failed or taken away.
    Medium = 3,
    /// Somebody should act: a secret left its place, a grant for emergencies, evidence missing.
    High = 4,
    /// Somebody must act now.
    Critical = 5,
}

impl Severity {
    /// OCSF's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "Informational",
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
            Self::Critical => "Critical",
        }
    }
}

/// One entry, read.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Its place in the ledger.
    pub seq: u64,
    /// Its text.
    pub text: &'a str,
    /// The text, parsed; `Null` where it is no JSON.
    pub body: &'a Value,
}

impl<'a> View<'a> {
    /// A member's text; empty where it has none.
    #[must_use]
    pub fn text(&self, member: &str) -> &'a str {
        self.body[member].as_str().unwrap_or_default()
    }

    /// The entry's id: every copy of it has the same.
    #[must_use]
    pub fn id(&self) -> &'a str {
        self.text("id")
    }

    /// What it speaks of.
    #[must_use]
    pub fn kind(&self) -> &'a str {
        self.text("kind")
    }

    /// What happened, within its kind.
    #[must_use]
    pub fn event(&self) -> &'a str {
        match self.kind() {
            "operation" => self.text("decision"),
            "outcome" | "gap" => self.text("reason"),
            "change" => self.text("subject"),
            _ => self.text("event"),
        }
    }

    /// When, nanoseconds since 1970 UTC; 0 where that cannot be read.
    #[must_use]
    pub fn at_ns(&self) -> i64 {
        let at: Option<jiff::Timestamp> = self.text("at").parse().ok();
        at.and_then(|t| i64::try_from(t.as_nanosecond()).ok())
            .unwrap_or_default()
    }

    /// The workload's name.
    #[must_use]
    pub fn workload(&self) -> &'a str {
        self.text("workload")
    }

    /// What it belongs with: the operation's id, else the approval's, else the session's.
    #[must_use]
    pub fn correlation(&self) -> &'a str {
        match self.kind() {
            "operation" => self.id(),
            _ => ["operation", "approval", "session"]
                .iter()
                .map(|m| self.text(m))
                .find(|t| !t.is_empty())
                .unwrap_or_default(),
        }
    }

    /// A stable code of what kind of thing happened, for rules of a SIEM: `operation.deny`, `workload.revoked`.
    #[must_use]
    pub fn code(&self) -> String {
        let word = |text: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
            text.chars().filter(|c| plain(*c)).take(48).collect::<String>()
        };
        let (kind, event) = (word(self.kind()), word(self.event()));
        let more = match self.kind() {
            "operation" => word(self.text("action")),
            "change" => word(self.body["detail"]["event"].as_str().unwrap_or_default()),
            _ => String::new(),
        };
        let parts = [kind, event, more];
        let parts: Vec<&str> = parts
            .iter()
            .map(String::as_str)
            .filter(|p| !p.is_empty())
            .collect();
        if parts.is_empty() {
            "unknown".into()
        } else {
            parts.join(".")
        }
    }

    /// Whether it went as it was wanted; `None` where that is no question.
    #[must_use]
    pub fn success(&self) -> Option<bool> {
        let event = self.event();
        match self.kind() {
            "operation" => Some(event == "allow"),
            "outcome" => Some(event == "completed"),
            "session" if event == "close" => Some(matches!(
                self.text("reason"),
                "completed" | "peer_closed" | "draining"
            )),
            "session" | "agent" | "workload" | "ledger" => Some(!is_failure(event)),
            "change" => Some(!is_failure(
                self.body["detail"]["event"].as_str().unwrap_or_default(),
            )),
            "approval" => match event {
                "approved" | "break_glass_given" | "signed_in" => Some(true),
                "denied" | "refused" | "expired" | "lapsed" | "not_admitted" | "stranger" => Some(false),
                _ => None,
            },
            "gap" => Some(false),
            _ => None,
        }
    }

    /// How grave.
    #[must_use]
    pub fn severity(&self) -> Severity {
        use Severity::{Critical, High, Informational, Low, Medium};
        let (event, reason) = (self.event(), self.text("reason"));
        match self.kind() {
            "operation" if event == "allow" => Informational,
            "operation" => match reason {
                "secret_leak" | "policy_error" | "ledger_unavailable" => High,
                "approval_timeout" | "approval_denied" | "approval_lapsed" | "approval_required" => Low,
                _ => Medium,
            },
            "outcome" | "session" if reason == "upstream_untrusted" => Medium,
            "outcome" | "session" => match self.success() {
                Some(false) => Low,
                _ => Informational,
            },
            "approval" => match event {
                "break_glass_asked" | "break_glass_given" => High,
                "refused" | "not_admitted" | "stranger" => Medium,
                "approved" | "denied" | "grant_ended" => Low,
                _ => Informational,
            },
            "workload" => match event {
                "failed" | "expired" | "revoked" => Medium,
                "removed" | "restored" => Low,
                _ => Informational,
            },
            "change" => match (event, self.success()) {
                (_, Some(false)) => Medium,
                ("credential", _) => Informational,
                ("revocation" | "key", _) => Medium,
                _ => Low,
            },
            "agent" if event == "recovered" => Low,
            "agent" if is_failure(event) => Medium,
            "agent" => Informational,
            "ledger" => match event {
                "budget_exhausted" => Critical,
                "entries_purged" | "ship_rejected" => High,
                "ship_failing" | "budget_warning" | "key_rotated" | "hold_released" => Medium,
                "payload_purged" | "hold_set" | "exported" => Low,
                _ => Informational,
            },
            "gap" => High,
            _ => Low,
        }
    }

    /// One line for a human: who, what, how it came out, why.
    #[must_use]
    pub fn message(&self) -> String {
        let mut parts: Vec<&str> = Vec::with_capacity(8);
        let resource = self.body["resource"]["id"].as_str().unwrap_or_default();
        let detail = &self.body["detail"];
        let said = |member: &str| detail[member].as_str().unwrap_or_default();
        parts.push(match self.workload() {
            "" => said("workload"),
            name => name,
        });
        match self.kind() {
            "operation" => parts.extend([self.event(), self.text("action"), resource]),
            "outcome" => parts.extend(["outcome", self.text("status")]),
            "session" => parts.extend([
                "session",
                self.event(),
                self.body["destination"]["address"].as_str().unwrap_or_default(),
            ]),
            "approval" => parts.extend([
                "approval",
                self.event(),
                self.text("action"),
                resource,
                self.body["approver"]["subject"].as_str().unwrap_or_default(),
            ]),
            "workload" => parts.extend(["identity", self.event(), said("subject")]),
            "change" => parts.extend([
                "change of",
                self.event(),
                said("reference"),
                said("cgroup"),
                said("event"),
                said("act"),
            ]),
            "gap" => parts.push("records are missing"),
            kind => parts.extend([kind, self.event()]),
        }
        parts.push(self.text("reason"));
        parts.push(said("message"));
        parts.retain(|p| !p.is_empty());
        parts.join(" ")
    }
}

fn is_failure(event: &str) -> bool {
    event.ends_with("failed")
        || event.ends_with("failing")
        || event.ends_with("rejected")
        || event.ends_with("exhausted")
}
