//! The state of resolving one statement, and what relations and functions mean.

use std::{
    collections::{BTreeSet, HashMap},
    rc::Rc,
    sync::Arc,
};

use pg_query::{NodeEnum, protobuf::Node};

use super::{
    ClassOf, Session,
    flow::Flow,
    rows::{Col, Rows, Value},
    scope::{Entry, Scope},
    words,
};
use crate::protocol::postgres::{
    catalog::{Catalog, Function, Kind, Known, Needs, Relation, Shape},
    sql::{Name, Words, is_pure},
};

/// How deep statements and views may be nested, together. A level costs stack.
const DEEPEST: u32 = 160;
/// How many nodes are visited at most: recursive CTEs and views multiply them.
const MOST_STEPS: u32 = 200_000;

/// The word for what is nested too deeply, or takes too many steps, to be followed.
pub(super) const TOO_DEEP: &str = "too_deep";

/// The word for functions that may do anything.
pub(super) const UNKNOWN_FUNCTION: &str = "unknown_function";

/// What a name of a relation means.
pub(super) enum Found {
    Relation(Arc<Relation>),
    Absent,
    /// To be looked up.
    Unknown,
}

/// What a function may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Callee {
    /// It came with PostgreSQL.
    Builtin,
    /// Compiled code of an extension.
    Compiled,
    /// It may read anything.
    Opaque,
}

pub(super) struct Resolver<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) session: &'a dyn Session,
    class_of: &'a ClassOf<'a>,
    pub(super) needs: Needs,
    pub(super) reads: BTreeSet<Arc<str>>,
    pub(super) writes: BTreeSet<Arc<str>>,
    pub(super) read_schemas: BTreeSet<Arc<str>>,
    pub(super) write_schemas: BTreeSet<Arc<str>>,
    pub(super) columns: BTreeSet<Arc<str>>,
    pub(super) sensitive: Flow,
    pub(super) copied: Flow,
    pub(super) functions: BTreeSet<Arc<str>>,
    pub(super) incomplete: Words,
    /// What decides which rows there are, since an EXISTS began.
    pub(super) chosen: Flow,
    /// All classes of all relations read.
    pub(super) all: Flow,
    /// Whether a function that can read anything is called.
    pub(super) opaque_calls: bool,
    /// The view whose definition is being followed.
    view: Option<Arc<Relation>>,
    rows: HashMap<u32, Option<Rc<[Col]>>>,
    /// Names that were found, to be looked up again if a column is not known.
    names: BTreeSet<(Name, u32)>,
    /// Functions called in the tree, as written.
    pub(super) called_names: BTreeSet<Name>,
    depth: u32,
    steps: u32,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(catalog: &'a Catalog, session: &'a dyn Session, class_of: &'a ClassOf<'a>) -> Self {
        Self {
            catalog,
            session,
            class_of,
            needs: Needs::default(),
            reads: BTreeSet::new(),
            writes: BTreeSet::new(),
            read_schemas: BTreeSet::new(),
            write_schemas: BTreeSet::new(),
            columns: BTreeSet::new(),
            sensitive: Flow::NONE,
            copied: Flow::NONE,
            functions: BTreeSet::new(),
            incomplete: Words::new(),
            chosen: Flow::NONE,
            all: Flow::NONE,
            opaque_calls: false,
            names: BTreeSet::new(),
            called_names: BTreeSet::new(),
            view: None,
            rows: HashMap::new(),
            depth: 0,
            steps: 0,
        }
    }

    /// Goes one level deeper, unless that is too deep or there were too many steps: then `None`.
    pub(super) fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.steps += 1;
        if self.depth >= DEEPEST || self.steps >= MOST_STEPS {
            self.incomplete.insert(TOO_DEEP);
            return None;
        }
        self.depth += 1;
        let result = work(self);
        self.depth -= 1;
        Some(result)
    }

    /// What every look-up tells is needed.
    pub(super) fn need_basics(&mut self) {
        self.needs.basics |= !self.catalog.has_learned();
    }

    pub(super) fn in_view(&self) -> bool {
        self.view.is_some()
    }

    /// Notes that the statement names a column.
    pub(super) fn note(&mut self, col: &Col) {
        if self.view.is_none()
            && let Some(origin) = &col.origin
        {
            self.columns.insert(origin.clone());
            self.sensitive |= col.value.flow;
        }
    }

    /// What a relation's name means: for the session, or in the definition of the view being followed.
    pub(super) fn find(&mut self, name: &Name) -> Found {
        let Some(view) = self.view.clone() else {
            return self.find_as_session(name);
        };
        let deps = view.view.as_ref().map(|v| &*v.relations).unwrap_or_default();
        let mut found = Vec::new();
        for &oid in deps {
            match self.catalog.relation_known(oid) {
                Known::Unknown => {
                    self.needs.oids.insert(oid);
                    return Found::Unknown;
                }
                Known::Absent => {}
                Known::Found(relation) => {
                    if *relation.name == *name.name
                        && name.schema.as_ref().is_none_or(|s| **s == *relation.schema)
                    {
                        found.push(relation.clone());
                    }
                }
            }
        }
        // What came with PostgreSQL is not among the dependencies. Of two of the same name, the session's is meant:
        // the definition names the other with its schema.
        match found.len() {
            1 => found.pop().map_or(Found::Absent, Found::Relation),
            n => match self.find_as_session(name) {
                Found::Relation(r) if r.is_system() || (n > 1 && found.iter().any(|f| f.oid == r.oid)) => {
                    Found::Relation(r)
                }
                Found::Unknown => Found::Unknown,
                _ => Found::Absent,
            },
        }
    }

    fn find_as_session(&mut self, name: &Name) -> Found {
        match self.catalog.relation(name) {
            Known::Found(relation) => {
                self.names.insert((name.clone(), relation.oid));
                Found::Relation(relation.clone())
            }
            Known::Absent => Found::Absent,
            Known::Unknown => {
                self.needs.relations.insert(name.clone());
                Found::Unknown
            }
        }
    }

    /// A column is not known: asks anew for all that is not known from this very message. Until then, and if that
    /// does not help, it can be anything that is read.
    pub(super) fn unknown_column(&mut self) -> Flow {
        for (name, oid) in &self.names {
            if !self.catalog.is_fresh(*oid) {
                self.needs.relations.insert(name.clone());
            }
        }
        Flow::OPAQUE | self.all
    }

    /// Notes that the statement names a column whose value it does not read.
    pub(super) fn note_path(&mut self, path: Arc<str>) {
        if self.view.is_none() {
            self.columns.insert(path);
        }
    }

    /// The class that a column which is yet to be made has by its name.
    pub(super) fn class_by_name(&self, schema: &str, relation: &str, column: &str) -> Flow {
        (self.class_of)(schema, relation, column).map_or(Flow::NONE, Flow::class)
    }

    pub(super) fn note_relation(&mut self, schema: &Arc<str>, name: &str, writes: bool) {
        let path: Arc<str> = format!("{schema}.{name}").into();
        let (paths, schemas) = if writes {
            (&mut self.writes, &mut self.write_schemas)
        } else {
            (&mut self.reads, &mut self.read_schemas)
        };
        paths.insert(path);
        schemas.insert(schema.clone());
    }

    /// Notes a relation that does not exist (yet).
    pub(super) fn note_absent(&mut self, name: &Name, writes: bool) {
        let schema = match &name.schema {
            Some(schema) => schema.as_ref().into(),
            None => {
                self.need_basics();
                self.catalog
                    .current_schema()
                    .cloned()
                    .unwrap_or_else(|| "".into())
            }
        };
        self.note_relation(&schema, &name.name, writes);
        let created = self.view.is_none() && self.session.creates(name.schema.as_deref(), &name.name);
        if !created {
            self.incomplete.insert("unknown_relation");
        }
    }

    /// The entry that a relation is in FROM, and what is read by it.
    pub(super) fn read(&mut self, name: &Name, alias: Option<&str>) -> Entry {
        let shown = alias.unwrap_or(&name.name);
        match self.find(name) {
            Found::Relation(relation) => {
                self.note_relation(&relation.schema.clone(), &relation.name.clone(), false);
                let mut entry = self.entry(&relation, alias);
                if alias.is_none() {
                    entry.schema = Some(relation.schema.clone());
                }
                entry
            }
            Found::Absent => {
                self.note_absent(name, false);
                Entry::new(shown, Rows::open(Flow::OPAQUE))
            }
            Found::Unknown => Entry::new(shown, Rows::open(Flow::OPAQUE)),
        }
    }

    pub(super) fn entry(&mut self, relation: &Arc<Relation>, alias: Option<&str>) -> Entry {
        let cols = self.relation_cols(relation);
        let mut entry = Entry::new(alias.unwrap_or(&relation.name), Rows::default());
        entry.cols = cols;
        entry
    }

    /// The columns of a relation with what flows into them.
    pub(super) fn relation_cols(&mut self, relation: &Arc<Relation>) -> Rc<[Col]> {
        if let Some(known) = self.rows.get(&relation.oid) {
            // `None`: it is being followed already; views cannot depend on themselves, so someone plays tricks.
            return known.clone().unwrap_or_else(|| opaque_cols(relation));
        }
        self.rows.insert(relation.oid, None);
        let mut flows: Vec<Flow> = relation
            .columns
            .iter()
            .map(|c| self.own_flow(relation, &c.name))
            .collect();
        if relation.view.is_some() {
            let rows = self.view_rows(relation);
            if rows.open.is_some() || rows.cols.len() != flows.len() {
                let all = rows.flow() | Flow::OPAQUE | self.all;
                flows.iter_mut().for_each(|f| *f |= all);
            } else {
                for (flow, col) in flows.iter_mut().zip(&rows.cols) {
                    *flow |= col.value.flow;
                }
            }
        }
        let mut cols = make_cols(relation, &flows);
        for (i, column) in relation.columns.iter().enumerate() {
            if let Some(generated) = &column.generated {
                let more = self.generated_flow(relation, generated.as_deref(), &cols);
                flows[i] |= more;
            }
        }
        cols = make_cols(relation, &flows);
        for flow in flows {
            self.all |= flow;
        }
        self.rows.insert(relation.oid, Some(cols.clone()));
        cols
    }

    /// What a column holds by its own name, and by its name in the relations that share its rows.
    fn own_flow(&self, relation: &Relation, column: &str) -> Flow {
        let mut flow = Flow::NONE;
        let others =
            words::holds_values(&relation.schema, &relation.name, column) || relation.kind == Kind::Toast;
        if others || relation.family_cut {
            flow |= Flow::OPAQUE;
        }
        let own = std::iter::once((&relation.schema, &relation.name));
        for (schema, name) in own.chain(relation.family.iter().map(|p| (&p.schema, &p.name))) {
            if let Some(class) = (self.class_of)(schema, name, column) {
                flow |= Flow::class(class);
            }
        }
        flow
    }

    fn view_rows(&mut self, relation: &Arc<Relation>) -> Rows {
        let Some(query) = relation.view.as_ref().and_then(|v| v.query.clone()) else {
            return self.any_dependency(relation);
        };
        let outer = self.view.replace(relation.clone());
        let rows = self.deeper(|r| r.rows_of(&query, &Scope::root()));
        self.view = outer;
        match rows {
            Some(rows) if !self.incomplete.contains(TOO_DEEP) => rows,
            _ => self.any_dependency(relation),
        }
    }

    /// A view whose definition cannot be followed: what it reads is known even so, and may be in any of its columns.
    fn any_dependency(&mut self, relation: &Arc<Relation>) -> Rows {
        let mut flow = Flow::OPAQUE;
        let mut seen = BTreeSet::from([relation.oid]);
        let mut next = vec![relation.clone()];
        while let Some(relation) = next.pop() {
            for column in &relation.columns {
                flow |= self.own_flow(&relation, &column.name);
            }
            for &oid in relation.view.as_ref().map(|v| &*v.relations).unwrap_or_default() {
                if !seen.insert(oid) {
                    continue;
                }
                match self.catalog.relation_known(oid) {
                    Known::Unknown => {
                        self.needs.oids.insert(oid);
                    }
                    Known::Absent => {}
                    Known::Found(found) => {
                        let found = found.clone();
                        self.note_relation(&found.schema, &found.name, false);
                        next.push(found);
                    }
                }
            }
        }
        self.all |= flow;
        Rows::open(flow)
    }

    fn generated_flow(&mut self, relation: &Arc<Relation>, query: Option<&Node>, cols: &Rc<[Col]>) -> Flow {
        let Some(NodeEnum::SelectStmt(select)) = query.and_then(|q| q.node.as_ref()) else {
            return cols.iter().fold(Flow::OPAQUE, |sum, c| sum | c.value.flow);
        };
        let mut scope = Scope::root();
        let mut entry = Entry::new(relation.name.clone(), Rows::default());
        entry.cols = cols.clone();
        scope.entries.push(entry);
        // As in a view: what it names, the statement does not.
        let outer = self.view.replace(relation.clone());
        let flow = self.targets(&select.target_list, &scope).flow();
        self.view = outer;
        flow
    }

    /// The functions that a call can mean; `None` while they are to be looked up.
    fn candidates(&mut self, schema: Option<&str>, name: &str, args: Option<usize>) -> Option<Vec<Function>> {
        let fits = |f: &Function| {
            args.is_none_or(|n| n >= f.fewest.into() && f.most.is_none_or(|most| n <= most.into()))
        };
        if let Some(view) = self.view.as_ref().and_then(|r| r.view.as_ref()) {
            let own: Vec<Function> = view
                .functions
                .iter()
                .filter(|f| *f.name == *name && schema.is_none_or(|s| *f.schema == *s) && fits(f))
                .cloned()
                .collect();
            if !own.is_empty() {
                return Some(own);
            }
        }
        let in_view = self.in_view();
        match self.catalog.functions(name) {
            Known::Unknown => {
                self.needs.functions.insert(name.into());
                None
            }
            Known::Absent => Some(Vec::new()),
            Known::Found(all) => {
                let named: Vec<&Function> = all
                    .iter()
                    .filter(|f| match schema {
                        _ if in_view => f.is_builtin(),
                        Some(schema) => *f.schema == *schema,
                        None => f.visible,
                    })
                    .collect();
                let fitting: Vec<Function> = named.iter().filter(|f| fits(f)).map(|f| (*f).clone()).collect();
                Some(if fitting.is_empty() {
                    named.into_iter().cloned().collect()
                } else {
                    fitting
                })
            }
        }
    }

    /// What a function may do, and notes the call. `None` arguments: any number.
    pub(super) fn callee(&mut self, schema: Option<&str>, name: &str, args: Option<usize>) -> Callee {
        let Some(candidates) = self.candidates(schema, name, args) else {
            return Callee::Opaque;
        };
        let callee = callee(&candidates, name);
        if self.in_view() {
            // A view hides what it calls from whoever reads the statement alone.
            let writes = |f: &Function| !f.is_builtin() && f.volatility == 'v';
            if callee == Callee::Opaque || candidates.iter().any(writes) {
                self.incomplete.insert(UNKNOWN_FUNCTION);
            }
        } else {
            let mut schemas: Vec<&Arc<str>> = candidates.iter().map(|f| &f.schema).collect();
            schemas.sort_unstable();
            schemas.dedup();
            let path: Arc<str> = match (schema, schemas.as_slice()) {
                (_, [one]) => format!("{one}.{name}").into(),
                (Some(schema), _) => format!("{schema}.{name}").into(),
                (None, _) => name.into(),
            };
            self.functions.insert(path);
        }
        callee
    }

    /// What a function of one argument may do, if it did not come with PostgreSQL and exists. It is called in the
    /// notation of a field, so the statement's own facts do not have it.
    pub(super) fn user_callee(&mut self, name: &str) -> Option<Callee> {
        let candidates = self.candidates(None, name, Some(1))?;
        if candidates.iter().all(Function::is_builtin) {
            return None;
        }
        if candidates.iter().any(Function::may_do_anything) {
            self.incomplete.insert(UNKNOWN_FUNCTION);
        }
        Some(self.callee(None, name, Some(1)))
    }

    /// Notes a call whose name is that of a pure built-in function but which can mean another one.
    pub(super) fn note_call(&mut self, name: Name, args: Option<usize>) {
        if self.in_view() {
            return;
        }
        if is_pure(&name) {
            let candidates = self.candidates(name.schema.as_deref(), &name.name, args);
            if candidates.is_some_and(|all| all.iter().any(Function::may_do_anything)) {
                self.incomplete.insert(UNKNOWN_FUNCTION);
            }
        }
        self.called_names.insert(name);
    }

    /// What a function gives back that is made of its arguments.
    pub(super) fn called(&mut self, callee: Callee, args: Flow) -> Flow {
        match callee {
            Callee::Builtin | Callee::Compiled => args,
            Callee::Opaque => {
                self.opaque_calls = true;
                args | Flow::OPAQUE
            }
        }
    }

    /// Whether every function of a name is compiled and changes nothing; `None` while that is to be looked up.
    pub(super) fn is_harmless(&mut self, name: &Name) -> Option<bool> {
        let candidates = self.candidates(name.schema.as_deref(), &name.name, None)?;
        Some(
            callee(&candidates, &name.name) != Callee::Opaque
                && candidates.iter().all(|f| f.volatility != 'v' && f.kind != 'p'),
        )
    }

    /// Whether a name of a built-in function can mean another one; `None` while that is to be looked up.
    pub(super) fn is_shadowed(&mut self, name: &Name) -> Option<bool> {
        let candidates = self.candidates(name.schema.as_deref(), &name.name, None)?;
        Some(candidates.iter().any(Function::may_do_anything))
    }

    /// The shape of what a function gives back in FROM.
    pub(super) fn shape(&mut self, schema: Option<&str>, name: &str, args: usize) -> Shape {
        let Some(candidates) = self.candidates(schema, name, Some(args)) else {
            return Shape::Open;
        };
        let mut shapes = candidates.iter().map(|f| &f.shape);
        match shapes.next() {
            Some(first) if shapes.all(|s| s == first) => first.clone(),
            _ => Shape::Open,
        }
    }
}

fn callee(candidates: &[Function], name: &str) -> Callee {
    let opaque = |f: &Function| {
        if f.is_builtin() {
            return false;
        }
        !f.compiled || (f.set && f.volatility == 'v' && !words::is_harmless_set(name))
    };
    if candidates.is_empty() || candidates.iter().any(opaque) || words::reads_anything(name) {
        return Callee::Opaque;
    }
    if candidates.iter().all(Function::is_builtin) {
        return Callee::Builtin;
    }
    Callee::Compiled
}

fn make_cols(relation: &Relation, flows: &[Flow]) -> Rc<[Col]> {
    relation
        .columns
        .iter()
        .zip(flows)
        .map(|(column, flow)| Col {
            name: column.name.clone(),
            value: Value {
                flow: *flow,
                fields: None,
                type_oid: column.type_oid,
            },
            origin: Some(format!("{}.{}.{}", relation.schema, relation.name, column.name).into()),
        })
        .collect()
}

fn opaque_cols(relation: &Relation) -> Rc<[Col]> {
    make_cols(relation, &vec![Flow::OPAQUE; relation.columns.len()])
}
