//! From text to parse trees.

use std::{ops::Range, panic::catch_unwind};

use pg_query::{
    Error,
    protobuf::{Node, ScanToken, Token},
};

use super::guard;

/// Why a text has no parse trees.
#[derive(Debug)]
pub(super) enum Unparsed {
    /// The grammar takes it, but it is nested too deeply for the tree's decoder.
    TooDeep,
    /// It is nested too deeply even for the grammar.
    TooDeepToParse,
    /// It is not valid, in the parser's words.
    Invalid(Option<Box<str>>),
}

/// The statements of a text: where each stands, and its tree.
pub(super) fn parse(text: &str) -> Result<Vec<(Range<usize>, Node)>, Unparsed> {
    // The crate gathers facts of its own after parsing, with code that panics where a tree is not as it expects. That
    // would end a connection without a word; so it is an error like others.
    let parsed = catch_unwind(|| pg_query::parse(text, 0)).map_err(|_| Unparsed::Invalid(None))?;
    let parsed = match parsed {
        Ok(parsed) => parsed.protobuf,
        Err(Error::Decode(why)) if why.to_string().contains("recursion limit") => {
            return Err(Unparsed::TooDeep);
        }
        Err(Error::Parse(why)) if too_deep(&why) => return Err(Unparsed::TooDeepToParse),
        Err(Error::Parse(why)) => return Err(Unparsed::Invalid(Some(why.into()))),
        Err(_) => return Err(Unparsed::Invalid(None)),
    };
    parsed
        .stmts
        .into_iter()
        .map(|raw| {
            let range = range(text, raw.stmt_location, raw.stmt_len).ok_or(Unparsed::Invalid(None))?;
            let node = raw.stmt.ok_or(Unparsed::Invalid(None))?;
            Ok((range, *node))
        })
        .collect()
}

/// The statements of a text as they are written, without building trees.
pub(super) fn pieces(text: &str) -> Option<Vec<&str>> {
    // It cuts the text where C code says, which panics inside a character.
    catch_unwind(|| pg_query::split_with_parser(text)).ok()?.ok()
}

/// The tokens of a text, comments among them; `None` when it cannot be taken apart.
pub(super) fn tokens(text: &str) -> Option<Vec<ScanToken>> {
    if !guard::scannable(text) {
        return None;
    }
    // Without any token the crate makes a slice of a null pointer, so there is always one more.
    let mut tokens = pg_query::scan_tokens(&format!("{text}\n;")).ok()?;
    let end = tokens.pop()?;
    let ours = end.token == Token::Ascii59 as i32 && usize::try_from(end.start) == Ok(text.len() + 1);
    ours.then_some(tokens)
}

/// The parser's words when its own bounds were reached.
fn too_deep(why: &str) -> bool {
    why.starts_with("stack depth limit exceeded") || why.starts_with("memory exhausted")
}

/// Where a statement stands; a length of zero means to the text's end.
fn range(text: &str, location: i32, length: i32) -> Option<Range<usize>> {
    let start = usize::try_from(location).ok()?;
    let end = match usize::try_from(length).ok()? {
        0 => text.len(),
        length => start.checked_add(length)?,
    };
    let statement = text.get(start..end)?;
    let trimmed = statement.trim_ascii();
    let start = start + (statement.len() - statement.trim_ascii_start().len());
    Some(start..start + trimmed.len())
}
