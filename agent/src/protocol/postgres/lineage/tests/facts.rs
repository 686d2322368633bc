//! What else a statement's names resolve to, and how look-ups converge.

use std::time::{Duration, Instant};

use super::{
    super::{column, resolve},
    server::{SSN, Server, class_of, names, outputs, set, shown, statement},
};
use crate::protocol::postgres::{
    catalog::{BELIEVED, Catalog},
    sql::Facts,
};

fn list(set: &std::collections::BTreeSet<std::sync::Arc<str>>) -> String {
    set.iter().map(|s| &**s).collect::<Vec<_>>().join(" ")
}

#[test]
fn relations_are_named_by_their_schema_also_through_views() {
    let server = Server::new();
    let found = server.resolve("SELECT * FROM v_deep JOIN scratch ON true");
    assert_eq!(
        list(&found.reads),
        "pg_temp.scratch public.customers public.v_codes public.v_deep"
    );
    assert_eq!(list(&found.read_schemas), "pg_temp public");
    let found = server.resolve("UPDATE v_deep SET x = '1'");
    assert_eq!(
        list(&found.writes),
        "public.customers public.v_codes public.v_deep"
    );
    assert_eq!(list(&found.write_schemas), "public");
    let found = server.resolve("INSERT INTO hidden.customers SELECT id, item FROM orders");
    assert_eq!(list(&found.writes), "hidden.customers");
    assert_eq!(list(&found.reads), "public.orders");
    assert!(found.incomplete.is_empty());
}

#[test]
fn absent_relations_are_unknown_unless_made_by_the_message() {
    let server = Server::new();
    let found = server.resolve("SELECT * FROM absent_table");
    assert_eq!(list(&found.reads), "public.absent_table");
    assert!(found.incomplete.contains("unknown_relation"));
    let found = server.resolve("SELECT * FROM made_before");
    assert!(found.incomplete.is_empty());
    assert_eq!(outputs(&found.outputs), "unknown ");
    let facts = Facts {
        verbs: ["create"].into(),
        writes: names(&["brand_new"]),
        ..Facts::default()
    };
    let made = statement("CREATE TABLE brand_new (a int)", facts);
    let found = server.resolve_in(&mut Catalog::new(Instant::now()), &made);
    assert!(found.incomplete.is_empty());
    assert_eq!(list(&found.writes), "public.brand_new");
}

#[test]
fn columns_are_those_named_anywhere_and_sensitive_are_their_classes() {
    let server = Server::new();
    let found = server.resolve("SELECT c.name FROM customers c WHERE c.ssn = '1' ORDER BY c.email");
    assert_eq!(
        list(&found.columns),
        "public.customers.email public.customers.name public.customers.ssn"
    );
    assert_eq!(set(found.sensitive), "ssn email");
    assert_eq!(outputs(&found.outputs), "-");
    let found = server.resolve("SELECT o.item FROM orders o JOIN customers c ON c.id = o.customer");
    assert_eq!(set(found.sensitive), "");
    let found = server.resolve("SELECT * FROM people JOIN v_codes USING (id)");
    assert!(list(&found.columns).contains("public.v_codes.code"));
    assert_eq!(set(found.sensitive), "ssn");
    for sql in [
        "SELECT 1 FROM customers ORDER BY ssn",
        "SELECT 1 FROM customers GROUP BY ssn",
        "SELECT 1 FROM customers HAVING max(ssn) = '1'",
        "SELECT 1 FROM customers JOIN people USING (ssn)",
        "SELECT 1 FROM customers NATURAL JOIN people",
        "SELECT 1 FROM customers WINDOW w AS (ORDER BY ssn)",
        "SELECT 1 FROM orders LIMIT (SELECT ssn::int FROM customers)",
        "SELECT id FROM orders WHERE item IN (SELECT ssn FROM customers)",
        "SELECT id FROM orders WHERE EXISTS (SELECT 1 FROM customers WHERE ssn = item)",
        "DELETE FROM customers WHERE ssn = '1'",
        "UPDATE orders SET id = 1 FROM customers c WHERE c.ssn = item",
        "MERGE INTO orders o USING customers c ON c.ssn = o.item WHEN MATCHED THEN DELETE",
        "SELECT 1 FROM v_deep WHERE x = '1'",
        "SELECT 1 FROM customers c WHERE c = c",
        "DECLARE c CURSOR FOR SELECT ssn FROM customers",
        "EXPLAIN SELECT ssn FROM customers",
        "PREPARE q AS SELECT ssn FROM customers",
        "EXECUTE p(1)",
        "COPY customers TO STDOUT",
        "COPY orders FROM STDIN WHERE item IN (SELECT ssn FROM customers)",
        "CREATE TABLE t AS SELECT ssn FROM customers",
        "CREATE VIEW v AS SELECT ssn FROM customers",
        "SELECT DISTINCT ON (ssn) 1 FROM customers",
        "SELECT count(*) FILTER (WHERE ssn = '1') FROM customers",
        "INSERT INTO notes VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET body = 'y' WHERE EXISTS (SELECT ssn FROM customers)",
    ] {
        let found = server.resolve(sql);
        assert!(found.sensitive.contains(SSN), "{sql}");
        assert!(!found.columns.is_empty(), "{sql}");
    }
}

#[test]
fn copies_are_classes_stored_where_their_name_is_lost() {
    let server = Server::new();
    for (sql, expected) in [
        ("INSERT INTO notes (body) SELECT ssn FROM customers", "ssn"),
        ("INSERT INTO notes SELECT id, ssn FROM customers", "ssn"),
        ("INSERT INTO customers SELECT * FROM customers_eu", ""),
        (
            "INSERT INTO customers (id, ssn) SELECT id, ssn FROM hidden.customers",
            "",
        ),
        ("UPDATE customers SET note = ssn", "ssn"),
        ("UPDATE customers SET ssn = email", "email"),
        ("UPDATE customers SET (note, name) = (ssn, '')", "ssn"),
        (
            "MERGE INTO notes n USING customers c ON n.id = c.id WHEN MATCHED THEN UPDATE SET body = c.ssn",
            "ssn",
        ),
        ("CREATE TABLE t AS SELECT ssn FROM customers", "ssn"),
        (
            "CREATE TABLE customers (a, ssn) AS SELECT id, ssn FROM people",
            "",
        ),
        (
            "CREATE TABLE customers (a, ssn) AS SELECT id, ssn FROM hidden.customers",
            "",
        ),
        ("SELECT ssn INTO TEMP t FROM customers", "ssn"),
        ("COPY (SELECT ssn FROM customers) TO '/tmp/x'", "ssn email"),
        ("COPY customers (ssn) TO PROGRAM 'x'", "ssn"),
        ("SELECT uuid_make(), name FROM customers", ""),
        ("INSERT INTO v_codes (code) SELECT ssn FROM customers", ""),
        ("INSERT INTO v_codes (id) SELECT ssn::int FROM customers", "ssn"),
        (
            "WITH w AS (INSERT INTO notes (body) SELECT ssn FROM customers) SELECT 1",
            "ssn",
        ),
        ("CREATE TABLE t AS EXECUTE p(1)", "ssn email"),
    ] {
        assert_eq!(set(server.resolve(sql).copied), expected, "{sql}");
    }
    let mut found = server.resolve("SELECT plpg(ssn) FROM customers");
    assert_eq!(set(found.copied), "ssn", "a function that may keep its argument");
    found = server.resolve("SELECT upper(ssn) FROM customers");
    assert_eq!(set(found.copied), "");
}

#[test]
fn functions_have_their_schema_and_unknown_ones_stay_unknown() {
    let server = Server::new();
    let with = |sql: &str, functions: &[&str]| {
        let facts = Facts {
            functions: names(functions),
            incomplete: ["unknown_function"].into(),
            ..Facts::default()
        };
        server.resolve_in(&mut Catalog::new(Instant::now()), &statement(sql, facts))
    };
    let found = with("SELECT similarity(name, 'x') FROM customers", &["similarity"]);
    assert_eq!(list(&found.functions), "public.similarity");
    assert!(found.incomplete.is_empty(), "compiled and immutable");
    for (sql, function) in [
        ("SELECT sneaky(1)", "sneaky"),
        ("SELECT plpg('')", "plpg"),
        ("SELECT uuid_make()", "uuid_make"),
        ("SELECT nosuch()", "nosuch"),
        ("SELECT query_to_xml('', true, true, '')", "query_to_xml"),
        ("SELECT ext.dblink('')", "ext.dblink"),
    ] {
        let found = with(sql, &[function]);
        assert!(found.incomplete.contains("unknown_function"), "{sql}");
    }
    for (sql, unknown) in [
        ("SELECT c.sneaky FROM customers c", true),
        ("SELECT (c).sneaky FROM customers c", true),
        ("SELECT lower(name, 'x') FROM customers", true),
        ("SELECT lower(name) FROM customers", false),
        ("SELECT pg_catalog.lower(name) FROM customers", false),
    ] {
        let found = server.resolve(sql).incomplete.contains("unknown_function");
        assert_eq!(found, unknown, "{sql}");
    }
    let found = server.resolve("SELECT x FROM v_func");
    assert!(found.incomplete.contains("unknown_function"), "hidden in a view");
    let found = server.resolve("SELECT 'a' %%% 'b'");
    assert!(
        found.incomplete.contains("unknown_operator"),
        "hidden in an operator"
    );
}

#[test]
fn casts_that_run_code_are_unknown() {
    let mut server = Server::new();
    server.casts = true;
    let found = server.resolve("SELECT name::text FROM customers");
    assert_eq!(outputs(&found.outputs), "?");
    assert!(found.incomplete.contains("unknown_function"));
}

#[test]
fn domains_that_run_code_are_unknown() {
    let mut server = Server::new();
    let clean = server.resolve("SELECT name::short FROM customers");
    assert!(clean.incomplete.is_empty());
    server.domains = vec!["short"];
    for sql in [
        "SELECT name::short FROM customers",
        "SELECT name::public.short[] FROM customers",
        "SELECT '(1)'::made_of_it",
        "SELECT a FROM json_to_record('{}') AS t(a short)",
        "SELECT json_populate_record(c, '{}') FROM customers c",
    ] {
        let found = server.resolve(sql);
        assert!(found.incomplete.contains("unknown_function"), "{sql}");
    }
    for sql in [
        "SELECT name::text, id::int8, 1::int FROM customers",
        "SELECT now()",
    ] {
        assert!(server.resolve(sql).incomplete.is_empty(), "{sql}");
    }
}

#[test]
fn look_ups_converge_and_are_kept_for_a_while() {
    let server = Server::new();
    let begun = Instant::now();
    let mut catalog = Catalog::new(begun);
    let select = statement("SELECT ssn, lower(name) || 'x' FROM customers", Facts::default());
    server.resolve_in(&mut catalog, &select);
    assert_eq!(server.rounds.get(), 1);
    catalog.begin(begun + Duration::from_secs(1));
    server.resolve_in(&mut catalog, &select);
    assert_eq!(server.rounds.get(), 0, "known");
    catalog.begin(begun + BELIEVED);
    server.resolve_in(&mut catalog, &select);
    assert_eq!(server.rounds.get(), 1, "too old");
    catalog.forget();
    assert!(resolve(&select, &server, &catalog, &class_of).is_err());
    let plain = statement("BEGIN", Facts::default());
    server.resolve_in(&mut catalog, &plain);
    assert_eq!(server.rounds.get(), 0, "nothing to look up");
}

#[test]
fn absence_is_remembered_for_one_message_only() {
    let mut server = Server::new();
    let begun = Instant::now();
    let mut catalog = Catalog::new(begun);
    let select = statement("SELECT ssn FROM later", Facts::default());
    assert_eq!(outputs(&server.resolve_in(&mut catalog, &select).outputs), "?");
    server.table("public", "later", "ssn");
    catalog.begin(begun);
    assert_eq!(outputs(&server.resolve_in(&mut catalog, &select).outputs), "-");
}

#[test]
fn a_column_added_since_is_looked_up() {
    let mut server = Server::new();
    let begun = Instant::now();
    let mut catalog = Catalog::new(begun);
    server.resolve_in(
        &mut catalog,
        &statement("SELECT id FROM orders", Facts::default()),
    );
    server.table("public", "orders", "id:23 added:25");
    catalog.begin(begun);
    let added = statement("SELECT added FROM orders", Facts::default());
    assert_eq!(outputs(&server.resolve_in(&mut catalog, &added).outputs), "-");
    assert_eq!(server.rounds.get(), 1);
}

#[test]
fn columns_of_row_descriptions_are_told_by_number() {
    let server = Server::new();
    let mut catalog = Catalog::new(Instant::now());
    let all = "SELECT * FROM customers, v_deep, derived";
    server.resolve_in(&mut catalog, &statement(all, Facts::default()));
    let oid = |name: &str| {
        let name = names(&[name]).pop_first().unwrap();
        match catalog.relation(&name) {
            crate::protocol::postgres::catalog::Known::Found(relation) => relation.oid,
            _ => panic!("not known"),
        }
    };
    let told = |relation: &str, attnum| column(oid(relation), attnum, &catalog, &class_of).map(|s| shown(&s));
    assert_eq!(told("customers", 3).unwrap(), "ssn");
    assert_eq!(told("customers", 1).unwrap(), "-");
    assert_eq!(told("customers", -1).unwrap(), "-", "ctid");
    assert_eq!(told("v_deep", 2).unwrap(), "ssn");
    assert_eq!(told("customers", 99).unwrap(), "?");
    assert!(column(424_242, 1, &catalog, &class_of).is_err());
}

#[test]
fn what_is_nested_too_deeply_is_unknown_and_ends() {
    let server = Server::new();
    // Views upon views, each twice the one before.
    let mut server_deep = Server::new();
    let mut before = "customers".to_owned();
    for i in 0..80 {
        let name = format!("d{i}");
        let text = format!("SELECT a.id, b.ssn AS ssn FROM {before} a JOIN {before} b ON true");
        server_deep.view(&name, "id:23 ssn", &text, &[&before]);
        before = name;
    }
    let found = server_deep.resolve(&format!("SELECT ssn FROM {before}"));
    assert_eq!(outputs(&found.outputs), "unknown ssn email");
    assert!(found.incomplete.contains("too_deep"));
    let nested = format!(
        "SELECT {}ssn{} FROM customers",
        "upper(".repeat(20),
        ")".repeat(20)
    );
    assert_eq!(outputs(&server.resolve(&nested).outputs), "ssn");
}

#[test]
fn a_statement_without_a_tree_has_all_classes_of_what_it_reads() {
    let server = Server::new();
    let facts = Facts {
        reads: names(&["v_deep", "orders"]),
        ..Facts::default()
    };
    let mut deep = statement("SELECT 1", facts);
    deep.tree = None;
    let found = server.resolve_in(&mut Catalog::new(Instant::now()), &deep);
    assert_eq!(outputs(&found.outputs), "unknown ssn email");
}
