//! One run of text, in pieces: finds values, and writes the text with them masked.

use std::sync::Arc;

use super::{
    MaskRules,
    coding::{Coding, Cursor},
    counts::Counts,
    detect::{self, Active, Hit, LOOK_BACK, Tail},
    out::Out,
    strategy::{Value, is_continuation},
};
use crate::{
    config::Strategy,
    model::{ClassId, ClassSet},
};

/// The last decided bytes before what is looked at, for word boundaries.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    bytes: [u8; LOOK_BACK],
    len: usize,
}

impl Before {
    pub(super) fn push(&mut self, more: &[u8]) {
        let mut joined = [0; LOOK_BACK * 2];
        let more = &more[more.len().saturating_sub(LOOK_BACK)..];
        joined[..self.len].copy_from_slice(&self.bytes[..self.len]);
        joined[self.len..self.len + more.len()].copy_from_slice(more);
        let all = self.len + more.len();
        self.len = all.min(LOOK_BACK);
        self.bytes[..self.len].copy_from_slice(&joined[all - self.len..all]);
    }
    fn get(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The opening quote of a JSON string: whether it is still to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lead {
    /// It is written, or there is none.
    Written,
    /// Nothing of the string was written yet.
    Quote,
    /// The same, but something was masked to nothing: if that was all, the string becomes `null`.
    Nulled,
}

/// A value whose end was not seen yet.
struct Eating {
    value: Value,
    tail: Tail,
}

/// What all formats share: the rules in force, and what carries over from piece to piece.
pub(super) struct Core {
    pub(super) rules: Arc<MaskRules>,
    pub(super) on: Active,
    pub(super) counts: Counts,
    pub(super) before: Before,
    pub(super) lead: Lead,
    eating: Option<Eating>,
    scratch: Vec<u8>,
    hits: Vec<Hit>,
    /// Matches that begin where the last piece was cut or after it, known by what stands before that: their places
    /// from there.
    carried: Vec<Hit>,
    masked: Vec<u8>,
    encoded: Vec<u8>,
}

impl Core {
    pub(super) fn new(rules: Arc<MaskRules>, on: Active) -> Self {
        Self {
            rules,
            on,
            counts: Counts::default(),
            before: Before::default(),
            lead: Lead::Written,
            eating: None,
            scratch: Vec::new(),
            hits: Vec::new(),
            carried: Vec::new(),
            masked: Vec::new(),
            encoded: Vec::new(),
        }
    }

    pub(super) fn reset(&mut self) {
        self.counts.clear();
        self.begin();
        self.lead = Lead::Written;
    }

    /// A new run of text begins.
    pub(super) fn begin(&mut self) {
        self.before = Before::default();
        self.eating = None;
        self.carried.clear();
    }

    /// All that follows in this run of text is one value of the class.
    pub(super) fn begin_value(&mut self, class: ClassId) {
        self.begin();
        self.eating = Some(Eating {
            value: Value::new(&self.rules, class),
            tail: Tail::All,
        });
    }

    /// Takes a piece of the run of text and returns how much of it is done with; the rest has to come again, with
    /// more behind it. At the `last` piece that is all of it.
    pub(super) fn segment(&mut self, raw: &[u8], coding: Coding, last: bool, out: &mut Out<'_>) -> usize {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut used = 0;
        if let Some(eating) = self.eating.take() {
            used = self.eat(eating, raw, coding, last, &mut scratch, out);
        }
        if self.eating.is_none() && (used < raw.len() || last) {
            used += self.search(&raw[used..], coding, last, &mut scratch, out);
        }
        // A long string is not a reason to keep its memory.
        if scratch.capacity() <= 1 << 20 {
            self.scratch = scratch;
        }
        used
    }

    /// Goes on with a value whose end was not seen.
    fn eat(
        &mut self,
        mut eating: Eating,
        raw: &[u8],
        coding: Coding,
        last: bool,
        scratch: &mut Vec<u8>,
        out: &mut Out<'_>,
    ) -> usize {
        scratch.clear();
        let complete = coding.decode(raw, last, scratch);
        let (n, ended) = eating.tail.eat(scratch);
        eating.value.feed(&self.rules, &scratch[..n]);
        self.before.push(&scratch[..n]);
        if ended || last {
            self.write_value(&eating.value, coding, out);
            if n == scratch.len() {
                complete
            } else {
                Cursor::new(coding, raw, last, 0).advance(n)
            }
        } else {
            self.eating = Some(eating);
            complete
        }
    }

    fn search(
        &mut self,
        raw: &[u8],
        coding: Coding,
        last: bool,
        scratch: &mut Vec<u8>,
        out: &mut Out<'_>,
    ) -> usize {
        let first = self.before.len;
        let (hay, complete): (&[u8], usize) = if first == 0 && coding.is_plain(raw) {
            (raw, raw.len())
        } else {
            scratch.clear();
            scratch.extend_from_slice(self.before.get());
            let complete = coding.decode(raw, last, scratch);
            (scratch, complete)
        };
        let mut hits = std::mem::take(&mut self.hits);
        hits.clear();
        hits.extend(self.carried.drain(..).map(|h| h.moved(0, first)));
        let rules = self.rules.clone();
        let mut pending = detect::find(&rules, &self.on, hay, first, last, &mut hits);
        if coding == Coding::Json {
            // What one escape says is not cut.
            while pending > first && pending < hay.len() && is_continuation(hay[pending]) {
                pending -= 1;
            }
        }
        let mut place = Cursor::new(coding, raw, last, first);
        let (mut floor, mut written) = (first, 0);
        let mut sweep = Sweep::new(&rules, self.on.set, hay);
        while let Some(hit) = sweep.next(&mut hits, floor) {
            if hit.start >= pending {
                break;
            }
            let start = place.advance(hit.start);
            self.write_same(&raw[written..start], out);
            let mut value = Value::new(&rules, hit.class);
            let mut end = hit.end;
            if let Some(mut tail) = hit.tail {
                let (n, stopped) = tail.eat(&hay[end..]);
                end += n;
                value.feed(&rules, &hay[hit.start..end]);
                if !stopped && !last {
                    self.eating = Some(Eating { value, tail });
                    floor = end;
                    written = complete;
                    break;
                }
            } else {
                value.feed(&rules, &hay[hit.start..end]);
            }
            floor = end;
            written = place.advance(end);
            sweep.committed.push((hit.start, end));
            self.write_value(&value, coding, out);
        }
        let committed = sweep.committed;
        if self.eating.is_none() && pending > floor {
            floor = pending;
            let upto = if pending == hay.len() {
                complete
            } else {
                place.advance(pending)
            };
            self.write_same(&raw[written..upto], out);
            written = upto;
        }
        let apart = |h: &&Hit| {
            floor <= h.start && (h.anchor < floor && !is_covered(&committed, h) || h.anchor == Hit::BEHIND)
        };
        self.carried
            .extend(hits.iter().filter(apart).map(|h| h.moved(floor, 0)));
        self.before.push(&hay[first..floor]);
        self.hits = hits;
        written
    }

    pub(super) fn write_same(&mut self, bytes: &[u8], out: &mut Out<'_>) {
        if bytes.is_empty() {
            return;
        }
        if self.lead != Lead::Written {
            self.lead = Lead::Written;
            out.same(b"\"");
        }
        out.same(bytes);
    }

    fn write_value(&mut self, value: &Value, coding: Coding, out: &mut Out<'_>) {
        if value.empty {
            return;
        }
        self.counts.add(value.class);
        if self.rules.strategy(value.class) == Strategy::Null {
            if self.lead == Lead::Quote {
                self.lead = Lead::Nulled;
            }
            return out.changed(&[]);
        }
        if self.lead != Lead::Written {
            self.lead = Lead::Written;
            out.same(b"\"");
        }
        self.masked.clear();
        value.write(&self.rules, &mut self.masked);
        self.encoded.clear();
        coding.encode(&self.masked, &mut self.encoded);
        out.changed(&self.encoded);
    }

    /// The first match in a whole text.
    pub(super) fn first_hit(&mut self, text: &[u8]) -> Option<ClassId> {
        let mut hits = std::mem::take(&mut self.hits);
        hits.clear();
        detect::find(&self.rules, &self.on, text, 0, true, &mut hits);
        let hit = Sweep::new(&self.rules, self.on.set, text).next(&mut hits, 0);
        self.hits = hits;
        hit.map(|h| h.class)
    }

    /// Masks a JSON number or literal as a whole: with a string or `null`.
    pub(super) fn write_scalar(&mut self, class: ClassId, text: &[u8], out: &mut Out<'_>) {
        let mut value = Value::new(&self.rules, class);
        value.feed(&self.rules, text);
        let quote: &[u8] = match self.rules.strategy(class) {
            Strategy::Null => b"null",
            _ => b"\"",
        };
        out.changed(quote);
        self.write_value(&value, Coding::Json, out);
        out.changed(if quote == b"null" { b"" } else { quote });
    }
}

/// Goes through the matches from left to right, each beginning where the one before ended or later.
struct Sweep<'a> {
    rules: &'a MaskRules,
    on: ClassSet,
    hay: &'a [u8],
    next: usize,
    /// The next match of each of the operator's patterns that has one.
    custom: Vec<(usize, Hit)>,
    begun: bool,
    /// The matches so far.
    committed: Vec<(usize, usize)>,
}

/// Whether what says that it is a value was masked as another one.
fn is_covered(committed: &[(usize, usize)], hit: &Hit) -> bool {
    hit.anchor < hit.start
        && committed
            .iter()
            .rev()
            .take_while(|c| c.1 > hit.anchor)
            .any(|c| c.0 <= hit.anchor)
}

impl<'a> Sweep<'a> {
    fn new(rules: &'a MaskRules, on: ClassSet, hay: &'a [u8]) -> Self {
        Self {
            rules,
            on,
            hay,
            next: 0,
            custom: Vec::new(),
            begun: false,
            committed: Vec::new(),
        }
    }

    fn next(&mut self, hits: &mut [Hit], floor: usize) -> Option<Hit> {
        while let Some(hit) = hits.get_mut(self.next) {
            if is_covered(&self.committed, hit) {
                self.next += 1;
                continue;
            }
            if hit.start >= floor {
                break;
            }
            let start = if hit.pivot > floor {
                detect::begins(self.hay, floor, hit.pivot)
            } else {
                hit.pivot
            };
            if start == hit.pivot {
                self.next += 1;
                continue;
            }
            // Its beginning is gone: it takes its new place among those that follow.
            (hit.start, hit.anchor) = (start, start);
            let mut i = self.next;
            while i + 1 < hits.len() && hits[i + 1].order() < hits[i].order() {
                hits.swap(i, i + 1);
                i += 1;
            }
        }
        let found = hits.get(self.next).copied();
        if !self.rules.custom.is_empty()
            && let Some(custom) = self.next_custom(floor)
            && found.is_none_or(|hit| custom.order() < hit.order())
        {
            return Some(custom);
        }
        self.next += 1;
        found
    }

    /// The operator's patterns are searched for from the end of the last match, as far as their next one.
    fn next_custom(&mut self, floor: usize) -> Option<Hit> {
        if self.begun {
            let stale: Vec<usize> = self
                .custom
                .iter()
                .filter(|c| c.1.start < floor)
                .map(|c| c.0)
                .collect();
            self.custom.retain(|c| c.1.start >= floor);
            for pattern in stale {
                self.search(pattern, floor);
            }
        } else {
            self.begun = true;
            for pattern in 0..self.rules.custom.len() {
                self.search(pattern, floor);
            }
        }
        self.custom.iter().map(|c| c.1).min_by_key(Hit::order)
    }

    fn search(&mut self, pattern: usize, floor: usize) {
        let Some(custom) = self
            .rules
            .custom
            .get(pattern)
            .filter(|c| self.on.contains(c.class))
        else {
            return;
        };
        let input = regex_automata::Input::new(self.hay).range(floor..);
        let Some(found) = custom.pattern.find(input) else {
            return;
        };
        // A character is masked as a whole.
        let (mut start, mut end) = (found.start(), found.end());
        while start > floor && self.hay.get(start).is_some_and(|b| is_continuation(*b)) {
            start -= 1;
        }
        while self.hay.get(end).is_some_and(|b| is_continuation(*b)) {
            end += 1;
        }
        let hit = Hit {
            start,
            anchor: start,
            pivot: start,
            end,
            class: custom.class,
            rank: 0x80 + u8::try_from(pattern).unwrap_or(0x7F).min(0x7F),
            tail: None,
        };
        self.custom.push((pattern, hit));
    }
}
