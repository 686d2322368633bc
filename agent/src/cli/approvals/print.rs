//! Requests and grants for people, on a terminal: nothing that a workload wrote reaches it raw.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::{
    approval::{GrantView, Overview, RequirementView, State, View},
    console::text::{one_line, visible},
};

/// Everything that is open.
pub(super) fn list(overview: &Overview) -> String {
    let mut text = String::new();
    for flood in &overview.floods {
        let _ = writeln!(
            text,
            "{} asks faster than humans answer: {} turned away",
            one_line(&flood.workload),
            flood.refused
        );
    }
    for glass in &overview.break_glass {
        let _ = writeln!(
            text,
            "break-glass {} for {}, {} min, asked for by {}: {}",
            glass.id,
            one_line(&glass.workload),
            glass.minutes,
            one_line(&glass.first),
            one_line(&glass.reason)
        );
    }
    if overview.open.is_empty() {
        text.push_str("nothing waits\n");
        return text;
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["ID", "AGE", "WORKLOAD", "WAITING", "NEEDS", "OPERATION"]);
    for view in &overview.open {
        table.add_row([
            view.id.to_string(),
            age(&view.asked_at),
            one_line(&view.workload),
            view.waiting.to_string(),
            view.requirements.iter().map(need).collect::<Vec<_>>().join(", "),
            one_line(&view.summary),
        ]);
    }
    let _ = writeln!(text, "{table}");
    text
}

fn need(r: &RequirementView) -> String {
    format!(
        "{}/{} {}",
        r.approved_by.len(),
        r.quorum,
        one_line(&r.groups.join("|"))
    )
}

/// How long ago.
fn age(at: &str) -> String {
    let Ok(at) = at.parse::<Timestamp>() else {
        return at.into();
    };
    let seconds = Timestamp::now().as_second().saturating_sub(at.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        _ => format!("{}h", seconds / 3_600),
    }
}

/// All there is to one request.
pub(super) fn show(v: &View) -> String {
    let mut text = format!("{}\n\n", one_line(&v.summary));
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:<13}{}", one_line(value));
        }
    };
    fact("id", &v.id.to_string());
    fact("state", v.state.as_str());
    fact("policy says", v.message.as_deref().unwrap_or_default());
    fact("workload", &v.workload);
    fact("identity", &format!("{} of {}", v.subject, v.issuer));
    fact("acts for", v.on_behalf_of.as_deref().unwrap_or_default());
    fact("process", &v.process);
    fact("destination", &v.destination);
    fact("resource", &v.resource);
    fact("action", &v.action);
    fact("asked", &format!("{} ({} ago)", v.asked_at, age(&v.asked_at)));
    fact("waiting", &v.waiting.to_string());
    fact("waits until", v.waits_until.as_deref().unwrap_or_default());
    fact("open until", &v.expires_at);
    fact("ended", v.ended_at.as_deref().unwrap_or_default());
    fact("policy set", &v.policy_set);
    fact("digest", &v.digest);
    text.push_str("\nneeds\n");
    for r in &v.requirements {
        let by = r.approved_by.join(", ");
        let by = if by.is_empty() {
            by
        } else {
            format!(", approved by {by}")
        };
        let _ = writeln!(
            text,
            "  {} of {} of {} (policy {}{})",
            r.approved_by.len(),
            r.quorum,
            one_line(&r.groups.join(" or ")),
            one_line(&r.policy),
            one_line(&by)
        );
    }
    answers(&mut text, v);
    text.push_str("\noperation, as policy saw it, masked\n");
    let context = serde_json::to_string_pretty(&v.context).unwrap_or_default();
    indent(&mut text, &context);
    if v.payload_bytes > 0 {
        let cut = if v.payload_truncated {
            ", the beginning"
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "\nwhat would be sent, {} bytes, masked{cut}",
            v.payload_bytes
        );
        indent(&mut text, &v.payload);
    }
    if !v.shapes.is_empty() {
        text.push_str("\nshapes for --grant TIME --shape N\n");
        for (n, shape) in v.shapes.iter().enumerate() {
            let _ = writeln!(text, "  {n}  {}", one_line(shape));
        }
    }
    text
}

fn answers(text: &mut String, v: &View) {
    if v.answers.is_empty() {
        return;
    }
    text.push_str("\nanswers\n");
    for a in &v.answers {
        let _ = writeln!(
            text,
            "  {} {} by {} ({}): {}",
            a.at,
            if a.approve { "yes" } else { "no" },
            one_line(&a.name),
            one_line(&a.via),
            one_line(&a.reason)
        );
    }
}

fn indent(text: &mut String, block: &str) {
    for line in visible(block).lines() {
        let _ = writeln!(text, "  {line}");
    }
}

/// How a request stands after an answer.
pub(super) fn stands(v: &View) -> String {
    let summary = one_line(&v.summary);
    if v.state != State::Open {
        return format!("{}: {summary}\n", v.state.as_str());
    }
    let missing: Vec<_> = v
        .requirements
        .iter()
        .filter(|r| r.approved_by.len() < usize::from(r.quorum))
        .map(|r| {
            let more = usize::from(r.quorum) - r.approved_by.len();
            format!("{more} more of {}", one_line(&r.groups.join(" or ")))
        })
        .collect();
    format!("recorded; it takes {}: {summary}\n", missing.join(", "))
}

/// Grants in force.
pub(super) fn grants(grants: &[GrantView]) -> String {
    if grants.is_empty() {
        return "no grant is in force\n".into();
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["ID", "WORKLOAD", "SCOPE", "UNTIL", "USED", "LEFT", "BY", "COVERS"]);
    for g in grants {
        table.add_row([
            g.id.to_string(),
            one_line(&g.workload),
            g.scope.clone(),
            g.expires_at.clone(),
            g.used.to_string(),
            g.uses_left.map_or_else(|| "-".into(), |n| n.to_string()),
            one_line(&g.approvers.join(", ")),
            one_line(&g.covers),
        ]);
    }
    format!("{table}\n")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::console::{testing, text::is_hidden};

    #[test]
    fn no_terminal_is_driven() {
        let view = Arc::new(testing::view(testing::HOSTILE));
        let overview = Overview {
            open: vec![Arc::clone(&view)],
            ..Overview::default()
        };
        for text in [list(&overview), show(&view), stands(&view)] {
            assert!(!text.contains(is_hidden), "{text:?}");
            assert!(text.contains("\\u{1b}[31m"), "{text}");
        }
        assert!(list(&Overview::default()).contains("nothing waits"));
        assert!(stands(&view).contains("it takes 2 more of"));
    }
}
