//! What the session's database says of its relations, functions and types: looked up through the session itself,
//! so that temporary tables, `search_path` and uncommitted DDL are seen as the session sees them; kept for a while.
//!
//! Bias: what is not known, or too big to keep, is left out, and lineage takes what is left out for the worst.

mod function;
mod learn;
mod look_up;
mod relation;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

pub use self::{
    function::{Function, Shape},
    look_up::Needs,
    relation::{Column, Kind, Parent, Relation, Type, View},
};
use super::sql::Name;

/// How long what was looked up is believed. Other sessions' DDL shows after this at the latest.
pub const BELIEVED: Duration = Duration::from_secs(10);

/// The first OID that `initdb` does not give out: what is below it came with PostgreSQL.
pub const FIRST_USER_OID: u32 = 16384;

/// The most relations, function names and types kept of each. Beyond it everything is dropped and looked up again.
const MOST: usize = 4096;

/// What a look-up said of a name.
#[derive(Clone, Debug)]
pub enum Known<T> {
    /// It is this.
    Found(T),
    /// Nothing has that name.
    Absent,
    /// It was not looked up yet, or too long ago.
    Unknown,
}

/// All functions of a name.
type Functions = Option<Arc<[Function]>>;

#[derive(Debug)]
struct Entry<T> {
    value: T,
    learned: Instant,
    generation: u64,
}

/// The catalog of one session.
#[derive(Debug)]
pub struct Catalog {
    generation: u64,
    now: Instant,
    /// When the oldest of what is known was learned.
    oldest: Instant,
    /// When what every look-up tells was learned.
    basics: Instant,
    /// Whether anything is known to be absent.
    has_absent: bool,
    names: HashMap<Name, Entry<Option<u32>>>,
    relations: HashMap<u32, Entry<Option<Arc<Relation>>>>,
    functions: HashMap<Box<str>, Entry<Functions>>,
    types: HashMap<u32, Entry<Option<Arc<Type>>>>,
    current_schema: Option<Arc<str>>,
    opaque_operators: Option<Vec<Box<str>>>,
    opaque_casts: bool,
    opaque_domains: Vec<Box<str>>,
}

impl Catalog {
    /// An empty catalog.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            generation: 0,
            now,
            oldest: now,
            basics: now,
            has_absent: false,
            names: HashMap::new(),
            relations: HashMap::new(),
            functions: HashMap::new(),
            types: HashMap::new(),
            current_schema: None,
            opaque_operators: None,
            opaque_casts: false,
            opaque_domains: Vec::new(),
        }
    }

    /// Begins the look-ups of another message: what is too old is dropped, and what was absent may exist by now.
    pub fn begin(&mut self, now: Instant) {
        self.generation += 1;
        self.now = now;
        let old = |learned: Instant| now.saturating_duration_since(learned) >= BELIEVED;
        if old(self.basics) {
            self.forget_basics();
        }
        // Most messages find everything young: they are not made to go through it all.
        if !self.has_absent && !old(self.oldest) {
            return;
        }
        self.names.retain(|_, e| !old(e.learned) && e.value.is_some());
        self.relations.retain(|_, e| !old(e.learned) && e.value.is_some());
        self.functions.retain(|_, e| !old(e.learned) && e.value.is_some());
        self.types.retain(|_, e| !old(e.learned) && e.value.is_some());
        self.has_absent = false;
        let all = self.names.values().map(|e| e.learned);
        let all = all.chain(self.relations.values().map(|e| e.learned));
        let all = all.chain(self.functions.values().map(|e| e.learned));
        let all = all.chain(self.types.values().map(|e| e.learned));
        self.oldest = all.min().unwrap_or(now);
    }

    /// Drops everything: names may mean something else now.
    pub fn forget(&mut self) {
        self.names.clear();
        self.relations.clear();
        self.functions.clear();
        self.types.clear();
        self.forget_basics();
    }

    fn forget_basics(&mut self) {
        self.current_schema = None;
        self.opaque_operators = None;
        self.opaque_casts = false;
        self.opaque_domains.clear();
    }

    /// The relation that the session's database has under a name, as the session resolves it.
    #[must_use]
    pub fn relation(&self, name: &Name) -> Known<&Arc<Relation>> {
        match self.names.get(name).map(|e| e.value) {
            None => Known::Unknown,
            Some(None) => Known::Absent,
            Some(Some(oid)) => self.relation_known(oid),
        }
    }

    /// The relation with an OID, if it was looked up.
    #[must_use]
    pub fn relation_by_oid(&self, oid: u32) -> Option<&Arc<Relation>> {
        self.relations.get(&oid).and_then(|e| e.value.as_ref())
    }

    /// The relation with an OID, or whether it is known that there is none.
    #[must_use]
    pub fn relation_known(&self, oid: u32) -> Known<&Arc<Relation>> {
        known(self.relations.get(&oid))
    }

    /// Whether a relation was looked up for the message at hand: then looking it up again says nothing new.
    #[must_use]
    pub fn is_fresh(&self, oid: u32) -> bool {
        self.relations
            .get(&oid)
            .is_some_and(|e| e.generation == self.generation)
    }

    /// All functions of a name, whatever their schema. Absent: too many to say, or none.
    #[must_use]
    pub fn functions(&self, name: &str) -> Known<&Arc<[Function]>> {
        known(self.functions.get(name))
    }

    /// The type with an OID, if it was looked up.
    #[must_use]
    pub fn type_by_oid(&self, oid: u32) -> Option<&Arc<Type>> {
        self.types.get(&oid).and_then(|e| e.value.as_ref())
    }

    /// The type with an OID, or whether it is known that there is none.
    #[must_use]
    pub fn type_known(&self, oid: u32) -> Known<&Arc<Type>> {
        known(self.types.get(&oid))
    }

    /// The schema in which an unqualified name is created, and in which an absent one would be.
    #[must_use]
    pub fn current_schema(&self) -> Option<&Arc<str>> {
        self.current_schema.as_ref()
    }

    /// Whether anything was learned since [`Self::forget`].
    #[must_use]
    pub fn has_learned(&self) -> bool {
        self.opaque_operators.is_some()
    }

    /// Whether an operator of that name is implemented in a language whose functions can read anything.
    /// So is every operator as long as nothing was learned.
    #[must_use]
    pub fn is_opaque_operator(&self, name: &str) -> bool {
        self.opaque_operators
            .as_ref()
            .is_none_or(|names| names.iter().any(|n| &**n == name))
    }

    /// Whether there is any such operator.
    #[must_use]
    pub fn has_any_opaque_operator(&self) -> bool {
        self.opaque_operators
            .as_ref()
            .is_none_or(|names| !names.is_empty())
    }

    /// The domains whose checks call functions in such a language.
    #[must_use]
    pub fn opaque_domains(&self) -> &[Box<str>] {
        &self.opaque_domains
    }

    /// Whether the database has casts implemented in such a language.
    #[must_use]
    pub fn has_opaque_casts(&self) -> bool {
        self.opaque_casts
    }
}

fn known<T>(entry: Option<&Entry<Option<T>>>) -> Known<&T> {
    match entry.map(|e| e.value.as_ref()) {
        None => Known::Unknown,
        Some(None) => Known::Absent,
        Some(Some(value)) => Known::Found(value),
    }
}
