//! Runs of digits: card numbers, US social security numbers, telephone numbers.
//!
//! Almost all digits of real traffic are none of these, so that looking for them is what costs. Eight bytes at a
//! time become eight bits that say which are digits; shapes are then found in 64 bits at once.

use super::{
    Search,
    bytes::{ALNUM, WORD, is},
};
use crate::mask::classes::Builtin;

/// Calls `found` with the start and length (at most 64) of every run of four digits or more, and of those of two or
/// three that follow two capital letters. Runs that began before `from` are left out.
pub(super) fn each(hay: &[u8], from: usize, mut found: impl FnMut(usize, usize)) {
    let mut before = u64::from(from > 0 && hay[from - 1].is_ascii_digit());
    let mut blocks = hay[from..].chunks(64);
    let mut base = from;
    let mut bits = blocks.next().map_or(0, digit_bits);
    while base < hay.len() {
        let next = blocks.next().map_or(0, digit_bits);
        if bits != 0 {
            let shifted = |n: u32| bits >> n | next << (64 - n);
            let pairs = bits & !(bits << 1 | before) & shifted(1);
            let fours = pairs & shifted(2) & shifted(3);
            let mut starts = pairs;
            while starts != 0 {
                let i = starts.trailing_zeros();
                starts &= starts - 1;
                let start = base + i as usize;
                let long = fours >> i & 1 == 1;
                if long || start >= 2 && hay[start - 1].is_ascii_uppercase() {
                    let ones = if i == 0 { bits } else { shifted(i) };
                    found(start, (!ones).trailing_zeros() as usize);
                }
            }
        }
        before = bits >> 63;
        bits = next;
        base += 64;
    }
}

/// One bit for each byte: whether it is a digit.
fn digit_bits(block: &[u8]) -> u64 {
    let mut padded = [0; 64];
    let block: &[u8; 64] = match block.try_into() {
        Ok(block) => block,
        Err(_) => {
            padded[..block.len()].copy_from_slice(block);
            &padded
        }
    };
    let mut bits = 0;
    for (i, word) in block.as_chunks::<8>().0.iter().enumerate() {
        const HIGH: u64 = 0x8080_8080_8080_8080;
        // A digit becomes 0 to 9; adding 118 sets the high bit of everything else.
        let low = u64::from_le_bytes(*word) ^ 0x3030_3030_3030_3030;
        let other = (((low & !HIGH) + 0x7676_7676_7676_7676) | low) & HIGH;
        let digits = (other ^ HIGH) >> 7;
        bits |= (digits.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (i * 8);
    }
    bits
}

fn is_digit(b: Option<u8>) -> bool {
    b.is_some_and(|b| b.is_ascii_digit())
}

/// Whether a run could be part of a match: the cheap question of [`super::marks`].
pub(super) fn could_match(hay: &[u8], start: usize, len: usize) -> bool {
    let get = |at: usize| hay.get(at).copied();
    if start >= 2 && hay[start - 1].is_ascii_uppercase() && hay[start - 2].is_ascii_uppercase() {
        return true;
    }
    match len {
        13..=19 => {
            let decimal = start >= 2 && hay[start - 1] == b'.' && hay[start - 2].is_ascii_digit();
            !decimal && is_card(&hay[start..start + len])
        }
        4 => {
            let spaced =
                matches!(get(start + 4), Some(b' ' | b'-')) && (5..9).all(|n| is_digit(get(start + n)));
            // `dd-dddd` with `ddd-` before, or `ddd-dddd` with a separator before.
            let ends = start >= 7
                && match hay[start - 7..start] {
                    [.., b'0'..=b'9', s, b'0'..=b'9', b'0'..=b'9', t] if s == t => matches!(s, b'-' | b' '),
                    [.., s, b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', t] => {
                        matches!(t, b'-' | b'.' | b' ') && (s == t || matches!(s, b')' | b' '))
                    }
                    _ => false,
                };
            spaced || ends
        }
        _ => false,
    }
}

impl Search<'_> {
    /// A run of digits, as [`each`] finds them.
    pub(super) fn digits(&mut self, start: usize, len: usize) {
        if start >= 2 && self.hay[start - 1].is_ascii_uppercase() && self.hay[start - 2].is_ascii_uppercase()
        {
            self.iban(start - 2);
        }
        match len {
            13..=19 => self.card(start, len),
            4 => {
                self.card_in_groups(start);
                self.social_security(start);
                self.phone_north_american(start);
            }
            _ => {}
        }
    }

    /// Whether a number may begin at `start`: not inside a word, a decimal, a version or an identifier.
    fn begins(&self, start: usize) -> bool {
        let before = self.before(start);
        let part = matches!(before, b'-' | b'.') && start >= 2 && self.hay[start - 2].is_ascii_digit();
        !is(before, WORD) && !part
    }

    /// Whether it may end at `end`. At an open end [`Search::hold`] keeps the number from being decided.
    fn ends(&self, end: usize, parts: &[u8]) -> bool {
        let Some(next) = self.at(end) else {
            return true;
        };
        !(is(next, WORD) || parts.contains(&next) && is_digit(self.at(end + 1)))
    }

    fn card(&mut self, start: usize, len: usize) {
        self.spent(len);
        let number = &self.hay[start..start + len];
        if self.begins(start) && self.ends(start + len, b".") && is_card(number) {
            self.hit(Builtin::CreditCard, start, start + len, None);
        }
    }

    /// Groups of 4-4-4-4(-3), 4-6-5 and 4-6-4 digits, with one kind of separator.
    fn card_in_groups(&mut self, start: usize) {
        let Some(separator @ (b' ' | b'-')) = self.at(start + 4) else {
            return;
        };
        if !(b'2'..=b'6').contains(&self.hay[start]) || !self.begins(start) {
            return;
        }
        let mut number = [0; 19];
        let (mut n, mut at) = (0, start);
        let mut ends = [(0, 0); 5];
        for (group, end) in ends.iter_mut().enumerate() {
            let most = if group == 1 { 6 } else { 5 };
            let digits = self.hay[at..]
                .iter()
                .take(most + 1)
                .take_while(|b| b.is_ascii_digit())
                .count();
            self.spent(digits + 1);
            if digits == 0 || digits > most || n + digits > number.len() {
                break;
            }
            number[n..n + digits].copy_from_slice(&self.hay[at..at + digits]);
            n += digits;
            at += digits;
            *end = (digits, at);
            if self.at(at) != Some(separator) {
                break;
            }
            at += 1;
        }
        let lens = ends.map(|e| e.0);
        let groups = match lens {
            [4, 4, 4, 4, 3] if is_card(&number) => 5,
            [4, 4, 4, 4, _] => 4,
            [4, 6, 5 | 4, ..] => 3,
            _ => return,
        };
        let end = ends[groups - 1].1;
        let count: usize = lens[..groups].iter().sum();
        let parts: &[u8] = if separator == b'-' { b"-." } else { b"." };
        if is_card(&number[..count]) && self.ends(end, parts) {
            self.hit(Builtin::CreditCard, start, end, None);
        }
    }

    /// `ddd-dd-dddd`, or with blanks; `last` is where the last group begins.
    fn social_security(&mut self, last: usize) {
        let Some(start) = last.checked_sub(7).filter(|s| *s >= self.floor) else {
            return;
        };
        self.spent(11);
        let [a, b, c, s, d, e, t] = self.hay[start..last] else {
            return;
        };
        let serial = &self.hay[last..last + 4];
        if s == t
            && matches!(s, b'-' | b' ')
            && [a, b, c, d, e].iter().all(u8::is_ascii_digit)
            && !matches!([a, b, c], [b'0', b'0', b'0'] | [b'6', b'6', b'6'] | [b'9', ..])
            && [d, e] != *b"00"
            && serial != b"0000"
            && self.begins(start)
            && !(s == b' '
                && self.before(start) == b' '
                && start >= 2
                && self.hay[start - 2].is_ascii_digit())
            && self.ends(last + 4, b"-.")
        {
            self.hit(Builtin::UsSsn, start, last + 4, None);
        }
    }

    /// `ddd-ddd-dddd`, `ddd.ddd.dddd`, `(ddd) ddd-dddd`, with or without `1-` before; `last` is the last group.
    fn phone_north_american(&mut self, last: usize) {
        if self.on.id(Builtin::Phone).is_none() || last < self.floor + 8 || !self.ends(last + 4, b"-.") {
            return;
        }
        self.spent(17);
        let hay = self.hay;
        let separator = hay[last - 1];
        let exchange = &hay[last - 4..last - 1];
        if !matches!(separator, b'-' | b'.' | b' ') || !is_code(exchange) {
            return;
        }
        let start = match hay[..last - 4] {
            [.., b'(', a, b, c, b')', b' '] if is_code(&[a, b, c]) => last - 10,
            [.., b'(', a, b, c, b')'] if is_code(&[a, b, c]) => last - 9,
            [.., a, b, c, s] if s == separator && s != b' ' && is_code(&[a, b, c]) => last - 8,
            _ => return,
        };
        let country = start >= self.floor + 2
            && hay[start - 2] == b'1'
            && matches!(hay[start - 1], b'-' | b' ')
            && self.begins(start - 2);
        if country {
            self.hit(Builtin::Phone, start - 2, last + 4, None);
        } else if start >= self.floor
            && (hay[start] == b'(' && !is(self.before(start), ALNUM) || self.begins(start))
        {
            self.hit(Builtin::Phone, start, last + 4, None);
        }
    }

    /// A `+`: E.164, eight to fifteen digits, in groups or not.
    pub(super) fn phone_international(&mut self, plus: usize) {
        let before = self.before(plus);
        if self.on.id(Builtin::Phone).is_none() || is(before, WORD) || matches!(before, b'+' | b'/' | b'=') {
            return;
        }
        let most = match self.at(plus + 1) {
            Some(b'1') => 11,
            Some(b'2'..=b'9') => 15,
            None if !self.last => return self.wait(plus),
            _ => return,
        };
        let (mut n, mut at, mut end) = (0, plus + 1, plus + 1);
        loop {
            if self.is_open(at) {
                return self.wait(plus);
            }
            match self.at(at) {
                Some(b) if b.is_ascii_digit() => {
                    n += 1;
                    at += 1;
                    end = at;
                    if n > most {
                        break;
                    }
                }
                // One separator, or a blank beside a parenthesis.
                Some(b' ' | b'-' | b'.' | b'(' | b')') if at - end < 2 && n < most => at += 1,
                _ => break,
            }
        }
        self.spent(at - plus);
        let enough = if most == 11 {
            n == 11
        } else {
            (8..=15).contains(&n)
        };
        if enough && !self.at(end).is_some_and(|b| is(b, WORD)) {
            self.hit(Builtin::Phone, plus, end, None);
        }
    }
}

/// An area or exchange code of the North American Numbering Plan.
fn is_code(digits: &[u8]) -> bool {
    matches!(digits, [b'2'..=b'9', b'0'..=b'9', b'0'..=b'9'])
}

/// A length and a range of issuers that exist, and the check digit (ISO/IEC 7812).
fn is_card(digits: &[u8]) -> bool {
    let prefix = |n: usize| digits[..n].iter().fold(0u32, |v, d| v * 10 + u32::from(d - b'0'));
    if digits.len() < 13 {
        return false;
    }
    let known = matches!(
        (digits.len(), prefix(4)),
        (13 | 16 | 19, 4000..=4999)
            | (16, 5100..=5599 | 2221..=2720 | 6011 | 6440..=6599 | 3528..=3589)
            | (19, 6011 | 6440..=6599)
            | (16..=19, 6200..=6299)
            | (15, 3400..=3499 | 3700..=3799)
            | (14, 3000..=3059 | 3600..=3699 | 3800..=3999)
            | (13..=19, 5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763)
    );
    known && luhn(digits) && digits.iter().any(|d| *d != digits[0])
}

pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, d)| {
            let d = u32::from(d - b'0');
            match (i % 2, d) {
                (0, d) => d,
                (_, d) if d > 4 => d * 2 - 9,
                (_, d) => d * 2,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}
