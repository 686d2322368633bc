//! What statements mean in the session's database: resolved with the catalog, looked up through the session where the
//! catalog does not know.

use std::{sync::Arc, time::Instant};

use super::{
    super::{
        catalog::{Catalog, Needs},
        lineage::{self, Outputs, Resolved, Sources},
        sql::{Act, Name, Statement},
        value::{self, Types},
    },
    Session,
    names::{Names, Portal, Prepared},
    unsettled::{Earlier, take_in, unsettle},
};
use crate::{
    mask::MaskRules,
    model::{ClassId, ClassSet},
    protocol::ProtocolError,
};

/// How often a statement is resolved anew with what was looked up. Each round looks one level of views deeper.
const ROUNDS: usize = 12;

/// Data classes of a result's columns, by where the server says they come from.
pub(super) trait Classes: Sync {
    /// What flows into a table's or view's column; `None` when nobody has looked it up.
    fn column(&self, table: u32, number: i16) -> Option<Sources>;
    /// The class of what is computed from values that may not be shown.
    fn derived(&self) -> Option<ClassId>;
    /// Types beyond the built-in ones.
    fn types(&self) -> &dyn Types;
}

/// The catalog and the rules, as both maskers and lineage ask them.
pub(super) struct Known<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) rules: &'a MaskRules,
}

impl Classes for Known<'_> {
    fn column(&self, table: u32, number: i16) -> Option<Sources> {
        let class_of =
            |schema: &str, relation: &str, column: &str| self.rules.column(schema, relation, column);
        lineage::column(table, number, self.catalog, &class_of).ok()
    }

    fn derived(&self) -> Option<ClassId> {
        self.rules.derived()
    }

    fn types(&self) -> &dyn Types {
        self
    }
}

impl Types for Known<'_> {
    fn get(&self, oid: u32) -> Option<value::Type> {
        let found = self.catalog.type_by_oid(oid)?;
        Some(match found.kind {
            _ if found.text_like => value::Type::Text,
            _ if found.is_hstore() => value::Type::Hstore,
            'e' => value::Type::Enum,
            'd' => value::Type::Domain {
                base: found.base,
                modifier: found.base_mod,
            },
            'c' => value::Type::Composite {
                fields: found
                    .fields
                    .iter()
                    .map(|(_, oid, modifier)| (*oid, *modifier))
                    .collect(),
            },
            'r' => value::Type::Range {
                subtype: found.subtype,
            },
            'm' => value::Type::Multirange { range: found.range },
            'b' if found.element != 0 => value::Type::Array {
                element: found.element,
                delimiter: found.delimiter,
            },
            _ => value::Type::Other,
        })
    }
}

/// What statements of the same message and of the session refer to by name.
pub(super) struct Named<'a> {
    statements: &'a Names<Prepared>,
    portals: &'a Names<Portal>,
    /// Earlier statements of the same message.
    earlier: &'a [Arc<Statement>],
}

impl Named<'_> {
    /// What was prepared under a name, by PREPARE or by Parse.
    fn statement(&self, name: &str) -> Option<&Statement> {
        let here = self.earlier.iter().rev().find_map(|s| match &s.act {
            Act::Prepare { name: own, statement } if &**own == name => Some(&**statement),
            _ => None,
        });
        here.or_else(|| self.statements.get(name.as_bytes())?.statement.as_deref())
    }

    /// What a cursor or portal that is open meant when it was opened.
    fn opened(&self, name: &str) -> Option<&Resolved> {
        let here = |s: &Arc<Statement>| matches!(&s.act, Act::Declare { cursor, .. } if &**cursor == name);
        if self.earlier.iter().any(here) {
            return None;
        }
        Some(&self.portals.get(name.as_bytes())?.opened.get()?.plan.resolved)
    }

    /// The query of a cursor or portal.
    fn query(&self, name: &str) -> Option<&Statement> {
        let here = self.earlier.iter().rev().find_map(|s| match &s.act {
            Act::Declare {
                cursor, statement, ..
            } if &**cursor == name => Some(&**statement),
            _ => None,
        });
        here.or_else(|| self.portals.get(name.as_bytes())?.statement.statement.as_deref())
    }
}

impl lineage::Session for Named<'_> {
    fn prepared(&self, name: &str) -> Option<Arc<pg_query::protobuf::Node>> {
        self.statement(name)?.tree.clone()
    }

    fn cursor(&self, name: &str) -> Option<Arc<pg_query::protobuf::Node>> {
        self.query(name)?.tree.clone()
    }

    fn creates(&self, schema: Option<&str>, name: &str) -> bool {
        self.earlier.iter().any(|s| {
            matches!(s.act, Act::Ddl)
                && s.facts.writes.iter().any(|n| {
                    &*n.name == name
                        && (schema.is_none() || n.schema.is_none() || n.schema.as_deref() == schema)
                })
        })
    }
}

impl Session<'_> {
    /// A statement with the facts of what it executes or fetches, as far as that is known.
    pub(super) fn settled(&self, statement: &Arc<Statement>, earlier: &[Arc<Statement>]) -> Arc<Statement> {
        let facts = &statement.facts;
        if facts.executes.is_empty() && facts.cursors.is_empty() {
            return Arc::clone(statement);
        }
        let named = self.named(earlier);
        let prepared: Option<Vec<_>> = facts.executes.iter().map(|name| named.statement(name)).collect();
        let cursors: Option<Vec<_>> = facts.cursors.iter().map(|name| named.query(name)).collect();
        let mut settled = Statement::clone(statement);
        let indirect = |s: &&Statement| !matches!(s.act, Act::Plain | Act::Explain { .. });
        if prepared.iter().flatten().any(indirect) {
            // What Parse prepared can be any command: one that changes the session would go unseen.
            settled.act = Act::Indirect;
        }
        for (word, known) in [("prepared", prepared), ("cursor", cursors)] {
            for inner in known.iter().flatten() {
                settled.facts.settle(word, &inner.facts);
            }
        }
        if matches!(settled.act, Act::Indirect) {
            settled.facts.incomplete.insert("prepared");
        }
        Arc::new(settled)
    }

    pub(super) fn named<'a>(&'a self, earlier: &'a [Arc<Statement>]) -> Named<'a> {
        Named {
            statements: &self.statements,
            portals: &self.portals,
            earlier,
        }
    }

    /// Resolves a statement, with as many look-ups as that takes.
    pub(super) async fn resolve(
        &mut self,
        statement: &Arc<Statement>,
        earlier: Earlier<'_>,
    ) -> Result<Arc<Resolved>, ProtocolError> {
        for _ in 0..ROUNDS {
            let needs = match self.try_resolve(statement, earlier.statements) {
                Ok(mut resolved) => {
                    if self.is_unsettled(statement, earlier) {
                        unsettle(&mut resolved, statement, self.gate.mask().all());
                    }
                    return Ok(Arc::new(resolved));
                }
                Err(needs) => needs,
            };
            if !self.look_up(&needs).await? {
                break;
            }
        }
        Ok(Arc::new(unresolved(statement, self.gate.mask().all())))
    }

    fn try_resolve(&self, statement: &Statement, earlier: &[Arc<Statement>]) -> Result<Resolved, Needs> {
        let rules = self.gate.mask();
        let named = self.named(earlier);
        let mut resolved =
            lineage::resolve(statement, &named, &self.catalog, &|schema, relation, column| {
                rules.column(schema, relation, column)
            })?;
        for cursor in &statement.facts.cursors {
            if let Some(opened) = named.opened(cursor) {
                take_in(&mut resolved, opened, matches!(statement.act, Act::Fetch));
            }
        }
        Ok(resolved)
    }

    /// Looks up what the catalog lacks; `false` when that cannot be done now (in a failed transaction, or because the
    /// server refused).
    async fn look_up(&mut self, needs: &Needs) -> Result<bool, ProtocolError> {
        if needs.is_empty() {
            return Ok(false);
        }
        let look_up = self.catalog.look_up(needs);
        let Some(answer) = self.ask(look_up.sql, &look_up.params).await? else {
            return Ok(false);
        };
        match self.catalog.learn(needs, &answer) {
            Ok(()) => Ok(true),
            Err(error) => {
                tracing::warn!("the catalog's answer cannot be read: {error}");
                Ok(false)
            }
        }
    }

    /// A new message: what was looked up long ago is looked up again.
    pub(super) fn begin_look_ups(&mut self) {
        self.follow_database();
        self.catalog.begin(Instant::now());
    }
}

/// What is said of a statement whose names cannot be looked up: only what stands in it, and anything may come back.
fn unresolved(statement: &Statement, all: ClassSet) -> Resolved {
    let facts = &statement.facts;
    let names =
        |set: &std::collections::BTreeSet<Name>| set.iter().map(|n| Arc::from(n.to_string())).collect();
    let mut incomplete = facts.incomplete.clone();
    incomplete.insert("unresolved");
    Resolved {
        reads: names(&facts.reads),
        writes: names(&facts.writes),
        read_schemas: std::collections::BTreeSet::new(),
        write_schemas: std::collections::BTreeSet::new(),
        columns: std::collections::BTreeSet::new(),
        sensitive: all,
        copied: all,
        touched: all,
        functions: names(&facts.functions),
        incomplete,
        outputs: Outputs::Unknown(all),
    }
}
