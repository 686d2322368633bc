//! Taking in the answer to a look-up, bounded.

use std::{collections::HashMap, fmt, sync::Arc};

use pg_query::protobuf::Node;
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

use super::{
    super::sql::Name, Catalog, Column, Entry, Function, Kind, MOST, Needs, Parent, Relation, Shape, Type,
    View,
};

/// The longest answer that is taken in, bytes.
const LONGEST: usize = 8 << 20;
/// The most functions of one name that are told apart.
const MOST_OVERLOADS: usize = 128;
/// How many of a relation's family are listed.
const MOST_FAMILY: usize = 200;

/// Why the answer to a look-up cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// It is longer than a catalog takes in.
    #[error("the answer to a catalog look-up is too long")]
    TooLong,
    /// It is not what the look-up returns.
    #[error("the answer to a catalog look-up is not as expected")]
    Malformed(#[source] serde_json::Error),
}

impl Catalog {
    /// Takes in the one value of the one row that a look-up returned. What was asked for and is not in it is absent.
    ///
    /// # Errors
    /// When the value is not what the look-up returns, or too long. Nothing is taken in then.
    pub fn learn(&mut self, asked: &Needs, answer: &[u8]) -> Result<(), LearnError> {
        if answer.len() > LONGEST {
            return Err(LearnError::TooLong);
        }
        let answer: Answer = serde_json::from_slice(answer).map_err(LearnError::Malformed)?;
        self.make_room();
        if self.relations.is_empty() && self.functions.is_empty() && self.types.is_empty() {
            self.oldest = self.now;
        }
        // Or something may be: then the next message goes through what is known.
        self.has_absent = true;
        self.basics = self.now;
        self.current_schema = answer.schema.map(Into::into);
        self.opaque_operators = Some(answer.operators.unwrap_or_default());
        self.opaque_casts = answer.casts;
        self.opaque_domains = answer.domains.unwrap_or_default();
        let functions: Vec<Function> = answer
            .functions
            .unwrap_or_default()
            .into_iter()
            .map(function)
            .collect();
        let by_oid: HashMap<u32, &Function> = functions.iter().map(|f| (f.oid, f)).collect();
        for name in &asked.relations {
            self.names.insert(name.clone(), self.entry(None));
        }
        for (schema, name, oid) in answer.names.unwrap_or_default() {
            let name = Name::new(Some(&schema), &name);
            self.names.insert(name, self.entry(oid.map(|o| o.0)));
        }
        for oid in &asked.oids {
            self.relations.insert(*oid, self.entry(None));
        }
        for row in answer.relations.unwrap_or_default() {
            let relation = relation(row, &by_oid);
            self.relations
                .insert(relation.oid, self.entry(Some(Arc::new(relation))));
        }
        for name in &asked.functions {
            let all: Arc<[Function]> = functions.iter().filter(|f| *f.name == **name).cloned().collect();
            let known = !all.is_empty() && all.len() <= MOST_OVERLOADS;
            self.functions
                .insert(name.clone(), self.entry(known.then_some(all)));
        }
        for oid in &asked.types {
            self.types.insert(*oid, self.entry(None));
        }
        for row in answer.types.unwrap_or_default() {
            let found = Arc::new(data_type(row));
            self.types.insert(found.oid, self.entry(Some(found)));
        }
        Ok(())
    }

    fn entry<T>(&self, value: T) -> Entry<T> {
        Entry {
            value,
            learned: self.now,
            generation: self.generation,
        }
    }

    fn make_room(&mut self) {
        if [
            self.names.len(),
            self.relations.len(),
            self.functions.len(),
            self.types.len(),
        ]
        .iter()
        .any(|n| *n > MOST)
        {
            self.forget();
        }
    }
}

fn relation(row: RelationRow, functions: &HashMap<u32, &Function>) -> Relation {
    let mut family = row.family.unwrap_or_default();
    let family_cut = family.len() > MOST_FAMILY;
    family.truncate(MOST_FAMILY);
    Relation {
        oid: row.oid.0,
        schema: row.schema.into(),
        name: row.name.into(),
        kind: row.kind,
        columns: row
            .columns
            .unwrap_or_default()
            .into_iter()
            .map(|(attnum, name, type_oid, _, generated)| Column {
                attnum,
                name: name.into(),
                type_oid: type_oid.0,
                generated: generated.map(|text| parse(&format!("SELECT {text}"))),
            })
            .collect(),
        view: row.view.map(|view| self::view(view, functions)),
        family: family
            .into_iter()
            .map(|(schema, name)| Parent {
                schema: schema.into(),
                name: name.into(),
            })
            .collect(),
        family_cut,
        has_rules: row.rules,
    }
}

fn view(row: ViewRow, functions: &HashMap<u32, &Function>) -> View {
    let called = row.functions.unwrap_or_default();
    let known: Vec<Function> = called
        .iter()
        .filter_map(|oid| functions.get(&oid.0).copied().cloned())
        .collect();
    // A function that it calls and that is not described would pass for a built-in one.
    let whole = known.len() == called.len();
    View {
        query: row.text.filter(|_| whole).as_deref().and_then(parse),
        relations: row
            .relations
            .unwrap_or_default()
            .into_iter()
            .map(|o| o.0)
            .collect(),
        functions: known,
    }
}

/// The one statement of a text that the server wrote.
fn parse(text: &str) -> Option<Arc<Node>> {
    let mut parsed = pg_query::parse(text, 0).ok()?;
    if parsed.protobuf.stmts.len() != 1 {
        return None;
    }
    parsed.protobuf.stmts.pop()?.stmt.map(|node| Arc::new(*node))
}

/// Return types that the arguments decide: anyelement, anynonarray, anycompatible, anycompatiblenonarray, record.
const OPEN: [u32; 5] = [2283, 2776, 5077, 5079, 2249];

fn function(row: FunctionRow) -> Function {
    let names = |names: Vec<String>| Shape::Columns(names.into_iter().map(Arc::from).collect());
    let shape = match (row.outs, row.fields) {
        (Some(outs), fields) if outs.len() > 1 || fields.is_some() => names(outs),
        (Some(_), None) => Shape::Scalar,
        (None, Some(fields)) => names(fields),
        // A domain can be one over a composite type.
        (None, None) if row.domain || OPEN.contains(&row.returns.0) => Shape::Open,
        _ => Shape::Scalar,
    };
    Function {
        oid: row.oid.0,
        schema: row.schema.into(),
        name: row.name.into(),
        visible: row.visible.unwrap_or(true),
        compiled: row.compiled,
        volatility: row.volatility,
        kind: row.kind,
        set: row.set,
        fewest: row
            .args
            .saturating_sub(row.defaults)
            .saturating_sub(u16::from(row.variadic)),
        most: (!row.variadic).then_some(row.args),
        shape,
    }
}

fn data_type(row: TypeRow) -> Type {
    Type {
        oid: row.oid.0,
        schema: row.schema.into(),
        name: row.name.into(),
        kind: row.kind,
        element: row.element.0,
        base: row.base.0,
        base_mod: row.base_mod,
        delimiter: u8::try_from(row.delimiter).unwrap_or(b','),
        range: row.range.map_or(0, |o| o.0),
        subtype: row.subtype.map_or(0, |o| o.0),
        fields: row
            .fields
            .unwrap_or_default()
            .into_iter()
            .map(|(name, oid, modifier)| (name.into(), oid.0, modifier))
            .collect(),
        text_like: row.text_like,
    }
}

/// An OID, which PostgreSQL's JSON functions write as text.
#[derive(Clone, Copy)]
struct Oid(u32);

impl<'de> Deserialize<'de> for Oid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = Oid;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an OID")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Oid, E> {
                text.parse().map(Oid).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Oid, E> {
                u32::try_from(number).map(Oid).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Digits)
    }
}

#[derive(Deserialize)]
struct Answer {
    schema: Option<String>,
    names: Option<Vec<(String, String, Option<Oid>)>>,
    relations: Option<Vec<RelationRow>>,
    functions: Option<Vec<FunctionRow>>,
    types: Option<Vec<TypeRow>>,
    operators: Option<Vec<Box<str>>>,
    casts: bool,
    domains: Option<Vec<Box<str>>>,
}

type ColumnRow = (i16, String, Oid, i32, Option<String>);

#[derive(Deserialize)]
struct RelationRow {
    oid: Oid,
    schema: String,
    name: String,
    kind: Kind,
    rules: bool,
    columns: Option<Vec<ColumnRow>>,
    family: Option<Vec<(String, String)>>,
    view: Option<ViewRow>,
}

#[derive(Deserialize)]
struct ViewRow {
    text: Option<String>,
    relations: Option<Vec<Oid>>,
    functions: Option<Vec<Oid>>,
}

#[derive(Deserialize)]
struct FunctionRow {
    oid: Oid,
    schema: String,
    name: String,
    visible: Option<bool>,
    kind: char,
    volatility: char,
    set: bool,
    compiled: bool,
    args: u16,
    defaults: u16,
    variadic: bool,
    returns: Oid,
    domain: bool,
    outs: Option<Vec<String>>,
    fields: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct TypeRow {
    oid: Oid,
    schema: String,
    name: String,
    kind: char,
    base: Oid,
    base_mod: i32,
    text_like: bool,
    element: Oid,
    delimiter: char,
    range: Option<Oid>,
    subtype: Option<Oid>,
    fields: Option<Vec<(String, Oid, i32)>>,
}
