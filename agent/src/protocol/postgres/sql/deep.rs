//! Statements that PostgreSQL's grammar takes, but whose tree is nested too deeply to be handed over.
//!
//! Their facts are gathered by the parser's own summary and by their tokens, and are never complete. Only queries and
//! what changes rows get so far: what has to be followed otherwise (PREPARE, COPY, SET...) is refused.

use std::sync::Arc;

use pg_query::protobuf::{Token, summary_result::Context};

use super::{
    Access, Act, Facts, Kind, Name, NotUnderstood, Statement, is_pure,
    parse::{Unparsed, parse, pieces, tokens},
    skim::skim,
};

/// The statements of a text of which at least one is too deep.
pub(super) fn understand(text: &str) -> Result<Vec<Statement>, NotUnderstood> {
    let pieces = pieces(text).ok_or(NotUnderstood::from(Kind::TooDeep))?;
    let mut statements = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let start = piece.as_ptr().addr() - text.as_ptr().addr();
        match parse(piece) {
            Ok(parsed) => {
                for (range, node) in parsed {
                    let range = start + range.start..start + range.end;
                    statements.push(super::statement(text, range, node));
                }
            }
            Err(Unparsed::TooDeep) => statements.push(deep(text, start, piece)?),
            Err(Unparsed::TooDeepToParse | Unparsed::Invalid(_)) => return Err(Kind::TooDeep.into()),
        }
    }
    Ok(statements)
}

fn deep(text: &str, start: usize, piece: &str) -> Result<Statement, NotUnderstood> {
    let shape = shape(piece).ok_or(NotUnderstood::from(Kind::TooDeep))?;
    let summary = pg_query::summary(piece, 0, -1).map_err(|_| NotUnderstood::from(Kind::TooDeep))?;
    let mut facts = Facts {
        // Something may be called or written that nobody saw.
        access: Access::Write,
        ..Facts::default()
    };
    facts.incomplete.insert("too_deep");
    skim(piece, &mut facts);
    for table in &summary.tables {
        let name = Name::new(Some(&table.schema_name), &table.table_name);
        let set = match table.context {
            Context::None | Context::Select | Context::Call => &mut facts.reads,
            Context::Dml | Context::Ddl => &mut facts.writes,
        };
        set.insert(name);
    }
    for function in &summary.functions {
        let name = Name::new(function.schema_name.as_deref(), &function.function_name);
        if !is_pure(&name) {
            facts.incomplete.insert("unknown_function");
        }
        facts.functions.insert(name);
    }
    if shape == Shape::Creates {
        facts.verbs.insert("create");
        facts.access = Access::Admin;
    }
    let trimmed = piece.trim_ascii();
    let start = start + (piece.len() - piece.trim_ascii_start().len());
    debug_assert!(text.get(start..start + trimmed.len()) == Some(trimmed));
    Ok(Statement {
        text: start..start + trimmed.len(),
        act: if shape == Shape::Creates {
            Act::Ddl
        } else {
            Act::Plain
        },
        facts,
        tree: None::<Arc<_>>,
    })
}

/// The most tokens of a statement that is too deep: the parser's summary takes time by the square of the number of CTEs.
const MAX_TOKENS: usize = 20_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A query, or a change of rows.
    Rows,
    /// SELECT INTO.
    Creates,
}

/// What kind of statement the tokens make; `None` for one that has to be followed.
fn shape(piece: &str) -> Option<Shape> {
    let tokens = tokens(piece)?;
    if tokens.len() > MAX_TOKENS {
        return None;
    }
    let count = |kind: Token| tokens.iter().filter(|t| t.token == kind as i32).count();
    let first = tokens
        .iter()
        .filter_map(|t| Token::try_from(t.token).ok())
        .find(|t| !matches!(t, Token::CComment | Token::SqlComment | Token::Ascii40))?;
    let rows = [
        Token::Select,
        Token::With,
        Token::Values,
        Token::Table,
        Token::Insert,
        Token::Update,
        Token::DeleteP,
        Token::Merge,
    ];
    if !rows.contains(&first) {
        return None;
    }
    let creates = count(Token::Into) > count(Token::Insert) + count(Token::Merge);
    Some(if creates { Shape::Creates } else { Shape::Rows })
}
