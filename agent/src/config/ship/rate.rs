//! How much may be sent in a second.

use serde::Deserialize;

use super::load;

/// How much may be sent in a second: `5 MB/s` or `500 events/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Bytes of entries, or of segments.
    Bytes(u64),
    /// Events.
    Events(u64),
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "'{text}' is no rate; write e.g. 5 MB/s (at least 1 kB/s) or 500 events/s"
            ))
        })
    }
}

fn parse(text: &str) -> Option<Rate> {
    let amount = text.trim().strip_suffix("/s")?.trim();
    if let Some(events) = amount.strip_suffix("events") {
        let events = events.trim().parse().ok()?;
        return (events > 0).then_some(Rate::Events(events));
    }
    // Slower than this, one large entry would take a quarter of an hour.
    let bytes = load::size(amount).filter(|bytes| *bytes >= 1_000)?;
    Some(Rate::Bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        for (text, expected) in [
            ("5 MB/s", Some(Rate::Bytes(5_000_000))),
            ("64KiB/s", Some(Rate::Bytes(65_536))),
            ("500 events/s", Some(Rate::Events(500))),
            ("0 events/s", None),
            ("999 B/s", None),
            ("5 MB", None),
            ("fast", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
