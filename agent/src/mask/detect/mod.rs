//! Finding sensitive values in decoded text, in one pass: a few fast searches bring up candidates, and each is
//! confirmed by looking at a bounded number of bytes around it. Linear time whatever the input.
//!
//! Streaming: [`find`] also says from where on more bytes could change its mind. Everything before that is decided:
//! no confirmer looks further back than [`LOOK_BACK`] bytes before a match, and one that runs out of bytes says so.
//! A value without a bound (a PEM block, a token) is confirmed by its first bytes, and a [`Tail`] eats the rest.

mod bytes;
mod digits;
mod email;
mod iban;
mod ip;
mod tail;
mod tokens;
mod url;

use bytes::is;
pub(super) use email::begins;
pub(super) use tail::Tail;
pub(super) use tokens::Literals;

use super::{MaskRules, classes::Builtin};
use crate::model::{ClassId, ClassSet};

/// How many decided bytes a confirmer may look at before a match.
pub(super) const LOOK_BACK: usize = 4;
/// How many bytes an operator's pattern can need to be decided: its longest match, and what surrounds it.
pub(super) const CUSTOM_REACH: usize = 256 + 8;

/// A confirmed match.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit {
    pub(super) start: usize,
    pub(super) end: usize,
    /// The first byte that says so, not after `start`: a match that covers it hides this one.
    pub(super) anchor: usize,
    /// A match before it may take its beginning away, but not this byte: the `@` of an address.
    pub(super) pivot: usize,
    pub(super) class: ClassId,
    pub(super) rank: u8,
    /// What belongs to it after `end`.
    pub(super) tail: Option<Tail>,
}

impl Hit {
    /// The `anchor` of a match whose anchor is no longer there.
    pub(super) const BEHIND: usize = usize::MAX;

    /// Leftmost first, then by priority.
    pub(super) fn order(&self) -> (usize, u8) {
        (self.start, self.rank)
    }

    /// The same without what says so, where `from` has become `to`.
    pub(super) fn moved(mut self, from: usize, to: usize) -> Self {
        let place = |at: usize| at.saturating_sub(from) + to;
        (self.start, self.end) = (place(self.start), place(self.end));
        (self.anchor, self.pivot) = (Self::BEHIND, place(self.pivot));
        self
    }
}

/// The classes to be masked, resolved once per body.
#[derive(Clone, Debug)]
pub(super) struct Active {
    pub(super) set: ClassSet,
    ids: [Option<ClassId>; Builtin::ALL.len()],
    pub(super) custom: bool,
    pub(super) ip: bool,
    digits: bool,
}

impl Active {
    pub(super) fn new(rules: &MaskRules, set: ClassSet) -> Self {
        let mut ids = rules.builtin;
        for id in &mut ids {
            *id = id.filter(|id| set.contains(*id));
        }
        let mut active = Self {
            set,
            ids,
            custom: rules.custom.iter().any(|c| set.contains(c.class)),
            ip: false,
            digits: false,
        };
        active.ip = active.id(Builtin::Ipv4).or(active.id(Builtin::Ipv6)).is_some();
        active.digits = [Builtin::Iban, Builtin::CreditCard, Builtin::UsSsn, Builtin::Phone]
            .iter()
            .any(|b| active.id(*b).is_some());
        active
    }

    pub(super) fn id(&self, builtin: Builtin) -> Option<ClassId> {
        self.ids[builtin as usize]
    }
}

/// What confirmers work with.
struct Search<'a> {
    /// The text, with some decided bytes before `floor`.
    hay: &'a [u8],
    /// Where undecided bytes begin.
    floor: usize,
    /// Whether the text ends here.
    last: bool,
    on: &'a Active,
    hits: &'a mut Vec<Hit>,
    /// From here on more bytes could change what is found.
    pending: usize,
    /// Bytes that confirmers looked at; tests hold it to a multiple of the input.
    #[cfg(test)]
    work: usize,
}

impl Search<'_> {
    fn before(&self, at: usize) -> u8 {
        match at.checked_sub(1) {
            Some(at) => self.hay[at],
            None => b'\n',
        }
    }
    fn at(&self, at: usize) -> Option<u8> {
        self.hay.get(at).copied()
    }
    /// Whether `at` is an end that may move.
    fn is_open(&self, at: usize) -> bool {
        at >= self.hay.len() && !self.last
    }
    fn wait(&mut self, start: usize) {
        self.pending = self.pending.min(start);
    }
    fn hit(&mut self, builtin: Builtin, start: usize, end: usize, tail: Option<Tail>) {
        self.hit_after(builtin, start, start, end, tail);
    }
    /// A value that is known by what stands before it.
    fn hit_after(&mut self, builtin: Builtin, anchor: usize, start: usize, end: usize, tail: Option<Tail>) {
        if let Some(class) = self.on.id(builtin)
            && anchor >= self.floor
        {
            self.hits.push(Hit {
                start,
                end,
                anchor,
                pivot: start,
                class,
                rank: builtin as u8,
                tail,
            });
        }
    }
    /// How many bytes of a kind there are from `at`, counted up to `most`.
    fn run(&mut self, at: usize, most: usize, kind: u16) -> usize {
        let rest = self.hay.get(at..).unwrap_or_default();
        let n = rest.iter().take(most).take_while(|b| is(**b, kind)).count();
        self.spent(n + 1);
        n
    }
    fn spent(&mut self, n: usize) {
        #[cfg(test)]
        {
            self.work += n;
        }
        let _ = n;
    }
}

#[cfg(test)]
thread_local! {
    pub(super) static WORK: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Appends the matches that start at or after `floor`, in order, and returns from where on nothing is decided yet
/// (the end of the text when it is the `last` of it).
pub(super) fn find(
    rules: &MaskRules,
    on: &Active,
    hay: &[u8],
    floor: usize,
    last: bool,
    hits: &mut Vec<Hit>,
) -> usize {
    let mut search = Search {
        hay,
        floor,
        last,
        on,
        hits,
        pending: hay.len(),
        #[cfg(test)]
        work: 0,
    };
    for at in memchr::memchr2_iter(b'@', b'+', &hay[floor..]) {
        if hay[floor + at] == b'@' {
            search.email(floor + at);
        } else {
            search.phone_international(floor + at);
        }
    }
    rules.literals.each(hay, floor, |at| search.token(at));
    if on.digits {
        digits::each(hay, floor, |start, len| search.digits(start, len));
    }
    if on.ip {
        search.addresses();
    }
    if !last {
        search.hold();
        if on.custom {
            let reach = hay.len().saturating_sub(CUSTOM_REACH);
            search.wait(reach);
        }
    }
    #[cfg(test)]
    WORK.with(|w| w.set(w.get() + search.work));
    let pending = search.pending.max(floor);
    hits.sort_by_key(Hit::order);
    pending
}

/// Whether digits alone could be something.
pub(super) fn is_number(digits: &[u8]) -> bool {
    digits::could_match(digits, 0, digits.len())
}

/// Appends places near which a match could be, in the raw bytes of a JSON text: every string or number that holds
/// a match without a `\u` escape in it holds one of these. Cheaper than [`find`], and says too much.
pub(super) fn marks(rules: &MaskRules, on: &Active, hay: &[u8], from: usize, marks: &mut Vec<usize>) {
    marks.clear();
    for at in memchr::memchr2_iter(b'@', b'+', &hay[from..]) {
        let at = from + at;
        if hay[at] == b'@' || hay.get(at + 1).is_some_and(u8::is_ascii_digit) {
            marks.push(at);
        }
    }
    let sorted = marks.len();
    rules.literals.each_in_json(hay, from, |at| marks.push(at));
    if on.digits {
        digits::each(hay, from, |start, len| {
            if digits::could_match(hay, start, len) {
                marks.push(start);
            }
        });
    }
    if on.ip {
        marks.extend(memchr::memchr2_iter(b'.', b':', &hay[from..]).map(|at| from + at));
    }
    if marks.len() > sorted {
        marks.sort_unstable();
    }
}

/// Whether a text begins with a `\u` escape behind which a candidate hides: of an ASCII character, or of another one
/// with a digit after it, which looks like one number with the escape's own.
pub(super) fn is_hiding(raw: &[u8]) -> bool {
    match raw {
        [b'\\', b'u', b'0', b'0', b'0'..=b'7', ..] => true,
        [b'\\', b'u', _, _, _, _, next, ..] => next.is_ascii_digit(),
        _ => false,
    }
}

/// Whether there is any such escape.
pub(super) fn hides(raw: &[u8]) -> bool {
    memchr::memchr_iter(b'\\', raw).any(|at| is_hiding(&raw[at..]))
}

impl Search<'_> {
    /// Holds back what could be the beginning of a match whose candidate is still to come.
    fn hold(&mut self) {
        let tail = |most: usize, kind: u16| {
            let n = self.hay[self.floor..]
                .iter()
                .rev()
                .take(most)
                .take_while(|b| is(**b, kind))
                .count();
            self.hay.len() - n
        };
        // The part of an address before its `@`; literals, which are made of the same bytes but for their ends.
        let mut start = tail(email::LOCAL_MAX + 4, bytes::LOCAL | bytes::NON_ASCII);
        // Groups of digits.
        start = start.min(tail(48, bytes::DIGIT_GROUP));
        if self.hay.ends_with(b":") {
            start = start.min(self.hay.len() - 1);
        } else if self.hay.ends_with(b":/") {
            start = start.min(self.hay.len() - 2);
        }
        if self.on.ip {
            start = start.min(tail(64, bytes::ADDRESS));
        }
        self.wait(start);
    }
}
