//! What stands in a masked value's place.

use aws_lc_rs::hmac;

use super::MaskRules;
use crate::{config::Strategy, model::ClassId};

/// A value that is being masked. It may come in pieces and be of any length: what is kept of it is bounded.
pub(super) struct Value {
    pub(super) class: ClassId,
    pub(super) empty: bool,
    hash: Option<hmac::Context>,
    end: Vec<u8>,
    chars: usize,
}

impl Value {
    pub(super) fn new(rules: &MaskRules, class: ClassId) -> Self {
        let hash = (rules.strategy(class) == Strategy::Hash).then(|| {
            let mut context = hmac::Context::with_key(&rules.key);
            // The class separates the domains: a token of one class says nothing about another's.
            context.update(rules.name(class).as_bytes());
            context.update(&[0]);
            context
        });
        Self {
            class,
            empty: true,
            hash,
            end: Vec::new(),
            chars: 0,
        }
    }

    pub(super) fn feed(&mut self, rules: &MaskRules, bytes: &[u8]) {
        self.empty &= bytes.is_empty();
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        if rules.strategy(self.class) == Strategy::Partial {
            self.chars += bytes.iter().filter(|b| !is_continuation(**b)).count();
            let most = rules.keep_last * 4;
            self.end
                .extend_from_slice(&bytes[bytes.len().saturating_sub(most)..]);
            self.end.drain(..self.end.len().saturating_sub(most));
        }
    }

    /// Appends what stands in its place; nothing for [`Strategy::Null`].
    pub(super) fn write(&self, rules: &MaskRules, to: &mut Vec<u8>) {
        let name = rules.name(self.class);
        match rules.strategy(self.class) {
            Strategy::Null => {}
            Strategy::Redact => {
                to.extend_from_slice(b"[masked:");
                to.extend_from_slice(name.as_bytes());
                to.push(b']');
            }
            Strategy::Partial => {
                to.extend_from_slice(b"****");
                // Of a short value the end would be most of it.
                if self.chars >= rules.keep_last * 2 {
                    to.extend_from_slice(last_chars(&self.end, rules.keep_last));
                }
            }
            Strategy::Hash => {
                to.extend_from_slice(name.as_bytes());
                to.push(b':');
                if let Some(context) = &self.hash {
                    let tag = context.clone().sign();
                    to.extend_from_slice(hex::encode(&tag.as_ref()[..8]).as_bytes());
                }
            }
        }
    }
}

fn last_chars(text: &[u8], n: usize) -> &[u8] {
    let starts = (0..text.len()).rev().filter(|i| !is_continuation(text[*i]));
    match n.checked_sub(1).and_then(|n| starts.clone().nth(n)) {
        Some(start) => &text[start..],
        None => &[],
    }
}

pub(super) fn is_continuation(b: u8) -> bool {
    b & 0xC0 == 0x80
}
