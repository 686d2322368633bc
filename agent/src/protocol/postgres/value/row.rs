//! Rows: the body of a DataRow, column by column.
//!
//! Most rows hold nothing: one search over all of a row's bytes says so, without a look at most of its columns and
//! without an allocation.

use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};

use super::{
    Column, Format, Treatment, Types,
    engine::{Engine, Outcome, PIECE, looks_json},
    kind::{Kind, Node},
};
use crate::{
    mask::{Counts, MaskRules},
    model::ClassSet,
    protocol::postgres::frame::{Fault, Reader},
};

/// When a column's value has to be looked at under [`Treatment::Scan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Never,
    /// When a candidate is in it.
    Candidate,
    /// Or when it looks like JSON, and its keys or escapes say so.
    Text,
    /// Or when its keys or escapes say so.
    Json,
    /// Or when something in it is quoted in a way that could hide a candidate.
    Quoted,
    Always,
}

/// What the columns of a row need together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    /// Some column is looked at in every row.
    pub(super) always: bool,
    /// Some column can be JSON.
    pub(super) json: bool,
    /// Quotes can hide something in some column.
    pub(super) quoted: bool,
}

#[derive(Debug)]
struct Slot {
    node: Node,
    format: Format,
    treatment: Treatment,
    need: Need,
}

/// Masks the rows of one result, a row at a time.
#[derive(Debug)]
pub struct RowMasker {
    pub(super) engine: Engine,
    slots: Box<[Slot]>,
    /// Whether some column needs candidates.
    searched: bool,
    pub(super) needs: Needs,
    places: Vec<usize>,
    masked: Vec<u8>,
}

impl RowMasker {
    /// For rows of these columns; `classes` are those that policy does not reveal.
    #[must_use]
    pub fn new(rules: Arc<MaskRules>, classes: ClassSet, columns: Vec<Column>, types: &dyn Types) -> Self {
        let engine = Engine::new(rules, classes);
        let slot = |column: Column| {
            let node = Node::resolve(column.type_oid, column.type_mod, types);
            let need = match column.treatment {
                Treatment::Mask(_) => Need::Always,
                Treatment::Scan if classes.is_empty() => Need::Never,
                Treatment::Scan => need(&node, column.format, &engine),
            };
            Slot {
                node,
                format: column.format,
                treatment: column.treatment,
                need,
            }
        };
        let slots: Box<[Slot]> = columns.into_iter().map(slot).collect();
        let any = |need: &[Need]| slots.iter().any(|s| need.contains(&s.need));
        Self {
            engine,
            searched: any(&[Need::Candidate, Need::Text, Need::Json, Need::Quoted]),
            needs: Needs {
                always: any(&[Need::Always]),
                json: any(&[Need::Text, Need::Json]),
                quoted: any(&[Need::Quoted]),
            },
            slots,
            places: Vec::new(),
            masked: Vec::new(),
        }
    }

    /// Whether no row can ever be changed: then [`Self::row`] need not be called.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.slots.iter().all(|s| s.need == Need::Never)
    }

    /// Masks a DataRow's body. When something was masked, appends the new message, with type and length, and
    /// returns `true`; otherwise the row goes on as it is.
    ///
    /// # Errors
    /// [`Fault::Fields`] when the body is not a row of these columns. Nothing is appended then.
    pub fn row(&mut self, body: &[u8], out: &mut BytesMut) -> Result<bool, Fault> {
        self.tuple(body, Some(b'D'), out)
    }

    /// What was masked so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.engine.counts
    }

    /// Counts anew, for another result of the same columns.
    pub fn reset_counts(&mut self) {
        if !self.engine.counts.is_empty() {
            self.engine.counts = Counts::default();
        }
    }

    /// How many columns there are.
    pub(super) fn width(&self) -> usize {
        self.slots.len()
    }

    /// Whether nothing is ever done with a column.
    pub(super) fn is_quiet(&self, column: usize) -> bool {
        self.slots.get(column).is_none_or(|s| s.need == Need::Never)
    }

    /// A column's value of which it is known whether a candidate is in it: what becomes of it, and another to put in
    /// its place.
    pub(super) fn look(&mut self, column: usize, value: &[u8], candidate: Option<bool>) -> (Outcome, &[u8]) {
        let Some(slot) = self.slots.get(column) else {
            return (Outcome::Same, &[]);
        };
        if slot.need == Need::Never || candidate == Some(false) && !slot.is_suspect(&self.engine, value) {
            return (Outcome::Same, &[]);
        }
        self.masked.clear();
        let outcome = self
            .engine
            .value(&slot.node, slot.format, slot.treatment, value, &mut self.masked);
        (outcome, &self.masked)
    }

    /// A row, with a message's header before it where it is one.
    pub(super) fn tuple(&mut self, body: &[u8], tag: Option<u8>, out: &mut BytesMut) -> Result<bool, Fault> {
        let start = out.len();
        let changed = self.columns(body, tag, out);
        match changed {
            Ok(true) if tag.is_some() => {
                let length = u32::try_from(out.len() - start - 1)
                    .ok()
                    .filter(|n| *n <= i32::MAX as u32);
                if let Some(length) = length {
                    out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
                    return Ok(true);
                }
            }
            Ok(changed) => return Ok(changed),
            Err(_) => {}
        }
        out.truncate(start);
        Err(changed.err().unwrap_or(Fault::Length))
    }

    fn columns(&mut self, body: &[u8], tag: Option<u8>, out: &mut BytesMut) -> Result<bool, Fault> {
        let mut reader = Reader::new(body);
        if reader.count()? != self.slots.len() {
            return Err(Fault::Fields);
        }
        let known = self.searched && body.len() <= PIECE;
        if known {
            self.engine.masker.candidates(body, &mut self.places);
        }
        let mut next = 0;
        let mut copied = None;
        for slot in &*self.slots {
            let at = body.len() - reader.rest().len();
            let Some(value) = reader.value()? else { continue };
            if slot.need == Need::Never {
                continue;
            }
            if known && slot.need != Need::Always {
                let start = at + 4;
                while self.places.get(next).is_some_and(|p| *p < start) {
                    next += 1;
                }
                let marked = self.places.get(next).is_some_and(|p| *p < start + value.len());
                if !marked && !joins(&body[at..start]) && !slot.is_suspect(&self.engine, value) {
                    continue;
                }
            }
            self.masked.clear();
            let outcome = self
                .engine
                .value(&slot.node, slot.format, slot.treatment, value, &mut self.masked);
            if outcome == Outcome::Same {
                continue;
            }
            let from = copied.unwrap_or_else(|| {
                if let Some(tag) = tag {
                    out.put_u8(tag);
                    out.put_u32(0);
                }
                0
            });
            out.extend_from_slice(&body[from..at]);
            if outcome == Outcome::Null {
                out.put_i32(-1);
            } else {
                out.put_i32(i32::try_from(self.masked.len()).map_err(|_| Fault::Length)?);
                out.extend_from_slice(&self.masked);
            }
            copied = Some(at + 4 + value.len());
        }
        reader.end()?;
        // A large value is not a reason to keep its memory.
        if self.masked.capacity() > PIECE {
            self.masked = Vec::new();
        }
        let Some(copied) = copied else {
            return Ok(false);
        };
        out.extend_from_slice(&body[copied..]);
        Ok(true)
    }
}

impl Slot {
    /// Whether a value without candidates has to be looked at.
    fn is_suspect(&self, engine: &Engine, value: &[u8]) -> bool {
        match self.need {
            Need::Never | Need::Candidate => false,
            Need::Text => looks_json(value) && engine.masker.is_json_suspect(value),
            Need::Json => engine.masker.is_json_suspect(value),
            Need::Quoted => memchr::memchr2(b'\\', b'"', value).is_some(),
            Need::Always => true,
        }
    }
}

/// Whether a length's bytes could be taken for a part of the value after them: a digit, or a dot after a digit.
fn joins(length: &[u8]) -> bool {
    matches!(length, [.., b'0'..=b'9'] | [.., b'0'..=b'9', b'.'])
}

fn need(node: &Node, format: Format, engine: &Engine) -> Need {
    if engine.masker.is_anywhere() {
        return Need::Always;
    }
    if node.is_plain(engine.ip) {
        return Need::Never;
    }
    match (&node.kind, format) {
        (Kind::Oid, Format::Binary) => Need::Never,
        (Kind::Text | Kind::Varchar | Kind::Bpchar | Kind::Name | Kind::Xml, _)
        | (Kind::Bytea, Format::Binary)
        | (Kind::Jsonpath | Kind::Unknown, Format::Text) => Need::Text,
        (Kind::Json | Kind::Jsonb, _) => Need::Json,
        (Kind::Enum, _)
        | (
            Kind::TsVector | Kind::TsQuery | Kind::Oid | Kind::Inet | Kind::Cidr | Kind::Int8 | Kind::Numeric,
            Format::Text,
        ) => Need::Candidate,
        (Kind::Array { .. } | Kind::Composite(_) | Kind::Range(_) | Kind::Multirange(_), Format::Text)
            if !has_floats(node) =>
        {
            Need::Quoted
        }
        _ => Need::Always,
    }
}

/// Whether there is a float8 in it: in text, an exponent hides its digits.
fn has_floats(node: &Node) -> bool {
    match &node.kind {
        Kind::Float8 | Kind::Hstore | Kind::Bytea => true,
        Kind::Array { element: inner, .. } | Kind::Range(inner) | Kind::Multirange(inner) => {
            has_floats(inner)
        }
        Kind::Composite(Some(fields)) => fields.iter().any(has_floats),
        _ => false,
    }
}
