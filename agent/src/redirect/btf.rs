//! Where the kernel keeps a member of one of its structs, read from its own type information (BTF).
//!
//! The programs have no compile-once relocations in Rust; the loader patches these offsets into them instead.
//! Format: <https://docs.kernel.org/bpf/btf.html>. Read defensively: a malformed file is an error, never a panic.

use super::RedirectError;

/// Anonymous structs within structs that are searched.
const MAX_NESTING: u32 = 8;
const HEADER_MAGIC: u16 = 0xeb9f;

const STRUCT: u32 = 4;
const UNION: u32 = 5;
const FUNC: u32 = 12;

/// The kernel's types.
pub(super) struct Btf {
    data: Vec<u8>,
    strings: usize,
    /// Offset of each type by id; id 0 is `void`.
    types: Vec<usize>,
}

impl Btf {
    /// Reads the running kernel's.
    pub(super) fn of_kernel() -> Result<Self, RedirectError> {
        let data = std::fs::read("/sys/kernel/btf/vmlinux")
            .map_err(|_| RedirectError::Btf("cannot be read (CONFIG_DEBUG_INFO_BTF)"))?;
        Self::parse(data).ok_or(RedirectError::Btf("is malformed"))
    }

    fn parse(data: Vec<u8>) -> Option<Self> {
        let mut btf = Self {
            data,
            strings: 0,
            types: vec![0],
        };
        if u16::try_from(btf.word(0)? & 0xffff).ok()? != HEADER_MAGIC {
            return None;
        }
        let header = btf.index(4)?;
        let start = header.checked_add(btf.index(8)?)?;
        let end = start.checked_add(btf.index(12)?)?;
        btf.strings = header.checked_add(btf.index(16)?)?;
        let mut at = start;
        while at < end {
            let (kind, count) = btf.kind(at)?;
            btf.types.push(at);
            at = at.checked_add(12)?.checked_add(trailer(kind, count)?)?;
        }
        Some(btf)
    }

    /// The offset of `member` in `structure`, bytes; members of anonymous structs within it are found too.
    pub(super) fn offset(&self, structure: &str, member: &str) -> Option<u32> {
        let found = self.types.iter().skip(1).find(|at| {
            self.kind(**at).is_some_and(|(kind, _)| kind == STRUCT) && self.named(**at, structure)
        })?;
        self.member(*found, member, MAX_NESTING)
    }

    /// The id of a function.
    pub(super) fn function(&self, name: &str) -> Option<u32> {
        let is_it =
            |at: &usize| self.kind(*at).is_some_and(|(kind, _)| kind == FUNC) && self.named(*at, name);
        let id = self.types.iter().skip(1).position(is_it)?;
        u32::try_from(id + 1).ok()
    }

    fn member(&self, at: usize, name: &str, nesting: u32) -> Option<u32> {
        let (kind, count) = self.kind(at)?;
        if kind != STRUCT && kind != UNION {
            return None;
        }
        // With the kind flag the upper eight bits are a bit-field's width.
        let mask = if self.word(at + 4)? >> 31 == 1 {
            0x00ff_ffff
        } else {
            u32::MAX
        };
        for i in 0..count {
            let at = at.checked_add(12)?.checked_add(i.checked_mul(12)?)?;
            let offset = (self.word(at.checked_add(8)?)? & mask) / 8;
            if self.named(at, name) {
                return Some(offset);
            }
            if nesting > 0 && self.named(at, "") {
                let id = self.index(at.checked_add(4)?)?;
                let inner = *self.types.get(id)?;
                if let Some(found) = self.member(inner, name, nesting - 1) {
                    return offset.checked_add(found);
                }
            }
        }
        None
    }

    /// Kind and vlen of the type at `at`.
    fn kind(&self, at: usize) -> Option<(u32, usize)> {
        let info = self.word(at.checked_add(4)?)?;
        Some(((info >> 24) & 31, usize::try_from(info & 0xffff).ok()?))
    }

    /// Whether the type or member at `at`, which starts with the offset of its name, has this one.
    fn named(&self, at: usize, name: &str) -> bool {
        let start = self.index(at).and_then(|offset| self.strings.checked_add(offset));
        start
            .and_then(|start| {
                self.data
                    .get(start..start.checked_add(name.len())?.checked_add(1)?)
            })
            .and_then(<[u8]>::split_last)
            .is_some_and(|(end, text)| *end == 0 && text == name.as_bytes())
    }

    fn word(&self, at: usize) -> Option<u32> {
        let bytes = self.data.get(at..at.checked_add(4)?)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    }

    fn index(&self, at: usize) -> Option<usize> {
        usize::try_from(self.word(at)?).ok()
    }
}

/// Bytes after the common twelve, by kind; an unknown kind has an unknown length, so nothing after it can be read.
fn trailer(kind: u32, count: usize) -> Option<usize> {
    match kind {
        // INT, VAR, DECL_TAG
        1 | 14 | 17 => Some(4),
        // ARRAY
        3 => Some(12),
        // STRUCT, UNION, DATASEC, ENUM64
        STRUCT | UNION | 15 | 19 => count.checked_mul(12),
        // ENUM, FUNC_PROTO
        6 | 13 => count.checked_mul(8),
        // PTR, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FLOAT, TYPE_TAG
        2 | 7..=12 | 16 | 18 => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_ne_bytes()).collect()
    }

    /// `struct s { int a; struct { int b; }; }`, with made-up offsets.
    fn sample() -> Vec<u8> {
        let strings = b"\0s\0a\0b\0";
        let types = [
            vec![0, 4 << 24 | 1, 4, 5, 0, 0],
            vec![1, 4 << 24 | 2, 16, 3, 0, 32, 0, 1, 64],
        ]
        .concat();
        let length = u32::try_from(types.len() * 4).unwrap();
        let mut data = words(&[
            0x0001_eb9f,
            24,
            0,
            length,
            length,
            u32::try_from(strings.len()).unwrap(),
        ]);
        data.extend(words(&types));
        data.extend(strings);
        data
    }

    #[test]
    fn finds_members_in_anonymous_structs_too() {
        let btf = Btf::parse(sample()).unwrap();
        assert_eq!(btf.offset("s", "a"), Some(4));
        assert_eq!(btf.offset("s", "b"), Some(8));
        assert_eq!(btf.offset("s", "c"), None);
        assert_eq!(btf.offset("t", "a"), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(at in 0_usize..100, byte: u8, cut in 0_usize..100) {
            let mut data = sample();
            let at = at % data.len();
            data[at] = byte;
            data.truncate(data.len() - cut % data.len());
            if let Some(btf) = Btf::parse(data) {
                let _any = btf.offset("s", "b");
            }
        }
    }
}
