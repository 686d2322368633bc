//! Finding a session's entries among all others, a window at a time.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet, VecDeque},
};

use rusqlite::{Connection, OptionalExtension as _};
use serde_json::Value;

use super::{
    super::{
        LedgerError,
        store::{int, uint},
    },
    clock,
};

/// So many entries are looked at with one query.
const WINDOW: u64 = 8192;
/// A window ends early when its entries of the session have so many bytes.
const BYTES: usize = 4 << 20;

/// An entry of the session.
pub(super) struct Found {
    pub seq: u64,
    pub at_ns: i64,
    pub body: Value,
}

/// What the session's entries are known by. Grows as they are found.
pub(super) struct Wanted<'a> {
    pub session: &'a str,
    pub running: &'a mut HashMap<String, i64>,
    pub approvals: &'a mut HashSet<String>,
}

#[derive(serde::Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    at: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    session: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    operation: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    approval: Option<Approval<'a>>,
    #[serde(borrow, default)]
    decision: Option<Cow<'a, str>>,
}

/// In an entry of kind `approval` its id; in an operation an object.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Approval<'a> {
    Id(#[serde(borrow)] Cow<'a, str>),
    Other(serde::de::IgnoredAny),
}

impl Wanted<'_> {
    fn take(&mut self, entry: &Members<'_>, at_ns: i64) -> bool {
        let approval = match &entry.approval {
            Some(Approval::Id(id)) => Some(&**id),
            Some(Approval::Other(_)) | None => None,
        };
        let own = entry.session.as_deref() == Some(self.session);
        match (&*entry.kind, own) {
            ("outcome", _) => entry
                .operation
                .as_deref()
                .is_some_and(|o| self.running.contains_key(o)),
            ("approval", false) => approval.is_some_and(|a| self.approvals.contains(a)),
            ("approval", true) => {
                self.approvals.extend(approval.map(String::from));
                true
            }
            ("operation", true) => {
                if entry.decision.as_deref() == Some("allow") {
                    self.running.insert(entry.id.clone().into_owned(), at_ns);
                }
                true
            }
            (_, own) => own,
        }
    }
}

/// How far was read.
pub(super) struct Seen {
    /// Every entry of the session before this place has been found.
    pub horizon: u64,
    /// The agent started anew here: no connection outlives it.
    pub restarted: bool,
}

/// Reads on from an entry.
pub(super) fn read(
    conn: &Connection,
    from: u64,
    end: u64,
    mut wanted: Wanted<'_>,
    found: &mut VecDeque<Found>,
) -> Result<Seen, LedgerError> {
    let to = end.min(from + WINDOW);
    let mut statement = conn.prepare_cached(
        "SELECT seq, body FROM entry WHERE seq >= ?1 AND seq < ?2 AND body IS NOT NULL ORDER BY seq",
    )?;
    let mut rows = statement.query([int(from), int(to)])?;
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let seq = uint(row.get(0)?);
        let body = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        let broken = |e: serde_json::Error| LedgerError::Database {
            why: format!("entry {seq} is not JSON ({e}); run verify").into(),
        };
        let members: Members<'_> = serde_json::from_str(body).map_err(broken)?;
        let at_ns = clock::parse(&members.at).unwrap_or(0);
        if members.kind == "agent" && members.event.as_deref() == Some("started") {
            return Ok(Seen {
                horizon: seq + 1,
                restarted: true,
            });
        }
        if !wanted.take(&members, at_ns) {
            continue;
        }
        bytes += body.len();
        found.push_back(Found {
            seq,
            at_ns,
            body: serde_json::from_str(body).map_err(broken)?,
        });
        if bytes >= BYTES {
            return Ok(Seen {
                horizon: seq + 1,
                restarted: false,
            });
        }
    }
    Ok(Seen {
        horizon: to,
        restarted: false,
    })
}

/// The first place whose entry can be as young as a time (as text): bisection, because a live ledger has no index.
pub(super) fn bisect(conn: &Connection, oldest: &str) -> Result<u64, LedgerError> {
    let mut at = conn.prepare(
        "SELECT seq, json_extract(body, '$.at') FROM entry WHERE seq >= ?1 AND body IS NOT NULL ORDER BY seq LIMIT 1",
    )?;
    let sql = "SELECT coalesce(min(seq), 0), coalesce(max(seq) + 1, 0) FROM entry";
    let (low, high): (i64, i64) = conn.query_row(sql, [], |r| Ok((r.get(0)?, r.get(1)?)))?;
    let (mut low, mut high) = (uint(low), uint(high));
    while low < high {
        let middle = low.midpoint(high);
        let row: Option<(i64, Option<String>)> = at
            .query_row([int(middle)], |r| Ok((r.get(0)?, r.get(1)?)))
            .optional()?;
        match row {
            Some((seq, Some(at))) if *at < *oldest && uint(seq) < high => low = uint(seq) + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}
