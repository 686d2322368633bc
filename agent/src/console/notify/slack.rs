//! Slack's incoming webhook: Block Kit. What a workload wrote is `plain_text`, which Slack does not read for mentions,
//! links or formatting.

use serde_json::{Value, json};

use super::message::{Event, Message, cut};
use crate::{approval::View, console::notify::is_for_people};

/// Events that are shown one by one.
const SHOWN: usize = 5;

/// Text for a `text` member, where Slack reads `<...>` and `&` (Slack's "Escaping text").
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The body; with fields to answer right there where `answers`. `None` where people need not know.
pub fn body(message: &Message, answers: bool) -> Option<Value> {
    let events: Vec<&Event> = message.events.iter().filter(|e| is_for_people(e.kind)).collect();
    if events.is_empty() && message.more == 0 {
        return None;
    }
    let title = message.title();
    let mut blocks = vec![json!({ "type": "section", "text": plain(&title) })];
    if let Some(view) = message.sole_request() {
        blocks.extend(request(view, message));
        if answers {
            blocks.extend(fields(view));
        }
    } else if events.len() > 1 || message.more > 0 {
        blocks.extend(events.iter().take(SHOWN).map(|event| line(event)));
    }
    let link = match events.as_slice() {
        [only] if message.more == 0 => only.link.as_ref(),
        _ => message.queue.as_ref(),
    };
    if let Some(link) = link {
        let button = json!({ "type": "button", "action_id": "open", "text": plain("Open"), "url": link });
        blocks.push(json!({ "type": "actions", "elements": [button] }));
    }
    Some(json!({ "text": escape(&title), "blocks": blocks }))
}

fn plain(text: &str) -> Value {
    json!({ "type": "plain_text", "text": cut(text), "emoji": false })
}

fn line(event: &Event) -> Value {
    json!({ "type": "context", "elements": [plain(&event.text)] })
}

fn request(view: &View, message: &Message) -> Vec<Value> {
    let groups: Vec<_> = view
        .requirements
        .iter()
        .map(|r| format!("{} of {}", r.quorum, r.groups.join(" or ")))
        .collect();
    let facts = [
        ("Resource", view.resource.as_str()),
        ("Identity", view.subject.as_str()),
        ("Needs", &groups.join(", ")),
        ("Host", message.host.as_str()),
    ];
    let mut blocks = Vec::new();
    if let Some(text) = &view.message {
        blocks.push(json!({ "type": "context", "elements": [plain(text)] }));
    }
    let fields: Vec<_> = facts
        .iter()
        .map(|(name, value)| plain(&format!("{name}: {value}")))
        .collect();
    blocks.push(json!({ "type": "section", "fields": fields }));
    blocks
}

/// The reason's field, and two buttons.
fn fields(view: &View) -> [Value; 2] {
    let button = |action: &str, text: &str, style: &str| {
        json!({
            "type": "button", "action_id": action, "style": style, "text": plain(text),
            "value": view.id.to_string(),
        })
    };
    [
        json!({
            "type": "input", "block_id": "reason", "label": plain("Reason"),
            "element": { "type": "plain_text_input", "action_id": "reason", "max_length": 1000 },
        }),
        json!({
            "type": "actions",
            "elements": [button("approve", "Approve", "primary"), button("deny", "Deny", "danger")],
        }),
    ]
}
