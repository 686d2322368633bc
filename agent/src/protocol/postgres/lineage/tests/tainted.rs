//! Ways to read a masked column. Each must show its class.

use super::server::check;

#[test]
fn expressions_carry_what_stands_in_them() {
    check(&[
        ("SELECT ssn FROM customers", "ssn"),
        ("SELECT ssn AS x FROM customers", "ssn"),
        ("SELECT c.ssn x FROM customers c", "ssn"),
        ("SELECT customers.ssn FROM customers", "ssn"),
        ("SELECT public.customers.ssn FROM public.customers", "ssn"),
        ("SELECT \"ssn\" FROM \"public\".\"customers\"", "ssn"),
        ("SELECT ssn || '' FROM customers", "ssn"),
        ("SELECT '' || ssn || 'x' FROM customers", "ssn"),
        ("SELECT ssn::varchar(20) FROM customers", "ssn"),
        ("SELECT CAST(ssn AS bytea) FROM customers", "ssn"),
        ("SELECT (ssn)::text::text FROM customers", "ssn"),
        ("SELECT substr(ssn, 1, 3) FROM customers", "ssn"),
        (
            "SELECT substring(ssn FROM 1 FOR 3), substring(ssn from '...') FROM customers",
            "ssn ssn",
        ),
        ("SELECT left(ssn, 4) || right(ssn, 4) FROM customers", "ssn"),
        ("SELECT overlay(ssn placing '' from 1) FROM customers", "ssn"),
        (
            "SELECT trim(ssn), trim(both '1' from ssn) FROM customers",
            "ssn ssn",
        ),
        (
            "SELECT upper(ssn), reverse(ssn), md5(ssn), encode(ssn::bytea, 'hex') FROM customers",
            "ssn ssn ssn ssn",
        ),
        (
            "SELECT translate(ssn, '0', 'a'), replace(ssn, '-', '') FROM customers",
            "ssn ssn",
        ),
        ("SELECT regexp_replace(ssn, '-', '', 'g') FROM customers", "ssn"),
        (
            "SELECT ascii(ssn), length(ssn), position('1' in ssn) FROM customers",
            "ssn ssn ssn",
        ),
        (
            "SELECT format('%s', ssn), concat(ssn, 1), concat_ws('-', id, ssn) FROM customers",
            "ssn ssn ssn",
        ),
        (
            "SELECT CASE WHEN id = 1 THEN ssn ELSE 'x' END FROM customers",
            "ssn",
        ),
        (
            "SELECT CASE WHEN id = 1 THEN 'x' ELSE ssn END FROM customers",
            "ssn",
        ),
        (
            "SELECT CASE WHEN ssn LIKE '1%' THEN 1 ELSE 2 END FROM customers",
            "~ssn",
        ),
        ("SELECT CASE ssn WHEN '1' THEN 1 END FROM customers", "~ssn"),
        (
            "SELECT COALESCE(ssn, 'x'), NULLIF(ssn, ''), GREATEST(ssn, 'a'), LEAST(ssn, 'z') FROM customers",
            "ssn ssn ssn ssn",
        ),
        (
            "SELECT ssn = '123', ssn IS NULL, ssn LIKE '1%', ssn IN ('1','2'), NOT (ssn > '5') FROM customers",
            "~ssn ~ssn ~ssn ~ssn ~ssn",
        ),
        (
            "SELECT ssn BETWEEN '1' AND '2', ssn IS DISTINCT FROM 'x', ssn = ANY($1) FROM customers",
            "~ssn ~ssn ~ssn",
        ),
        (
            "SELECT ARRAY[ssn], ARRAY[id::text, ssn], (ARRAY[ssn])[1] FROM customers",
            "ssn ssn ssn",
        ),
        ("SELECT ssn COLLATE \"C\" FROM customers", "ssn"),
        (
            "SELECT -ssn::int, ~ ssn::int, @ ssn::int FROM customers",
            "ssn ssn ssn",
        ),
        (
            "SELECT ssn::int + id, id - ssn::bigint % 10 FROM customers",
            "ssn ssn",
        ),
        ("SELECT generate_series(1, ssn::int) FROM customers", "ssn"),
        (
            "SELECT string_to_array(ssn, '-'), regexp_split_to_table(ssn, '-') FROM customers",
            "ssn ssn",
        ),
        (
            "SELECT xmlelement(name a, ssn), xmlforest(ssn), xmlconcat(xmlelement(name b, ssn)) FROM customers",
            "ssn ssn ssn",
        ),
        (
            "SELECT similarity(ssn, 'x'), hstore('a', ssn) FROM customers",
            "ssn ssn",
        ),
        ("SELECT id, ssn, name, ssn FROM customers", "- ssn - ssn"),
    ]);
}

#[test]
fn rows_carry_their_columns() {
    check(&[
        ("SELECT * FROM customers", "- - ssn email - -"),
        ("TABLE customers", "- - ssn email - -"),
        ("SELECT c.* FROM customers c", "- - ssn email - -"),
        ("SELECT c.*, c.ssn FROM customers c", "- - ssn email - - ssn"),
        ("SELECT customers FROM customers", "ssn+email"),
        ("SELECT c FROM customers c", "ssn+email"),
        ("SELECT (c).ssn FROM customers c", "ssn"),
        ("SELECT (c).* FROM customers c", "- - ssn email - -"),
        ("SELECT c::text FROM customers c", "ssn+email"),
        (
            "SELECT row_to_json(c), to_json(c), to_jsonb(c) FROM customers c",
            "ssn+email ssn+email ssn+email",
        ),
        ("SELECT row_to_json(customers.*) FROM customers", "ssn+email"),
        ("SELECT row_to_json(row(id, ssn)) FROM customers", "ssn"),
        (
            "SELECT to_jsonb(c) -> 'ssn', to_jsonb(c) ->> 'ssn', (to_jsonb(c))['ssn'] FROM customers c",
            "ssn+email ssn+email ssn+email",
        ),
        (
            "SELECT ROW(id, ssn), (id, ssn), ROW(c.*) FROM customers c",
            "ssn ssn ssn+email",
        ),
        ("SELECT (ROW(id, ssn)).f2 FROM customers", "ssn"),
        (
            "SELECT json_build_object('a', ssn), json_build_array(id, ssn), json_object(ARRAY['a', ssn]) FROM customers",
            "ssn ssn ssn",
        ),
        (
            "SELECT JSON_OBJECT('a': ssn), JSON_ARRAY(id, ssn) FROM customers",
            "ssn ssn",
        ),
        (
            "SELECT JSON_OBJECTAGG(id: ssn), JSON_ARRAYAGG(ssn) FROM customers",
            "ssn ssn",
        ),
        ("SELECT hstore(c) FROM customers c", "ssn+email"),
        ("SELECT ssn(c) FROM customers c", "ssn+email"),
        ("SELECT c.row_to_json FROM customers c", "ssn+email"),
        (
            "SELECT quote_literal(c), concat(c), format('%s', c) FROM customers c",
            "ssn+email ssn+email ssn+email",
        ),
        (
            "SELECT s.x.ssn FROM (SELECT c AS x FROM customers c) s",
            "ssn+email+?",
        ),
        (
            "SELECT (s.x).ssn, (x).name FROM (SELECT c AS x FROM customers c) s",
            "ssn -",
        ),
        (
            "SELECT (x).* FROM (SELECT c AS x FROM customers c) s",
            "- - ssn email - -",
        ),
        (
            "SELECT (json_populate_record(null::customers, to_json(c))).ssn FROM customers c",
            "ssn+email",
        ),
        (
            "SELECT (jsonb_populate_record(null::people, to_jsonb(c))).* FROM customers c",
            "ssn+email ssn+email ssn+email",
        ),
        ("SELECT s FROM (SELECT ssn FROM customers) s", "ssn"),
    ]);
}

#[test]
fn sub_selects_and_ctes_carry_their_outputs() {
    check(&[
        ("SELECT x FROM (SELECT ssn AS x FROM customers) s", "ssn"),
        (
            "SELECT s.* FROM (SELECT id, ssn FROM customers) AS s(a, b)",
            "- ssn",
        ),
        ("SELECT b FROM (SELECT id, ssn FROM customers) AS s(a, b)", "ssn"),
        ("SELECT a3 FROM customers AS c(a1, a2, a3)", "ssn"),
        ("SELECT (SELECT ssn FROM customers LIMIT 1)", "ssn"),
        ("SELECT (SELECT max(ssn) FROM customers), 1", "ssn -"),
        ("SELECT ARRAY(SELECT ssn FROM customers)", "ssn"),
        (
            "SELECT o.id, (SELECT c.ssn FROM customers c WHERE c.id = o.customer) FROM orders o",
            "- ssn",
        ),
        ("SELECT EXISTS (SELECT 1 FROM customers WHERE ssn = '1')", "~ssn"),
        (
            "SELECT EXISTS (SELECT 1 FROM (SELECT * FROM customers WHERE ssn = '1') s)",
            "~ssn",
        ),
        (
            "SELECT EXISTS (SELECT ssn FROM customers INTERSECT SELECT '1')",
            "~ssn",
        ),
        (
            "SELECT '1' IN (SELECT ssn FROM customers), 'x' = ALL (SELECT ssn FROM customers)",
            "~ssn ~ssn",
        ),
        ("WITH w AS (SELECT ssn FROM customers) SELECT * FROM w", "ssn"),
        (
            "WITH w(a, b) AS (SELECT id, ssn FROM customers) SELECT b, a FROM w",
            "ssn -",
        ),
        (
            "WITH w AS MATERIALIZED (SELECT * FROM customers) SELECT w.ssn FROM w",
            "ssn",
        ),
        (
            "WITH a AS (SELECT ssn s FROM customers), b AS (SELECT s t FROM a) SELECT t FROM b",
            "ssn",
        ),
        (
            "WITH orders AS (SELECT ssn AS item FROM customers) SELECT item FROM orders",
            "ssn",
        ),
        (
            "WITH w AS (SELECT 1 AS a) SELECT * FROM (WITH w AS (SELECT ssn FROM customers) SELECT * FROM w) s",
            "ssn",
        ),
        (
            "WITH RECURSIVE t(n, s) AS (SELECT 1, ''::text UNION ALL SELECT n + 1, c.ssn FROM t, customers c WHERE n < 3) SELECT s FROM t",
            "ssn",
        ),
        (
            "WITH RECURSIVE t(a, b, c) AS (SELECT ssn, '', '' FROM customers UNION ALL SELECT '', a, b FROM t) SELECT * FROM t",
            "ssn ssn ssn",
        ),
        (
            "WITH RECURSIVE b AS (SELECT * FROM a), a AS (SELECT ssn FROM customers) SELECT * FROM b",
            "ssn",
        ),
        (
            "WITH RECURSIVE t AS (SELECT ssn FROM customers UNION SELECT ssn FROM t) SEARCH DEPTH FIRST BY ssn SET o SELECT o FROM t",
            "ssn",
        ),
        (
            "SELECT l.x FROM orders o, LATERAL (SELECT ssn AS x FROM customers c WHERE c.id = o.customer) l",
            "ssn",
        ),
        (
            "SELECT l.x FROM customers c CROSS JOIN LATERAL (SELECT c.ssn AS x) l",
            "ssn",
        ),
        (
            "SELECT x FROM customers c, LATERAL (VALUES (c.id::text), (c.ssn)) v(x)",
            "ssn",
        ),
        (
            "SELECT * FROM (VALUES ((SELECT ssn FROM customers LIMIT 1), 1)) v",
            "ssn -",
        ),
        ("VALUES ((SELECT ssn FROM customers LIMIT 1))", "ssn"),
        (
            "SELECT name FROM orders o JOIN LATERAL (SELECT ssn AS name FROM customers) c ON true",
            "ssn",
        ),
    ]);
}

#[test]
fn set_operations_and_joins_carry_both_sides() {
    check(&[
        (
            "SELECT name FROM customers UNION SELECT ssn FROM customers",
            "ssn",
        ),
        (
            "SELECT item FROM orders UNION ALL (SELECT label FROM nodes UNION ALL SELECT ssn FROM customers)",
            "ssn",
        ),
        ("SELECT '123' INTERSECT SELECT ssn FROM customers", "ssn"),
        ("SELECT ssn FROM customers EXCEPT SELECT '1'", "ssn"),
        (
            "SELECT x FROM (SELECT id::text x, name y FROM customers UNION SELECT ssn, email FROM customers) s",
            "ssn",
        ),
        (
            "SELECT y FROM (SELECT id::text x, name y FROM customers UNION SELECT ssn, email FROM customers) s",
            "email",
        ),
        ("SELECT ssn FROM customers JOIN people USING (ssn)", "ssn"),
        ("SELECT ssn FROM people JOIN customers USING (ssn)", "ssn"),
        (
            "SELECT ssn FROM people NATURAL JOIN (SELECT ssn FROM customers) c",
            "ssn",
        ),
        (
            "SELECT * FROM people JOIN customers USING (id, ssn)",
            "- ssn - - email - -",
        ),
        (
            "SELECT * FROM people NATURAL LEFT JOIN (SELECT id, ssn FROM customers) c",
            "- ssn -",
        ),
        ("SELECT u.ssn FROM people JOIN customers USING (ssn) AS u", "ssn"),
        (
            "SELECT j.ssn FROM (orders o JOIN (SELECT id, ssn FROM customers) c ON true) AS j(a, b, d, e, id, ssn)",
            "ssn",
        ),
        ("SELECT j.b FROM (people p(a, b, c) JOIN orders o ON true) j", "-"),
        (
            "SELECT c.ssn FROM orders o LEFT JOIN customers c ON c.id = o.customer",
            "ssn",
        ),
        (
            "SELECT c.ssn FROM customers c FULL JOIN people p USING (id)",
            "ssn",
        ),
        ("SELECT c.ssn FROM customers c TABLESAMPLE SYSTEM (10)", "ssn"),
        ("SELECT ssn FROM ONLY customers", "ssn"),
        ("SELECT ssn FROM customers FOR UPDATE", "ssn"),
        ("SELECT DISTINCT ON (id) ssn FROM customers", "ssn"),
        ("SELECT DISTINCT ssn FROM customers ORDER BY 1", "ssn"),
        ("SELECT ssn AS s FROM customers ORDER BY s", "ssn"),
        (
            "SELECT ssn FROM customers GROUP BY ssn HAVING count(*) > 1",
            "ssn",
        ),
        (
            "SELECT id, ssn FROM customers GROUP BY GROUPING SETS ((id), (ssn))",
            "- ssn",
        ),
    ]);
}

#[test]
fn aggregates_and_windows_carry_or_derive() {
    check(&[
        ("SELECT max(ssn), min(ssn) FROM customers", "ssn ssn"),
        (
            "SELECT array_agg(ssn), string_agg(ssn, ','), json_agg(ssn), jsonb_agg(c) FROM customers c",
            "ssn ssn ssn ssn+email",
        ),
        ("SELECT json_object_agg(id, ssn) FROM customers", "ssn"),
        ("SELECT unnest(array_agg(ssn)) FROM customers", "ssn"),
        ("SELECT (array_agg(c))[1] FROM customers c", "ssn+email"),
        ("SELECT ((array_agg(c))[1]).ssn FROM customers c", "ssn"),
        ("SELECT string_agg(name, ssn) FROM customers", "ssn"),
        (
            "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY ssn), mode() WITHIN GROUP (ORDER BY ssn) FROM customers",
            "ssn ssn",
        ),
        (
            "SELECT count(ssn), count(DISTINCT ssn), sum(ssn::int), avg(ssn::int) FROM customers",
            "~ssn ~ssn ~ssn ~ssn",
        ),
        (
            "SELECT count(*) FILTER (WHERE ssn LIKE '1%') FROM customers",
            "~ssn",
        ),
        (
            "SELECT max(name) FILTER (WHERE ssn LIKE '1%') FROM customers",
            "~ssn",
        ),
        (
            "SELECT lag(ssn) OVER (ORDER BY id), first_value(ssn) OVER () FROM customers",
            "ssn ssn",
        ),
        (
            "SELECT rank() OVER (ORDER BY ssn), row_number() OVER (PARTITION BY ssn) FROM customers",
            "~ssn ~ssn",
        ),
        ("SELECT sum(ssn::int) OVER (ORDER BY id) FROM customers", "~ssn"),
        (
            "SELECT x || '' FROM (SELECT count(ssn)::text AS x FROM customers) s",
            "~ssn",
        ),
    ]);
}

#[test]
fn functions_in_from_carry_their_arguments() {
    check(&[
        (
            "SELECT value FROM customers c, jsonb_each(to_jsonb(c))",
            "ssn+email",
        ),
        (
            "SELECT j.* FROM customers c, jsonb_each_text(to_jsonb(c)) j",
            "ssn+email ssn+email",
        ),
        (
            "SELECT v FROM customers c, json_each_text(row_to_json(c)) AS j(k, v)",
            "ssn+email",
        ),
        ("SELECT u FROM customers, unnest(ARRAY[ssn]) u", "ssn"),
        (
            "SELECT u.x FROM customers, unnest(string_to_array(ssn, '-')) WITH ORDINALITY AS u(x, n)",
            "ssn",
        ),
        ("SELECT * FROM unnest(ARRAY(SELECT ssn FROM customers))", "ssn"),
        (
            "SELECT u.ssn FROM unnest(ARRAY(SELECT c FROM customers c)) u",
            "ssn",
        ),
        (
            "SELECT p.city FROM customers c, json_populate_record(null::people, to_json(c)) p",
            "ssn+email",
        ),
        (
            "SELECT p.* FROM customers c, json_populate_record(null::people, to_json(c)) p",
            "ssn+email ssn+email ssn+email",
        ),
        (
            "SELECT a FROM customers c, json_to_record(to_json(c)) AS r(ssn text, a int)",
            "ssn+email",
        ),
        (
            "SELECT r.ssn FROM customers c, jsonb_to_recordset(to_jsonb(c)) AS r(ssn text)",
            "ssn+email",
        ),
        (
            "SELECT g FROM customers, generate_series(ssn::int, ssn::int) g",
            "ssn",
        ),
        (
            "SELECT x.a FROM customers c, XMLTABLE('/r' PASSING xmlforest(ssn) COLUMNS a text PATH 'x') x",
            "ssn",
        ),
        (
            "SELECT jt.a FROM customers c, JSON_TABLE(to_jsonb(c), '$' COLUMNS (a text PATH '$.ssn')) jt",
            "ssn+email",
        ),
        (
            "SELECT JSON_VALUE(to_jsonb(c), '$.ssn'), JSON_QUERY(to_jsonb(c), '$') FROM customers c",
            "ssn+email ssn+email",
        ),
        ("SELECT value FROM customers c, each(hstore(c))", "ssn+email"),
        (
            "SELECT a, b FROM ROWS FROM (unnest(ARRAY(SELECT ssn FROM customers)), generate_series(1, 2)) AS t(a, b)",
            "ssn -",
        ),
    ]);
}

#[test]
fn views_and_families_are_followed() {
    check(&[
        ("SELECT code FROM v_codes", "ssn"),
        ("SELECT * FROM v_deep", "- ssn"),
        ("SELECT max(x) FROM v_deep", "ssn"),
        ("SELECT v FROM v_deep v", "ssn"),
        ("SELECT x FROM v_broken", "ssn+email+?"),
        ("SELECT x FROM v_func", "?"),
        ("SELECT ssn FROM customers_eu", "ssn"),
        ("SELECT ssn FROM hidden.customers", "ssn"),
        ("SELECT most_common_vals FROM pg_stats", "?"),
        (
            "SELECT (addr).street FROM (SELECT ssn::addr AS addr FROM customers) s",
            "ssn",
        ),
    ]);
}

#[test]
fn statements_that_give_rows_are_all_followed() {
    check(&[
        ("INSERT INTO customers (id) VALUES (1) RETURNING ssn", "ssn"),
        (
            "INSERT INTO customers VALUES (1) RETURNING *",
            "- - ssn email - -",
        ),
        (
            "INSERT INTO notes (body) SELECT ssn FROM customers RETURNING body",
            "ssn",
        ),
        (
            "INSERT INTO notes SELECT id, ssn FROM customers RETURNING *",
            "- ssn",
        ),
        (
            "INSERT INTO notes AS n (id, body) VALUES (1, '') ON CONFLICT (id) DO UPDATE SET body = (SELECT ssn FROM customers) RETURNING n.body",
            "ssn",
        ),
        ("UPDATE customers SET name = 'x' RETURNING ssn, name", "ssn -"),
        ("UPDATE customers SET name = ssn RETURNING name", "ssn"),
        (
            "UPDATE customers SET (name, note) = (SELECT ssn, email FROM customers) RETURNING name",
            "ssn+email",
        ),
        (
            "UPDATE notes SET body = c.ssn FROM customers c WHERE c.id = notes.id RETURNING body, c.ssn",
            "ssn ssn",
        ),
        ("DELETE FROM customers RETURNING ssn || ''", "ssn"),
        (
            "DELETE FROM notes USING customers c WHERE c.id = notes.id RETURNING c.*",
            "- - ssn email - -",
        ),
        (
            "UPDATE customers SET id = 1 RETURNING old.ssn, new.ssn, old.*",
            "ssn ssn - - ssn email - -",
        ),
        (
            "UPDATE customers SET id = 1 RETURNING WITH (OLD AS o, NEW AS n) o.ssn, n.ssn",
            "ssn ssn",
        ),
        ("DELETE FROM customers RETURNING old", "ssn+email"),
        (
            "MERGE INTO notes n USING customers c ON n.id = c.id WHEN MATCHED THEN UPDATE SET body = c.ssn RETURNING n.body, c.ssn",
            "ssn ssn",
        ),
        (
            "MERGE INTO notes n USING customers c ON n.id = c.id WHEN NOT MATCHED THEN INSERT (id, body) VALUES (c.id, c.ssn) RETURNING n.body",
            "ssn",
        ),
        (
            "MERGE INTO notes n USING customers c ON n.id = c.id WHEN MATCHED THEN DELETE RETURNING *",
            "- - ssn email - - - -",
        ),
        (
            "WITH d AS (DELETE FROM customers RETURNING *) SELECT ssn FROM d",
            "ssn",
        ),
        (
            "WITH i AS (INSERT INTO notes (body) SELECT ssn FROM customers RETURNING body AS b) SELECT b FROM i",
            "ssn",
        ),
        (
            "UPDATE derived SET secret = c.ssn FROM customers c RETURNING copy",
            "ssn",
        ),
        ("FETCH ALL FROM c", "ssn -"),
        ("FETCH BACKWARD 2 IN c", "ssn -"),
        ("FETCH 1 FROM unknown_cursor", "unknown "),
        ("EXECUTE p(1)", "ssn -"),
        ("EXECUTE nothing_known", "unknown "),
        ("COPY customers TO STDOUT", "- - ssn email - -"),
        ("COPY customers (ssn, id) TO STDOUT", "ssn -"),
        ("COPY (SELECT ssn FROM customers) TO STDOUT", "ssn"),
        ("COPY (DELETE FROM customers RETURNING ssn) TO STDOUT", "ssn"),
        ("COPY customers_eu (ssn) TO STDOUT WITH (FORMAT binary)", "ssn"),
        ("CALL plpg(1)", "unknown "),
        ("SHOW my.variable", "?"),
    ]);
}

#[test]
fn what_can_read_anything_is_opaque() {
    check(&[
        ("SELECT sneaky(1)", "?"),
        ("SELECT plpg(name) FROM customers", "?"),
        ("SELECT plpg(ssn) FROM customers", "ssn+?"),
        ("SELECT lower(name, 'x') FROM customers", "?"),
        ("SELECT query_to_xml('select 1', true, true, '')", "?"),
        (
            "SELECT table_to_xml('customers', true, true, ''), pg_read_file('x'), lo_get(1), ts_stat('select 1')",
            "? ? ? ?",
        ),
        ("SELECT nosuch(1)", "?"),
        ("SELECT (c).fullname FROM customers c", "ssn+email"),
        ("SELECT c.sneaky FROM customers c", "ssn+email+?"),
        ("SELECT * FROM rows()", "? ?"),
        ("SELECT * FROM ext.dblink('x')", "unknown "),
        ("SELECT a FROM ext.dblink('x') AS t(a text)", "?"),
        ("SELECT 'a' %%% 'b'", "?"),
        (
            "SELECT current_setting('my.variable'), current_setting(name) FROM customers",
            "? ?",
        ),
        ("SELECT x FROM absent_table", "?"),
        ("SELECT * FROM absent_table", "unknown "),
        ("EXPLAIN SELECT sneaky(1)", "?"),
        (
            "SELECT * FROM (SELECT * FROM absent_table) s(a, b), customers",
            "unknown ssn email",
        ),
    ]);
}
