//! One value: what is found in it, and what becomes of it.

use std::sync::Arc;

use super::{
    Format, Treatment, bytea,
    kind::{Kind, Node},
    number, render, search,
};
use crate::{
    config::Strategy,
    mask::{Counts, Format as Syntax, MaskRules, Masker},
    model::{ClassId, ClassSet},
};

/// Longer values are read in pieces of this size, so that what is remembered of them stays small.
pub(super) const PIECE: usize = 64 * 1024;

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It stays as it is; nothing was written.
    Same,
    /// Another was written.
    Changed,
    /// It becomes NULL.
    Null,
}

pub(super) struct Engine {
    pub(super) rules: Arc<MaskRules>,
    pub(super) masker: Masker,
    pub(super) classes: ClassSet,
    pub(super) counts: Counts,
    /// Whether addresses are looked for.
    pub(super) ip: bool,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    pub(super) fn new(rules: Arc<MaskRules>, classes: ClassSet) -> Self {
        let on = |name| rules.classes().id(name).is_some_and(|id| classes.contains(id));
        Self {
            ip: on("ipv4") || on("ipv6"),
            masker: Masker::new(rules.clone(), classes, Syntax::Text),
            rules,
            classes,
            counts: Counts::default(),
        }
    }

    /// Treats a value and appends what stands in its place.
    pub(super) fn value(
        &mut self,
        node: &Node,
        format: Format,
        treatment: Treatment,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Outcome {
        if let Treatment::Mask(class) = treatment
            && self.rules.strategy(class) == Strategy::Null
        {
            self.counts.add(class);
            return super::scalar::null(node, format, out);
        }
        let at = out.len();
        let outcome = match (&node.kind, format) {
            (Kind::Array { element, delimiter }, Format::Text) => {
                self.array_text(element, *delimiter, treatment, bytes, out)
            }
            (Kind::Array { element, .. }, Format::Binary) => {
                self.array_binary(element, treatment, bytes, out)
            }
            (Kind::Composite(fields), Format::Text) => {
                self.composite_text(fields.as_deref(), treatment, bytes, out)
            }
            (Kind::Composite(fields), Format::Binary) => {
                self.composite_binary(fields.as_deref(), treatment, bytes, out)
            }
            _ => match treatment {
                Treatment::Mask(class) => Some(self.replace(node, format, class, bytes, out)),
                Treatment::Scan => self.scan(node, format, bytes, out),
            },
        };
        if let Some(outcome) = outcome {
            return outcome;
        }
        // It is not what its type says.
        out.truncate(at);
        match treatment {
            Treatment::Mask(class) => {
                self.counts.add(class);
                Outcome::Null
            }
            Treatment::Scan => self.unknown(format, bytes, out),
        }
    }

    /// Looks for values in what is not an array or a composite; `None` when it is not what its type says.
    fn scan(&mut self, node: &Node, format: Format, bytes: &[u8], out: &mut Vec<u8>) -> Option<Outcome> {
        Some(match (&node.kind, format) {
            (Kind::Text | Kind::Varchar | Kind::Bpchar | Kind::Name | Kind::Xml, _) => {
                let at = out.len();
                let outcome = self.text(bytes, out);
                if outcome == Outcome::Changed {
                    super::scalar::cut(node, out, at);
                }
                outcome
            }
            (Kind::Json, _) | (Kind::Jsonb, Format::Text) => self.syntax(Syntax::Json, bytes, out),
            (Kind::Jsonpath, Format::Text) => self.text(bytes, out),
            (Kind::Jsonb | Kind::Jsonpath, Format::Binary) => {
                let [1, text @ ..] = bytes else { return None };
                let (at, syntax) = (
                    out.len(),
                    if node.kind == Kind::Jsonb {
                        Syntax::Json
                    } else {
                        Syntax::Text
                    },
                );
                out.push(1);
                let outcome = self.syntax(syntax, text, out);
                if outcome != Outcome::Changed {
                    out.truncate(at);
                }
                outcome
            }
            (Kind::Bytea, Format::Binary) => self.text(bytes, out),
            (Kind::Bytea, Format::Text) => {
                let decoded = bytea::decode(bytes)?;
                let mut masked = Vec::new();
                let outcome = self.text(&decoded, &mut masked);
                if outcome == Outcome::Changed {
                    bytea::encode(&masked, bytea::is_hex(bytes), out);
                }
                outcome
            }
            (Kind::Int8 | Kind::Numeric | Kind::Float8, _) if !self.masker.is_anywhere() => {
                let found =
                    number::digits(&node.kind, format, bytes).and_then(|d| self.masker.number(d.as_bytes()));
                self.found(found, node, format, bytes, out)
            }
            (Kind::TsVector | Kind::TsQuery, Format::Binary) => {
                let lexemes = search::lexemes(&node.kind, bytes)?;
                let found = lexemes.iter().find_map(|l| self.masker.first(l));
                self.found(found, node, format, bytes, out)
            }
            (Kind::Range(bound), _) => self.range(bound, format, bytes)?,
            (Kind::Multirange(range), _) => self.multirange(range, format, bytes)?,
            (Kind::Hstore, Format::Text) => self.hstore_text(bytes, out)?,
            (Kind::Hstore, Format::Binary) => self.hstore_binary(bytes, out)?,
            (Kind::Unknown, _) => self.unknown(format, bytes, out),
            _ if node.is_plain(self.ip) && !self.masker.is_anywhere() => Outcome::Same,
            (_, Format::Text) => {
                let found = self.masker.first(bytes);
                self.found(found, node, format, bytes, out)
            }
            (kind, Format::Binary) => {
                let text = render::text(kind, Format::Binary, bytes)?;
                let found = self.masker.first(text.as_bytes());
                self.found(found, node, format, bytes, out)
            }
        })
    }

    fn found(
        &mut self,
        class: Option<ClassId>,
        node: &Node,
        format: Format,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Outcome {
        match class {
            None => Outcome::Same,
            Some(class) if self.rules.strategy(class) == Strategy::Null => {
                self.counts.add(class);
                Outcome::Null
            }
            Some(class) => self.replace(node, format, class, bytes, out),
        }
    }

    /// Text, or JSON where it looks like it: keys name what is in it.
    pub(super) fn text(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Outcome {
        let syntax = if looks_json(bytes) {
            Syntax::Json
        } else {
            Syntax::Text
        };
        self.syntax(syntax, bytes, out)
    }

    fn syntax(&mut self, syntax: Syntax, bytes: &[u8], out: &mut Vec<u8>) -> Outcome {
        self.masker.reset(self.classes, syntax);
        if bytes.len() <= PIECE {
            match self.masker.scan_whole(bytes) {
                None => return Outcome::Same,
                Some(masked) => out.extend_from_slice(&masked),
            }
        } else {
            let at = out.len();
            for piece in bytes.chunks(PIECE) {
                self.masker.push(piece, out);
            }
            self.masker.finish(out);
            if self.masker.counts().is_empty() {
                out.truncate(at);
                return Outcome::Same;
            }
        }
        self.counts.merge(self.masker.counts());
        Outcome::Changed
    }

    /// A value of which nothing is known but its bytes.
    fn unknown(&mut self, format: Format, bytes: &[u8], out: &mut Vec<u8>) -> Outcome {
        if format == Format::Text || is_text(bytes) {
            return self.text(bytes, out);
        }
        // Most types are sent as a version or lengths and text, or as an integer.
        let mut found = self.masker.first(bytes);
        if found.is_none() && bytes.len() == 8 {
            found = number::digits(&Kind::Int8, format, bytes).and_then(|d| self.masker.first(d.as_bytes()));
        }
        match found {
            None => Outcome::Same,
            Some(class) => {
                self.counts.add(class);
                Outcome::Null
            }
        }
    }
}

/// Whether text is to be read as JSON.
pub(super) fn looks_json(bytes: &[u8]) -> bool {
    matches!(bytes.trim_ascii_start(), [b'{' | b'[', ..])
}

/// Whether bytes are text without control characters.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    let control = |b: &u8| b.is_ascii_control() && !matches!(b, b'\t' | b'\n' | b'\r');
    !bytes.iter().any(control) && std::str::from_utf8(bytes).is_ok()
}

/// Writes a value with some parts of it replaced: nothing until the first one is.
pub(super) struct Patch<'a> {
    input: &'a [u8],
    copied: usize,
    changed: bool,
}

impl<'a> Patch<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self {
            input,
            copied: 0,
            changed: false,
        }
    }

    /// What stands before `from` stays; what is written next stands in the place of `from..to`.
    pub(super) fn replace(&mut self, from: usize, to: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.input[self.copied..from]);
        self.copied = to;
        self.changed = true;
    }

    pub(super) fn finish(self, out: &mut Vec<u8>) -> Outcome {
        if !self.changed {
            return Outcome::Same;
        }
        out.extend_from_slice(&self.input[self.copied..]);
        Outcome::Changed
    }
}
