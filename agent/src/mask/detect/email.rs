//! Mail addresses (RFC 5321, RFC 6531), as they are really written.
//!
//! Bias: quoted local parts and addresses without a dot in the domain are not taken for one; letters of Latin,
//! Greek and Cyrillic script are, of scripts written without blanks not, lest a whole sentence be masked.

use super::{
    Search,
    bytes::{ALNUM, DOMAIN, LOCAL, is},
};
use crate::mask::{classes::Builtin, strategy::is_continuation};

/// The longest local part.
pub(super) const LOCAL_MAX: usize = 64;
const DOMAIN_MAX: usize = 253;

impl Search<'_> {
    /// An `@`.
    pub(super) fn email(&mut self, at: usize) {
        if self.on.id(Builtin::Email).is_none() {
            return;
        }
        let start = self.local(at);
        if start == at {
            return;
        }
        let (end, open) = self.domain(at + 1);
        if open {
            return self.wait(start);
        }
        let Some(end) = valid(&self.hay[at + 1..end]).map(|n| at + 1 + n) else {
            return;
        };
        // `git@host` is the account of every Git server, and `icon@2x.png` a file.
        if &self.hay[start..at] != b"git" && !is_image(&self.hay[at + 1..end]) {
            self.hit(Builtin::Email, start, end, None);
            // A match before it leaves the rest of it an address.
            if let Some(hit) = self.hits.last_mut() {
                hit.pivot = at;
            }
        }
    }

    /// Where the local part before `at` begins.
    fn local(&mut self, at: usize) -> usize {
        let least = at.saturating_sub(LOCAL_MAX).max(self.floor);
        let mut start = at;
        while start > least {
            let b = self.hay[start - 1];
            if is(b, LOCAL) {
                start -= 1;
            } else if start >= least + 2 && is_continuation(b) && is_letter_lead(self.hay[start - 2]) {
                start -= 2;
            } else {
                break;
            }
        }
        self.spent(at - start + 1);
        begins(self.hay, start, at)
    }

    /// Where the domain ends, and whether more of it could come.
    fn domain(&mut self, from: usize) -> (usize, bool) {
        let most = from + DOMAIN_MAX;
        let mut end = from;
        while end < most {
            let Some(b) = self.at(end) else {
                return (end, !self.last);
            };
            if is(b, DOMAIN) {
                if b == b'.' && end > from && self.hay[end - 1] == b'.' {
                    break;
                }
                end += 1;
            } else if is_letter_lead(b) {
                match self.at(end + 1) {
                    None if !self.last => return (end, true),
                    Some(next) if is_continuation(next) => end += 2,
                    _ => break,
                }
            } else {
                break;
            }
        }
        self.spent(end - from + 1);
        (end, false)
    }
}

/// Where an address whose local part was found to be `start..at` begins: a quote, a sign or a dot before it is not
/// part of it. `at` when nothing is left.
pub(in crate::mask) fn begins(hay: &[u8], start: usize, at: usize) -> usize {
    let first = |b: &u8| is(*b, ALNUM) || *b >= 0x80 || *b == b'_';
    hay[start..at].iter().position(first).map_or(at, |n| start + n)
}

/// The first byte of a two-byte letter of Latin, Greek or Cyrillic script.
fn is_letter_lead(b: u8) -> bool {
    (0xC3..=0xD4).contains(&b)
}

/// The length of the longest part from the start that is a domain with a top level.
fn valid(domain: &[u8]) -> Option<usize> {
    let mut end = domain.len();
    loop {
        let dot = memchr::memrchr(b'.', &domain[..end])?;
        let mut top = &domain[dot + 1..end];
        while let [rest @ .., b'-'] = top {
            top = rest;
        }
        let letters = top.iter().all(|b| b.is_ascii_alphabetic() || *b >= 0x80);
        let label = dot.checked_sub(1).map(|i| domain[i]);
        if (top.len() >= 2 && letters || top.starts_with(b"xn--") && top.len() > 4)
            && label.is_some_and(|b| b != b'.' && b != b'-')
            && domain[0] != b'-'
        {
            return Some(dot + 1 + top.len());
        }
        end = dot;
    }
}

fn is_image(domain: &[u8]) -> bool {
    matches!(domain, [b'1'..=b'9', b'x', b'.', rest @ ..] if matches!(rest, b"png" | b"jpg" | b"webp" | b"gif" | b"svg"))
}
