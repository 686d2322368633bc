//! What listeners are told: the page, `--watch`, webhooks.

use std::sync::Arc;

use super::view::View;
use crate::model::WorkloadName;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// A request can be answered.
    Asked,
    /// A human answered; the view's state says whether that was all it takes.
    Answered,
    /// A request ended without that.
    Ended,
    /// A break-glass grant waits for its second person.
    BreakGlassAsked,
    /// A break-glass grant is in force.
    BreakGlassGiven,
    /// A grant ended.
    GrantEnded,
    /// A workload asks faster than humans answer, and is turned away.
    Flood,
}

impl NoticeKind {
    /// The word in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Answered => "answered",
            Self::Ended => "ended",
            Self::BreakGlassAsked => "break_glass_asked",
            Self::BreakGlassGiven => "break_glass_given",
            Self::GrantEnded => "grant_ended",
            Self::Flood => "flood",
        }
    }
}

/// One change.
#[derive(Clone, Debug)]
pub struct Notice {
    /// What happened.
    pub kind: NoticeKind,
    /// The request, where it is about one.
    pub view: Option<Arc<View>>,
    /// The same in words, masked.
    pub text: String,
}

impl Notice {
    /// About a request.
    pub(super) fn of(kind: NoticeKind, view: Arc<View>) -> Self {
        let text = match kind {
            NoticeKind::Asked => format!("{} asks: {}", view.workload, view.summary),
            _ => format!("{}: {} ({})", view.workload, view.summary, view.state.as_str()),
        };
        Self {
            kind,
            view: Some(view),
            text,
        }
    }

    /// About anything else.
    pub(super) fn text(kind: NoticeKind, text: String) -> Self {
        Self {
            kind,
            view: None,
            text,
        }
    }

    pub(super) fn flood(workload: &WorkloadName) -> Self {
        let text = format!("{workload} asks faster than it is answered: further operations are denied");
        Self::text(NoticeKind::Flood, text)
    }
}
