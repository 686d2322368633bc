//! Internet addresses. Off by default.

use std::net::Ipv6Addr;

use super::{
    Search,
    bytes::{ADDRESS, WORD, is},
};
use crate::mask::classes::Builtin;

const V6_MAX: usize = 45;

impl Search<'_> {
    /// Looks at every run of hexadecimal digits, dots and colons that begins a word.
    pub(super) fn addresses(&mut self) {
        let hay = self.hay;
        let mut next = self.floor;
        for at in memchr::memchr2_iter(b'.', b':', &hay[self.floor..]) {
            let at = self.floor + at;
            if at < next {
                continue;
            }
            let mut start = at;
            while start > self.floor && start + 5 > at && is(hay[start - 1], ADDRESS) {
                start -= 1;
            }
            // `host:10.0.0.1`: a colon alone is not part of what follows.
            let apart =
                hay[start] == b':' && hay.get(start + 1) != Some(&b':') && !is(self.before(start), ADDRESS);
            start += usize::from(apart);
            let len = self.run(start, V6_MAX + 1, ADDRESS);
            next = (start + len).max(at + 1);
            if !apart && is(self.before(start), WORD | ADDRESS) {
                // Not the beginning of the word: the rest of the run is no address either.
                while next < hay.len() && is(hay[next], ADDRESS) {
                    next += 1;
                }
                self.spent(next - start);
                continue;
            }
            let anchor = start - usize::from(apart);
            if len <= V6_MAX && self.is_open(start + len) {
                self.wait(anchor);
            } else {
                self.address(anchor, start, len);
            }
        }
    }

    fn address(&mut self, anchor: usize, start: usize, len: usize) {
        let run = &self.hay[start..start + len];
        let trimmed = run.len() - run.iter().rev().take_while(|b| matches!(b, b'.' | b':')).count();
        let after = self.at(start + len);
        if after.is_some_and(|b| is(b, WORD)) || len > V6_MAX {
            return;
        }
        if let Some(n) = v4(run) {
            self.hit_after(Builtin::Ipv4, anchor, start, start + n, None);
            return;
        }
        for text in [run, &run[..trimmed]] {
            let address = std::str::from_utf8(text)
                .ok()
                .and_then(|t| t.parse::<Ipv6Addr>().ok());
            if address.is_some_and(|a| !a.is_unspecified()) {
                self.hit_after(Builtin::Ipv6, anchor, start, start + text.len(), None);
                return;
            }
        }
    }
}

/// The length of four numbers up to 255 with dots at the start, not followed by another number: that is a version.
fn v4(run: &[u8]) -> Option<usize> {
    let mut at = 0;
    for part in 0..4 {
        let digits = run[at..]
            .iter()
            .take(4)
            .take_while(|b| b.is_ascii_digit())
            .count();
        let value = run[at..at + digits]
            .iter()
            .fold(0u32, |v, d| v * 10 + u32::from(d - b'0'));
        if !(1..=3).contains(&digits) || value > 255 {
            return None;
        }
        at += digits;
        if part < 3 {
            if run.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
    }
    match run[at..] {
        [] | [b'.' | b':'] => Some(at),
        [b':', ref port @ ..] if port.iter().all(u8::is_ascii_digit) => Some(at),
        _ => None,
    }
}
