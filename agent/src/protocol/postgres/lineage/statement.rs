//! Statements as a whole: what each kind gives back, and what the text alone says of it.

use std::sync::Arc;

use pg_query::{
    NodeEnum,
    protobuf::{CopyStmt, IntoClause, Node, ReturningClause, SelectStmt},
};

use super::{
    Outputs,
    flow::Flow,
    name,
    resolver::{Found, Resolver},
    rows::Rows,
    scope::Scope,
};
use crate::protocol::postgres::sql::{Facts, Name, Words, is_pure};

/// Verbs that need their relation to exist.
const NEEDS_RELATION: &[&str] = &["insert", "update", "delete", "merge", "copy", "truncate"];

impl Resolver<'_> {
    /// What a statement gives back.
    pub(super) fn statement(&mut self, node: &Node) -> Outputs {
        self.deeper(|r| r.any_statement(node))
            .unwrap_or_else(|| self.unknown())
    }

    fn any_statement(&mut self, node: &Node) -> Outputs {
        let root = Scope::root();
        match &node.node {
            Some(NodeEnum::SelectStmt(select)) => {
                let rows = self.rows_of(node, &root);
                match into(select) {
                    Some(into) => {
                        self.create(into, &rows);
                        Outputs::None
                    }
                    None => self.outputs(&rows),
                }
            }
            Some(NodeEnum::InsertStmt(s)) => self.modified(node, s.returning_clause.as_ref()),
            Some(NodeEnum::UpdateStmt(s)) => self.modified(node, s.returning_clause.as_ref()),
            Some(NodeEnum::DeleteStmt(s)) => self.modified(node, s.returning_clause.as_ref()),
            Some(NodeEnum::MergeStmt(s)) => self.modified(node, s.returning_clause.as_ref()),
            Some(NodeEnum::CreateTableAsStmt(s)) => {
                let rows = match s.query.as_deref() {
                    Some(query) if matches!(query.node, Some(NodeEnum::ExecuteStmt(_))) => {
                        self.statement(query);
                        Rows::open(self.all)
                    }
                    Some(query) => self.rows_of(query, &root),
                    None => Rows::open(Flow::OPAQUE),
                };
                match s.into.as_deref() {
                    Some(into) => self.create(into, &rows),
                    None => self.copied |= rows.flow(),
                }
                Outputs::None
            }
            Some(NodeEnum::ViewStmt(s)) => self.inside(s.query.as_deref()),
            Some(NodeEnum::DeclareCursorStmt(s)) => self.inside(s.query.as_deref()),
            Some(NodeEnum::PrepareStmt(s)) => self.inside(s.query.as_deref()),
            Some(NodeEnum::FetchStmt(s)) => match self.session.cursor(&s.portalname) {
                Some(query) => {
                    let outputs = self.held(&query);
                    if s.ismove { Outputs::None } else { outputs }
                }
                None if s.ismove => Outputs::None,
                None => self.unknown(),
            },
            Some(NodeEnum::ExecuteStmt(s)) => {
                let mut args = Flow::NONE;
                for param in &s.params {
                    args |= self.expr(param, &root).flow;
                }
                let prepared = self.session.prepared(&s.name);
                match prepared {
                    Some(query) => {
                        let outputs = self.held(&query);
                        if args == Flow::NONE {
                            outputs
                        } else {
                            self.unknown()
                        }
                    }
                    None => self.unknown(),
                }
            }
            Some(NodeEnum::ExplainStmt(s)) => {
                if let Some(query) = s.query.as_deref() {
                    self.statement(query);
                }
                // A plan shows the statement's own constants. What an immutable function gives is one.
                let flow = if self.opaque_calls {
                    Flow::OPAQUE
                } else {
                    Flow::NONE
                };
                Outputs::Columns(vec![flow.sources()])
            }
            Some(NodeEnum::VariableShowStmt(s)) => {
                let flow = if s.name.contains('.') {
                    Flow::OPAQUE
                } else {
                    Flow::NONE
                };
                let columns = if s.name.eq_ignore_ascii_case("all") { 3 } else { 1 };
                Outputs::Columns(vec![flow.sources(); columns])
            }
            Some(NodeEnum::CopyStmt(copy)) => self.copy(copy),
            Some(NodeEnum::CallStmt(s)) => {
                if let Some(call) = s.funccall.as_deref() {
                    self.call(call, &root);
                }
                self.unknown()
            }
            _ => Outputs::None,
        }
    }

    /// A statement that another one holds and that gives nothing back itself.
    fn inside(&mut self, query: Option<&Node>) -> Outputs {
        if let Some(query) = query {
            self.statement(query);
        }
        Outputs::None
    }

    /// What a prepared statement or cursor gives back, whether its own statement or its query is kept.
    fn held(&mut self, node: &Arc<Node>) -> Outputs {
        let query = match &node.node {
            Some(NodeEnum::DeclareCursorStmt(s)) => s.query.as_deref(),
            Some(NodeEnum::PrepareStmt(s)) => s.query.as_deref(),
            // What finds its statement by name has found it when it began.
            Some(NodeEnum::ExecuteStmt(_) | NodeEnum::FetchStmt(_)) => None,
            _ => Some(&**node),
        };
        match query {
            Some(query) => self.statement(query),
            None => self.unknown(),
        }
    }

    fn modified(&mut self, node: &Node, returning: Option<&ReturningClause>) -> Outputs {
        let rows = self.rows_of(node, &Scope::root());
        match returning {
            Some(_) => self.outputs(&rows),
            None => Outputs::None,
        }
    }

    fn outputs(&self, rows: &Rows) -> Outputs {
        match rows.open {
            Some(_) => Outputs::Unknown((self.all | rows.flow()).classes()),
            None => Outputs::Columns(rows.cols.iter().map(|c| c.value.flow.sources()).collect()),
        }
    }

    fn unknown(&self) -> Outputs {
        Outputs::Unknown(self.all.classes())
    }

    /// CREATE TABLE AS and SELECT INTO: what goes into columns whose names do not tell its class.
    fn create(&mut self, into: &IntoClause, rows: &Rows) {
        let (schema, relation) = match &into.rel {
            Some(var) if !var.schemaname.is_empty() => (var.schemaname.clone(), var.relname.as_str()),
            Some(var) => {
                self.need_basics();
                let schema = self.catalog.current_schema().map(ToString::to_string);
                (schema.unwrap_or_default(), var.relname.as_str())
            }
            None => (String::new(), ""),
        };
        let mut rows = rows.clone();
        rows.rename(&name::strings(&into.col_names));
        for col in &rows.cols {
            let own = self.class_by_name(&schema, relation, &col.name);
            self.copied |= col.value.flow.beyond(own);
        }
        self.copied |= rows.open.unwrap_or_default();
    }

    fn copy(&mut self, copy: &CopyStmt) -> Outputs {
        let root = Scope::root();
        let rows = if let Some(query) = copy.query.as_deref() {
            match self.statement(query) {
                Outputs::None => return Outputs::None,
                Outputs::Unknown(classes) => return Outputs::Unknown(classes),
                columns @ Outputs::Columns(_) if copy.filename.is_empty() => return columns,
                Outputs::Columns(_) => Rows::open(self.all),
            }
        } else if copy.is_from {
            if let Some(target) = self.target(copy.relation.as_ref()) {
                let mut scope = root.clone();
                scope.entries.push(target.into_entry());
                self.condition(copy.where_clause.as_deref(), &scope);
            }
            return Outputs::None;
        } else {
            self.copied_rows(copy)
        };
        if !copy.filename.is_empty() {
            self.copied |= rows.flow();
            return Outputs::None;
        }
        self.outputs(&rows)
    }

    /// COPY relation TO: the columns named, or all that are not generated.
    fn copied_rows(&mut self, copy: &CopyStmt) -> Rows {
        let Some(var) = &copy.relation else {
            return Rows::open(Flow::OPAQUE);
        };
        let name = name::relation(var);
        let entry = self.read(&name, None);
        let Found::Relation(relation) = self.find(&name) else {
            return entry.rows();
        };
        let named = name::strings(&copy.attlist);
        let mut rows = Rows::default();
        if named.is_empty() {
            let plain = relation.columns.iter().map(|c| c.generated.is_none());
            let cols = entry.cols.iter().zip(plain).filter(|(_, plain)| *plain);
            rows.cols.extend(cols.map(|(col, _)| col.clone()));
        } else {
            for shown in named {
                match entry.cols.iter().find(|c| c.name == shown) {
                    Some(col) => rows.cols.push(col.clone()),
                    None => return Rows::open(self.unknown_column()),
                }
            }
        }
        for col in &rows.cols {
            self.note(col);
        }
        rows
    }

    /// The relations that the text names, whatever the walk through the tree made of them.
    pub(super) fn facts(&mut self, facts: &Facts) {
        let must_exist = facts.verbs.iter().any(|v| NEEDS_RELATION.contains(v));
        for name in &facts.reads {
            if !self.whole_schema(name, false) {
                self.read(name, None);
            }
        }
        for name in &facts.writes {
            if self.whole_schema(name, true) {
                continue;
            }
            match self.find(name) {
                Found::Relation(relation) => self.note_written(&relation),
                Found::Absent => {
                    let already = self.incomplete.contains("unknown_relation");
                    self.note_absent(name, true);
                    if !must_exist && !already {
                        self.incomplete.remove("unknown_relation");
                    }
                }
                Found::Unknown => {}
            }
        }
    }

    /// `*` as a name means all relations of a schema.
    fn whole_schema(&mut self, name: &Name, writes: bool) -> bool {
        if &*name.name != "*" {
            return false;
        }
        let schema: Arc<str> = name.schema.as_deref().unwrap_or("*").into();
        self.note_relation(&schema, "*", writes);
        true
    }

    /// The functions that the text names: whether those that it cannot know are harmless, and whether those that it
    /// knows are others.
    pub(super) fn functions(&mut self, facts: &Facts, incomplete: &mut Words) {
        let mut all_harmless = true;
        let mut shadowed = false;
        for function in &facts.functions {
            let ending = format!(".{}", function.name);
            if !self
                .functions
                .iter()
                .any(|f| **f == *function.name || f.ends_with(&ending))
            {
                self.callee(function.schema.as_deref(), &function.name, None);
            }
            if is_pure(function) {
                // What the walk has seen it knows better, by the number of arguments.
                if self.called_names.contains(function) {
                    continue;
                }
                shadowed |= self.is_shadowed(function).unwrap_or(true);
            } else {
                all_harmless &= self.is_harmless(function).unwrap_or(false);
            }
        }
        if all_harmless && !facts.functions.is_empty() {
            incomplete.remove("unknown_function");
        }
        if shadowed {
            incomplete.insert("unknown_function");
        }
        if facts
            .types
            .iter()
            .any(|t| self.checks_by_code(t.schema.as_deref(), &t.name))
        {
            incomplete.insert("unknown_function");
        }
        if incomplete.contains("unknown_operator") {
            self.need_basics();
            if !self.catalog.has_any_opaque_operator() {
                // Whatever it is, compiled code implements it.
                incomplete.remove("unknown_operator");
            }
        }
    }
}

/// SELECT INTO: the clause is at the leftmost SELECT of a set operation.
fn into(mut select: &SelectStmt) -> Option<&IntoClause> {
    loop {
        if let Some(into) = select.into_clause.as_deref() {
            return Some(into);
        }
        select = select.larg.as_deref()?;
    }
}
