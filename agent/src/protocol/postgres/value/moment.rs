//! Dates and times as text. PostgreSQL counts from 2000-01-01, in days and in microseconds.

const DAY_US: i64 = 86_400_000_000;

pub(super) fn date(days: i32) -> String {
    match days {
        i32::MAX => "infinity".into(),
        i32::MIN => "-infinity".into(),
        _ => {
            let (text, before) = day(i64::from(days));
            text + before
        }
    }
}

pub(super) fn timestamp(us: i64) -> String {
    match us {
        i64::MAX => "infinity".into(),
        i64::MIN => "-infinity".into(),
        _ => {
            let (date, before) = day(us.div_euclid(DAY_US));
            format!("{date} {}{before}", time(us.rem_euclid(DAY_US)))
        }
    }
}

/// A day of the Gregorian calendar, and what stands after it for one before the common era.
fn day(since_2000: i64) -> (String, &'static str) {
    // Days since 0000-03-01, in eras of 400 years (Howard Hinnant's civil_from_days).
    let days = since_2000 + 730_425;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (year, before) = if year <= 0 { (1 - year, " BC") } else { (year, "") };
    (format!("{year:04}-{month:02}-{day:02}"), before)
}

pub(super) fn time(us: i64) -> String {
    let sign = if us < 0 { "-" } else { "" };
    let us = us.unsigned_abs();
    let (seconds, fraction) = (us / 1_000_000, us % 1_000_000);
    let text = format!(
        "{sign}{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    if fraction == 0 {
        return text;
    }
    let fraction = format!("{fraction:06}");
    format!("{text}.{}", fraction.trim_end_matches('0'))
}

/// Seconds west of Greenwich.
pub(super) fn zone(seconds: i32) -> String {
    let sign = if seconds > 0 { '-' } else { '+' };
    let seconds = seconds.unsigned_abs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (minutes, rest) {
        (0, 0) => format!("{sign}{hours:02}"),
        (_, 0) => format!("{sign}{hours:02}:{minutes:02}"),
        _ => format!("{sign}{hours:02}:{minutes:02}:{rest:02}"),
    }
}

/// Microseconds, days and months.
pub(super) fn interval(bytes: &[u8]) -> Option<String> {
    let (us, rest) = bytes.split_at_checked(8)?;
    let (days, months) = rest.split_at_checked(4)?;
    let us = i64::from_be_bytes(us.try_into().ok()?);
    let days = i32::from_be_bytes(days.try_into().ok()?);
    let months = i32::from_be_bytes(months.try_into().ok()?);
    let mut parts = Vec::new();
    // After a negative part, a positive one has a sign.
    let mut before = false;
    for (n, word) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if n != 0 {
            let sign = if before && n > 0 { "+" } else { "" };
            parts.push(format!("{sign}{n} {word}{}", if n == 1 { "" } else { "s" }));
            before = n < 0;
        }
    }
    if us != 0 || parts.is_empty() {
        let sign = if before && us > 0 { "+" } else { "" };
        parts.push(format!("{sign}{}", time(us)));
    }
    Some(parts.join(" "))
}
