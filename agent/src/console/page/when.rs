//! Times as people read them, beside the exact ones.

use jiff::Timestamp;

/// A point in time for a template.
pub struct When {
    /// RFC 3339, as it was given.
    pub exact: String,
    /// `14:05:11 UTC`, with the date where it is not today's.
    pub clock: String,
    /// `3 min ago`, `in 2 h`.
    pub distance: String,
}

impl When {
    /// Reads RFC 3339 text; other text is shown as it is.
    pub fn new(text: &str, now: i64) -> Self {
        let Ok(at) = text.parse::<Timestamp>() else {
            return Self {
                exact: text.into(),
                clock: text.into(),
                distance: String::new(),
            };
        };
        let same_day = at.as_second().div_euclid(86_400) == now.div_euclid(86_400);
        let form = if same_day {
            "%H:%M:%S UTC"
        } else {
            "%Y-%m-%d %H:%M UTC"
        };
        Self {
            exact: text.into(),
            clock: at.strftime(form).to_string(),
            distance: distance(at.as_second() - now),
        }
    }
}

/// A distance in seconds, in the largest unit that fits twice or nearly.
fn distance(seconds: i64) -> String {
    let n = seconds.unsigned_abs();
    let amount = match n {
        0..5 => return "now".into(),
        5..100 => format!("{n} s"),
        100..6_000 => format!("{} min", (n + 30) / 60),
        6_000..172_800 => format!("{} h", (n + 1_800) / 3_600),
        _ => format!("{} days", (n + 43_200) / 86_400),
    };
    if seconds < 0 {
        format!("{amount} ago")
    } else {
        format!("in {amount}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_read_them() {
        let now = 1_795_242_600;
        let when = When::new("2026-11-21T06:30:00.000000000Z", now);
        assert_eq!(
            (when.clock.as_str(), when.distance.as_str()),
            ("06:30:00 UTC", "now")
        );
        let when = When::new("2026-11-20T06:30:00Z", now);
        assert_eq!(
            (when.clock.as_str(), when.distance.as_str()),
            ("2026-11-20 06:30 UTC", "24 h ago")
        );
        assert_eq!(distance(90), "in 90 s");
        assert_eq!(distance(-600), "10 min ago");
        assert_eq!(When::new("soon", now).clock, "soon");
    }
}
