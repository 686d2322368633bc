//! What is not masked.

use super::server::check;

#[test]
fn other_columns_are_clean() {
    check(&[
        ("SELECT 1", "-"),
        ("SELECT id, name FROM customers", "- -"),
        ("SELECT name || '!' FROM customers", "-"),
        ("SELECT c.name, c.id + 1 FROM customers c", "- -"),
        ("SELECT name FROM customers WHERE ssn = '1'", "-"),
        ("SELECT name FROM customers ORDER BY ssn", "-"),
        (
            "SELECT name FROM customers GROUP BY name, ssn HAVING max(ssn) > '1'",
            "-",
        ),
        ("SELECT DISTINCT ON (ssn) name FROM customers", "-"),
        ("SELECT count(*) FROM customers", "-"),
        (
            "SELECT count(*), name FROM customers WHERE ssn IS NOT NULL GROUP BY name",
            "- -",
        ),
        ("SELECT count(id), max(name), sum(id) FROM customers", "- - -"),
        (
            "SELECT o.item FROM orders o JOIN customers c ON c.ssn = o.item",
            "-",
        ),
        ("SELECT p.city FROM people p JOIN customers c USING (ssn)", "-"),
        ("SELECT p.ssn FROM people p JOIN customers c ON p.id = c.id", "-"),
        ("SELECT ssn FROM people", "-"),
        ("SELECT * FROM orders", "- - - -"),
        ("SELECT o.* FROM orders o, customers c", "- - - -"),
        ("SELECT x FROM (SELECT id AS x, ssn FROM customers) s", "-"),
        ("SELECT s.id FROM (SELECT * FROM customers) s", "-"),
        (
            "SELECT (SELECT name FROM customers c WHERE c.ssn = o.item) FROM orders o",
            "-",
        ),
        ("SELECT EXISTS (SELECT ssn FROM customers)", "-"),
        ("SELECT EXISTS (SELECT 1 FROM customers WHERE id = 1)", "-"),
        ("WITH w AS (SELECT id, ssn FROM customers) SELECT id FROM w", "-"),
        (
            "WITH customers AS (SELECT 1 AS ssn) SELECT ssn FROM customers",
            "-",
        ),
        (
            "WITH RECURSIVE t AS (SELECT id, parent, label FROM nodes UNION ALL SELECT n.id, n.parent, n.label FROM nodes n JOIN t ON n.parent = t.id) SELECT * FROM t",
            "- - -",
        ),
        ("SELECT name FROM customers EXCEPT SELECT ssn FROM customers", "-"),
        (
            "SELECT row_number() OVER (ORDER BY id), rank() OVER (PARTITION BY name) FROM customers",
            "- -",
        ),
        (
            "SELECT lag(name) OVER (ORDER BY ssn), sum(id) OVER () FROM customers",
            "- -",
        ),
        ("SELECT array_agg(name ORDER BY ssn) FROM customers", "-"),
        ("SELECT to_jsonb(o) FROM orders o", "-"),
        ("SELECT (c).name, c.ctid, c.tableoid FROM customers c", "- - -"),
        ("SELECT (ROW(id, ssn)).f1 FROM customers", "-"),
        (
            "SELECT (addr).street, (c.addr).zip, (addr).* FROM customers c",
            "- - - -",
        ),
        (
            "SELECT name, CASE WHEN id > 1 THEN 'a' ELSE name END FROM customers",
            "- -",
        ),
        ("SELECT id, name FROM v_codes NATURAL JOIN v_clean", "- -"),
        ("SELECT id FROM v_deep", "-"),
        ("SELECT * FROM v_clean", "- -"),
        ("SELECT relname, oid FROM pg_class", "- -"),
        ("SELECT tablename, attname FROM pg_catalog.pg_stats", "- -"),
        ("SELECT * FROM generate_series(1, 10)", "-"),
        ("SELECT g, g.g FROM generate_series(1, 10) g", "- -"),
        (
            "SELECT * FROM unnest(ARRAY[1, 2], ARRAY['a', 'b']) AS t(a, b)",
            "- -",
        ),
        (
            "SELECT uuid_make(), now(), current_user, current_setting('TimeZone')",
            "- - - -",
        ),
        ("SELECT lower(name) FROM customers", "-"),
    ]);
}

#[test]
fn statements_are_clean() {
    check(&[
        ("SELECT $1::int, $2", "- -"),
        ("VALUES (1, 'a'), (2, 'b')", "- -"),
        (
            "INSERT INTO customers (id, ssn) VALUES (1, '1') RETURNING id",
            "-",
        ),
        (
            "INSERT INTO customers (id, ssn) SELECT id, ssn FROM customers_eu RETURNING id, name",
            "- -",
        ),
        (
            "UPDATE customers SET ssn = 'x' WHERE id = 1 RETURNING id, name",
            "- -",
        ),
        ("DELETE FROM customers WHERE ssn = '1' RETURNING id", "-"),
        ("UPDATE orders SET item = 'x' RETURNING *", "- - - -"),
        ("EXECUTE clean", "-"),
        ("FETCH 10 FROM clean", "- -"),
        ("COPY (SELECT name FROM customers) TO STDOUT", "-"),
        ("COPY customers (id, name) TO STDOUT", "- -"),
        ("COPY derived TO STDOUT", "- -"),
        ("EXPLAIN ANALYZE SELECT * FROM customers", "-"),
        ("SHOW server_version", "-"),
        ("SHOW ALL", "- - -"),
        ("INSERT INTO customers (id) VALUES (1)", "none"),
        ("COPY customers FROM STDIN", "none"),
        ("CREATE TABLE t AS SELECT ssn FROM customers", "none"),
        ("SELECT ssn INTO t FROM customers", "none"),
        ("DECLARE c CURSOR FOR SELECT ssn FROM customers", "none"),
        ("MOVE 3 FROM c", "none"),
        ("PREPARE q AS SELECT ssn FROM customers", "none"),
        ("BEGIN", "none"),
        ("SET search_path = x", "none"),
        ("CREATE VIEW v AS SELECT ssn FROM customers", "none"),
    ]);
}
