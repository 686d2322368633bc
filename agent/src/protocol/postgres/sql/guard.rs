//! Bounds that hold before PostgreSQL's scanner sees a text.
//!
//! Its scanner reads a run of operator characters to its end for every operator in it: time that grows with the square
//! of the run's length, minutes for some hundred thousand bytes of `+-+-` or of nested comments.

use pg_query::protobuf::Token;

use super::{Kind, MAX_STATEMENTS, MAX_TEXT, NotUnderstood};

/// Steps that the scanner may waste on runs of operator characters. Runs of 100 (rules in comments, tables in text) can
/// fill a text of [`MAX_TEXT`], and a single run may have ten thousand.
const MAX_STEPS: usize = 120_000_000;

const OPERATOR: [bool; 256] = {
    let mut table = [false; 256];
    let bytes = b"~!@#^&|`?+-*/%<>=";
    let mut i = 0;
    while i < bytes.len() {
        table[bytes[i] as usize] = true;
        i += 1;
    }
    table
};

/// Whether a text can be scanned in bounded time.
pub(super) fn scannable(text: &str) -> bool {
    let mut steps = 0_usize;
    let mut run = 0_usize;
    for byte in text.bytes() {
        if OPERATOR[usize::from(byte)] {
            run += 1;
            steps += run;
        } else {
            run = 0;
        }
    }
    steps <= MAX_STEPS && text.len() <= MAX_TEXT
}

/// Whether a text may be parsed.
pub(super) fn check(text: &str) -> Result<(), NotUnderstood> {
    if text.len() > MAX_TEXT {
        return Err(Kind::TooLong.at(MAX_TEXT));
    }
    if let Some(at) = memchr::memchr(0, text.as_bytes()) {
        return Err(Kind::Nul.at(at));
    }
    if !scannable(text) {
        return Err(Kind::Operators.into());
    }
    match statements_beyond(text, MAX_STATEMENTS) {
        Some(at) => Err(Kind::TooMany.at(at)),
        None => Ok(()),
    }
}

/// Where the first statement after `max` begins. What cannot be scanned has no statements: parsing it fails.
fn statements_beyond(text: &str, max: usize) -> Option<usize> {
    // Most texts have too few semicolons for it, wherever they stand.
    if memchr::memchr_iter(b';', text.as_bytes()).take(max).count() < max {
        return None;
    }
    let mut statements = 0;
    let mut inside = false;
    for token in pg_query::scan_tokens(text).ok()? {
        match Token::try_from(token.token) {
            Ok(Token::Ascii59) => inside = false,
            Ok(Token::CComment | Token::SqlComment) => {}
            _ if inside => {}
            _ => {
                inside = true;
                statements += 1;
                if statements > max {
                    return usize::try_from(token.start).ok();
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn runs_of_operators() {
        assert!(scannable(&format!("select 1 /* {} */", "-".repeat(10_000))));
        assert!(scannable(&"| --------------------- |\n".repeat(30_000)));
        for text in ["/*".repeat(100_000), "-+".repeat(100_000), "*".repeat(500_000)] {
            let began = Instant::now();
            let refused = check(&format!("select 1 {text}")).unwrap_err();
            assert_eq!(refused.kind, Kind::Operators);
            assert!(began.elapsed() < Duration::from_secs(1));
        }
    }

    #[test]
    fn statements_are_counted() {
        assert_eq!(statements_beyond("a;b;", 2), None);
        assert_eq!(statements_beyond(";;;;a;/*;*/;';'", 2), None);
        assert_eq!(statements_beyond("a;b;;/*c*/c", 2), Some(10));
        assert_eq!(check(&"select 1;".repeat(1000)), Ok(()));
        assert_eq!(check(&"select 1;".repeat(1001)).unwrap_err().kind, Kind::TooMany);
        assert_eq!(check(&";".repeat(100_000)), Ok(()));
    }
}
