//! What the tokens of a text say where no parse tree can be had: in the body of a DO block or a function, and in
//! statements that are nested too deeply.
//!
//! It finds too much rather than too little, and never makes anything complete.

use std::{borrow::Cow, iter::Peekable};

use pg_query::protobuf::{KeywordKind, ScanToken, Token};

use super::{
    Access, Facts, Name,
    effects::{Effect, effect},
    parse,
};

/// Adds verbs, relations and reach of what stands in a text.
pub(super) fn skim(text: &str, facts: &mut Facts) {
    let Some(tokens) = parse::tokens(text) else {
        return;
    };
    let comment = |t: &&ScanToken| t.token == Token::CComment as i32 || t.token == Token::SqlComment as i32;
    let mut tokens = tokens.iter().filter(|t| !comment(t)).peekable();
    let mut before = None;
    while let Some(token) = tokens.next() {
        let kind = Token::try_from(token.token).ok();
        if let Some((verb, access)) = kind.and_then(verb) {
            facts.verbs.insert(verb);
            facts.access = facts.access.max(access);
        }
        match (before, kind) {
            (_, Some(Token::Execute)) => {
                facts.incomplete.insert("dynamic_execute");
            }
            (Some(Token::DeleteP), Some(Token::From))
            | (Some(Token::Insert | Token::Merge), Some(Token::Into))
            | (_, Some(Token::Update | Token::Truncate | Token::Table | Token::Copy)) => {
                facts.writes.extend(relation(text, &mut tokens));
            }
            (_, Some(Token::From | Token::Join)) => {
                let name = relation(text, &mut tokens);
                // Before a parenthesis it is a function.
                let function = tokens.peek().is_some_and(|t| t.token == Token::Ascii40 as i32);
                facts.reads.extend(name.filter(|_| !function));
            }
            _ => {}
        }
        call(text, token, &mut tokens, facts);
        before = kind;
    }
    if facts.verbs.contains("update") || facts.verbs.contains("delete") {
        facts.has_where = Some(false);
    }
}

/// The verbs of keywords that can begin a statement.
fn verb(token: Token) -> Option<(&'static str, Access)> {
    Some(match token {
        Token::Select | Token::Values => ("select", Access::Read),
        Token::Insert => ("insert", Access::Write),
        Token::Update => ("update", Access::Write),
        Token::DeleteP => ("delete", Access::Write),
        Token::Merge => ("merge", Access::Write),
        Token::Copy => ("copy", Access::Admin),
        Token::Truncate => ("truncate", Access::Admin),
        Token::Create => ("create", Access::Admin),
        Token::Alter => ("alter", Access::Admin),
        Token::Drop => ("drop", Access::Admin),
        Token::Grant => ("grant", Access::Admin),
        Token::Revoke => ("revoke", Access::Admin),
        Token::Execute => ("execute", Access::Admin),
        Token::Call => ("call", Access::Write),
        Token::Notify => ("notify", Access::Write),
        Token::LockP => ("lock", Access::Write),
        Token::Refresh => ("refresh", Access::Admin),
        Token::Reindex => ("reindex", Access::Admin),
        _ => return None,
    })
}

type Tokens<'t, I> = Peekable<I>;

/// The relation that the next tokens name.
fn relation<'t>(text: &str, tokens: &mut Tokens<'t, impl Iterator<Item = &'t ScanToken>>) -> Option<Name> {
    let skipped = [
        Token::Table as i32,
        Token::Only as i32,
        Token::IfP as i32,
        Token::Exists as i32,
    ];
    while tokens.next_if(|t| skipped.contains(&t.token)).is_some() {}
    let first = word(text, tokens)?;
    if tokens.next_if(|t| t.token == Token::Ascii46 as i32).is_none() {
        return Some(Name::new(None, &first));
    }
    let second = word(text, tokens)?;
    Some(Name::new(Some(&first), &second))
}

fn word<'t, 's>(
    text: &'s str,
    tokens: &mut Tokens<'t, impl Iterator<Item = &'t ScanToken>>,
) -> Option<Cow<'s, str>> {
    let token = tokens.next_if(|t| is_name(t))?;
    name(text, token)
}

/// Whether a token can be a relation's name.
fn is_name(token: &ScanToken) -> bool {
    let unreserved = [
        KeywordKind::UnreservedKeyword as i32,
        KeywordKind::ColNameKeyword as i32,
    ];
    token.token == Token::Ident as i32 || unreserved.contains(&token.keyword_kind)
}

/// A name, folded unless quoted.
fn name<'s>(text: &'s str, token: &ScanToken) -> Option<Cow<'s, str>> {
    let start = usize::try_from(token.start).ok()?;
    let end = usize::try_from(token.end).ok()?;
    let raw = text.get(start..end)?;
    Some(match raw.strip_prefix('"').and_then(|r| r.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\"").into(),
        None => raw.to_ascii_lowercase().into(),
    })
}

/// A name before a parenthesis: of functions that are not pure, what they reach.
fn call<'t>(
    text: &str,
    token: &ScanToken,
    tokens: &mut Tokens<'t, impl Iterator<Item = &'t ScanToken>>,
    facts: &mut Facts,
) {
    let called = is_name(token) && tokens.peek().is_some_and(|t| t.token == Token::Ascii40 as i32);
    let Some(function) = called.then(|| name(text, token)).flatten() else {
        return;
    };
    match effect(&function) {
        Some(Effect::Reaches(access) | Effect::LargeObject(access)) => {
            facts.access = facts.access.max(access)
        }
        Some(Effect::Sequence) => facts.access = facts.access.max(Access::Write),
        Some(Effect::Setting) => facts.access = Access::Admin,
        Some(Effect::Dynamic) | None => return,
    }
    facts.functions.insert(Name::new(None, &function));
}
