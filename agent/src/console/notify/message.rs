//! What a target is told at once: what happened since it was told last.

use std::{collections::BTreeMap, sync::Arc};

use uuid::Uuid;

use crate::{
    approval::{Notice, NoticeKind, View},
    console::text::one_line,
};

/// Events that a message has in full; of the others it has the number.
pub const IN_FULL: usize = 20;
/// Characters of a line.
const LINE: usize = 300;

/// What happened since.
#[derive(Default)]
pub struct Gathered {
    /// The first ones.
    events: Vec<Arc<Notice>>,
    /// All of them, by kind.
    counts: BTreeMap<&'static str, u64>,
    more: u64,
}

impl Gathered {
    /// One more.
    pub fn push(&mut self, notice: &Arc<Notice>) {
        *self.counts.entry(notice.kind.as_str()).or_default() += 1;
        if self.events.len() < IN_FULL {
            self.events.push(Arc::clone(notice));
        } else {
            self.more += 1;
        }
    }

    /// So many that were not even seen.
    pub fn missed(&mut self, n: u64) {
        *self.counts.entry("missed").or_default() += n;
        self.more += n;
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// A message of it.
    pub fn into_message(self, at: String, host: &str, origin: Option<&str>, open: usize) -> Message {
        let events = self.events.into_iter().map(|notice| Event {
            kind: notice.kind,
            text: cut(&notice.text),
            link: link(origin, &notice),
            view: notice.view.clone(),
        });
        Message {
            id: Uuid::now_v7(),
            at,
            host: host.into(),
            events: events.collect(),
            counts: self.counts,
            more: self.more,
            open,
            queue: origin.map(|origin| format!("{origin}/")),
        }
    }
}

/// A message, before it has a target's form.
pub struct Message {
    /// The same for every try: receivers tell repetitions by it.
    pub id: Uuid,
    /// RFC 3339.
    pub at: String,
    /// This host.
    pub host: String,
    /// What happened, the first [`IN_FULL`].
    pub events: Vec<Event>,
    /// How often what happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// How much more than `events`.
    pub more: u64,
    /// How many requests are open now.
    pub open: usize,
    /// The page with the queue.
    pub queue: Option<String>,
}

/// One event.
pub struct Event {
    /// What happened.
    pub kind: NoticeKind,
    /// In one line.
    pub text: String,
    /// Where to look.
    pub link: Option<String>,
    /// The request.
    pub view: Option<Arc<View>>,
}

impl Message {
    /// The whole in one line.
    pub fn title(&self) -> String {
        let total: u64 = self.counts.values().sum();
        match self.events.first() {
            Some(only) if total == 1 => only.text.clone(),
            _ => {
                let counts = self.counts.iter().map(|(kind, n)| format!("{n} {}", words(kind)));
                let counts: Vec<_> = counts.collect();
                format!("{}; {} open on {}", counts.join(", "), self.open, self.host)
            }
        }
    }

    /// The one request that it is about, where it asks for nothing else.
    pub fn sole_request(&self) -> Option<&Arc<View>> {
        match self.events.as_slice() {
            [only] if self.more == 0 && only.kind == NoticeKind::Asked => only.view.as_ref(),
            _ => None,
        }
    }
}

fn words(kind: &str) -> &str {
    match kind {
        "asked" => "asked for",
        "break_glass_asked" => "break-glass asked for",
        "break_glass_given" => "break-glass given",
        "grant_ended" => "grants ended",
        "flood" => "flooding",
        other => other,
    }
}

/// On one line, of bounded length, with nothing hidden in it.
pub fn cut(text: &str) -> String {
    let line = one_line(text);
    if line.chars().count() <= LINE {
        return line;
    }
    let mut cut: String = line.chars().take(LINE - 1).collect();
    cut.push('…');
    cut
}

fn link(origin: Option<&str>, notice: &Notice) -> Option<String> {
    let origin = origin?;
    Some(match (&notice.view, notice.kind) {
        (Some(view), _) => format!("{origin}/requests/{}", view.id),
        (None, NoticeKind::BreakGlassAsked | NoticeKind::BreakGlassGiven) => format!("{origin}/break-glass"),
        (None, NoticeKind::GrantEnded) => format!("{origin}/grants"),
        (None, _) => format!("{origin}/"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::console::{
        notify::{slack, teams, webhook},
        testing,
    };

    fn notice(kind: NoticeKind) -> Arc<Notice> {
        let view = testing::view(testing::HOSTILE);
        Arc::new(Notice {
            kind,
            text: view.summary.clone(),
            view: Some(Arc::new(view)),
        })
    }

    fn message(kinds: &[NoticeKind]) -> Message {
        let mut gathered = Gathered::default();
        for kind in kinds {
            gathered.push(&notice(*kind));
        }
        gathered.into_message("now".into(), "host", Some("https://a.example"), 3)
    }

    /// Every value of a member of that name, wherever it is.
    fn all<'a>(json: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
        match json {
            Value::Array(items) => items.iter().for_each(|item| all(item, name, found)),
            Value::Object(members) => {
                found.extend(members.get(name));
                members.values().for_each(|member| all(member, name, found));
            }
            _ => {}
        }
    }

    #[test]
    fn chats_read_no_markup_in_what_a_workload_wrote() {
        let message = message(&[NoticeKind::Asked]);
        let body = slack::body(&message, true).unwrap();
        assert!(!body["text"].as_str().unwrap().contains('<'), "{body}");
        let mut kinds = Vec::new();
        all(&body["blocks"], "type", &mut kinds);
        assert!(kinds.iter().all(|kind| *kind != "mrkdwn"), "{body}");
        let mut actions = Vec::new();
        all(&body, "action_id", &mut actions);
        assert_eq!(actions, ["reason", "approve", "deny", "open"]);
        assert!(
            !slack::body(&message, false)
                .unwrap()
                .to_string()
                .contains("approve\"")
        );
        let card = teams::body(&message).unwrap();
        let mut kinds = Vec::new();
        all(&card, "type", &mut kinds);
        assert!(kinds.iter().all(|kind| *kind != "TextBlock"), "{card}");
        for text in [
            body.to_string(),
            card.to_string(),
            webhook::body(&message)["events"][0]["text"].to_string(),
        ] {
            assert!(!text.contains('\u{202e}') && !text.contains('\u{1b}'), "{text}");
        }
    }

    #[test]
    fn a_burst_has_counts_and_bounds() {
        let message = message(&[NoticeKind::Asked; 500]);
        assert_eq!((message.events.len(), message.more), (IN_FULL, 480));
        assert_eq!(message.title(), "500 asked for; 3 open on host");
        assert!(message.sole_request().is_none());
        for body in [
            slack::body(&message, true).unwrap(),
            teams::body(&message).unwrap(),
            webhook::body(&message),
        ] {
            assert!(body.to_string().len() < 100_000);
        }
        assert!(slack::body(&super::tests::message(&[NoticeKind::GrantEnded]), true).is_none());
    }
}
