//! International bank account numbers (ISO 13616): the length of each country, and the check digits (ISO 7064).

use super::{
    Search,
    bytes::{ALNUM, UPPER_DIGIT, is},
};
use crate::mask::classes::Builtin;

/// Countries of the IBAN registry with the length of their numbers.
#[rustfmt::skip]
const LENGTHS: &[(&[u8; 2], usize)] = &[
    (b"AD", 24), (b"AE", 23), (b"AL", 28), (b"AT", 20), (b"AZ", 28), (b"BA", 20), (b"BE", 16), (b"BG", 22),
    (b"BH", 22), (b"BI", 27), (b"BR", 29), (b"BY", 28), (b"CH", 21), (b"CR", 22), (b"CY", 28), (b"CZ", 24),
    (b"DE", 22), (b"DJ", 27), (b"DK", 18), (b"DO", 28), (b"EE", 20), (b"EG", 29), (b"ES", 24), (b"FI", 18),
    (b"FK", 18), (b"FO", 18), (b"FR", 27), (b"GB", 22), (b"GE", 22), (b"GI", 23), (b"GL", 18), (b"GR", 27),
    (b"GT", 28), (b"HN", 28), (b"HR", 21), (b"HU", 28), (b"IE", 22), (b"IL", 23), (b"IQ", 23), (b"IS", 26),
    (b"IT", 27), (b"JO", 30), (b"KW", 30), (b"KZ", 20), (b"LB", 28), (b"LC", 32), (b"LI", 21), (b"LT", 20),
    (b"LU", 20), (b"LV", 21), (b"LY", 25), (b"MC", 27), (b"MD", 24), (b"ME", 22), (b"MK", 19), (b"MN", 20),
    (b"MR", 27), (b"MT", 31), (b"MU", 30), (b"NI", 28), (b"NL", 18), (b"NO", 15), (b"OM", 23), (b"PK", 24),
    (b"PL", 28), (b"PS", 29), (b"PT", 25), (b"QA", 29), (b"RO", 24), (b"RS", 22), (b"RU", 33), (b"SA", 24),
    (b"SC", 31), (b"SD", 18), (b"SE", 24), (b"SI", 19), (b"SK", 24), (b"SM", 27), (b"SO", 23), (b"ST", 25),
    (b"SV", 28), (b"TL", 23), (b"TN", 24), (b"TR", 26), (b"UA", 29), (b"VA", 22), (b"VG", 24), (b"XK", 20),
    (b"YE", 30),
];
const LONGEST: usize = 33;

impl Search<'_> {
    /// Two capital letters and two digits.
    pub(super) fn iban(&mut self, start: usize) {
        let country = &self.hay[start..start + 2];
        let Some((_, len)) = LENGTHS.iter().find(|(c, _)| *c == country) else {
            return;
        };
        if self.on.id(Builtin::Iban).is_none() || is(self.before(start), ALNUM) {
            return;
        }
        let mut number = [0; LONGEST];
        let (mut n, mut at) = (0, start);
        while n < *len {
            match self.at(at) {
                Some(b) if is(b, UPPER_DIGIT) => {
                    number[n] = b;
                    n += 1;
                }
                Some(b' ') if n % 4 == 0 && self.hay[at - 1] != b' ' => {}
                None if !self.last => return self.wait(start),
                _ => break,
            }
            at += 1;
        }
        self.spent(at - start + 1);
        if n < *len {
            return;
        }
        if self.is_open(at) {
            return self.wait(start);
        }
        if !self.at(at).is_some_and(|b| is(b, ALNUM)) && mod_97(&number[..n]) == 1 {
            self.hit(Builtin::Iban, start, at, None);
        }
    }
}

/// The remainder of the number with its first four characters moved to the end and letters read as 10 to 35.
fn mod_97(number: &[u8]) -> u32 {
    let (front, rest) = number.split_at(4);
    rest.iter().chain(front).fold(0, |r, b| match b {
        b'0'..=b'9' => (r * 10 + u32::from(b - b'0')) % 97,
        _ => (r * 100 + u32::from(b.saturating_sub(b'A')) + 10) % 97,
    })
}
