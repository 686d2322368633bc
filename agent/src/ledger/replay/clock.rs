//! The times of frames, which have none of their own.

use rusqlite::{Connection, OptionalExtension as _};

use super::super::{
    LedgerError,
    store::{PLACE_BITS, int, uint},
};

/// Nanoseconds since 1970 UTC of RFC 3339 text.
pub(super) fn parse(text: &str) -> Option<i64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

/// The two entries between which frames were written, for the last place asked for.
pub(super) struct Clock {
    /// The time of the first entry after this file.
    next_at: Option<i64>,
    gap: Option<Gap>,
}

#[derive(Clone, Copy)]
struct Gap {
    /// Entries before it.
    after: u64,
    from: Option<i64>,
    to: Option<i64>,
    /// The greatest count of a frame in it.
    top: i64,
}

impl Clock {
    pub(super) fn new(next_at: Option<i64>) -> Self {
        Self { next_at, gap: None }
    }

    /// When a frame was written, in proportion to its place between the two entries. Where there is only one, it is that
    /// one's; where there is none, it is `otherwise`.
    pub(super) fn at(&mut self, conn: &Connection, place: i64, otherwise: i64) -> Result<i64, LedgerError> {
        let after = uint(place >> PLACE_BITS);
        let gap = match self.gap {
            Some(gap) if gap.after == after => gap,
            _ => {
                let gap = self.look(conn, after)?;
                self.gap = Some(gap);
                gap
            }
        };
        let (Some(from), Some(to)) = (gap.from, gap.to) else {
            return Ok(gap.from.or(gap.to).unwrap_or(otherwise));
        };
        let count = place & ((1 << PLACE_BITS) - 1);
        let share =
            i128::from(to.saturating_sub(from).max(0)) * i128::from(count + 1) / i128::from(gap.top + 2);
        Ok(from.saturating_add(i64::try_from(share).unwrap_or(0)))
    }

    fn look(&self, conn: &Connection, after: u64) -> Result<Gap, LedgerError> {
        let time = |sql: &str| -> Result<Option<i64>, LedgerError> {
            let text: Option<Option<String>> = conn
                .prepare_cached(sql)?
                .query_row([int(after)], |r| r.get(0))
                .optional()?;
            Ok(text.flatten().as_deref().and_then(parse))
        };
        let from = time(
            "SELECT json_extract(body, '$.at') FROM entry WHERE seq < ?1 AND body IS NOT NULL ORDER BY seq DESC LIMIT 1",
        )?;
        let to = time(
            "SELECT json_extract(body, '$.at') FROM entry WHERE seq >= ?1 AND body IS NOT NULL ORDER BY seq LIMIT 1",
        )?;
        let begin = int(after).checked_shl(PLACE_BITS).unwrap_or(i64::MAX);
        let last: Option<i64> = conn
            .prepare_cached("SELECT max(place) FROM payload WHERE place >= ?1 AND place < ?2")?
            .query_row([begin, begin.saturating_add(1 << PLACE_BITS)], |r| r.get(0))?;
        Ok(Gap {
            after,
            from,
            to: to.or(self.next_at),
            top: last.map_or(0, |place| place & ((1 << PLACE_BITS) - 1)),
        })
    }
}
