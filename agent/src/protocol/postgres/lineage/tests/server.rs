//! A database that answers look-ups as the real look-up does, and a session on it.

use std::{collections::HashMap, sync::Arc, time::Instant};

use pg_query::protobuf::Node;
use serde_json::{Value, json};

use super::super::{Outputs, Resolved, Session, Sources, resolve};
use crate::{
    model::{ClassId, ClassSet},
    protocol::postgres::{
        catalog::{Catalog, Needs},
        sql::{Act, Facts, Name, Statement, understand},
    },
};

pub(super) const SSN: ClassId = ClassId(7);
pub(super) const EMAIL: ClassId = ClassId(9);

/// `customers.ssn` and `customers.email` are sensitive, whatever the schema.
pub(super) fn class_of(_schema: &str, relation: &str, column: &str) -> Option<ClassId> {
    match (relation, column) {
        ("customers", "ssn") => Some(SSN),
        ("customers", "email") => Some(EMAIL),
        _ => None,
    }
}

pub(super) fn parse(sql: &str) -> Arc<Node> {
    let mut parsed = pg_query::parse(sql, 0)
        .unwrap_or_else(|e| panic!("{sql}: {e}"))
        .protobuf;
    assert_eq!(parsed.stmts.len(), 1, "{sql}");
    Arc::new(*parsed.stmts.remove(0).stmt.unwrap())
}

pub(super) struct Server {
    relations: Vec<Value>,
    names: HashMap<(String, String), u32>,
    functions: Vec<Value>,
    types: Vec<Value>,
    operators: Vec<&'static str>,
    pub(super) casts: bool,
    /// Domains whose checks call code.
    pub(super) domains: Vec<&'static str>,
    prepared: HashMap<&'static str, Arc<Node>>,
    cursors: HashMap<&'static str, Arc<Node>>,
    pub(super) rounds: std::cell::Cell<usize>,
}

impl Session for Server {
    fn prepared(&self, name: &str) -> Option<Arc<Node>> {
        self.prepared.get(name).cloned()
    }
    fn cursor(&self, name: &str) -> Option<Arc<Node>> {
        self.cursors.get(name).cloned()
    }
    fn creates(&self, _schema: Option<&str>, name: &str) -> bool {
        name == "made_before"
    }
}

fn columns(list: &str) -> Value {
    let columns = list.split_whitespace().enumerate().map(|(i, c)| {
        let mut parts = c.split(':');
        let name = parts.next().unwrap();
        let oid = parts.next().unwrap_or("25");
        let generated = parts.next().map(|g| format!("({g})"));
        json!([i + 1, name, oid, -1, generated])
    });
    columns.collect()
}

impl Server {
    pub(super) fn new() -> Self {
        let mut server = Self {
            relations: Vec::new(),
            names: HashMap::new(),
            functions: Vec::new(),
            types: Vec::new(),
            operators: vec!["%%%"],
            casts: false,
            domains: Vec::new(),
            prepared: HashMap::new(),
            cursors: HashMap::new(),
            rounds: std::cell::Cell::new(0),
        };
        server.table("public", "customers", "id:23 name ssn email note:25 addr:20001");
        server.table("public", "orders", "id:23 customer:23 item total:1700");
        server.table("public", "notes", "id:23 body:25");
        server.table("public", "nodes", "id:23 parent:23 label:25");
        server.table("public", "people", "id:23 ssn city:25");
        server.table("public", "derived", "id:23 secret:25 copy:25:secret||'x'");
        server.table("pg_temp", "scratch", "a:23 b:25");
        server.table("hidden", "customers", "id:23 ssn");
        server.view(
            "v_codes",
            "id:23 code",
            "SELECT customers.id, customers.ssn AS code FROM customers",
            &["customers"],
        );
        server.view(
            "v_deep",
            "id:23 x",
            "SELECT v_codes.id, v_codes.code AS x FROM v_codes",
            &["v_codes"],
        );
        server.view(
            "v_clean",
            "id:23 name",
            "SELECT customers.id, customers.name FROM customers WHERE (customers.ssn IS NOT NULL)",
            &["customers"],
        );
        server.view("v_func", "x", "SELECT sneaky(1) AS x FROM orders", &["orders"]);
        server.view("v_broken", "x", "SELECT FROM FROM", &["customers"]);
        server.child(
            "customers_eu",
            "id:23 name ssn email note:25 addr:20001",
            "customers",
        );
        server.system(1262, "pg_class", "oid:26 relname:19 relkind:18");
        server.system(
            12000,
            "pg_stats",
            "schemaname:19 tablename:19 attname:19 most_common_vals:2277",
        );
        server.make_functions();
        server.types.push(
            json!({"oid": "20001", "schema": "public", "name": "addr", "kind": "c", "base": "0",
            "base_mod": -1, "text_like": false, "element": "0", "subtype": null, "delimiter": ",", "range": null,
            "fields": [["street", "25", -1], ["zip", "25", -1]]}),
        );
        server
            .prepared
            .insert("p", parse("SELECT ssn, id FROM customers WHERE id = $1"));
        server
            .prepared
            .insert("clean", parse("SELECT name FROM customers"));
        server.cursors.insert("c", parse("SELECT ssn, id FROM customers"));
        server
            .cursors
            .insert("clean", parse("SELECT id, name FROM customers"));
        server
    }

    fn make_functions(&mut self) {
        let server = self;
        server.function(
            20100,
            "public",
            "sneaky",
            &json!({"compiled": false, "volatility": "s"}),
        );
        server.function(20101, "public", "plpg", &json!({"compiled": false}));
        server.function(20102, "public", "lower", &json!({"compiled": false, "args": 2}));
        server.function(20103, "public", "hstore", &json!({}));
        server.function(20104, "public", "similarity", &json!({"args": 2}));
        server.function(
            20105,
            "public",
            "uuid_make",
            &json!({"args": 0, "volatility": "v"}),
        );
        server.function(
            20106,
            "public",
            "each",
            &json!({"set": true, "outs": ["key", "value"], "returns": "2249"}),
        );
        server.function(
            20107,
            "public",
            "rows",
            &json!({"set": true, "compiled": false, "outs": ["a", "b"], "returns": "2249", "args": 0}),
        );
        server.function(
            20108,
            "ext",
            "dblink",
            &json!({"set": true, "volatility": "v", "returns": "2249"}),
        );
        for (name, outs) in [
            ("jsonb_each", vec!["key", "value"]),
            ("json_each_text", vec!["key", "value"]),
            ("jsonb_each_text", vec!["key", "value"]),
            ("pg_options", vec!["option", "setting"]),
        ] {
            server.function(
                3208,
                "pg_catalog",
                name,
                &json!({"set": true, "outs": outs, "returns": "2249"}),
            );
        }
        for name in [
            "json_populate_record",
            "json_to_record",
            "jsonb_to_recordset",
            "jsonb_populate_record",
        ] {
            server.function(
                3960,
                "pg_catalog",
                name,
                &json!({"returns": "2283", "variadic": true}),
            );
        }
    }

    fn add(&mut self, schema: &str, name: &str, mut relation: Value) {
        let oid = relation["oid"].as_u64().map_or_else(
            || 17000 + u32::try_from(self.relations.len()).unwrap(),
            |o| u32::try_from(o).unwrap(),
        );
        relation["oid"] = json!(oid.to_string());
        relation["schema"] = json!(schema);
        relation["name"] = json!(name);
        relation["rules"] = json!(name == "ruled");
        self.relations.push(relation);
        self.names.insert((schema.into(), name.into()), oid);
        if matches!(schema, "public" | "pg_temp" | "pg_catalog") {
            self.names.insert((String::new(), name.into()), oid);
        }
    }
    pub(super) fn table(&mut self, schema: &str, name: &str, list: &str) {
        self.add(schema, name, json!({"kind": "r", "columns": columns(list)}));
    }
    fn child(&mut self, name: &str, list: &str, parent: &str) {
        self.add(
            "public",
            name,
            json!({"kind": "r", "columns": columns(list), "family": [["public", parent]]}),
        );
    }
    fn system(&mut self, oid: u32, name: &str, list: &str) {
        self.add(
            "pg_catalog",
            name,
            json!({"oid": oid, "kind": "v", "columns": columns(list)}),
        );
    }
    pub(super) fn view(&mut self, name: &str, list: &str, text: &str, uses: &[&str]) {
        let uses: Vec<String> = uses
            .iter()
            .map(|u| self.names[&(String::new(), (*u).into())].to_string())
            .collect();
        let functions = if text.contains("sneaky") {
            json!(["20100"])
        } else {
            Value::Null
        };
        let view = json!({"text": text, "relations": uses, "functions": functions});
        self.add(
            "public",
            name,
            json!({"kind": "v", "columns": columns(list), "view": view}),
        );
    }
    fn function(&mut self, oid: u32, schema: &str, name: &str, more: &Value) {
        let mut function = json!({"oid": oid.to_string(), "schema": schema, "name": name, "visible": schema != "ext", "kind": "f",
            "volatility": "i", "set": false, "compiled": true, "args": 1, "defaults": 0, "variadic": false,
            "returns": "25", "domain": false, "outs": null, "fields": null});
        for (key, value) in more.as_object().unwrap() {
            function[key] = value.clone();
        }
        self.functions.push(function);
    }

    /// Answers as the look-up does, with what views depend on.
    fn answer(&self, needs: &Needs) -> Value {
        let mut oids: Vec<String> = needs.oids.iter().map(ToString::to_string).collect();
        let names: Vec<Value> = needs
            .relations
            .iter()
            .map(|n| {
                let schema = n.schema.as_deref().unwrap_or("");
                let oid = self.names.get(&(schema.into(), n.name.to_string()));
                oids.extend(oid.map(ToString::to_string));
                json!([schema, n.name, oid.map(ToString::to_string)])
            })
            .collect();
        let mut relations: Vec<Value> = Vec::new();
        let mut functions: Vec<Value> = Vec::new();
        while let Some(oid) = oids.pop() {
            if relations.iter().any(|r| r["oid"] == json!(oid)) {
                continue;
            }
            if let Some(relation) = self.relations.iter().find(|r| r["oid"] == json!(oid)) {
                for used in relation["view"]["relations"].as_array().into_iter().flatten() {
                    oids.push(used.as_str().unwrap().into());
                }
                if relation["view"]["functions"].is_array() {
                    functions.extend(self.functions.iter().filter(|f| f["oid"] == "20100").cloned());
                }
                relations.push(relation.clone());
            }
        }
        for name in &needs.functions {
            let builtin =
                !["street", "city", "nothing", "zip", "fullname", "dblink", "nosuch"].contains(&&**name);
            let own = self.functions.iter().filter(|f| f["name"] == json!(name));
            let mut found: Vec<Value> = own.cloned().collect();
            if builtin
                && !found.iter().any(|f| f["schema"] == "pg_catalog")
                && ![
                    "sneaky",
                    "plpg",
                    "rows",
                    "hstore",
                    "similarity",
                    "uuid_make",
                    "each",
                ]
                .contains(&&**name)
            {
                found.push(json!({"oid": "870", "schema": "pg_catalog", "name": name, "visible": true, "kind": "f",
                    "volatility": "i", "set": false, "compiled": true, "args": 1, "defaults": 1, "variadic": true,
                    "returns": "25", "domain": false, "outs": null, "fields": null}));
            }
            functions.extend(found);
        }
        let types: Vec<Value> = self
            .types
            .iter()
            .filter(|t| needs.types.iter().any(|n| t["oid"] == json!(n.to_string())))
            .cloned()
            .collect();
        json!({"schema": "public", "names": names, "relations": relations, "functions": functions, "types": types,
            "operators": self.operators, "casts": self.casts, "domains": self.domains})
    }

    pub(super) fn resolve_in(&self, catalog: &mut Catalog, statement: &Statement) -> Resolved {
        for round in 0..6 {
            self.rounds.set(round);
            match resolve(statement, self, catalog, &class_of) {
                Ok(resolved) => return resolved,
                Err(needs) => {
                    assert!(!needs.is_empty());
                    let answer = self.answer(&needs).to_string();
                    catalog.learn(&needs, answer.as_bytes()).unwrap();
                }
            }
        }
        panic!("it does not converge");
    }

    pub(super) fn resolve(&self, sql: &str) -> Resolved {
        let mut all = understand(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(all.len(), 1, "{sql}");
        self.resolve_in(&mut Catalog::new(Instant::now()), &all.remove(0))
    }
}

pub(super) fn statement(sql: &str, facts: Facts) -> Statement {
    Statement {
        text: 0..sql.len(),
        facts,
        act: Act::Plain,
        tree: Some(parse(sql)),
    }
}

pub(super) fn names(list: &[&str]) -> std::collections::BTreeSet<Name> {
    list.iter()
        .map(|n| match n.split_once('.') {
            Some((schema, name)) => Name::new(Some(schema), name),
            None => Name::new(None, n),
        })
        .collect()
}

/// What masking sees of an output: `ssn`, `email`, lower case; `~` before what is only derived; `?` for opaque.
pub(super) fn shown(sources: &Sources) -> String {
    let mut out = Vec::new();
    for (class, name) in [(SSN, "ssn"), (EMAIL, "email")] {
        if sources.value.contains(class) {
            out.push(name.to_owned());
        }
        if sources.derived.contains(class) {
            out.push(format!("~{name}"));
        }
    }
    if sources.opaque {
        out.push("?".to_owned());
    }
    if out.is_empty() {
        "-".to_owned()
    } else {
        out.join("+")
    }
}

pub(super) fn outputs(outputs: &Outputs) -> String {
    match outputs {
        Outputs::None => "none".into(),
        Outputs::Columns(columns) => columns.iter().map(shown).collect::<Vec<_>>().join(" "),
        Outputs::Unknown(classes) => format!("unknown {}", set(*classes)),
    }
}

pub(super) fn set(classes: ClassSet) -> String {
    let mut all: Vec<&str> = Vec::new();
    if classes.contains(SSN) {
        all.push("ssn");
    }
    if classes.contains(EMAIL) {
        all.push("email");
    }
    all.join(" ")
}

/// Checks a table of statements against what their outputs show.
pub(super) fn check(cases: &[(&str, &str)]) {
    let server = Server::new();
    let mut wrong = Vec::new();
    for (sql, expected) in cases {
        let found = outputs(&server.resolve(sql).outputs);
        if found != *expected {
            wrong.push(format!("{sql}\n    expected {expected}\n    found    {found}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}
