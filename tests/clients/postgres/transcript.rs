//! What a client gets directly, against what it gets through the agent: the same, but for masked values and denials.

use anyhow::{Context as _, Result, ensure};
use e2e::{
    postgres::SECRETS,
    shop::{MASKED_NOTE, MASKED_SSN},
};

/// The text with the masked columns' values replaced. Where an expression put something after one, the whole of it is:
/// `219-09-9999!`.
pub fn masked(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    while at < bytes.len() {
        let (length, with) = match (ssn(&bytes[at..]), note(&bytes[at..])) {
            (Some(length), _) => (length, MASKED_SSN),
            (_, Some(length)) => (length, MASKED_NOTE),
            (None, None) => {
                let next = text[at..].chars().next().map_or(1, char::len_utf8);
                out.push_str(&text[at..at + next]);
                at += next;
                continue;
            }
        };
        out.push_str(with);
        at += length;
        at += usize::from(bytes.get(at) == Some(&b'!'));
    }
    out
}

/// How long the number at the start is: `219-09-9999`.
fn ssn(bytes: &[u8]) -> Option<usize> {
    let shape = b"999-99-9999";
    let fits = |(b, s): (&u8, &u8)| if *s == b'9' { b.is_ascii_digit() } else { b == s };
    (bytes.len() >= shape.len() && bytes.iter().zip(shape).all(fits)).then_some(shape.len())
}

/// How long the note at the start is: `rosebud-12`.
fn note(bytes: &[u8]) -> Option<usize> {
    let rest = bytes.strip_prefix(b"rosebud-")?;
    Some(8 + rest.iter().take_while(|b| b.is_ascii_digit()).count())
}

/// Compares two transcripts of JSON lines.
pub fn compare(direct: &str, through: &str) -> Result<()> {
    for secret in SECRETS {
        ensure!(!through.contains(secret), "{secret} is seen:\n{through}");
        ensure!(direct.contains(secret), "{secret} is not even seen directly");
    }
    let mut denied = 0;
    let mut lines = through.lines();
    for was in direct.lines() {
        let is = lines.next().with_context(|| format!("it ends before {was}"))?;
        let step = step(was)?;
        ensure!(self::step(is)? == step, "{is}\ninstead of\n{was}");
        if step.starts_with("denied") {
            ensure!(!was.contains("42501") && is.contains("42501"), "not denied: {is}");
            denied += 1;
        } else if !step.starts_with("masked row") {
            // A row as one value may be masked as a whole or key by key; that it shows nothing is checked above.
            let expected = masked(was);
            ensure!(is == expected, "{step}: got\n{is}\ninstead of\n{expected}");
        }
    }
    ensure!(lines.next().is_none(), "it goes on after the end:\n{through}");
    ensure!(denied > 0, "nothing was denied");
    Ok(())
}

/// The step's name. The line is not parsed as a whole: some clients' JSON has NaN in it.
fn step(line: &str) -> Result<&str> {
    let head = line.split_once("\"is\":").context("no step")?.0;
    let name = head.trim_start_matches("{\"step\":").trim();
    Ok(name.trim_matches(['"', ',', ' ']))
}

#[test]
fn values_are_replaced() {
    assert_eq!(
        masked("é 219-09-9999, x457-55-5462! rosebud-12! 219-09-999"),
        "é [masked:us_ssn], x[masked:us_ssn] [masked:note] 219-09-999"
    );
}
