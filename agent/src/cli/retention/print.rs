//! For people.

use std::fmt::Write as _;

use crate::{
    console::text::one_line,
    ledger::retention::{EntriesPurge, Hold, Pass, RetentionStatus, SegmentStatus, budget::Budget},
};

/// Writing to a string cannot fail.
macro_rules! line {
    ($text:ident, $($words:tt)*) => {{ let _ = writeln!($text, $($words)*); }};
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        10_000_000..10_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{} GB", bytes / 1_000_000_000),
    }
}

/// A time without its nanoseconds.
fn short(at: &str) -> &str {
    at.get(..19).unwrap_or(at)
}

pub(super) fn status(s: &RetentionStatus) -> String {
    let mut text = String::new();
    line!(
        text,
        "Payload    kept {}, {} rules beside",
        ever(&s.payloads),
        s.rules
    );
    line!(text, "Entries    can be purged by two people after {}", s.entries);
    if let Some(budget) = &s.budget {
        text += &room(budget);
    }
    match &s.last {
        None => line!(text, "Last run   none yet"),
        Some(pass) => {
            let frames: u64 = pass.purged.iter().map(|p| p.frames).sum();
            line!(
                text,
                "Last run   {}: {frames} frames of {} segments purged, {} failed",
                short(&pass.at),
                pass.purged.len(),
                pass.failed.len()
            );
        }
    }
    line!(text, "\nSegments");
    let frees: u64 = s.segments.iter().map(|one| one.payload.1).sum();
    for one in &s.segments {
        text += &segment(one);
    }
    line!(
        text,
        "  {} sealed; purging all their payload would free {}",
        s.segments.len(),
        size(frees)
    );
    if !s.holds.is_empty() {
        line!(text, "\nLegal holds");
        text += &holds(&s.holds);
    }
    for purge in &s.waiting {
        line!(
            text,
            "\nWaits for a second person until {}: entries {} to {}, asked for by {}: {}\n  portcullis retention confirm {} --reason ...",
            short(&purge.expires_at),
            purge.from,
            purge.to.saturating_sub(1),
            one_line(&purge.requested_by),
            one_line(&purge.reason),
            purge.id
        );
    }
    text
}

fn ever(keep: &str) -> String {
    if keep == "forever" {
        "for ever".into()
    } else {
        format!("for {keep}")
    }
}

fn room(budget: &Budget) -> String {
    let mut text = String::new();
    let of = budget
        .budget_bytes
        .map(|b| format!(" of {}", size(b)))
        .unwrap_or_default();
    let growth = match (budget.growth_per_day, budget.days_left) {
        (Some(a_day), Some(days)) => format!(", {} a day: {days} days left", size(a_day)),
        (Some(a_day), None) => format!(", {} a day", size(a_day)),
        _ => String::new(),
    };
    line!(
        text,
        "Room       {}{of} used, {} free on the file system{growth}",
        size(budget.used_bytes),
        size(budget.free_bytes)
    );
    if let Some(problem) = budget.problem() {
        line!(text, "           PROBLEM: {problem}");
    }
    text
}

fn segment(one: &SegmentStatus) -> String {
    let mut text = String::new();
    let (first, end) = one.entries;
    if one.stub {
        line!(
            text,
            "  {:>6}  entries {first} to {} purged",
            one.segment,
            end.saturating_sub(1)
        );
        return text;
    }
    let mut words = vec![match (one.payload.0, one.purged_frames) {
        (0, 0) => "no payload".into(),
        (0, n) => format!("payload purged ({n} frames)"),
        (frames, purged) => {
            let purged = if purged > 0 {
                format!(", {purged} purged")
            } else {
                String::new()
            };
            format!("{frames} frames of {}{purged}", size(one.payload.1))
        }
    }];
    if let Some(due) = &one.payload_due {
        words.push(format!("first due {}", short(due)));
    }
    if one.eligible_now {
        words.push("entries can be purged".into());
    } else if let Some(at) = &one.entries_eligible {
        words.push(format!("entries eligible {}", short(at)));
    }
    if one.holds > 0 {
        words.push(format!("{} legal holds", one.holds));
    }
    line!(
        text,
        "  {:>6}  {} to {}  {}: {}",
        one.segment,
        short(&one.times.0),
        short(&one.times.1),
        size(one.file_bytes),
        words.join("; ")
    );
    text
}

pub(super) fn holds(holds: &[Hold]) -> String {
    let mut text = String::new();
    for hold in holds {
        line!(
            text,
            "  {}  {}, since {}: {}",
            hold.id,
            hold.scope,
            short(&hold.set_at),
            one_line(&hold.reason)
        );
    }
    if holds.is_empty() {
        line!(text, "No legal hold stands.");
    }
    text
}

pub(super) fn pass(pass: &Pass) -> String {
    let mut text = String::new();
    let verb = if pass.dry { "would purge" } else { "purged" };
    for one in &pass.purged {
        let damaged = if one.damaged > 0 {
            format!(", {} of them damaged before", one.damaged)
        } else {
            String::new()
        };
        line!(
            text,
            "segment {}: {verb} {} frames, {}{damaged}: {}",
            one.segment,
            one.frames,
            size(one.stored),
            one_line(&one.cause)
        );
    }
    for why in &pass.failed {
        line!(text, "PROBLEM    {}", one_line(why));
    }
    if pass.purged.is_empty() && pass.failed.is_empty() {
        line!(text, "Nothing is due.");
    }
    text
}

pub(super) fn asked(purge: &EntriesPurge) -> String {
    let mut text = String::new();
    line!(
        text,
        "Asked: entries {} to {} ({} segments). A second person confirms it until {}:\n  portcullis retention confirm {} --reason ...",
        purge.from,
        purge.to.saturating_sub(1),
        purge.segments.len(),
        short(&purge.expires_at),
        purge.id
    );
    if let Some(why) = &purge.stopped_by {
        line!(text, "It reaches no further: {}", one_line(why));
    }
    text
}

pub(super) fn confirmed(purge: &EntriesPurge) -> String {
    format!(
        "Purged: entries {} to {} ({} segments), by {} and {}.\n",
        purge.from,
        purge.to.saturating_sub(1),
        purge.segments.len(),
        one_line(&purge.requested_by),
        one_line(purge.confirmed_by.as_deref().unwrap_or("nobody"))
    )
}
