//! A statement's text without its literals, for the record.

use pg_query::protobuf::Token;

use super::parse::tokens;

/// The text with a `?` for every literal (numbers, strings of every kind, dollar-quoted bodies and so passwords, too),
/// and without comments; `None` when PostgreSQL's scanner cannot take it apart.
#[must_use]
pub fn without_literals(text: &str) -> Option<String> {
    let tokens = tokens(text)?;
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for token in &tokens {
        let start = usize::try_from(token.start).ok()?;
        let end = usize::try_from(token.end).ok()?;
        out.push_str(text.get(at..start)?);
        match Token::try_from(token.token) {
            Ok(
                Token::Sconst
                | Token::Usconst
                | Token::Bconst
                | Token::Xconst
                | Token::Iconst
                | Token::Fconst,
            ) => out.push('?'),
            Ok(Token::CComment | Token::SqlComment) => {
                if !out.is_empty() && !out.ends_with(char::is_whitespace) {
                    out.push(' ');
                }
            }
            _ => out.push_str(text.get(start..end)?),
        }
        at = end;
    }
    out.push_str(text.get(at..)?);
    out.truncate(out.trim_end().len());
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_literal_stays() {
        for (text, expected) in [
            ("select 'a', 1, 1.5e3, x from t", "select ?, ?, ?, x from t"),
            (
                "select $1, E'a\\'b', U&'\\0041', B'01', X'ff'",
                "select $1, ?, ?, ?, ?",
            ),
            ("create role r password 'secret'", "create role r password ?"),
            ("do $x$ begin perform 'secret'; end $x$", "do ?"),
            ("select 1 -- secret\n, 2 /* secret /* x */ */", "select ? \n, ?"),
            ("/* secret */ select x", "select x"),
            (
                "create subscription s connection 'password=x' publication p",
                "create subscription s connection ? publication p",
            ),
            ("select 'a'\n 'b', \"A b\".c", "select ?, \"A b\".c"),
            ("not sql at all 'x' 5", "not sql at all ? ?"),
        ] {
            assert_eq!(
                without_literals(text).as_deref().map(str::trim_start),
                Some(expected)
            );
        }
        assert_eq!(without_literals("select 'open"), None);
        assert_eq!(without_literals("select \0"), None);
    }
}
