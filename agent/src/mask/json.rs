//! JSON (RFC 8259): values masked by the names of their keys, and whatever detectors find in strings and numbers.
//!
//! Several texts after one another (NDJSON, RFC 7464) are read as well. What is not JSON is read as plain text from
//! there on. Strings that hold no candidate are passed over without a look at their bytes.

use super::{
    coding::Coding,
    detect,
    names::{INDEX, KEY_MAX, OTHER, Symbol},
    out::Out,
    segment::{Core, Lead},
};
use crate::model::ClassId;

/// The deepest nesting that is followed, that of the most patient readers; beyond it the text is read as plain.
const DEPTH_MAX: usize = 10_000;
/// The longest number.
const NUMBER_MAX: usize = 1024;
/// In the symbol of a container: that it is an object.
const OBJECT: Symbol = 0x8000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Key,
    Value,
}

/// What a piece came to.
pub(super) struct Progress {
    /// How much of it is done with.
    pub(super) used: usize,
    /// It is not JSON from there on; all of it may belong to a value of the class.
    pub(super) lost: Option<Option<ClassId>>,
}

/// Where in a JSON text the masker is.
#[derive(Debug)]
pub(super) struct Json {
    /// The containers around, each with the key it stands at.
    stack: Vec<Symbol>,
    expect: Expect,
    key: Symbol,
    /// The class of the next value, by its key.
    named: Option<ClassId>,
    /// The depth from which everything is of the class.
    below: Option<(usize, ClassId)>,
    /// The string whose end was not seen.
    string: Option<Role>,
    marks: Vec<usize>,
    mark: usize,
    begun: bool,
    /// The marks are those of the text that comes next.
    marked: bool,
}

/// The end of a string, if it is there, and what stands in it.
struct Scanned {
    end: Option<usize>,
    escaped: bool,
    /// An escape behind which a candidate could hide.
    hides: bool,
}

impl Json {
    pub(super) fn new() -> Self {
        Self {
            stack: Vec::new(),
            expect: Expect::Value,
            key: OTHER,
            named: None,
            below: None,
            string: None,
            marks: Vec::new(),
            mark: 0,
            begun: false,
            marked: false,
        }
    }

    pub(super) fn reset(&mut self) {
        self.stack.clear();
        self.expect = Expect::Value;
        self.key = OTHER;
        self.named = None;
        self.below = None;
        self.string = None;
        self.begun = false;
        self.marked = false;
    }

    /// Whether a whole text surely holds nothing to mask: without following its structure, at a fraction of the cost.
    pub(super) fn is_clean(&mut self, core: &Core, raw: &[u8]) -> bool {
        if core.on.custom || core.rules.json.names_elements() {
            return false;
        }
        detect::marks(&core.rules, &core.on, raw, 0, &mut self.marks);
        self.marked = true;
        self.marks.is_empty() && !detect::hides(raw) && !core.rules.json.could_be_in(raw)
    }

    /// Takes a piece.
    pub(super) fn run(&mut self, core: &mut Core, raw: &[u8], last: bool, out: &mut Out<'_>) -> Progress {
        let mut i = 0;
        if let Some(role) = self.string {
            let end = scan_string(raw, 0).end;
            let piece = &raw[..end.unwrap_or(raw.len())];
            let used = core.segment(piece, Coding::Json, end.is_some() || last, out);
            let Some(end) = end else {
                if last {
                    begin_quote(core, out);
                }
                return done(used);
            };
            close(core, role, out);
            self.string_ends(core, role);
            i = end + 1;
        } else if !self.begun {
            // A byte order mark.
            if raw.len() < 3 && !last && b"\xEF\xBB\xBF".starts_with(raw) {
                return done(0);
            }
            self.begun = true;
            i = if raw.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
            out.same(&raw[..i]);
        }
        if !std::mem::take(&mut self.marked) {
            detect::marks(&core.rules, &core.on, raw, i, &mut self.marks);
        }
        self.mark = 0;
        self.walk(core, raw, i, last, out)
    }

    fn walk(&mut self, core: &mut Core, raw: &[u8], from: usize, last: bool, out: &mut Out<'_>) -> Progress {
        let mut i = from;
        // What was written so far: bytes that stay as they are go out in one piece.
        let mut written = from;
        while let Some(&b) = raw.get(i) {
            let ok = match b {
                b' ' | b'\n' | b'\r' | b'\t' | 0x1E => true,
                b'"' => {
                    let Some(role) = self.role() else {
                        return self.lose(raw, written, i, out);
                    };
                    match self.string(core, raw, i, role, last, &mut written, out) {
                        Ok(next) => {
                            i = next;
                            // What follows mostly is known, and knowing it is faster than asking.
                            match (role, raw.get(i)) {
                                (Role::Key, Some(b':')) => {
                                    self.expect = Expect::Value;
                                    i += 1;
                                }
                                (Role::Value, Some(b',')) if self.comma(core) => i += 1,
                                _ => {}
                            }
                            continue;
                        }
                        Err(used) => return done(used),
                    }
                }
                b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                    let len = raw[i..]
                        .iter()
                        .take(NUMBER_MAX + 1)
                        .take_while(|b| is_scalar(**b))
                        .count();
                    if i + len == raw.len() && !last && len <= NUMBER_MAX {
                        out.same(&raw[written..i]);
                        return done(i);
                    }
                    let text = &raw[i..i + len];
                    let fits = matches!(self.expect, Expect::Value | Expect::ValueOrEnd);
                    if !fits || len > NUMBER_MAX || !is_valid_scalar(text) {
                        return self.lose(raw, written, i, out);
                    }
                    if let Some(class) = self.scalar_class(core, text, i) {
                        out.same(&raw[written..i]);
                        core.write_scalar(class, text, out);
                        written = i + len;
                    }
                    self.value_ends();
                    i += len;
                    continue;
                }
                b'{' | b'[' => self.open(core, b == b'{'),
                b'}' | b']' => self.close(b == b'}'),
                b',' => self.comma(core),
                b':' => {
                    let fits = self.expect == Expect::Colon;
                    self.expect = Expect::Value;
                    fits
                }
                _ => false,
            };
            if !ok {
                return self.lose(raw, written, i, out);
            }
            i += 1;
        }
        out.same(&raw[written..]);
        done(raw.len())
    }

    fn lose(&self, raw: &[u8], written: usize, i: usize, out: &mut Out<'_>) -> Progress {
        out.same(&raw[written..i]);
        Progress {
            used: i,
            lost: Some(self.class_here()),
        }
    }

    /// A string, which begins at `i`: where to go on, or how much is done with when it has no end yet.
    #[allow(clippy::too_many_arguments)]
    fn string(
        &mut self,
        core: &mut Core,
        raw: &[u8],
        i: usize,
        role: Role,
        last: bool,
        written: &mut usize,
        out: &mut Out<'_>,
    ) -> Result<usize, usize> {
        let start = i + 1;
        let scanned = scan_string(raw, start);
        let class = if role == Role::Value {
            self.class_here()
        } else {
            None
        };
        let Some(end) = scanned.end else {
            out.same(&raw[*written..i]);
            if role == Role::Key && raw.len() - start <= KEY_MAX && !last {
                return Err(i);
            }
            self.key = OTHER;
            self.string = Some(role);
            begin(core, class);
            let used = core.segment(&raw[start..], Coding::Json, last, out);
            if last {
                begin_quote(core, out);
            }
            return Err(start + used);
        };
        let text = &raw[start..end];
        if role == Role::Key {
            self.key = core.rules.json.find(text, Coding::Json, scanned.escaped);
        }
        if class.is_some() || scanned.hides || core.on.custom || self.marked(start, end) {
            out.same(&raw[*written..i]);
            begin(core, class);
            core.segment(text, Coding::Json, true, out);
            close(core, role, out);
            *written = end + 1;
        }
        self.string_ends(core, role);
        Ok(end + 1)
    }

    /// Whether a candidate is in the range; ranges are asked for in order.
    fn marked(&mut self, start: usize, end: usize) -> bool {
        while let Some(at) = self.marks.get(self.mark) {
            if *at >= start {
                return *at < end;
            }
            self.mark += 1;
        }
        false
    }

    fn role(&self) -> Option<Role> {
        match self.expect {
            Expect::Key | Expect::KeyOrEnd => Some(Role::Key),
            Expect::Value | Expect::ValueOrEnd => Some(Role::Value),
            Expect::Colon | Expect::CommaOrEnd => None,
        }
    }

    fn class_here(&self) -> Option<ClassId> {
        self.below.map(|(_, class)| class).or(self.named)
    }

    fn scalar_class(&mut self, core: &mut Core, text: &[u8], at: usize) -> Option<ClassId> {
        if text == b"null" {
            return None;
        }
        self.class_here().or_else(|| {
            (core.on.custom || self.marked(at, at + text.len()))
                .then(|| core.first_hit(text))
                .flatten()
        })
    }

    fn string_ends(&mut self, core: &Core, role: Role) {
        self.string = None;
        if role == Role::Value {
            return self.value_ends();
        }
        self.expect = Expect::Colon;
        self.named = None;
        if self.key != OTHER || core.rules.json.names_elements() {
            let above = self.stack.get(1..).unwrap_or_default();
            self.named = core.rules.json.class(self.key, above, core.on.set);
        }
    }

    fn value_ends(&mut self) {
        self.named = None;
        self.expect = if self.stack.is_empty() {
            Expect::Value
        } else {
            Expect::CommaOrEnd
        };
    }

    fn open(&mut self, core: &Core, object: bool) -> bool {
        if !matches!(self.expect, Expect::Value | Expect::ValueOrEnd) || self.stack.len() >= DEPTH_MAX {
            return false;
        }
        let inside_array = self.stack.last().is_some_and(|s| s & OBJECT == 0);
        let at = if inside_array { INDEX } else { self.key };
        self.stack.push(if object { at | OBJECT } else { at });
        if let (None, Some(class)) = (self.below, self.named) {
            self.below = Some((self.stack.len(), class));
        }
        self.named = None;
        self.key = OTHER;
        self.expect = if object {
            Expect::KeyOrEnd
        } else {
            Expect::ValueOrEnd
        };
        if !object {
            self.element(core);
        }
        true
    }

    /// The next value is an element of an array.
    fn element(&mut self, core: &Core) {
        if core.rules.json.names_elements() {
            let above = self.stack.get(1..).unwrap_or_default();
            self.named = core.rules.json.class(INDEX, above, core.on.set);
        }
    }

    fn close(&mut self, object: bool) -> bool {
        let fits = matches!(
            (self.expect, object),
            (Expect::CommaOrEnd, _) | (Expect::KeyOrEnd, true) | (Expect::ValueOrEnd, false)
        );
        match self.stack.last() {
            Some(top) if fits && (top & OBJECT != 0) == object => {
                if self.below.is_some_and(|(depth, _)| depth == self.stack.len()) {
                    self.below = None;
                }
                self.stack.pop();
                self.value_ends();
                true
            }
            _ => false,
        }
    }

    fn comma(&mut self, core: &Core) -> bool {
        let Some(top) = self.stack.last().filter(|_| self.expect == Expect::CommaOrEnd) else {
            return false;
        };
        if top & OBJECT != 0 {
            self.expect = Expect::Key;
        } else {
            self.expect = Expect::Value;
            self.element(core);
        }
        true
    }
}

fn done(used: usize) -> Progress {
    Progress { used, lost: None }
}

fn begin(core: &mut Core, class: Option<ClassId>) {
    match class {
        Some(class) => core.begin_value(class),
        None => core.begin(),
    }
    core.lead = Lead::Quote;
}

/// Writes the opening quote of a string that has no end.
fn begin_quote(core: &mut Core, out: &mut Out<'_>) {
    if core.lead != Lead::Written {
        core.lead = Lead::Written;
        out.same(b"\"");
    }
}

/// Writes a string's closing quote, or what it became.
fn close(core: &mut Core, role: Role, out: &mut Out<'_>) {
    match (core.lead, role) {
        (Lead::Written, _) => out.same(b"\""),
        (Lead::Quote, _) => out.same(b"\"\""),
        (Lead::Nulled, Role::Value) => out.changed(b"null"),
        (Lead::Nulled, Role::Key) => out.changed(b"\"\""),
    }
    core.lead = Lead::Written;
}

fn scan_string(raw: &[u8], from: usize) -> Scanned {
    let mut scanned = Scanned {
        end: None,
        escaped: false,
        hides: false,
    };
    let mut i = from;
    loop {
        let Some(n) = find_special(&raw[i.min(raw.len())..]) else {
            return scanned;
        };
        i += n;
        if raw[i] == b'"' {
            scanned.end = Some(i);
            return scanned;
        }
        scanned.escaped = true;
        scanned.hides |= detect::is_hiding(&raw[i..]);
        i += 2;
    }
}

/// The first quote or backslash. Most strings are short, and calling the vector search costs more than they do.
#[inline]
fn find_special(text: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    for (i, word) in text.as_chunks::<8>().0.iter().take(4).enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = word ^ (ONES * 0x22);
        let backslash = word ^ (ONES * 0x5C);
        // The lowest bit that is set is that of the first byte that is zero; higher ones may be wrong.
        let zero = (quote.wrapping_sub(ONES) & !quote | backslash.wrapping_sub(ONES) & !backslash) & HIGH;
        if zero != 0 {
            return Some(i * 8 + (zero.trailing_zeros() / 8) as usize);
        }
    }
    let rest = text.get((text.len() / 8).min(4) * 8..)?;
    memchr::memchr2(b'"', b'\\', rest).map(|n| n + text.len() - rest.len())
}

fn is_scalar(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.' | b'_')
}

fn is_valid_scalar(text: &[u8]) -> bool {
    match text {
        b"true" | b"false" | b"null" => true,
        [b'-' | b'0'..=b'9', rest @ ..] => rest
            .iter()
            .all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E')),
        _ => false,
    }
}
