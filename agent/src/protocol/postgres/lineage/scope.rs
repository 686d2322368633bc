//! Names in a query: what stands in FROM, and the CTEs in force.

use std::{rc::Rc, sync::Arc};

use super::{
    flow::Flow,
    rows::{Col, Rows, Value},
};

/// One item of a FROM clause.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The name by which it is referred to; empty for a join without alias.
    pub(super) alias: Arc<str>,
    /// Its schema, where it may be referred to as `schema.name`.
    pub(super) schema: Option<Arc<str>>,
    pub(super) cols: Rc<[Col]>,
    pub(super) open: Option<Flow>,
    /// Whether `alias.column` can mean it.
    pub(super) named: bool,
    /// Whether a bare column name or `*` can mean its columns.
    pub(super) bare: bool,
}

impl Entry {
    pub(super) fn new(alias: impl Into<Arc<str>>, rows: Rows) -> Self {
        Self {
            alias: alias.into(),
            schema: None,
            cols: rows.cols.into(),
            open: rows.open,
            named: true,
            bare: true,
        }
    }
    pub(super) fn rows(&self) -> Rows {
        Rows {
            cols: self.cols.to_vec(),
            open: self.open,
        }
    }
    pub(super) fn whole(&self) -> Value {
        Value {
            flow: self.rows_flow(),
            fields: self.open.is_none().then(|| self.cols.clone()),
            type_oid: 0,
        }
    }
    fn rows_flow(&self) -> Flow {
        self.cols
            .iter()
            .fold(self.open.unwrap_or_default(), |sum, col| sum | col.value.flow)
    }
    fn is(&self, schema: Option<&str>, name: &str) -> bool {
        // The session's own temporary schema has a second name.
        let schema = schema.map(|s| if s.starts_with("pg_temp_") { "pg_temp" } else { s });
        self.named && *self.alias == *name && schema.is_none_or(|s| self.schema.as_deref() == Some(s))
    }
}

/// The CTEs in force: the innermost first.
pub(super) type Env = Option<Rc<Cte>>;

/// A CTE.
#[derive(Debug)]
pub(super) struct Cte {
    pub(super) name: Box<str>,
    pub(super) rows: Rows,
    pub(super) outer: Env,
}

/// The CTE of a name.
pub(super) fn cte<'e>(mut env: &'e Env, name: &str) -> Option<&'e Cte> {
    while let Some(at) = env {
        if *at.name == *name {
            return Some(at);
        }
        env = &at.outer;
    }
    None
}

/// What names mean at some place of a query.
#[derive(Clone, Debug)]
pub(super) struct Scope<'a> {
    pub(super) entries: Vec<Entry>,
    pub(super) env: Env,
    pub(super) outer: Option<&'a Scope<'a>>,
}

/// What a reference means.
pub(super) enum Meaning {
    /// These columns (more than one only where PostgreSQL would call it ambiguous).
    Cols(Vec<Col>),
    /// A column that is not known by name.
    Open(Flow),
    /// Nothing.
    Nothing,
}

impl<'a> Scope<'a> {
    pub(super) fn root() -> Self {
        Self {
            entries: Vec::new(),
            env: None,
            outer: None,
        }
    }
    pub(super) fn inner(outer: &'a Scope<'a>) -> Self {
        Self {
            entries: Vec::new(),
            env: outer.env.clone(),
            outer: Some(outer),
        }
    }
    fn levels(&self) -> impl Iterator<Item = &Scope<'a>> {
        let mut next = Some(self);
        std::iter::from_fn(move || {
            let at = next?;
            next = at.outer;
            Some(at)
        })
    }

    /// A bare column name.
    pub(super) fn column(&self, name: &str) -> Meaning {
        let mut open: Option<Flow> = None;
        for level in self.levels() {
            let bare = || level.entries.iter().filter(|e| e.bare);
            let found: Vec<Col> = bare()
                .flat_map(|e| e.cols.iter())
                .filter(|c| *c.name == *name)
                .cloned()
                .collect();
            if !found.is_empty() {
                return match open {
                    None => Meaning::Cols(found),
                    Some(flow) => Meaning::Open(found.iter().fold(flow, |sum, c| sum | c.value.flow)),
                };
            }
            for flow in bare().filter_map(|e| e.open) {
                open = Some(open.unwrap_or_default() | flow);
            }
        }
        open.map_or(Meaning::Nothing, Meaning::Open)
    }

    /// An entry by name.
    pub(super) fn entry(&self, schema: Option<&str>, name: &str) -> Option<&Entry> {
        self.levels()
            .find_map(|level| level.entries.iter().find(|e| e.is(schema, name)))
    }

    /// What `*` means here.
    pub(super) fn star(&self) -> Rows {
        let mut rows = Rows::default();
        for entry in self.entries.iter().filter(|e| e.bare) {
            append(&mut rows, entry.rows());
        }
        rows
    }
}

/// Adds columns at the end.
pub(super) fn append(rows: &mut Rows, more: Rows) {
    rows.cols.extend(more.cols);
    if let Some(flow) = more.open {
        rows.open = Some(rows.open.unwrap_or_default() | flow);
    }
}
