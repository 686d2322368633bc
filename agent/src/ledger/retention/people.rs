//! The purge of entries: whole segments, oldest first, asked for by one person and confirmed by another.
//!
//! Both are signed in at the approvers' issuer and in one of `[retention] purge_groups`. Being root purges nothing. A
//! request waits in memory and ends with the daemon.

use std::{collections::HashMap, sync::PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{parts, record},
    Retained, Retention, RetentionError,
    hold::Hold,
    intent::Intent,
    purge::{self, is_over},
    survey::Extent,
};
use crate::model::{Approver, EntryKind, Rfc3339};

/// How long the first person's word waits for the second's.
const SECOND_NS: i64 = 900_000_000_000;
/// How many may wait for their second person.
const PENDING: usize = 16;
/// The longest reason, in characters.
const REASON: usize = 1_000;

/// A purge that waits for its second person.
pub(super) struct Pending {
    before: String,
    reason: String,
    first: Approver,
    left: Vec<Retained>,
    until_ns: i64,
}

pub(super) type Requests = HashMap<Uuid, Pending>;

/// A purge of entries, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntriesPurge {
    /// Its id.
    pub id: Uuid,
    /// Entries of segments that end before this time, RFC 3339.
    pub before: String,
    /// Why.
    pub reason: String,
    /// Who asked for it.
    pub requested_by: String,
    /// Who confirmed it; `None` while it waits.
    pub confirmed_by: Option<String>,
    /// Until when it can be confirmed, RFC 3339.
    pub expires_at: String,
    /// The segments.
    pub segments: Vec<u64>,
    /// The first entry.
    pub from: u64,
    /// The first that stays.
    pub to: u64,
    /// What stopped it from reaching further, if anything did.
    pub stopped_by: Option<String>,
}

/// A reason that says something.
pub(super) fn reason(text: &str) -> Result<String, RetentionError> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > REASON {
        return Err(RetentionError::Reason);
    }
    Ok(text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect())
}

fn who(person: &Approver) -> Value {
    json!({
        "issuer": person.issuer, "subject": person.subject, "name": person.name, "via": person.via,
        "token_id": person.token_id, "authenticated_at": person.authenticated_at,
    })
}

fn spelled(person: &Approver) -> String {
    format!("{} at {}", person.subject, person.issuer)
}

fn same_person(a: &Approver, b: &Approver) -> bool {
    a.issuer == b.issuer && a.subject == b.subject
}

impl Pending {
    fn view(&self, id: Uuid, confirmed_by: Option<&Approver>, stopped_by: Option<String>) -> EntriesPurge {
        EntriesPurge {
            id,
            before: self.before.clone(),
            reason: self.reason.clone(),
            requested_by: self.first.name.to_string(),
            confirmed_by: confirmed_by.map(|by| by.name.to_string()),
            expires_at: Rfc3339(self.until_ns).to_string(),
            segments: self.left.iter().map(|left| left.segment).collect(),
            from: self.left.first().map_or(0, |left| left.from),
            to: self.left.last().map_or(0, |left| left.to),
            stopped_by,
        }
    }
}

impl Retention {
    /// The first person asks. Nothing is purged before a second one confirms it.
    ///
    /// # Errors
    /// When the human may not, nothing can be purged, or it cannot be recorded.
    pub async fn request_entries(
        &self,
        by: &Approver,
        before_ns: i64,
        reason_text: &str,
    ) -> Result<EntriesPurge, RetentionError> {
        let id = Uuid::now_v7();
        let asked = self.ask(id, by, before_ns, reason_text).await;
        self.note_refusal(id, by, &asked).await;
        asked
    }

    async fn ask(
        &self,
        id: Uuid,
        by: &Approver,
        before_ns: i64,
        reason_text: &str,
    ) -> Result<EntriesPurge, RetentionError> {
        let reason = self.masked(&reason(reason_text)?);
        self.may_purge(by)?;
        let _one = self.0.working.lock().await;
        let now = self.now();
        self.requests().retain(|_, pending| pending.until_ns > now);
        if self.requests().len() >= PENDING {
            return Err(RetentionError::TooMany);
        }
        let before = Rfc3339(before_ns).to_string();
        let (left, stopped_by) = self.reach(&before).await?;
        if left.is_empty() {
            let why =
                stopped_by.unwrap_or_else(|| "every segment that ends before it is purged already".into());
            return Err(RetentionError::Nothing { before, why });
        }
        let pending = Pending {
            before,
            reason,
            first: by.clone(),
            left,
            until_ns: now.saturating_add(SECOND_NS),
        };
        let view = pending.view(id, None, stopped_by);
        let detail = json!({
            "request": id, "requested_by": who(by), "reason": view.reason, "before": view.before,
            "segments": view.segments, "entries": { "from": view.from, "to": view.to },
        });
        let entry = json!({ "event": "entries_purge_requested", "detail": detail });
        self.append(entry).await?;
        self.requests().insert(id, pending);
        tracing::warn!(by = %by.subject, from = view.from, to = view.to, "a purge of entries waits for its second person");
        Ok(view)
    }

    /// The second person confirms; the segments are purged of their entries when this returns.
    ///
    /// # Errors
    /// When the human may not, is the first one, what could be purged has changed, or it cannot be recorded. An error
    /// after the entry is durable is made good by the next pass.
    pub async fn confirm_entries(
        &self,
        id: Uuid,
        by: &Approver,
        reason_text: &str,
    ) -> Result<EntriesPurge, RetentionError> {
        let done = self.confirm(id, by, reason_text).await;
        self.note_refusal(id, by, &done).await;
        done
    }

    async fn confirm(
        &self,
        id: Uuid,
        by: &Approver,
        reason_text: &str,
    ) -> Result<EntriesPurge, RetentionError> {
        let words = self.masked(&reason(reason_text)?);
        self.may_purge(by)?;
        let _one = self.0.working.lock().await;
        // What an earlier purge left undone goes first: there is one intent at a time.
        self.finish_intent().await?;
        let now = self.now();
        let before = match self.requests().get(&id).filter(|p| p.until_ns > now) {
            None => return Err(RetentionError::RequestUnknown),
            Some(pending) if same_person(&pending.first, by) => return Err(RetentionError::SamePerson),
            Some(pending) => pending.before.clone(),
        };
        let (left, _) = self.reach(&before).await?;
        let Some(pending) = self.requests().remove(&id) else {
            return Err(RetentionError::RequestUnknown);
        };
        if left != pending.left {
            let why = "a hold was set or released, the configuration changed, or it was purged".into();
            return Err(RetentionError::Moved { why });
        }
        let view = pending.view(id, Some(by), None);
        let segments: Vec<Value> = left
            .iter()
            .map(|l| {
                json!({
                    "segment": l.segment, "entries": { "from": l.from, "to": l.to },
                    "root": hex::encode(l.root), "checkpoint": l.checkpoint,
                })
            })
            .collect();
        let detail = json!({
            "request": id, "before": view.before, "entries": { "from": view.from, "to": view.to },
            "requested_by": who(&pending.first), "reason": view.reason,
            "confirmed_by": who(by), "confirmed_because": words, "segments": segments,
        });
        let entry = record::entry(
            EntryKind::Ledger,
            now,
            json!({ "event": "entries_purged", "detail": detail }),
        );
        let at = Rfc3339(now).to_string();
        let (first, second) = (spelled(&pending.first), spelled(by));
        let texts = left.iter().map(|l| {
            let people = [first.as_str(), second.as_str()];
            let text = purge::stub_text(&self.origin(), l, people, &view.reason, &at, entry.id);
            (l.segment, text)
        });
        let intent = Intent {
            entry: entry.id,
            since: self.0.ledger.size().0,
            segments: texts.collect(),
        };
        tracing::warn!(by = %by.subject, from = view.from, to = view.to, "entries are purged");
        self.announce(entry, &intent).await?;
        self.carry_out(intent).await?;
        Ok(view)
    }

    fn may_purge(&self, by: &Approver) -> Result<(), RetentionError> {
        let config = self.0.config.load();
        if config.purge_groups.is_empty() || config.entries.age().is_none() {
            return Err(RetentionError::Off);
        }
        if by
            .groups
            .iter()
            .any(|g| config.purge_groups.iter().any(|p| **p == **g))
        {
            return Ok(());
        }
        Err(RetentionError::NotInGroup {
            groups: config.purge_groups.clone(),
        })
    }

    /// Who was refused, on record.
    async fn note_refusal<T>(&self, id: Uuid, by: &Approver, said: &Result<T, RetentionError>) {
        let Err(error) = said else { return };
        let Some(word) = error.refusal() else { return };
        tracing::warn!(by = %by.subject, "a purge of entries was refused: {error}");
        let detail = json!({ "request": id, "by": who(by), "refused": word });
        let entry = json!({ "event": "entries_purge_refused", "detail": detail });
        if let Err(error) = self.append(entry).await {
            tracing::error!("the refusal is not on record: {error}");
        }
    }

    /// The segments from the oldest on whose entries can be purged, and what stops it there.
    async fn reach(&self, before: &str) -> Result<(Vec<Retained>, Option<String>), RetentionError> {
        let holds = self.standing_holds().await?;
        let config = self.0.config.load_full();
        let (now, before) = (self.now(), before.to_owned());
        self.blocking(move |inner| {
            let mut left = Vec::new();
            for part in parts(&inner.dir)? {
                let number = part.number;
                if !part.sealed {
                    return Ok((left, Some(format!("part {number} is not sealed"))));
                }
                let extent = inner.extent(&part)?;
                if extent.stub {
                    continue;
                }
                if extent.to >= before {
                    return Ok((left, Some(format!("segment {number} ends at {}", extent.to))));
                }
                if !is_over(config.entries, &extent.to, now) {
                    let why = format!(
                        "segment {number} is not older than [retention] entries = {}",
                        config.entries
                    );
                    return Ok((left, Some(why)));
                }
                if inner.is_untaken(number, Some(extent.end)) {
                    let why =
                        format!("segment {number} is not taken yet by every [[ship]] with required = true");
                    return Ok((left, Some(why)));
                }
                if let Some(hold) = covering(&inner.dir, number, &extent, &holds)? {
                    return Ok((left, Some(format!("segment {number} is under legal hold {hold}"))));
                }
                left.push(purge::sound(
                    &inner.dir,
                    &inner.ledger.shared().keys.current(),
                    number,
                    &inner.stop,
                )?);
            }
            Ok((left, None))
        })
        .await
    }

    pub(super) fn requests(&self) -> std::sync::MutexGuard<'_, Requests> {
        self.0.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The purges that wait for their second person.
    pub(super) fn waiting(&self) -> Vec<EntriesPurge> {
        let now = self.now();
        let requests = self.requests();
        let open = requests.iter().filter(|(_, p)| p.until_ns > now);
        let mut all: Vec<_> = open.map(|(id, p)| p.view(*id, None, None)).collect();
        all.sort_by_key(|view| view.id);
        all
    }
}

/// The first hold that covers something of a segment.
pub(super) fn covering(
    dir: &std::path::Path,
    segment: u64,
    extent: &Extent,
    holds: &[Hold],
) -> Result<Option<Uuid>, RetentionError> {
    // Its own entry has to stay as long as it stands.
    let own = holds
        .iter()
        .find(|h| (extent.first..extent.end).contains(&h.entry));
    if let Some(hold) = own {
        return Ok(Some(hold.id));
    }
    let (from, to) = (Some(extent.from.as_str()), Some(extent.to.as_str()));
    let near: Vec<&Hold> = holds
        .iter()
        .filter(|h| h.scope.covers(None, None, from, to))
        .collect();
    let named = |h: &&&Hold| h.scope.workload.is_some() || h.scope.session.is_some();
    if let Some(hold) = near.iter().find(|h| !named(h)) {
        return Ok(Some(hold.id));
    }
    if near.is_empty() {
        return Ok(None);
    }
    let conn = super::super::read::open(&super::super::segment_path(dir, segment))?;
    conn.execute_batch("PRAGMA mmap_size=0")?;
    let mut statement = conn.prepare(
        "SELECT json_extract(body, '$.workload'), json_extract(body, '$.session'), json_extract(body, '$.at')
         FROM entry ORDER BY seq",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let text = |i: usize| row.get_ref(i).ok().and_then(|v| v.as_str().ok());
        let (workload, session, at) = (text(0), text(1), text(2));
        let hit = near.iter().find(|h| {
            // What concerns the host, and what names no connection, is not of the one that is held: its segment is held
            // anyway, by what is.
            let same =
                |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
            same(&h.scope.workload, workload)
                && same(&h.scope.session, session)
                && h.scope.covers(workload, session, at, at)
        });
        if let Some(hold) = hit {
            return Ok(Some(hold.id));
        }
    }
    Ok(None)
}
