//! SPDX licence expressions: `OR`, `AND`, `WITH`, parentheses; and `/`, which crates used for `OR` before that.

use anyhow::{bail, ensure};

/// Whether the expression holds when `allowed` says which licences (`ID` or `ID WITH EXCEPTION`) may be used.
///
/// # Errors
/// When it is no expression.
pub fn holds(expression: &str, allowed: &dyn Fn(&str) -> bool) -> anyhow::Result<bool> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let value = any(&mut rest, allowed)?;
    ensure!(rest.is_empty(), "'{}' is left over", rest.join(" "));
    Ok(value)
}

fn any(rest: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> anyhow::Result<bool> {
    let mut value = all(rest, allowed)?;
    while take(rest, "OR") {
        value |= all(rest, allowed)?;
    }
    Ok(value)
}

fn all(rest: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> anyhow::Result<bool> {
    let mut value = one(rest, allowed)?;
    while take(rest, "AND") {
        value &= one(rest, allowed)?;
    }
    Ok(value)
}

fn one(rest: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> anyhow::Result<bool> {
    if take(rest, "(") {
        let value = any(rest, allowed)?;
        ensure!(take(rest, ")"), "a parenthesis is open");
        return Ok(value);
    }
    let Some((id, after)) = rest.split_first() else {
        bail!("it ends too early")
    };
    ensure!(
        !["OR", "AND", "WITH", ")"].contains(id),
        "'{id}' stands where a licence should"
    );
    *rest = after;
    if !take(rest, "WITH") {
        return Ok(allowed(id));
    }
    let Some((exception, after)) = rest.split_first() else {
        bail!("it ends too early")
    };
    *rest = after;
    Ok(allowed(&format!("{id} WITH {exception}")))
}

fn take(rest: &mut &[&str], word: &str) -> bool {
    let found = rest.first() == Some(&word);
    if found {
        *rest = &rest[1..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        let allowed = |id: &str| ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].contains(&id);
        for (text, want) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0/MIT", true),
            ("GPL-3.0 AND MIT", false),
            ("ISC AND (MIT OR GPL-3.0)", true),
            ("MIT OR GPL-3.0 AND GPL-2.0", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
        ] {
            assert_eq!(holds(text, &allowed).unwrap(), want, "{text}");
        }
        for text in ["", "MIT OR", "(MIT", "MIT ISC", "OR"] {
            assert!(holds(text, &allowed).is_err(), "{text}");
        }
    }
}
