//! Queries and what changes rows.

use super::{case, check};
use crate::protocol::postgres::sql::Access;

#[test]
fn what_only_reads() {
    check(&[
        case("select 1", "select"),
        case("select * from t", "select").reads("t"),
        case("select * from S.T, \"S\".\"T\"", "select").reads("S.T s.t"),
        case("select * from only (a.t) where x = 1", "select").reads("a.t"),
        case("table a.t", "select").reads("a.t"),
        case("values (1), ((select max(x) from t))", "select")
            .reads("t")
            .calls("max"),
        case(
            "select * from a join b using (id) left join c on true, d",
            "select",
        )
        .reads("a b c d"),
        case(
            "select * from (select * from a) x, lateral (select * from b where b.i = x.i) y",
            "select",
        )
        .reads("a b"),
        case(
            "select (select x from a), exists (select from b), array(select 1 from c)",
            "select",
        )
        .reads("a b c"),
        case(
            "select * from t where x in (select y from u where z = any (select 1 from v))",
            "select",
        )
        .reads("t u v"),
        case(
            "select 1 from a union select 2 from b except (select 3 from c intersect table d)",
            "select",
        )
        .reads("a b c d"),
        case(
            "select x from t group by x having max(y) > (select 1 from u)",
            "select",
        )
        .reads("t u")
        .calls("max"),
        case(
            "select x from t order by (select 1 from u) limit (select 2 from v) offset (select 3 from w)",
            "select",
        )
        .reads("t u v w"),
        case("select distinct on ((select 1 from u)) x from t", "select").reads("t u"),
        case("select distinct x from t", "select").reads("t"),
        case(
            "select row_number() over (partition by (select 1 from u) order by x) from t",
            "select",
        )
        .reads("t u")
        .calls("row_number"),
        case(
            "select sum(x) over w from t window w as (order by (select 1 from u))",
            "select",
        )
        .reads("t u")
        .calls("sum"),
        case(
            "select count(*) filter (where exists (select from u)) from t",
            "select",
        )
        .reads("t u")
        .calls("count"),
        case(
            "select string_agg(x, ',' order by (select 1 from u)) from t",
            "select",
        )
        .reads("t u")
        .calls("string_agg"),
    ]);
}

#[test]
fn expressions() {
    check(&[
        case(
            "select case when a then (select 1 from u) else coalesce(b, (select 2 from v)) end from t",
            "select",
        )
        .reads("t u v"),
        case(
            "select array[(select 1 from u)], row((select 1 from v)), (x).y[(select 1 from w)] from t",
            "select",
        )
        .reads("t u v w"),
        case("select t from t", "select").reads("t"),
        case("select * from t tablesample system (1)", "select").reads("t"),
        case("select * from t for no key update of nothing", "lock select")
            .reads("t")
            .access(Access::Write),
        case(
            "select * from generate_series(1, (select max(x) from t)) g",
            "select",
        )
        .reads("t")
        .calls("generate_series max"),
        case(
            "select * from rows from (unnest(array[1]), json_to_record('{}') as (a int)) x",
            "select",
        )
        .calls("json_to_record unnest"),
        case(
            "select * from xmltable('/a' passing (select d from docs) columns x int path 'b')",
            "select",
        )
        .reads("docs"),
        case(
            "select * from json_table((select d from docs), '$' columns (x int path '$.x'))",
            "select",
        )
        .reads("docs"),
        case(
            "select json_object('a': (select 1 from u)), json_arrayagg((select 1 from v))",
            "select",
        )
        .reads("u v"),
        case("select json_array(select x from t)", "select").reads("t"),
        case(
            "select xmlelement(name a, xmlattributes((select 1 from u) as b), (select 1 from v))",
            "select",
        )
        .reads("u v"),
        case("select current_user, current_date, localtimestamp(2)", "select"),
        case(
            "select x::text, cast(y as s.custom), 'now'::timestamptz from t",
            "select",
        )
        .reads("t"),
    ]);
}

#[test]
fn functions_of_the_grammar() {
    check(&[
        case(
            "select extract(year from d), substring(s from 1 for 2), d at time zone 'UTC', trim(s) from t",
            "select",
        )
        .reads("t")
        .calls("pg_catalog.btrim pg_catalog.extract pg_catalog.substring pg_catalog.timezone"),
        case(
            "select x similar to 'a', x like 'b' escape 'c', (a, b) overlaps (c, d) from t",
            "select",
        )
        .reads("t")
        .calls("pg_catalog.like_escape pg_catalog.overlaps pg_catalog.similar_to_escape"),
        case(
            "select grouping(a), merge_action() from t group by rollup (a, (select 1 from u))",
            "select",
        )
        .reads("t u"),
        case(
            "select a + b, a operator(pg_catalog.*) b, -a, a is distinct from b from t",
            "select",
        )
        .reads("t"),
        case("select * from t order by x using <", "select").reads("t"),
        case("select $1::int, $2", "select"),
        case("select * from information_schema.tables", "select").reads("information_schema.tables"),
        case("select * from d.s.t", "select").reads("s.t"),
    ]);
}

#[test]
fn names_of_ctes() {
    check(&[
        case("with x as (select * from t) select * from x", "select").reads("t"),
        // Not recursive: inside, the name is the relation's.
        case("with t as (select * from t) select * from t", "select").reads("t"),
        case(
            "with recursive t as (select 1 union all select * from t) select * from t",
            "select",
        ),
        case(
            "with a as (select * from b), b as (select * from a) select * from a, b",
            "select",
        )
        .reads("b"),
        case(
            "with recursive a as (select * from b), b as (select * from u) select * from a",
            "select",
        )
        .reads("u"),
        case("with x as (select 1) select * from s.x, x", "select").reads("s.x"),
        case(
            "with x as (select 1) select (select 1 from x), * from (with y as (table x) table y) z, y",
            "select",
        )
        .reads("y"),
        case(
            "select * from (with x as (select 1) select * from x) s, x",
            "select",
        )
        .reads("x"),
        case("(with x as (select 1) table x) union all table x", "select").reads("x"),
        case(
            "with x as (select 1) (with x as (table x) table x) union all table x",
            "select",
        ),
        // The target of a write is a relation whatever CTEs are called.
        case(
            "with x as (select 1) delete from x where id in (table x)",
            "delete select",
        )
        .reads("x")
        .writes("x")
        .filtered(true),
        case(
            "with x as (select 1) insert into x select * from x",
            "insert select",
        )
        .writes("x"),
        case(
            "with x as (select 1) update t set a = (select 1 from x) from x",
            "select update",
        )
        .reads("t")
        .writes("t")
        .filtered(false),
        case(
            "insert into t with t as (select * from u) select * from t",
            "insert select",
        )
        .reads("u")
        .writes("t"),
        case(
            "with recursive s as (select 1 as n union all select n from s) search depth first by n set o select * from s",
            "select",
        ),
        case(
            "with x as materialized (select 1) select * from x for update",
            "lock select",
        )
        .access(Access::Write),
    ]);
}

#[test]
fn what_changes_rows() {
    check(&[
        case("insert into t values (1)", "insert").writes("t"),
        case("insert into s.t (a, b) values (default, (select max(x) from u))", "insert select")
            .reads("u")
            .writes("s.t")
            .calls("max"),
        case("insert into t default values returning *", "insert").reads("t").writes("t"),
        case("insert into t select * from u", "insert select").reads("u").writes("t"),
        case("insert into t table u", "insert select").reads("u").writes("t"),
        case("insert into t values (1) on conflict do nothing", "insert").reads("t").writes("t"),
        case(
            "insert into t values (1) on conflict (a) where b do update set c = (select 1 from u) where t.d",
            "insert select update",
        )
        .reads("t u")
        .writes("t")
        .filtered(true),
        case("insert into t values (1) returning (select x from u)", "insert select").reads("t u").writes("t"),
        case("update t set a = 1", "update").reads("t").writes("t").filtered(false),
        case("update t set a = 1 where id = $1", "update").reads("t").writes("t").filtered(true),
        case("update only s.t as x set (a, b) = (select c, d from u) from v where x.id = v.id", "select update")
            .reads("s.t u v")
            .writes("s.t")
            .filtered(true),
        case("delete from t", "delete").writes("t").filtered(false),
        case("delete from t returning *", "delete").reads("t").writes("t").filtered(false),
        case("delete from t using u where t.id = u.id", "delete").reads("t u").writes("t").filtered(true),
        case("delete from t where current of c", "delete").reads("t").writes("t").filtered(true),
        case(
            "merge into t using u on t.id = u.id when matched then update set a = 1 when not matched then insert values (1)",
            "insert merge update",
        )
        .reads("t u")
        .writes("t")
        .filtered(true),
        case("merge into t using (select * from u) x on true when matched then delete", "delete merge select")
            .reads("t u")
            .writes("t")
            .filtered(false),
        case("merge into t using u on t.id = u.id when not matched by source then delete", "delete merge")
            .reads("t u")
            .writes("t")
            .filtered(false),
        case("merge into t using u on t.id = u.id when matched then do nothing", "merge").reads("t u").writes("t"),
        case(
            "with d as (delete from t where id = 1 returning *), i as (insert into l select * from d) select * from d",
            "delete insert select",
        )
        .reads("t")
        .writes("l t")
        .filtered(true),
        case("with u as (update t set a = 1 returning a) delete from v where id = 1", "delete update")
            .reads("t v")
            .writes("t v")
            .filtered(false),
    ]);
}

#[test]
fn a_where_that_leaves_nothing_out() {
    for (condition, has) in [
        ("true", false),
        ("1 = 1", false),
        ("$1", false),
        ("now() is not null", false),
        ("id = id", false),
        ("id = 1 or true", false),
        ("id = 1 or 1 = 1", false),
        ("not (id = 1 and false)", false),
        ("not false", false),
        ("true and (true or id = 1)", false),
        ("exists (select 1)", false),
        ("id = 1", true),
        ("id = 1 or id = 2", true),
        ("id = 1 and true", true),
        ("not (id = 1 or true)", true),
        ("lower(name) = 'x'", true),
        ("exists (select 1 from u where u.id = t.id)", true),
        ("id in (1, 2)", true),
    ] {
        for sql in [
            format!("delete from t where {condition}"),
            format!("update t set a = 1 where {condition}"),
        ] {
            assert_eq!(super::only(&sql).facts.has_where, Some(has), "{sql}");
        }
    }
}

#[test]
fn rows_that_are_locked() {
    check(&[
        case("select * from t for update", "lock select")
            .reads("t")
            .writes("t"),
        case(
            "select * from a join s.b on true for share of b skip locked",
            "lock select",
        )
        .reads("a s.b")
        .writes("s.b"),
        case("select * from a x, b for update of x nowait", "lock select")
            .reads("a b")
            .writes("a"),
        case(
            "select * from (select * from a) x, b for key share of x",
            "lock select",
        )
        .reads("a b")
        .writes("a"),
        case("select * from (select * from a for update) x", "lock select")
            .reads("a")
            .writes("a"),
    ]);
}

#[test]
fn functions() {
    check(&[
        case("select wipe()", "select")
            .calls("wipe")
            .incomplete("unknown_function"),
        case("select s.lower('x')", "select")
            .calls("s.lower")
            .incomplete("unknown_function"),
        case("select pg_catalog.lower('x'), upper('y')", "select").calls("pg_catalog.lower upper"),
        case("select * from t where f(x) > 1 order by g(y)", "select")
            .reads("t")
            .calls("f g")
            .incomplete("unknown_function"),
        case("select * from f() x", "select")
            .calls("f")
            .incomplete("unknown_function"),
        case("insert into t values (f())", "insert")
            .writes("t")
            .calls("f")
            .incomplete("unknown_function"),
        case("select nextval('S.seq')", "select")
            .writes("s.seq")
            .calls("nextval"),
        case("select setval('seq'::regclass, 1), currval('seq')", "select")
            .writes("seq")
            .calls("currval setval"),
        case("select nextval($1)", "select")
            .access(Access::Write)
            .calls("nextval")
            .incomplete("unknown_function"),
        case("select pg_sleep(10)", "select")
            .access(Access::Write)
            .calls("pg_sleep"),
        case("select pg_advisory_lock(1), pg_advisory_unlock_all()", "select")
            .access(Access::Write)
            .calls("pg_advisory_lock pg_advisory_unlock_all"),
        case("select pg_advisory_unlock_all()", "select").calls("pg_advisory_unlock_all"),
        case("select pg_read_file('/etc/passwd')", "select")
            .access(Access::Admin)
            .calls("pg_read_file"),
        case("select pg_terminate_backend(1)", "select")
            .access(Access::Admin)
            .calls("pg_terminate_backend"),
        case("select lo_import('/etc/passwd')", "select")
            .access(Access::Admin)
            .calls("lo_import"),
        case("select lo_get(1)", "select")
            .reads("pg_catalog.pg_largeobject")
            .calls("lo_get"),
        case("select lo_put(1, 0, 'x')", "select")
            .reads("pg_catalog.pg_largeobject")
            .writes("pg_catalog.pg_largeobject")
            .calls("lo_put"),
        case("select query_to_xml('delete from t', true, true, '')", "select")
            .calls("query_to_xml")
            .incomplete("dynamic_execute"),
        case("select ts_stat('select secret from t')", "select")
            .calls("ts_stat")
            .incomplete("dynamic_execute"),
        case("select dblink('', 'delete from t')", "select")
            .calls("dblink")
            .incomplete("unknown_function"),
        case("select set_config('search_path', '', false)", "select set").calls("set_config"),
        case(
            "select pg_catalog.set_config('role', 'postgres', false)",
            "select set",
        )
        .access(Access::Admin)
        .calls("pg_catalog.set_config"),
        case("select set_config('app.tenant', 'x', true)", "select set")
            .access(Access::Write)
            .calls("set_config"),
        case("select set_config(x, 'y', false) from t", "select")
            .reads("t")
            .access(Access::Admin)
            .calls("set_config")
            .incomplete("unknown_function"),
        case("select a ==> b from t", "select")
            .reads("t")
            .incomplete("unknown_operator"),
        case("select a operator(evil.+) b from t", "select")
            .reads("t")
            .incomplete("unknown_operator"),
        case("select * from t where a ==> any (select b from u)", "select")
            .reads("t u")
            .incomplete("unknown_operator"),
        case("select * from t order by a using operator(evil.<)", "select")
            .reads("t")
            .incomplete("unknown_operator"),
        case("select * from t tablesample evil(1)", "select")
            .reads("t")
            .calls("evil")
            .incomplete("unknown_function"),
    ]);
}
