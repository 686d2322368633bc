//! Form bodies and query strings: `name=value&name=value`, percent-encoded.

use super::{coding::Coding, names::KEY_MAX, out::Out, segment::Core};

/// Where in a form the masker is.
#[derive(Debug, Default)]
pub(super) struct Form {
    inside: bool,
}

impl Form {
    pub(super) fn reset(&mut self) {
        self.inside = false;
    }

    /// Takes a piece and returns how much of it is done with.
    pub(super) fn run(&mut self, core: &mut Core, raw: &[u8], last: bool, out: &mut Out<'_>) -> usize {
        let mut i = 0;
        loop {
            let rest = &raw[i..];
            if !self.inside {
                let end = memchr::memchr2(b'&', b'=', rest);
                if end.is_none() && !last && rest.len() <= KEY_MAX {
                    return i;
                }
                self.inside = true;
                match end {
                    Some(n) if rest[n] == b'=' && n <= KEY_MAX => {
                        core.begin();
                        core.segment(&rest[..n], Coding::Form, true, out);
                        out.same(b"=");
                        i += n + 1;
                        let symbol = core.rules.form.find(&rest[..n], Coding::Form, true);
                        match core.rules.form.class(symbol, &[], core.on.set) {
                            Some(class) => core.begin_value(class),
                            None => core.begin(),
                        }
                        continue;
                    }
                    // A name without a value, or one that is too long for a name.
                    _ => core.begin(),
                }
                continue;
            }
            let end = memchr::memchr(b'&', rest);
            let piece = &rest[..end.unwrap_or(rest.len())];
            let used = core.segment(piece, Coding::Form, end.is_some() || last, out);
            let Some(n) = end else {
                return i + used;
            };
            out.same(b"&");
            i += n + 1;
            self.inside = false;
        }
    }
}
