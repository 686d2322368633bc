//! A Microsoft Teams workflow's webhook: an Adaptive Card. Text runs are not read for markdown, which a text block is.

use serde_json::{Value, json};

use super::message::{Message, cut};
use crate::console::notify::is_for_people;

/// Events that are shown one by one.
const SHOWN: usize = 5;

/// The body; `None` where people need not know.
pub fn body(message: &Message) -> Option<Value> {
    let events: Vec<_> = message.events.iter().filter(|e| is_for_people(e.kind)).collect();
    if events.is_empty() && message.more == 0 {
        return None;
    }
    let mut card = vec![run(&message.title(), true)];
    if let Some(view) = message.sole_request() {
        card.extend(view.message.as_deref().map(|text| run(text, false)));
        for (name, value) in [
            ("Resource", &view.resource),
            ("Identity", &view.subject),
            ("Host", &message.host),
        ] {
            card.push(run(&format!("{name}: {value}"), false));
        }
    } else if events.len() > 1 {
        card.extend(events.iter().take(SHOWN).map(|event| run(&event.text, false)));
    }
    let link = match events.as_slice() {
        [only] if message.more == 0 => only.link.as_ref(),
        _ => message.queue.as_ref(),
    };
    let actions: Vec<_> = link
        .iter()
        .map(|url| json!({ "type": "Action.OpenUrl", "title": "Open", "url": url }))
        .collect();
    Some(json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": card,
                "actions": actions,
            },
        }],
    }))
}

fn run(text: &str, strong: bool) -> Value {
    let weight = if strong { "Bolder" } else { "Default" };
    json!({
        "type": "RichTextBlock",
        "inlines": [{ "type": "TextRun", "text": cut(text), "weight": weight }],
    })
}
