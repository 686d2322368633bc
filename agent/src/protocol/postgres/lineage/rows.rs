//! Values and rows, with what flows into them.

use std::{rc::Rc, sync::Arc};

use super::flow::Flow;

/// A value: what flows into it, and into its fields if it is a row whose fields are known.
#[derive(Clone, Debug, Default)]
pub(super) struct Value {
    pub(super) flow: Flow,
    pub(super) fields: Option<Rc<[Col]>>,
    /// Its type, where it is a column of a relation; else 0.
    pub(super) type_oid: u32,
}

impl From<Flow> for Value {
    fn from(flow: Flow) -> Self {
        Self {
            flow,
            ..Self::default()
        }
    }
}

/// A column of a relation, sub-select, function.
#[derive(Clone, Debug)]
pub(super) struct Col {
    pub(super) name: Arc<str>,
    pub(super) value: Value,
    /// `schema.relation.column`, where it is a relation's.
    pub(super) origin: Option<Arc<str>>,
}

impl Col {
    pub(super) fn new(name: impl Into<Arc<str>>, flow: Flow) -> Self {
        Self {
            name: name.into(),
            value: flow.into(),
            origin: None,
        }
    }
}

/// The columns of a row source.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    pub(super) cols: Vec<Col>,
    /// When it may have columns other than `cols`: what flows into them. Positions mean nothing then.
    pub(super) open: Option<Flow>,
}

impl Rows {
    pub(super) fn open(flow: Flow) -> Self {
        Self {
            cols: Vec::new(),
            open: Some(flow),
        }
    }
    /// What flows into any of them.
    pub(super) fn flow(&self) -> Flow {
        self.cols
            .iter()
            .fold(self.open.unwrap_or_default(), |sum, col| sum | col.value.flow)
    }
    /// The union by position; the names are this one's.
    pub(super) fn union(mut self, other: &Self) -> Self {
        if self.open.is_some() || other.open.is_some() || self.cols.len() != other.cols.len() {
            let all = self.flow() | other.flow();
            for col in &mut self.cols {
                col.value = all.into();
            }
            self.open = Some(all);
            return self;
        }
        for (col, more) in self.cols.iter_mut().zip(&other.cols) {
            col.value = join(&col.value, &more.value);
            col.origin = None;
        }
        self
    }
    /// Renames by an alias' column list, which may be shorter.
    pub(super) fn rename(&mut self, names: &[Arc<str>]) {
        if names.is_empty() {
            return;
        }
        if self.open.is_some() {
            let all = self.flow();
            let mut cols: Vec<Col> = names.iter().map(|n| Col::new(n.clone(), all)).collect();
            cols.append(&mut self.cols);
            for col in &mut cols {
                col.value = all.into();
            }
            self.cols = cols;
            self.open = Some(all);
            return;
        }
        for (col, name) in self.cols.iter_mut().zip(names) {
            col.name = name.clone();
        }
    }
    pub(super) fn same_flows(&self, other: &Self) -> bool {
        self.open == other.open
            && self.cols.len() == other.cols.len()
            && self
                .cols
                .iter()
                .zip(&other.cols)
                .all(|(a, b)| a.value.flow == b.value.flow)
    }
}

/// Both values' flows; fields only where both have the same ones.
pub(super) fn join(a: &Value, b: &Value) -> Value {
    let fields = match (&a.fields, &b.fields) {
        (Some(x), Some(y)) if x.len() == y.len() => Some(
            x.iter()
                .zip(y.iter())
                .map(|(x, y)| Col {
                    name: x.name.clone(),
                    value: join(&x.value, &y.value),
                    origin: None,
                })
                .collect(),
        ),
        _ => None,
    };
    Value {
        flow: a.flow | b.flow,
        fields,
        type_oid: if a.type_oid == b.type_oid { a.type_oid } else { 0 },
    }
}
