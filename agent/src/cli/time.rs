//! Times as people write them.

use anyhow::bail;

/// A moment as people write it, in nanoseconds since 1970 UTC.
pub(super) fn moment(text: &str, now_ns: i64) -> anyhow::Result<i64> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(now_ns.saturating_sub(i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX)));
    }
    let Ok(at) = text.parse::<jiff::Timestamp>() else {
        bail!("'{text}' is no time: write 2026-11-21T06:00:00Z, or how long ago, as 24h or 7d");
    };
    Ok(i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        assert_eq!(moment("1970-01-01T00:00:01Z", 0).unwrap(), 1_000_000_000);
        assert_eq!(moment("1h", 3_600_000_000_001).unwrap(), 1);
        assert!(moment("yesterday", 0).unwrap_err().to_string().contains("24h"));
    }
}
