//! Fields by name: JSON keys and dotted paths, and form fields.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use super::coding::Coding;
use crate::model::{ClassId, ClassSet};

/// A key as far as the rules know it: [`Symbol::OTHER`] is every key that no rule names.
pub(super) type Symbol = u16;

/// No rule names this key.
pub(super) const OTHER: Symbol = 0;
/// An element of an array.
pub(super) const INDEX: Symbol = 0x7FFF;
/// `*` in a path.
const ANY: Symbol = 0x7FFE;
/// The longest name, without blanks, `_` and `-`.
const NAME_MAX: usize = 96;
/// The most components of a path.
const PATH_MAX: usize = 8;
/// The longest key, as written, that is looked up: a name in which every character is a `\u` escape.
pub(super) const KEY_MAX: usize = 1024;

/// Names of fields and the classes they belong to.
#[derive(Debug)]
pub(super) struct Names {
    symbols: HashMap<Box<[u8]>, Symbol, BuildHasherDefault<Fnv>>,
    /// By symbol, the classes of a key wherever it stands.
    direct: Vec<Vec<ClassId>>,
    /// Paths with their last component first.
    paths: Vec<(Vec<Symbol>, ClassId)>,
    /// By the first letter, the last letters that occur (mod 32): one look rules out most keys.
    letters: [u32; 256],
    /// The same by the last letter, the letters before it: for a look from a key's end.
    ends: [u32; 256],
}

/// FNV-1a: the keys of the table are the operator's, so that nobody can make them collide.
#[derive(Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = (self.0 ^ u64::from(*b)).wrapping_mul(0x0100_0000_01B3);
        }
    }
}

impl Default for Names {
    fn default() -> Self {
        Self {
            symbols: HashMap::default(),
            direct: vec![Vec::new()],
            paths: Vec::new(),
            letters: [0; 256],
            ends: [0; 256],
        }
    }
}

impl Names {
    /// Adds a key or a dotted path; `false` when it cannot be one.
    pub(super) fn add(&mut self, path: &str, class: ClassId) -> bool {
        let parts: Vec<&str> = path.split('.').collect();
        if parts.len() > PATH_MAX {
            return false;
        }
        let mut symbols = Vec::with_capacity(parts.len());
        for part in parts.iter().rev() {
            let Some(symbol) = (if *part == "*" {
                Some(ANY)
            } else {
                self.intern(part)
            }) else {
                return false;
            };
            symbols.push(symbol);
        }
        match symbols[..] {
            [ANY] => return false,
            [symbol] => self.direct[usize::from(symbol)].push(class),
            _ => self.paths.push((symbols, class)),
        }
        true
    }

    fn intern(&mut self, name: &str) -> Option<Symbol> {
        let mut buffer = [0; NAME_MAX];
        let name = plain(name.as_bytes(), &mut buffer)?;
        let (first, last) = (*name.first()?, *name.last()?);
        if let Some(symbol) = self.symbols.get(name) {
            return Some(*symbol);
        }
        let symbol = Symbol::try_from(self.direct.len()).ok().filter(|s| *s < ANY)?;
        self.letters[usize::from(first)] |= 1 << (last & 31);
        self.ends[usize::from(last)] |= match name {
            [.., b, _] => 1 << (b & 31),
            _ => u32::MAX,
        };
        self.symbols.insert(name.into(), symbol);
        self.direct.push(Vec::new());
        Some(symbol)
    }

    /// A key as written.
    pub(super) fn find(&self, raw: &[u8], coding: Coding, escaped: bool) -> Symbol {
        if raw.len() > KEY_MAX {
            return OTHER;
        }
        if escaped {
            let mut key = Vec::with_capacity(raw.len());
            coding.decode(raw, true, &mut key);
            return self.look_up(&key);
        }
        self.look_up(raw)
    }

    /// Whether a JSON text without `\u` escapes of ASCII could have a key that a rule names: looks at what stands
    /// before every colon.
    pub(super) fn could_be_in(&self, raw: &[u8]) -> bool {
        memchr::memchr_iter(b':', raw).any(|colon| {
            let mut end = colon;
            while end > 0 && matches!(raw[end - 1], b' ' | b'\n' | b'\r' | b'\t') {
                end -= 1;
            }
            let [before @ .., b, last, b'"'] = &raw[..end] else {
                // A key of one character at the very beginning, or no key.
                return raw[..end].ends_with(b"\"") && end <= 3;
            };
            let fits = self.ends[usize::from(last.to_ascii_lowercase())] >> (b & 31) & 1 == 1;
            if !(fits || is_dropped(*b) || is_dropped(*last) || *b == b'"' || *b == b'\\' || *last == b'\\') {
                return false;
            }
            let text = &raw[before.len().saturating_sub(KEY_MAX)..end - 1];
            let start = memchr::memrchr(b'"', text).map_or(0, |n| n + 1);
            // After an escaped quote it is not the whole key: a short look at a long key.
            start == 0 || text[..start - 1].ends_with(b"\\") || self.look_up(&text[start..]) != OTHER
        })
    }

    fn look_up(&self, key: &[u8]) -> Symbol {
        let (Some(first), Some(last)) = (key.first(), key.last()) else {
            return OTHER;
        };
        if self.letters[usize::from(first.to_ascii_lowercase())] >> (last & 31) & 1 == 0
            && !(is_dropped(*first) || is_dropped(*last))
        {
            return OTHER;
        }
        if let [.., b, last] = key
            && self.ends[usize::from(last.to_ascii_lowercase())] >> (b & 31) & 1 == 0
            && !(is_dropped(*b) || is_dropped(*last))
        {
            return OTHER;
        }
        let mut buffer = [0; NAME_MAX];
        plain(key, &mut buffer)
            .and_then(|key| self.symbols.get(key).copied())
            .unwrap_or(OTHER)
    }

    /// The class, of those to be masked, of the value at a key below containers, outermost first.
    pub(super) fn class(&self, symbol: Symbol, above: &[Symbol], set: ClassSet) -> Option<ClassId> {
        let direct = self.direct.get(usize::from(symbol)).into_iter().flatten();
        if let Some(class) = direct.copied().find(|c| set.contains(*c)) {
            return Some(class);
        }
        if self.paths.is_empty() {
            return None;
        }
        self.paths
            .iter()
            .find(|(path, class)| set.contains(*class) && ends_with(path, symbol, above))
            .map(|(_, class)| *class)
    }

    /// The class that a name was first added for, wherever it stands.
    pub(super) fn first(&self, name: &[u8]) -> Option<ClassId> {
        let symbol = self.find(name, Coding::Plain, false);
        self.direct.get(usize::from(symbol))?.first().copied()
    }

    /// Whether elements of arrays have to be asked about: when a path can end at one.
    pub(super) fn names_elements(&self) -> bool {
        self.paths.iter().any(|(path, _)| path.first() == Some(&ANY))
    }
}

/// Whether a path (last component first) fits the end of where a value stands. `*` is any key or index; an index
/// that no `*` stands for is passed over, so that `customer.ssn` also finds it in a list of customers.
fn ends_with(path: &[Symbol], at: Symbol, above: &[Symbol]) -> bool {
    let Some((want, rest)) = path.split_first() else {
        return true;
    };
    let up = || match (rest.is_empty(), above.split_last()) {
        (true, _) => true,
        (false, Some((symbol, above))) => ends_with(rest, *symbol & INDEX, above),
        (false, None) => false,
    };
    if (*want == ANY || *want == at) && up() {
        return true;
    }
    at == INDEX
        && above
            .split_last()
            .is_some_and(|(symbol, above)| ends_with(path, *symbol & INDEX, above))
}

fn is_dropped(b: u8) -> bool {
    matches!(b, b'_' | b'-' | b' ')
}

/// The name in lower case without `_`, `-` and blanks; `None` when it is too long.
fn plain<'a>(name: &[u8], buffer: &'a mut [u8; NAME_MAX]) -> Option<&'a [u8]> {
    let mut len = 0;
    for b in name.iter().filter(|b| !is_dropped(**b)) {
        *buffer.get_mut(len)? = b.to_ascii_lowercase();
        len += 1;
    }
    Some(&buffer[..len])
}
