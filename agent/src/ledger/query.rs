//! Reading what was recorded: sessions, operations, payload. Works beside a running daemon, without one, and on an
//! export.
//!
//! A list is a question to the documented views: one pass over the entries, about two seconds per million. What is
//! asked by id starts at the place where the id's own time (UUID version 7) falls, found by bisection, because a live
//! ledger has no index.

use std::{collections::HashMap, path::Path};

use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, params_from_iter};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    LedgerError,
    frame::decode,
    pieces::made_at,
    span::{self, TooMany},
    store::{PLACE_BITS, int, uint},
};
use crate::model::{OperationId, Rfc3339, SessionId};

/// An entry's `at` may be so much older than its place: clocks step, and queues hold.
const SLACK_NS: i64 = 60_000_000_000;

/// One connection, as view `sessions` has it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SessionRow {
    /// Id of the connection.
    pub session: String,
    /// Place of the entry that opened it.
    pub entry: u64,
    /// The workload.
    pub workload: Option<String>,
    /// RFC 3339.
    pub opened_at: Option<String>,
    /// RFC 3339; `None` while it is open, or when the agent ended first.
    pub closed_at: Option<String>,
    /// The program that opened it.
    pub process_exe: Option<String>,
    /// Its process id.
    pub process_pid: Option<i64>,
    /// What was spoken.
    pub protocol: Option<String>,
    /// The address asked for.
    pub address: Option<String>,
    /// Its port.
    pub port: Option<i64>,
    /// The name asked for.
    pub name: Option<String>,
    /// Both sides' TLS.
    pub tls: Option<Box<JsonText>>,
    /// How many operations.
    pub operations: Option<i64>,
    /// Bytes to the destination.
    pub bytes_up: Option<i64>,
    /// Bytes to the workload.
    pub bytes_down: Option<i64>,
    /// Why it was closed.
    pub reason: Option<String>,
}

/// One operation with its outcome, as view `operations` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct OperationRow {
    /// Place of its entry.
    pub entry: u64,
    /// Its id.
    pub id: String,
    /// RFC 3339.
    pub at: String,
    /// The workload.
    pub workload: String,
    /// The identity's subject.
    pub subject: Option<String>,
    /// The connection.
    pub session: Option<String>,
    /// The program.
    pub process_exe: Option<String>,
    /// The protocol.
    pub protocol: String,
    /// The action.
    pub action: String,
    /// The resource's id.
    pub resource: Option<String>,
    /// The text of an SQL statement, as its entry has it; only where a session is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// `allow`, `hold` or `deny`.
    pub decision: String,
    /// Why.
    pub reason: String,
    /// Ids of the determining policies.
    pub policies: Vec<String>,
    /// Who approved it.
    pub approver: Option<String>,
    /// The destination's answer.
    pub status: Option<String>,
    /// How it ended; `open` or `interrupted` without an outcome.
    pub outcome: Option<String>,
    /// Bytes to the destination.
    pub bytes_up: Option<i64>,
    /// Bytes to the workload.
    pub bytes_down: Option<i64>,
    /// Microseconds.
    pub duration_us: Option<i64>,
    /// Masked values by data class.
    pub masked: Option<serde_json::Map<String, serde_json::Value>>,
}

/// A JSON text that is written as JSON, not as a string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonText(String);

impl serde::Serialize for JsonText {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let raw = RawValue::from_string(self.0.clone()).map_err(serde::ser::Error::custom)?;
        raw.serialize(s)
    }
}

/// A session with its operations in the order of their entries.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SessionShow {
    /// The connection.
    #[serde(flatten)]
    pub session: SessionRow,
    /// What came on it.
    pub list: Vec<OperationRow>,
}

/// One payload frame, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameRow {
    /// `up` or `down`.
    pub direction: String,
    /// Its place among those of the direction.
    pub number: u32,
    /// The masked bytes; none where they were purged.
    pub bytes: Vec<u8>,
    /// How many bytes were purged; `None` where they are here.
    pub purged: Option<u64>,
}

/// Which sessions or operations are asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// From this time on, nanoseconds since 1970 UTC.
    pub since_ns: Option<i64>,
    /// Before this time.
    pub until_ns: Option<i64>,
    /// Of this workload.
    pub workload: Option<String>,
    /// The last so many; all if `None`.
    pub limit: Option<u32>,
}

impl Filter {
    /// The query over a view, newest first, and its parameters.
    fn query(&self, view: &str, at: &str) -> (String, Vec<Box<dyn ToSql>>) {
        let mut sql = format!("SELECT * FROM {view} WHERE 1");
        let mut parameters: Vec<Box<dyn ToSql>> = Vec::new();
        let mut add = |condition: &str, value: Box<dyn ToSql>| {
            sql.push_str(condition);
            parameters.push(value);
        };
        if let Some(since) = self.since_ns {
            add(&format!(" AND {at} >= ?"), Box::new(Rfc3339(since).to_string()));
        }
        if let Some(until) = self.until_ns {
            add(&format!(" AND {at} < ?"), Box::new(Rfc3339(until).to_string()));
        }
        if let Some(workload) = &self.workload {
            add(" AND workload = ?", Box::new(workload.clone()));
        }
        sql.push_str(" ORDER BY entry DESC LIMIT ");
        sql.push_str(&self.limit.map_or(-1, i64::from).to_string());
        (sql, parameters)
    }
}

/// A read-only connection to a ledger, a segment or an export.
pub struct Reader {
    conn: Connection,
    left_out: usize,
}

impl Reader {
    /// Opens a file, or the ledger in a data directory with all its parts.
    ///
    /// # Errors
    /// When it cannot be read or is no ledger.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        Self::open_since(path, None)
    }

    /// As [`Self::open`], without the parts that end before a time (nanoseconds since 1970 UTC).
    ///
    /// # Errors
    /// When it cannot be read or is no ledger.
    pub fn open_since(path: &Path, since_ns: Option<i64>) -> Result<Self, LedgerError> {
        let span::Span { conn, left_out } = span::open(path, since_ns, TooMany::LeaveOldest)?;
        Ok(Self { conn, left_out })
    }

    /// As [`Self::open`], without the parts that ended before there was something of this id (UUID version 7).
    ///
    /// # Errors
    /// When it cannot be read or is no ledger.
    pub fn open_for(path: &Path, id: Uuid) -> Result<Self, LedgerError> {
        let span::Span { conn, left_out } = span::open(path, made_at(id), TooMany::LeaveNewest)?;
        Ok(Self { conn, left_out })
    }

    /// How many parts are left out, because there are more than can be read as one. A time to begin at leaves
    /// out the others.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Sessions, in the order in which they were opened.
    ///
    /// # Errors
    /// When SQLite cannot read the file.
    pub fn sessions(&self, filter: &Filter) -> Result<Vec<SessionRow>, LedgerError> {
        let (sql, parameters) = filter.query("sessions", "opened_at");
        let mut statement = self.conn.prepare(&sql)?;
        let rows = statement.query_map(params_from_iter(parameters), session_row)?;
        let mut rows = rows.collect::<Result<Vec<_>, _>>()?;
        rows.reverse();
        Ok(rows)
    }

    /// Operations, in the order of their entries.
    ///
    /// # Errors
    /// When SQLite cannot read the file.
    pub fn operations(&self, filter: &Filter) -> Result<Vec<OperationRow>, LedgerError> {
        let (sql, parameters) = filter.query("operations", "at");
        let mut statement = self.conn.prepare(&sql)?;
        let rows = statement.query_map(params_from_iter(parameters), operation_row)?;
        let mut rows = rows.collect::<Result<Vec<_>, _>>()?;
        rows.reverse();
        Ok(rows)
    }

    /// One session with its operations.
    ///
    /// # Errors
    /// [`LedgerError::NotFound`], or when SQLite cannot read the file.
    pub fn session(&self, id: SessionId) -> Result<SessionShow, LedgerError> {
        let text = id.0.hyphenated().to_string();
        let from = self.first_after(id.0)?;
        let found = self.members_of(&text, from)?;
        let missing = || LedgerError::NotFound {
            what: "session",
            id: text.as_str().into(),
        };
        let open = found
            .iter()
            .find(|f| f.kind == "session" && f.event.as_deref() == Some("open"));
        let close = found
            .iter()
            .find(|f| f.kind == "session" && f.event.as_deref() == Some("close"));
        let session = shown_session(&text, open.ok_or_else(missing)?, close);
        let mut list: Vec<OperationRow> = found
            .iter()
            .filter(|f| f.kind == "operation")
            .filter_map(operation_of)
            .collect();
        self.add_outcomes(&mut list, from)?;
        Ok(SessionShow { session, list })
    }

    /// An operation's payload, decoded: `up` before `down`, each in order.
    ///
    /// # Errors
    /// When SQLite cannot read the file, or a frame cannot be decoded.
    pub fn frames(&self, operation: OperationId) -> Result<Vec<FrameRow>, LedgerError> {
        let text = operation.0.hyphenated().to_string();
        let from = int(self.first_after(operation.0)?)
            .checked_shl(PLACE_BITS)
            .unwrap_or(0);
        let mut statement = self.conn.prepare(
            "SELECT direction, number, codec, size, bytes FROM payload WHERE place >= ?1 AND operation = ?2
             ORDER BY direction DESC, number",
        )?;
        let mut rows = statement.query(rusqlite::params![from, text])?;
        let mut frames = Vec::new();
        while let Some(row) = rows.next()? {
            let size = usize::try_from(row.get::<_, i64>(3)?).unwrap_or(0);
            let stored = row.get_ref(4)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
            let number: u32 = row.get(1)?;
            let damaged = || LedgerError::Database {
                why: format!("frame {number} of operation {text} cannot be decoded; run verify").into(),
            };
            let bytes = match stored {
                Some(stored) => decode(row.get(2)?, size, stored).ok_or_else(damaged)?,
                None => Vec::new(),
            };
            frames.push(FrameRow {
                direction: row.get(0)?,
                number,
                bytes,
                purged: stored.is_none().then_some(size as u64),
            });
        }
        Ok(frames)
    }

    /// The first seq whose entry can be as young as the id: bisection over `at`, with slack.
    fn first_after(&self, id: Uuid) -> Result<u64, LedgerError> {
        let Some(ns) = made_at(id) else {
            return Ok(0);
        };
        let bound = Rfc3339(ns.saturating_sub(SLACK_NS)).to_string();
        let mut at = self.conn.prepare(
            "SELECT seq, json_extract(body, '$.at') FROM entry WHERE seq >= ?1 AND body IS NOT NULL ORDER BY seq LIMIT 1",
        )?;
        let sql = "SELECT coalesce(max(seq) + 1, 0) FROM entry";
        let (mut low, mut high) = (0_u64, uint(self.conn.query_row(sql, [], |r| r.get(0))?));
        while low < high {
            let middle = low.midpoint(high);
            let row: Option<(i64, Option<String>)> = at
                .query_row([int(middle)], |r| Ok((r.get(0)?, r.get(1)?)))
                .optional()?;
            match row {
                Some((seq, Some(at))) if at < bound && uint(seq) < high => low = uint(seq) + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// Session and operation entries that name a session.
    fn members_of(&self, session: &str, from: u64) -> Result<Vec<Found>, LedgerError> {
        let mut statement = self.conn.prepare(
            "SELECT seq, body FROM entry WHERE seq >= ?1 AND json_extract(body, '$.session') = ?2 ORDER BY seq",
        )?;
        let rows = statement.query_map(rusqlite::params![int(from), session], |r| {
            let (seq, body): (i64, String) = (r.get(0)?, r.get(1)?);
            Ok((uint(seq), body))
        })?;
        let mut found = Vec::new();
        for row in rows {
            let (seq, text) = row?;
            let body: serde_json::Value = serde_json::from_str(&text).map_err(|e| LedgerError::Database {
                why: format!("entry {seq} is not JSON ({e}); run verify").into(),
            })?;
            let word = |name: &str| body.get(name).and_then(|v| v.as_str()).map(String::from);
            found.push(Found {
                seq,
                kind: word("kind").unwrap_or_default(),
                event: word("event"),
                body,
            });
        }
        Ok(found)
    }

    fn add_outcomes(&self, list: &mut [OperationRow], from: u64) -> Result<(), LedgerError> {
        let mut at: HashMap<String, usize> =
            list.iter().enumerate().map(|(i, o)| (o.id.clone(), i)).collect();
        let from = list.first().map_or(from, |o| o.entry);
        let mut statement = self.conn.prepare(
            "SELECT seq, json_extract(body, '$.kind'), json_extract(body, '$.operation'), json_extract(body, '$.event'),
             body FROM entry WHERE seq >= ?1 AND json_extract(body, '$.kind') IN ('outcome', 'agent') ORDER BY seq",
        )?;
        let mut rows = statement.query([int(from)])?;
        let mut boundary = 0;
        while let Some(row) = rows.next()? {
            if row.get_ref(1)?.as_str() == Ok("agent") {
                if matches!(row.get_ref(3)?.as_str(), Ok("started" | "recovered" | "stopped")) {
                    boundary = uint(row.get(0)?);
                }
                continue;
            }
            let Some(i) = row.get_ref(2)?.as_str().ok().and_then(|id| at.remove(id)) else {
                continue;
            };
            let Ok(body) = serde_json::from_str::<serde_json::Value>(row.get_ref(4)?.as_str().unwrap_or(""))
            else {
                continue;
            };
            let operation = &mut list[i];
            operation.status = text_of(&body, "/status");
            operation.outcome = text_of(&body, "/reason");
            operation.bytes_up = body["bytes_up"].as_i64();
            operation.bytes_down = body["bytes_down"].as_i64();
            operation.duration_us = body["duration_us"].as_i64();
            operation.masked = body["masked"].as_object().cloned();
            if at.is_empty() {
                break;
            }
        }
        for operation in list {
            if operation.outcome.is_none() && operation.decision == "allow" {
                let word = if operation.entry < boundary {
                    "interrupted"
                } else {
                    "open"
                };
                operation.outcome = Some(word.into());
            }
        }
        Ok(())
    }
}

struct Found {
    seq: u64,
    kind: String,
    event: Option<String>,
    body: serde_json::Value,
}

fn text_of(body: &serde_json::Value, pointer: &str) -> Option<String> {
    body.pointer(pointer).and_then(|v| v.as_str()).map(String::from)
}

fn shown_session(id: &str, open: &Found, close: Option<&Found>) -> SessionRow {
    let either = |pointer: &str| {
        let closed = close.and_then(|c| text_of(&c.body, pointer));
        closed.or_else(|| text_of(&open.body, pointer))
    };
    let number = |name: &str| close.and_then(|c| c.body[name].as_i64());
    let tls = close
        .and_then(|c| c.body.get("tls"))
        .or_else(|| open.body.get("tls"));
    SessionRow {
        session: id.into(),
        entry: open.seq,
        workload: text_of(&open.body, "/workload"),
        opened_at: text_of(&open.body, "/at"),
        closed_at: close.and_then(|c| text_of(&c.body, "/at")),
        process_exe: text_of(&open.body, "/process/exe"),
        process_pid: open
            .body
            .pointer("/process/pid")
            .and_then(serde_json::Value::as_i64),
        protocol: either("/protocol"),
        address: text_of(&open.body, "/destination/address"),
        port: open
            .body
            .pointer("/destination/port")
            .and_then(serde_json::Value::as_i64),
        name: either("/destination/name"),
        tls: tls.map(|t| Box::new(JsonText(t.to_string()))),
        operations: number("operations"),
        bytes_up: number("bytes_up"),
        bytes_down: number("bytes_down"),
        reason: close.and_then(|c| text_of(&c.body, "/reason")),
    }
}

fn operation_of(found: &Found) -> Option<OperationRow> {
    let body = &found.body;
    let list = |v: &serde_json::Value| {
        let items = v.as_array().into_iter().flatten();
        items.filter_map(|p| p.as_str().map(String::from)).collect()
    };
    Some(OperationRow {
        entry: found.seq,
        id: text_of(body, "/id")?,
        at: text_of(body, "/at")?,
        workload: text_of(body, "/workload").unwrap_or_default(),
        subject: text_of(body, "/identity/subject"),
        session: text_of(body, "/session"),
        process_exe: text_of(body, "/process/exe"),
        protocol: text_of(body, "/protocol").unwrap_or_default(),
        action: text_of(body, "/action").unwrap_or_default(),
        resource: text_of(body, "/resource/id"),
        statement: text_of(body, "/context/sql/text"),
        decision: text_of(body, "/decision").unwrap_or_default(),
        reason: text_of(body, "/reason").unwrap_or_default(),
        policies: list(&body["policies"]),
        approver: text_of(body, "/approval/approver"),
        ..OperationRow::default()
    })
}

fn session_row(r: &Row<'_>) -> Result<SessionRow, rusqlite::Error> {
    Ok(SessionRow {
        session: r.get("session")?,
        entry: uint(r.get("entry")?),
        workload: r.get("workload")?,
        opened_at: r.get("opened_at")?,
        closed_at: r.get("closed_at")?,
        process_exe: r.get("process_exe")?,
        process_pid: r.get("process_pid")?,
        protocol: r.get("protocol")?,
        address: r.get("address")?,
        port: r.get("port")?,
        name: r.get("name")?,
        tls: r.get::<_, Option<String>>("tls")?.map(|t| Box::new(JsonText(t))),
        operations: r.get("operations")?,
        bytes_up: r.get("bytes_up")?,
        bytes_down: r.get("bytes_down")?,
        reason: r.get("reason")?,
    })
}

fn operation_row(r: &Row<'_>) -> Result<OperationRow, rusqlite::Error> {
    let text = |name: &str| -> Result<String, rusqlite::Error> {
        Ok(r.get::<_, Option<String>>(name)?.unwrap_or_default())
    };
    Ok(OperationRow {
        entry: uint(r.get("entry")?),
        id: text("id")?,
        at: text("at")?,
        workload: text("workload")?,
        subject: r.get("subject")?,
        session: r.get("session")?,
        process_exe: r.get("process_exe")?,
        protocol: text("protocol")?,
        action: text("action")?,
        resource: r.get("resource")?,
        statement: None,
        decision: text("decision")?,
        reason: text("reason")?,
        policies: serde_json::from_str(&text("policies")?).unwrap_or_default(),
        approver: r.get("approver")?,
        status: r.get("status")?,
        outcome: r.get("outcome")?,
        bytes_up: r.get("bytes_up")?,
        bytes_down: r.get("bytes_down")?,
        duration_us: r.get("duration_us")?,
        masked: serde_json::from_str(&text("masked")?).ok(),
    })
}
