//! Statements that are no queries.

use pg_query::NodeEnum;

use super::{act, case, check, only};
use crate::protocol::postgres::sql::{
    Access, Act, Columns, Copy, Discard, Endpoint, Format, Header, Setting, Source, copy::copy_of,
};

#[test]
fn what_runs_other_statements() {
    check(&[
        case("explain select * from t", "explain select")
            .reads("t")
            .act("Explain { analyze: false"),
        case("explain delete from t", "delete explain")
            .reads("t")
            .filtered(false)
            .act("Explain { analyze: false"),
        case("explain analyze delete from t", "delete explain")
            .writes("t")
            .filtered(false)
            .act("Explain { analyze: true"),
        case(
            "explain (costs off, analyze) update t set a = 1 where id = 1",
            "explain update",
        )
        .reads("t")
        .writes("t")
        .filtered(true)
        .act("Explain { analyze: true"),
        case("explain (analyze off) insert into t values (1)", "explain insert")
            .reads("t")
            .act("Explain { analyze: false"),
        case(
            "explain (analyze false, analyze true) insert into t values (1)",
            "explain insert",
        )
        .writes("t")
        .act("Explain { analyze: true"),
        case(
            "explain (analyze 0) create table x as select * from t",
            "create explain select",
        )
        .reads("t x")
        .act("Explain { analyze: false"),
        case(
            "explain analyze create table x as select * from t",
            "create explain select",
        )
        .reads("t")
        .writes("x")
        .admin("Explain { analyze: true"),
        case("explain select f()", "explain select")
            .calls("f")
            .incomplete("unknown_function")
            .act("Explain"),
        case("explain analyze execute p", "execute explain")
            .incomplete("prepared")
            .act("Explain { analyze: true"),
    ]);
}

#[test]
fn what_names_other_statements() {
    check(&[
        case("prepare p as delete from t", "delete prepare")
            .writes("t")
            .filtered(false)
            .act("Prepare { name: \"p\""),
        case(
            "prepare p (int) as select * from t where id = $1",
            "prepare select",
        )
        .reads("t")
        .act("Prepare"),
        case("execute p(1, (select x from t))", "execute select")
            .reads("t")
            .incomplete("prepared")
            .act("Execute"),
        case("create table x as execute p", "create execute")
            .writes("x")
            .incomplete("prepared")
            .admin("Ddl"),
        case("deallocate p", "deallocate").act("Deallocate { name: Some(\"p\")"),
        case("deallocate prepare all", "deallocate").act("Deallocate { name: None"),
        case("declare c cursor for select * from t", "declare select")
            .reads("t")
            .act("Declare { cursor: \"c\""),
        case(
            "declare c binary scroll cursor with hold for select * from t for update",
            "declare lock select",
        )
        .reads("t")
        .writes("t")
        .act("Declare { cursor: \"c\", hold: true, binary: true"),
        case("fetch all from c", "fetch")
            .incomplete("cursor")
            .act("Fetch"),
        case("move 5 in c", "move").incomplete("cursor").act("Move"),
        case("close c", "close").act("Close { cursor: Some(\"c\")"),
        case("close all", "close").act("Close { cursor: None"),
        case("call p(1, f())", "call")
            .calls("f p")
            .access(Access::Write)
            .incomplete("call unknown_function")
            .act("Code"),
        case("do 'begin perform 1; end'", "do")
            .incomplete("do_block")
            .admin("Code"),
        case(
            "do $$begin delete from s.t; execute 'drop table x'; end$$",
            "delete do execute",
        )
        .writes("s.t")
        .filtered(false)
        .incomplete("do_block dynamic_execute")
        .admin("Code"),
        case("do language plpython3u $$import os$$", "do")
            .incomplete("do_block")
            .admin("Code"),
    ]);
    assert!(only("execute p").facts.executes.contains("p"));
    assert!(only("fetch c").facts.cursors.contains("c"));
    assert!(
        only("delete from t where current of c")
            .facts
            .cursors
            .contains("c")
    );
}

#[test]
fn copy() {
    check(&[
        case("copy t to stdout", "copy select").reads("t").act("CopyOut"),
        case(
            "copy s.t (a, b) from stdin where a > (select 1)",
            "copy insert select",
        )
        .writes("s.t")
        .act("CopyIn"),
        case("copy (select * from t) to stdout csv", "copy select")
            .reads("t")
            .act("CopyOut"),
        case("copy (delete from t returning *) to stdout", "copy delete")
            .reads("t")
            .writes("t")
            .filtered(false)
            .act("CopyOut"),
        case("copy t to '/tmp/x'", "copy select")
            .reads("t")
            .admin("CopyElsewhere"),
        case("copy t from '/tmp/x'", "copy insert")
            .writes("t")
            .admin("CopyElsewhere"),
        case("copy t to program 'curl'", "copy select")
            .reads("t")
            .admin("CopyElsewhere"),
        case("copy t from program 'sh'", "copy insert")
            .writes("t")
            .admin("CopyElsewhere"),
        case("copy t to stdout (format other)", "copy select")
            .reads("t")
            .incomplete("copy_option")
            .act("CopyOut"),
        case("copy t to stdout (new_option)", "copy select")
            .reads("t")
            .incomplete("copy_option")
            .act("CopyOut"),
        case("copy t to stdout (null 'a', null 'b')", "copy select")
            .reads("t")
            .incomplete("copy_option")
            .act("CopyOut"),
    ]);
}

fn copied(sql: &str) -> Copy {
    match only(sql).tree.as_ref().and_then(|tree| tree.node.as_ref()) {
        Some(NodeEnum::CopyStmt(copy)) => copy_of(copy),
        other => panic!("{sql}: {other:?}"),
    }
}

#[test]
fn options_of_copy() {
    let text = copied("copy s.t (\"A\", b) to stdout");
    assert!(matches!(&text.source, Source::Relation { name, columns }
        if name.to_string() == "s.t" && columns.iter().map(|c| &**c).eq(["A", "b"])));
    assert_eq!(
        (text.format, text.delimiter, &*text.null, text.header),
        (Format::Text, b'\t', "\\N", Header::No)
    );
    let csv = copied(
        "copy t to stdout csv header delimiter ';' quote '\"' escape '\\' force quote a, b encoding 'LATIN1'",
    );
    assert_eq!(
        (csv.format, csv.delimiter, &*csv.null, csv.header),
        (Format::Csv, b';', "", Header::Yes)
    );
    assert_eq!(
        (csv.quote, csv.escape, csv.encoding.as_deref()),
        (b'"', b'\\', Some("LATIN1"))
    );
    assert_eq!(csv.force_quote, Columns::Some(vec!["a".into(), "b".into()]));
    let csv = copied(
        "copy (select 1) to stdout with (format csv, quote '''', null 'NIL', force_quote *, header off)",
    );
    assert_eq!(
        (csv.quote, csv.escape, &*csv.null, csv.header),
        (b'\'', b'\'', "NIL", Header::No)
    );
    assert_eq!((csv.force_quote, csv.source), (Columns::All, Source::Query));
    assert_eq!(
        copied("copy t from stdin (format csv, header match)").header,
        Header::Match
    );
    assert_eq!(copied("copy binary t to stdout").format, Format::Binary);
    assert_eq!(
        copied("copy t from stdin with (format 'binary', freeze)").format,
        Format::Binary
    );
    assert_eq!(copied("copy t to program ''").endpoint, Endpoint::Program);
    assert_eq!(copied("copy t to '/x'").endpoint, Endpoint::File);
    assert_eq!(copied("copy t to stdout using delimiters '|'").delimiter, b'|');
    for sql in [
        "copy t to stdout (delimiter 'ab')",
        "copy t to stdout (header 'maybe')",
        "copy t to stdout (format 'CSV')",
    ] {
        assert!(!copied(sql).understood, "{sql}");
    }
}

#[test]
fn definitions() {
    check(&[
        case(
            "create table s.t (a int default f(), b int references u check (b > 0), like v)",
            "create",
        )
        .reads("u v")
        .writes("s.t")
        .calls("f")
        .incomplete("unknown_function")
        .admin("Ddl"),
        case("create temp table t (a int)", "create")
            .writes("t")
            .admin("Ddl"),
        case("create table t partition of p for values in (1)", "create")
            .writes("p t")
            .admin("Ddl"),
        case("create table t as select * from u", "create select")
            .reads("u")
            .writes("t")
            .admin("Ddl"),
        case("select * into s.t from u", "create select")
            .reads("u")
            .writes("s.t")
            .admin("Ddl"),
        case("select 1 into t union select 2 from u", "create select")
            .reads("u")
            .writes("t")
            .admin("Ddl"),
        case("with x as (select 1) select * into x from x", "create select")
            .writes("x")
            .admin("Ddl"),
        case("create view v as select * from t", "create select")
            .reads("t")
            .writes("v")
            .admin("Ddl"),
        case("create materialized view v as select * from t", "create select")
            .reads("t")
            .writes("v")
            .admin("Ddl"),
        case("refresh materialized view s.v", "refresh")
            .writes("s.v")
            .admin("Ddl"),
        case("create index on t (lower(a)) where b", "create")
            .writes("t")
            .calls("lower")
            .admin("Ddl"),
        case(
            "create rule r as on select to t do instead select * from u",
            "create select",
        )
        .reads("u")
        .writes("t")
        .admin("Ddl"),
        case(
            "create rule r as on insert to t do also delete from u",
            "create delete",
        )
        .writes("t u")
        .filtered(false)
        .admin("Ddl"),
        case(
            "create trigger g after insert on t execute function f()",
            "create",
        )
        .writes("t")
        .admin("Ddl"),
    ]);
}

#[test]
fn functions_and_other_objects() {
    check(&[
        case(
            "create function f() returns int language sql as 'delete from t; select 1'",
            "create delete select",
        )
        .writes("t")
        .filtered(false)
        .admin("Ddl"),
        case(
            "create function f() returns int begin atomic delete from t; select 1; end",
            "create delete select",
        )
        .writes("t")
        .filtered(false)
        .admin("Ddl"),
        case(
            "create procedure p() language plpgsql as $$begin execute 'x'; end$$",
            "create execute",
        )
        .admin("Ddl"),
        case(
            "create schema s create table t (a int) create view v as select * from u",
            "create select",
        )
        .reads("u")
        .writes("s.* t v")
        .admin("Ddl"),
        case("create extension dblink", "create").admin("Ddl"),
        case("create role r login password 'x'", "create").admin("Ddl"),
        case(
            "create subscription s connection 'host=x' publication p",
            "create",
        )
        .admin("Ddl"),
        case("create publication p for table t where (a > 1)", "create")
            .writes("t")
            .admin("Ddl"),
        case("create policy p on t using (a = current_user)", "create")
            .writes("t")
            .admin("Ddl"),
        case("create statistics x on a, b from t", "create")
            .writes("t")
            .admin("Ddl"),
        case("create sequence s owned by t.a", "create")
            .writes("s")
            .admin("Ddl"),
    ]);
}

#[test]
fn alterations() {
    check(&[
        case("alter table s.t add column c int, drop constraint d", "alter")
            .writes("s.t")
            .admin("Ddl"),
        case("alter table t attach partition p default", "alter")
            .writes("p t")
            .admin("Ddl"),
        case("alter table t rename to u", "alter")
            .writes("t")
            .admin("Ddl"),
        case("alter table t set schema s", "alter")
            .writes("s.* t")
            .admin("Ddl"),
        case("alter schema a rename to b", "alter")
            .writes("a.* b.*")
            .admin("Ddl"),
        case("alter schema a owner to b", "alter")
            .writes("a.*")
            .admin("Ddl"),
        case("alter system set x = 1", "alter").admin("Ddl"),
        case("alter role r set search_path = x", "alter").admin("Ddl"),
        case("alter default privileges grant select on tables to x", "alter").admin("Ddl"),
        case("alter function f() owner to x", "alter").admin("Ddl"),
        case("drop table a, s.b cascade", "drop")
            .writes("a s.b")
            .admin("Ddl"),
        case("drop view v", "drop").writes("v").admin("Ddl"),
        case("drop schema s cascade", "drop").writes("s.*").admin("Ddl"),
        case("drop trigger g on s.t", "drop").writes("s.t").admin("Ddl"),
        case("drop function f(int)", "drop").admin("Ddl"),
        case("drop database d", "drop").admin("Ddl"),
        case("drop owned by r", "drop").admin("Ddl"),
        case("truncate a, only s.b", "truncate")
            .writes("a s.b")
            .admin("Ddl"),
    ]);
}

#[test]
fn grants_and_maintenance() {
    check(&[
        case("comment on table s.t is 'x'", "comment")
            .writes("s.t")
            .admin("Ddl"),
        case("comment on column s.t.c is 'x'", "comment")
            .writes("s.t")
            .admin("Ddl"),
        case("security label on table t is 'x'", "security_label")
            .writes("t")
            .admin("Ddl"),
        case("grant select on s.t to r", "grant")
            .writes("s.t")
            .admin("Ddl"),
        case("grant all on all tables in schema a, b to r", "grant")
            .writes("a.* b.*")
            .admin("Ddl"),
        case("grant usage on schema s to r", "grant")
            .writes("s.*")
            .admin("Ddl"),
        case("revoke all on t from public", "revoke")
            .writes("t")
            .admin("Ddl"),
        case("grant admin_role to me", "grant").admin("Ddl"),
        case("reassign owned by a to b", "reassign").admin("Ddl"),
        case("import foreign schema x from server y into s", "import")
            .writes("s.*")
            .admin("Ddl"),
        case("vacuum full s.t", "vacuum").writes("s.t").admin("Ddl"),
        case("analyze t (a)", "analyze").writes("t").admin("Ddl"),
        case("cluster t using i", "cluster").writes("t").admin("Ddl"),
        case("reindex table t", "reindex").writes("t").admin("Ddl"),
        case("reindex schema s", "reindex").writes("s.*").admin("Ddl"),
        case("load '/tmp/x.so'", "load").admin("Ddl"),
        case("checkpoint", "checkpoint").admin("Ddl"),
    ]);
}

#[test]
fn sessions() {
    check(&[
        case("begin isolation level serializable read only", "begin").act("Begin"),
        case("start transaction", "begin").act("Begin"),
        case("commit", "commit").act("Commit"),
        case("end and chain", "commit").act("Commit"),
        case("rollback and chain", "rollback").act("Rollback"),
        case("abort", "rollback").act("Rollback"),
        case("savepoint \"A b\"", "savepoint").act("Savepoint"),
        case("release s", "release").act("Release"),
        case("rollback to savepoint s", "rollback").act("RollbackTo"),
        case("prepare transaction 'x'", "prepare_transaction")
            .access(Access::Write)
            .act("PrepareTransaction"),
        case("commit prepared 'x'", "commit_prepared")
            .access(Access::Write)
            .act("FinishPrepared"),
        case("rollback prepared 'x'", "rollback_prepared")
            .access(Access::Write)
            .act("FinishPrepared"),
        case("set search_path to a, \"B\"", "set").act("Set"),
        case("set local statement_timeout = 5", "set").act("Set"),
        case("set timezone to default", "set").act("Set"),
        case("set app.tenant = 'x'", "set")
            .access(Access::Write)
            .act("Set"),
        case("set role postgres", "set").access(Access::Admin).act("Set"),
        case("set \"ROLE\" = postgres", "set")
            .access(Access::Admin)
            .act("Set"),
        case("set session authorization default", "set")
            .access(Access::Admin)
            .act("Set"),
        case("set session_replication_role = replica", "set")
            .access(Access::Admin)
            .act("Set"),
        case("set transaction read write", "set").act("SetTransaction"),
        case("set session characteristics as transaction read only", "set").act("SetTransaction"),
        case("set constraints all deferred", "set"),
        case("reset all", "reset").act("Reset { name: None"),
        case("reset role", "reset").access(Access::Admin).act("Reset"),
        case("reset search_path", "reset").act("Reset { name: Some(\"search_path\")"),
        case("show all", "show"),
        case("show search_path", "show"),
        case("discard all", "discard").act("Discard(All)"),
        case("discard temp", "discard").act("Discard(Temp)"),
        case("listen x", "listen"),
        case("unlisten *", "unlisten"),
        case("notify x, 'y'", "notify").access(Access::Write),
        case("lock table t", "lock").writes("t"),
        case("lock table s.t in access share mode", "lock").reads("s.t"),
        case("lock t in row share mode", "lock").writes("t"),
    ]);
    let Act::Set(set) = act("set local search_path to a, \"B\", 'c', 4") else {
        panic!();
    };
    let values = ["a", "B", "c", "4"].map(Into::into).to_vec();
    assert_eq!(
        set,
        Setting {
            name: "search_path".into(),
            values: Some(values),
            local: true,
        }
    );
}

#[test]
fn what_changes_the_session() {
    for sql in [
        "set search_path = x",
        "set role x",
        "set client_encoding = latin1",
        "set names 'latin1'",
        "set standard_conforming_strings = off",
        "reset all",
        "discard all",
        "discard temp",
        "create table t (a int)",
        "drop view v",
        "select 1 into t",
        "do 'x'",
        "call p()",
        "select f()",
        "select set_config('search_path', '', false)",
        "explain analyze select f()",
        "explain analyze create table t as select 1",
        "update pg_settings set setting = 'x' where name = 'search_path'",
        "rollback",
        "commit",
        "execute p",
    ] {
        assert!(only(sql).changes_session(), "{sql}");
    }
    for sql in [
        "select lower(a) from t",
        "insert into t values (1)",
        "set statement_timeout = 1",
        "begin",
        "savepoint x",
        "copy t from stdin",
        "explain create table t as select 1",
        "prepare p as select 1",
        "discard plans",
    ] {
        assert!(!only(sql).changes_session(), "{sql}");
    }
    assert!(matches!(
        act("discard sequences"),
        Act::Discard(Discard::Sequences)
    ));
    assert!(act("rollback to x").ends_transaction() && !act("begin").ends_transaction());
}
