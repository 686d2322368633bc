//! The rest of a value that has no bound: eaten byte by byte, in constant memory, over any number of pieces.

use super::bytes::{BARE, PEM, is};

const END: &[u8] = b"-----END";

/// What belongs to a match after its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mask) enum Tail {
    /// Everything.
    All,
    /// Bytes of a kind.
    Run(u16),
    /// A value without quotes.
    Bare,
    /// Up to a quote, which a backslash escapes; `nested` where the quote itself is written with a backslash.
    Quoted { quote: u8, nested: bool, escaped: bool },
    /// The body of a PEM block (RFC 7468): how much of `-----END` was seen.
    PemBody(usize),
    /// Its last line: how many dashes there are at the end.
    PemEnd(usize),
}

impl Tail {
    /// Eats what belongs to the value; whether it ended there.
    pub(in crate::mask) fn eat(&mut self, bytes: &[u8]) -> (usize, bool) {
        if *self == Self::All {
            return (bytes.len(), false);
        }
        for (i, b) in bytes.iter().enumerate() {
            match self.step(*b) {
                Step::Eat => {}
                Step::Stop => return (i, true),
                Step::EatAndStop => return (i + 1, true),
            }
        }
        (bytes.len(), false)
    }

    fn step(&mut self, b: u8) -> Step {
        match self {
            Self::All => Step::Eat,
            Self::Run(kind) => Step::eat_if(is(b, *kind)),
            Self::Bare => Step::eat_if(is(b, BARE)),
            Self::Quoted {
                quote,
                nested,
                escaped,
            } => {
                if *escaped {
                    *escaped = false;
                    return Step::Eat;
                }
                if b == *quote || b == b'\n' || (*nested && b == b'\\') {
                    return Step::Stop;
                }
                *escaped = b == b'\\';
                Step::Eat
            }
            Self::PemBody(seen) => {
                if !is(b, PEM) {
                    return Step::Stop;
                }
                *seen = match *seen {
                    n if b == END[n] => n + 1,
                    // More dashes than five are still a run of five.
                    5 if b == b'-' => 5,
                    _ => usize::from(b == b'-'),
                };
                if *seen == END.len() {
                    *self = Self::PemEnd(0);
                }
                Step::Eat
            }
            Self::PemEnd(dashes) => match b {
                b'-' if *dashes == 4 => Step::EatAndStop,
                b'-' => {
                    *dashes += 1;
                    Step::Eat
                }
                b'A'..=b'Z' | b'0'..=b'9' | b' ' if *dashes == 0 => Step::Eat,
                _ => Step::Stop,
            },
        }
    }
}

enum Step {
    Eat,
    Stop,
    EatAndStop,
}

impl Step {
    fn eat_if(yes: bool) -> Self {
        if yes { Self::Eat } else { Self::Stop }
    }
}
