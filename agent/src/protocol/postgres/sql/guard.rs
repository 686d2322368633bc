//! Bounds that hold before PostgreSQL's scanner sees a text.
//!
//! Its scanner reads a run of operator characters to its end for every operator in it: time that grows with the square
//! of the run's length, minutes for some hundred thousand bytes of `+-+-` or of nested comments.

use pg_query::protobuf::Token;

use super::{Kind, MAX_STATEMENTS, MAX_TEXT, MAX_TOKENS, NotUnderstood, parse::tokens};

/// Steps that the scanner may waste on runs of operator characters. Runs of 100 (rules in comments, tables in text) can
/// fill a text of [`MAX_TEXT`], and a single run may have ten thousand.
const MAX_STEPS: usize = 60_000_000;

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
    count(text, MAX_STATEMENTS, MAX_TOKENS)
}

/// Bounds statements and tokens. What cannot be scanned passes here: parsing it fails.
fn count(text: &str, max_statements: usize, max_tokens: usize) -> Result<(), NotUnderstood> {
    // Most texts have too few semicolons and bytes to be too much, whatever they mean.
    let few = memchr::memchr_iter(b';', text.as_bytes())
        .take(max_statements)
        .count()
        < max_statements;
    if few && text.len() <= max_tokens {
        return Ok(());
    }
    let tokens = tokens(text).unwrap_or_default();
    let mut statements = 0;
    let mut inside = false;
    for (n, token) in tokens.iter().enumerate() {
        let at = || usize::try_from(token.start).unwrap_or_default();
        if n == max_tokens {
            return Err(Kind::TooManyTokens.at(at()));
        }
        match Token::try_from(token.token) {
            Ok(Token::Ascii59) => inside = false,
            Ok(Token::CComment | Token::SqlComment) => {}
            _ if inside => {}
            _ => {
                inside = true;
                statements += 1;
                if statements > max_statements {
                    return Err(Kind::TooMany.at(at()));
                }
            }
        }
    }
    Ok(())
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
    fn statements_and_tokens_are_counted() {
        assert_eq!(count("a;b;", 2, 100), Ok(()));
        assert_eq!(count(";;;;a;/*;*/;';'", 2, 100), Ok(()));
        assert_eq!(count("a;b;;/*c*/c", 2, 100), Err(Kind::TooMany.at(10)));
        assert_eq!(count("a b c", 2, 3), Ok(()));
        assert_eq!(count("a b c d", 2, 3), Err(Kind::TooManyTokens.at(6)));
        assert_eq!(check(&"select 1;".repeat(1000)), Ok(()));
        assert_eq!(check(&"select 1;".repeat(1001)).unwrap_err().kind, Kind::TooMany);
        assert_eq!(check(&";".repeat(100_000)), Ok(()));
        assert_eq!(check(&format!("select '{}'", "x".repeat(1_000_000))), Ok(()));
        let long = format!("select a{}", ",a".repeat(150_000));
        assert_eq!(check(&long).unwrap_err().kind, Kind::TooManyTokens);
    }
}
