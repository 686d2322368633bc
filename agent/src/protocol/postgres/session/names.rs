//! Prepared statements and portals by name, as the server has them.
//!
//! A definition counts from the moment its message goes up, because what follows in the same batch may use it; when the
//! server refuses it, it is undone. A workload cannot use what is not here: it was defined where nobody looked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::AtomicU64},
};

use pg_query::protobuf::node::Node;

use super::{
    super::{lineage::Resolved, record::Field, sql::Statement, value::RowMasker},
    plan::{Keep, Kept},
};
use crate::model::ClassSet;

/// The most statements and portals that one connection may have.
const MOST: usize = 8192;

/// A prepared statement.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Its text.
    pub text: Arc<str>,
    /// What it says; `None` for the empty statement.
    pub statement: Option<Arc<Statement>>,
    /// What that means.
    pub kept: Keep,
    /// Parameter types as its Parse has them; 0 for those that the server has to find.
    pub declared: Arc<[u32]>,
    /// Parameter types, once the server has told.
    pub parameters: OnceLock<Arc<[u32]>>,
    /// Result columns, once the server has told; empty when there are none.
    pub columns: OnceLock<Arc<[Field]>>,
    /// What masked its last result: most of the next ones are alike.
    pub masker: Mutex<Option<Reuse>>,
    /// How many answers that end a batch had been asked for when it was defined; `None` when the server has it already.
    pub born: Option<u64>,
}

/// A masker, and what it is for.
#[derive(Debug)]
pub(super) struct Reuse {
    pub(super) resolved: Arc<Resolved>,
    pub(super) hidden: ClassSet,
    pub(super) formats: Box<[i16]>,
    pub(super) rows: Box<RowMasker>,
}

impl Prepared {
    /// A statement that was prepared or declared in SQL.
    pub(super) fn of(statement: &Statement) -> Self {
        Self {
            text: Arc::from(""),
            statement: Some(Arc::new(statement.clone())),
            kept: Keep::default(),
            declared: [].into(),
            parameters: OnceLock::new(),
            columns: OnceLock::new(),
            masker: Mutex::default(),
            born: None,
        }
    }

    /// Whether rows can come of it, as far as its text tells.
    pub(super) fn may_have_rows(&self) -> bool {
        let Some(statement) = &self.statement else {
            return false;
        };
        match statement.tree.as_ref().and_then(|t| t.node.as_ref()) {
            Some(Node::InsertStmt(s)) => s.returning_clause.is_some(),
            Some(Node::UpdateStmt(s)) => s.returning_clause.is_some(),
            Some(Node::DeleteStmt(s)) => s.returning_clause.is_some(),
            Some(Node::MergeStmt(s)) => s.returning_clause.is_some(),
            Some(Node::TransactionStmt(_) | Node::VariableSetStmt(_)) => false,
            _ => true,
        }
    }
}

/// A portal: a statement with parameters and formats.
#[derive(Debug)]
pub(super) struct Portal {
    /// Of this statement.
    pub statement: Arc<Prepared>,
    /// Format codes of its results, as in Bind.
    pub formats: Box<[i16]>,
    /// The Bind message, for the record of what is executed; empty for a cursor.
    pub bind: bytes::Bytes,
    /// A cursor WITH HOLD: it outlives its transaction.
    pub holds: bool,
    /// How many ends of transactions had been asked for when it went up: those do not end it. As long as it is held,
    /// none does.
    pub born: AtomicU64,
    /// What it meant when it was opened: its query was planned then, whatever names mean by now.
    pub opened: OnceLock<Kept>,
}

impl Portal {
    /// It goes up: what its statement means now it will mean as long as it is open. What finds its statement by name
    /// does that when it is executed.
    pub(super) fn open(&self) {
        let kept = self.statement.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = &*kept {
            let _ = self.opened.set(kept.clone());
        }
    }

    /// The format of result column `at`: none given means text, one is for all.
    pub(super) fn format(&self, at: usize) -> i16 {
        match &*self.formats {
            [] => 0,
            [all] => *all,
            each => each.get(at).copied().unwrap_or(0),
        }
    }
}

/// How to take a definition back.
pub(super) struct Undo<T> {
    /// The name.
    pub name: Box<[u8]>,
    /// What had it before.
    pub before: Option<Arc<T>>,
    /// What has it now, so that a later definition is left alone.
    pub now: Arc<T>,
}

/// What takes memory for as long as it has a name.
pub(super) trait Weight {
    /// Roughly, bytes.
    fn weight(&self) -> usize;
}

impl Weight for Prepared {
    fn weight(&self) -> usize {
        self.text.len()
    }
}

impl Weight for Portal {
    fn weight(&self) -> usize {
        self.bind.len()
    }
}

/// What a Close takes away, should the server never come to it.
#[derive(Debug)]
pub(super) enum Closed {
    Statement(Option<(Box<[u8]>, Arc<Prepared>)>),
    Portal(Option<(Box<[u8]>, Arc<Portal>)>),
}

/// Names and what they stand for.
#[derive(Debug)]
pub(super) struct Names<T> {
    map: HashMap<Box<[u8]>, Arc<T>>,
    weight: usize,
    most: usize,
}

impl<T: Weight> Names<T> {
    /// No names; what they will stand for weighs at most so many bytes.
    pub(super) fn new(most: usize) -> Self {
        Self {
            map: HashMap::new(),
            weight: 0,
            most,
        }
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&Arc<T>> {
        self.map.get(name)
    }

    /// Defines a name; `None` when there are too many, or what they stand for is too large.
    pub(super) fn define(&mut self, name: &[u8], now: Arc<T>) -> Option<Undo<T>> {
        let before = self.map.get(name).map_or(0, |v| v.weight());
        let weight = self.weight - before + now.weight();
        if weight > self.most || (self.map.len() >= MOST && !self.map.contains_key(name)) {
            return None;
        }
        self.weight = weight;
        let before = self.map.insert(name.into(), Arc::clone(&now));
        Some(Undo {
            name: name.into(),
            before,
            now,
        })
    }

    /// Takes a definition back, unless another one has come since.
    pub(super) fn undo(&mut self, undo: Undo<T>) {
        if !self
            .map
            .get(&undo.name)
            .is_some_and(|now| Arc::ptr_eq(now, &undo.now))
        {
            return;
        }
        self.weight -= undo.now.weight();
        match undo.before {
            Some(before) => {
                self.weight += before.weight();
                self.map.insert(undo.name, before);
            }
            None => drop(self.map.remove(&undo.name)),
        }
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        self.take(name);
    }

    /// Takes a name away, so that it can be given back.
    pub(super) fn take(&mut self, name: &[u8]) -> Option<(Box<[u8]>, Arc<T>)> {
        let (name, taken) = self.map.remove_entry(name)?;
        self.weight -= taken.weight();
        Some((name, taken))
    }

    /// Gives a name back, unless something else has it by now.
    pub(super) fn give_back(&mut self, taken: Option<(Box<[u8]>, Arc<T>)>) {
        if let Some((name, taken)) = taken
            && !self.map.contains_key(&name)
        {
            self.weight += taken.weight();
            self.map.insert(name, taken);
        }
    }

    pub(super) fn clear(&mut self) {
        self.map.clear();
        self.weight = 0;
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.map.retain(|_, v| keep(v));
        self.weight = self.map.values().map(|v| v.weight()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_definition_leaves_the_one_before() {
        let mut names = Names::new(100);
        let (one, two, three) = (Arc::new(1), Arc::new(2), Arc::new(3));
        names.define(b"a", Arc::clone(&one));
        let undo = names.define(b"a", Arc::clone(&two)).unwrap();
        names.undo(undo);
        assert_eq!(names.get(b"a"), Some(&one));
        let undo = names.define(b"a", two).unwrap();
        names.define(b"a", Arc::clone(&three));
        names.undo(undo);
        assert_eq!(names.get(b"a"), Some(&three), "a later definition stays");
        let undo = names.define(b"b", one).unwrap();
        names.undo(undo);
        assert_eq!(names.get(b"b"), None);
    }

    impl Weight for usize {
        fn weight(&self) -> usize {
            *self
        }
    }

    #[test]
    fn what_they_stand_for_is_bounded() {
        let mut names = Names::new(100);
        assert!(names.define(b"a", Arc::new(60)).is_some());
        assert!(names.define(b"b", Arc::new(60)).is_none());
        let undo = names.define(b"a", Arc::new(90)).unwrap();
        names.undo(undo);
        assert!(names.define(b"b", Arc::new(40)).is_some());
        names.remove(b"a");
        assert!(names.define(b"c", Arc::new(60)).is_some());
        names.retain(|n| *n == 40);
        assert!(names.define(b"d", Arc::new(60)).is_some());
        names.clear();
        assert!(names.define(b"e", Arc::new(100)).is_some());
    }

    #[test]
    fn names_are_bounded() {
        let mut names = Names::new(usize::MAX);
        for n in 0..MOST {
            assert!(names.define(&n.to_be_bytes(), Arc::new(n)).is_some());
        }
        assert!(names.define(b"more", Arc::new(0)).is_none());
        assert!(
            names.define(&0_usize.to_be_bytes(), Arc::new(0)).is_some(),
            "one that is there already"
        );
    }
}
