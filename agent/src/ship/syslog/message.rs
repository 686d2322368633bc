//! One message of RFC 5424, in the framing of RFC 5425 (`LENGTH SP MESSAGE`).

use crate::ship::view::{HostFacts, Severity, View};

/// The enterprise number that RFC 5612 sets aside for examples: this program's makers have none of their own.
const ENTERPRISE: &str = "32473";

/// What messages are made with.
#[derive(Clone, Debug)]
pub(super) struct Style {
    /// 0 to 23.
    pub facility: u8,
    /// The longest message, in bytes, without its frame.
    pub limit: usize,
    /// Of which host.
    pub facts: HostFacts,
}

/// A message with its frame: header, structured data, body. A body that is too long for the limit is cut at the end of
/// a character, and the structured data say how long it was (`bodyBytes`, and `truncated` with 1).
pub(super) fn frame(view: &View<'_>, body: &str, style: &Style) -> Vec<u8> {
    let head = header(view, style);
    let data = |cut: bool| structured(view, style, body.len(), cut);
    // UTF-8 that is more than ASCII begins with a byte order mark (RFC 5424 section 6.4).
    let mark = if body.is_ascii() { "" } else { "\u{feff}" };
    let whole = data(false);
    let room = |data: &str| {
        style
            .limit
            .saturating_sub(head.len() + data.len() + 2 + mark.len())
    };
    let (data, body) = if body.len() <= room(&whole) {
        (whole, body)
    } else {
        let data = data(true);
        let end = body.floor_char_boundary(room(&data));
        (data, &body[..end])
    };
    let length = head.len() + data.len() + 2 + mark.len() + body.len();
    format!("{length} {head} {data} {mark}{body}").into_bytes()
}

fn header(view: &View<'_>, style: &Style) -> String {
    let severity = match view.severity() {
        Severity::Informational => 6,
        Severity::Low => 5,
        Severity::Medium => 4,
        Severity::High => 3,
        Severity::Critical => 2,
    };
    let priority = u16::from(style.facility) * 8 + severity;
    let host = printable(&style.facts.host, 255);
    let message = printable(&view.code(), 32);
    format!(
        "<{priority}>1 {} {host} portcullis - {message}",
        timestamp(view.text("at"))
    )
}

/// The entry's time with six decimals, which is the most there may be; `-` where it has none.
fn timestamp(at: &str) -> String {
    if at.len() == 30 && at.parse::<jiff::Timestamp>().is_ok() && at.is_ascii() {
        format!("{}Z", &at[..26])
    } else {
        "-".into()
    }
}

/// Visible ASCII of a text, at most so much; `-` where there is none.
fn printable(text: &str, limit: usize) -> String {
    let kept: String = text.chars().filter(char::is_ascii_graphic).take(limit).collect();
    if kept.is_empty() { "-".into() } else { kept }
}

fn structured(view: &View<'_>, style: &Style, bytes: usize, cut: bool) -> String {
    let mut data = String::with_capacity(256);
    let version = printable(&style.facts.version, 32);
    data.push_str("[origin software=\"portcullis\" swVersion=\"");
    escape(&mut data, &version);
    data.push_str("\"][portcullis@");
    data.push_str(ENTERPRISE);
    let seq = view.seq.to_string();
    for (name, value) in [
        ("id", view.id()),
        ("seq", &seq),
        ("kind", view.kind()),
        ("workload", view.workload()),
        ("correlation", view.correlation()),
    ] {
        if !value.is_empty() {
            parameter(&mut data, name, value);
        }
    }
    if cut {
        parameter(&mut data, "truncated", "1");
        parameter(&mut data, "bodyBytes", &bytes.to_string());
    }
    data.push(']');
    data
}

fn parameter(data: &mut String, name: &str, value: &str) {
    data.push(' ');
    data.push_str(name);
    data.push_str("=\"");
    // Bounded: nothing of the head may crowd out the body.
    escape(data, &value[..value.floor_char_boundary(128)]);
    data.push('"');
}

/// `"`, `\` and `]` take a backslash (section 6.3.3). Control characters would break lines of a receiver's file.
fn escape(data: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '"' | '\\' | ']' => data.extend(['\\', c]),
            c if c.is_control() => data.push(' '),
            c => data.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn style(limit: usize) -> Style {
        Style {
            facility: 13,
            limit,
            facts: HostFacts {
                host: "host 1".into(),
                version: "0.1.0".into(),
                raw: false,
            },
        }
    }

    fn of(body: &Value, text: &str, limit: usize) -> String {
        let view = View { seq: 7, text, body };
        String::from_utf8(frame(&view, text, &style(limit))).unwrap()
    }

    #[test]
    fn a_message_in_its_frame() {
        let body = json!({
            "at": "2026-11-26T01:02:03.000000004Z", "id": "i", "kind": "operation", "decision": "deny",
            "action": "http:request", "workload": "a\"b]c\\d\n",
        });
        assert_eq!(
            of(&body, "{}", 8192),
            "222 <108>1 2026-11-26T01:02:03.000000Z host1 portcullis - operation.deny.http:request \
             [origin software=\"portcullis\" swVersion=\"0.1.0\"][portcullis@32473 id=\"i\" seq=\"7\" \
             kind=\"operation\" workload=\"a\\\"b\\]c\\\\d \" correlation=\"i\"] {}"
        );
        assert!(of(&body, "é", 8192).ends_with("] \u{feff}é"));
        assert!(of(&Value::Null, "", 8192).contains("<109>1 - host1 portcullis - unknown ["));
    }

    proptest! {
        #[test]
        fn no_longer_than_allowed_and_as_long_as_it_says(text in "\\PC{0,4000}", limit in 480_usize..9000) {
            let message = of(&json!({ "id": "i", "kind": "agent" }), &text, limit);
            let (length, rest) = message.split_once(' ').unwrap();
            prop_assert_eq!(length.parse::<usize>().unwrap(), rest.len());
            prop_assert!(rest.len() <= limit);
            let body = rest.split_once("] ").unwrap().1.trim_start_matches('\u{feff}');
            prop_assert!(text.starts_with(body));
            prop_assert_eq!(rest.contains("truncated=\"1\""), body.len() < text.len());
        }
    }
}
