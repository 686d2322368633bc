//! Masking: data classes, detectors, and streaming maskers.
//!
//! A [`Masker`] reads one body in pieces of any size and writes it with the values of the given data classes masked;
//! bytes that are not part of one go out as they came in. Where the input is cut makes no difference to the output.
//! Structure first: values of JSON keys and form fields that the rules name are masked whatever they are; detectors
//! find the rest. What is held back until more comes is bounded: at most [`HOLD_MAX`] bytes, and mostly none but the
//! word that the input ends in. A value of any length (a private key, a token) is masked in constant memory.
//!
//! The time is linear in the input, whatever it is.

mod classes;
mod coding;
mod columns;
mod counts;
mod detect;
mod form;
mod format;
mod json;
mod names;
mod out;
mod rules;
mod secrets;
mod segment;
mod strategy;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use counts::Counts;
pub(crate) use format::looks_wide;
pub use format::{Format, Handling};
pub use rules::{MaskError, MaskRules};
pub use secrets::{INJECTED_SECRET, Scrubber, Secrets, percent_decoded};

use crate::model::{ClassId, ClassSet};
use detect::Active;
use form::Form;
use json::Json;
use out::Out;
use segment::Core;

/// The most bytes that a masker holds back: a JSON key with every character escaped, or a JSON string's last piece
/// with every character escaped.
pub const HOLD_MAX: usize = 4096;

/// Masks one body, in pieces.
pub struct Masker {
    core: Core,
    format: Format,
    json: Json,
    form: Form,
    held: Vec<u8>,
}

impl std::fmt::Debug for Masker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Nothing of the body.
        f.debug_struct("Masker")
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl Masker {
    /// A masker of these classes for one body.
    #[must_use]
    pub fn new(rules: Arc<MaskRules>, classes: ClassSet, format: Format) -> Self {
        let on = Active::new(&rules, classes);
        Self {
            core: Core::new(rules, on),
            format,
            json: Json::new(),
            form: Form::default(),
            held: Vec::new(),
        }
    }

    /// Makes it a masker for another body, and keeps its memory.
    pub fn reset(&mut self, classes: ClassSet, format: Format) {
        if self.core.on.set != classes {
            self.core.on = Active::new(&self.core.rules, classes);
        }
        self.core.reset();
        self.format = format;
        self.json.reset();
        self.form.reset();
        self.held.clear();
    }

    /// Takes the next piece and appends what is decided to `out`.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let mut out = Out::Direct(out);
        if self.held.is_empty() {
            let used = self.run(input, false, &mut out);
            self.held.extend_from_slice(&input[used..]);
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(input);
            let used = self.run(&held, false, &mut out);
            held.drain(..used);
            self.held = held;
        }
    }

    /// The body ends: appends the rest.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let held = std::mem::take(&mut self.held);
        self.run(&held, true, &mut Out::Direct(out));
    }

    /// Masks a whole body in one go, with a masker that is new or reset: `None` when nothing was masked, so that
    /// the original bytes can be sent without a copy.
    #[must_use]
    pub fn scan_whole(&mut self, input: &[u8]) -> Option<Vec<u8>> {
        if self.format == Format::Json && self.json.is_clean(&self.core, input) {
            return None;
        }
        let mut out = Out::Lazy {
            input,
            same: 0,
            out: None,
        };
        self.run(input, true, &mut out);
        match out {
            Out::Lazy { out, .. } => out,
            Out::Direct(_) => None,
        }
    }

    /// The class of the first value that detectors find in a whole text.
    #[must_use]
    pub fn first(&mut self, text: &[u8]) -> Option<ClassId> {
        self.core.first_hit(text)
    }

    /// The class of a number of its own, given as its digits.
    #[must_use]
    pub fn number(&mut self, digits: &[u8]) -> Option<ClassId> {
        if !self.is_anywhere() && !detect::is_number(digits) {
            return None;
        }
        self.first(digits)
    }

    /// Whether values can be anywhere, because the operator's patterns are among what is looked for: then
    /// [`Self::candidates`] says nothing.
    #[must_use]
    pub fn is_anywhere(&self) -> bool {
        self.core.on.custom
    }

    /// The places near which a value could be, in order: a stretch of text that holds none of them holds no value
    /// that detectors find in it. Much cheaper than masking. What stands before the stretch must not look like a
    /// part of it: no digit, and no dot after a digit.
    pub fn candidates(&self, bytes: &[u8], places: &mut Vec<usize>) {
        detect::marks(&self.core.rules, &self.core.on, bytes, 0, places);
    }

    /// Whether a JSON text without candidates could have something to mask all the same: by a key, or behind an
    /// escape.
    #[must_use]
    pub fn is_json_suspect(&self, text: &[u8]) -> bool {
        self.core.rules.json.names_elements() || detect::hides(text) || self.core.rules.json.could_be_in(text)
    }

    /// What was masked so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.core.counts
    }

    /// How many bytes are held back.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    fn run(&mut self, input: &[u8], last: bool, out: &mut Out<'_>) -> usize {
        let mut used = 0;
        if self.format == Format::Json {
            let progress = self.json.run(&mut self.core, input, last, out);
            used = progress.used;
            let Some(class) = progress.lost else {
                return used;
            };
            self.format = Format::Text;
            match class {
                Some(class) => self.core.begin_value(class),
                None => self.core.begin(),
            }
        }
        let rest = &input[used..];
        used + match self.format {
            Format::Form => self.form.run(&mut self.core, rest, last, out),
            _ => self.core.segment(rest, coding::Coding::Plain, last, out),
        }
    }
}
