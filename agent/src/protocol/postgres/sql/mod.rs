//! What a query string says: its statements, and of each what it would read, write and call.
//!
//! PostgreSQL's own grammar (libpg_query) parses it. What the tree does not tell is said, too: [`Facts::incomplete`].

mod act;
mod aggregate;
mod copy;
mod deep;
mod effects;
mod facts;
mod guard;
mod name;
mod parse;
mod pure;
mod record;
mod refusal;
mod settings;
mod skim;
#[cfg(test)]
mod tests;
mod verbs;
mod walk;

use std::{ops::Range, sync::Arc};

use pg_query::{NodeEnum, protobuf::Node};

use parse::Unparsed;

#[cfg(test)]
use act::Setting;
pub use act::{Act, Discard};
pub use aggregate::{Aggregate, aggregate};
#[cfg(test)]
use copy::Columns;
pub use copy::{Copy, Endpoint, Format, Header, Source};
#[cfg(test)]
use facts::INCOMPLETE;
pub use facts::{Facts, Words};
pub use name::Name;
pub use pure::is_pure;
pub use record::without_literals;

pub use crate::model::Access;
pub use refusal::{Kind, NotUnderstood};
#[cfg(test)]
use verbs::VERBS;

/// The longest query string that is parsed, bytes.
pub const MAX_TEXT: usize = 1 << 20;
/// The most statements in one query string.
pub const MAX_STATEMENTS: usize = 1000;
/// The most tokens in one query string: they, not bytes, are what parsing takes its time for.
pub const MAX_TOKENS: usize = 250_000;

/// One statement of a query string.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Where it stands in the query string, in bytes, without the semicolon and without white space around it.
    pub text: Range<usize>,
    /// What it would do.
    pub facts: Facts,
    /// What it does to the session.
    pub act: Act,
    /// Its parse tree; `None` when it is nested too deeply to have one ([`Facts::incomplete`] then has `too_deep`).
    pub tree: Option<Arc<Node>>,
}

/// The statements of a query string, in order; none when it is empty or has only comments.
///
/// # Errors
/// When any of it is not understood: then none of it may be passed on.
pub fn understand(text: &str) -> Result<Vec<Statement>, NotUnderstood> {
    guard::check(text)?;
    match parse::parse(text) {
        Ok(parsed) => Ok(parsed
            .into_iter()
            .map(|(range, node)| statement(text, range, node))
            .collect()),
        Err(Unparsed::TooDeep) => deep::understand(text),
        Err(Unparsed::TooDeepToParse) => Err(Kind::TooDeep.into()),
        Err(Unparsed::Invalid(detail)) => Err(NotUnderstood {
            kind: Kind::Syntax,
            position: None,
            detail,
        }),
    }
}

/// A statement with what can be seen of the code that it brings along.
fn statement(text: &str, range: Range<usize>, node: Node) -> Statement {
    let mut statement = Statement::of(node, range);
    let body = match statement.tree.as_ref().and_then(|tree| tree.node.as_ref()) {
        Some(NodeEnum::DoStmt(s)) => code(&s.args),
        Some(NodeEnum::CreateFunctionStmt(s)) => code(&s.options),
        _ => None,
    };
    if let Some(body) = body {
        let executes = statement.facts.incomplete.contains("do_block");
        let mut facts = Facts::default();
        skim::skim(&body, &mut facts);
        if !executes {
            // What a function does when it is called says nothing of its creation.
            facts.incomplete.clear();
        }
        statement.facts.merge(&facts);
    }
    debug_assert!(text.get(statement.text.clone()).is_some());
    statement
}

/// The code that a DO block or CREATE FUNCTION holds as a string.
fn code(options: &[Node]) -> Option<String> {
    options.iter().find_map(|option| match &option.node {
        Some(NodeEnum::DefElem(option)) if option.defname == "as" => match &option.arg.as_ref()?.node {
            Some(NodeEnum::String(code)) => Some(code.sval.clone()),
            Some(NodeEnum::List(list)) => match &list.items.first()?.node {
                Some(NodeEnum::String(code)) => Some(code.sval.clone()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    })
}

impl Statement {
    /// A statement from its tree.
    fn of(node: Node, text: Range<usize>) -> Self {
        let (facts, act) = match &node.node {
            Some(kind) => {
                let mut facts = walk::facts(kind);
                let act = act::act(kind, &text).unwrap_or_else(|| {
                    facts.incomplete.insert("unknown_node");
                    Act::Code
                });
                (facts, act)
            }
            None => (walk::nothing_known(), Act::Code),
        };
        Self {
            text,
            facts,
            act,
            tree: Some(Arc::new(node)),
        }
    }

    /// Whether names can mean something else after it: [`Act::changes_session`], and whatever calls code that is
    /// not known.
    #[must_use]
    pub fn changes_session(&self) -> bool {
        self.act.changes_session() || self.facts.calls_unknown_code()
    }
}
