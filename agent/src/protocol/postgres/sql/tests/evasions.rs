//! Ways to make a statement look like another one, and texts that are refused.

use super::{case, check, kind, only};
use crate::protocol::postgres::sql::{Access, Kind, understand};

#[test]
fn disguises() {
    check(&[
        case("DeLeTe/**/FrOm\tt", "delete").writes("t").filtered(false),
        case("-- select 1\ndelete from t", "delete")
            .writes("t")
            .filtered(false),
        case(
            "/* select /* nested */ 1; */ delete from t -- where id = 1",
            "delete",
        )
        .writes("t")
        .filtered(false),
        case("select '; delete from t; --'", "select"),
        case("select E'\\'; delete from t; --'", "select"),
        case("select $$'; delete from t; --$$, $a$ $b$ $$ $a$", "select"),
        case("select \"delete\" from \"t; drop table x\"", "select").reads("t; drop table x"),
        case("delete from U&\"\\0074\"", "delete")
            .writes("t")
            .filtered(false),
        case("delete from U&\"!0074\" uescape '!'", "delete")
            .writes("t")
            .filtered(false),
        case("delete from \"T\"", "delete").writes("T").filtered(false),
        case("delete from PG_CATALOG.pg_CLASS where oid = 1", "delete")
            .reads("pg_catalog.pg_class")
            .writes("pg_catalog.pg_class")
            .access(Access::Admin)
            .filtered(true),
        case("with x as (delete from t returning 1) select 1", "delete select")
            .reads("t")
            .writes("t")
            .filtered(false),
        case(
            "select * from a where exists (select 1) union all (with q as (select 1) select * from b)",
            "select",
        )
        .reads("a b"),
    ]);
}

#[test]
fn wrappers() {
    check(&[
        case(
            "explain (analyze, verbose) with x as (delete from t) select 1",
            "delete explain select",
        )
        .writes("t")
        .filtered(false)
        .act("Explain { analyze: true"),
        case("explain (\"analyze\") delete from t", "delete explain")
            .writes("t")
            .filtered(false)
            .act("Explain { analyze: true"),
        case("explain (\"ANALYZE\" 'nonsense') delete from t", "delete explain")
            .writes("t")
            .filtered(false)
            .act("Explain { analyze: true"),
        case(
            "prepare p as with x as (delete from t) select 1",
            "delete prepare select",
        )
        .writes("t")
        .filtered(false)
        .act("Prepare"),
        case(
            "copy (with x as (update t set a = 1) select 1) to stdout",
            "copy select update",
        )
        .reads("t")
        .writes("t")
        .filtered(false)
        .act("CopyOut"),
        case("select into t", "create select").writes("t").admin("Ddl"),
        case(
            "select (select pg_sleep(1) from (values (lo_import('/x'))) v)",
            "select",
        )
        .calls("lo_import pg_sleep")
        .access(Access::Admin),
        case("select x from t fetch first (select f()) rows only", "select")
            .reads("t")
            .calls("f")
            .incomplete("unknown_function"),
        case("values (wipe())", "select")
            .calls("wipe")
            .incomplete("unknown_function"),
        case("insert into t values (1) on conflict (f(a)) do nothing", "insert")
            .reads("t")
            .writes("t")
            .calls("f")
            .incomplete("unknown_function"),
        case(
            "merge into t using u on f() when not matched then insert values (g())",
            "insert merge",
        )
        .reads("t u")
        .writes("t")
        .calls("f g")
        .incomplete("unknown_function"),
        case(
            "update pg_settings set setting = 'postgres' where name = 'role'",
            "update",
        )
        .reads("pg_settings")
        .writes("pg_settings")
        .access(Access::Admin)
        .filtered(true),
        case("show all;", "show"),
        case("  ;; select 1 ; ; ", "select"),
        case("select \u{feff}1", "select"),
    ]);
}

#[test]
fn names_are_folded_and_cut_as_the_server_does() {
    let written = |name: &str| {
        let facts = only(&format!("delete from {name}")).facts;
        facts.writes.first().unwrap().to_string()
    };
    assert_eq!(written(&"x".repeat(70)), "x".repeat(63));
    assert_eq!(written("\u{c9}T\u{c9}"), "\u{c9}t\u{c9}");
    // Between characters, never inside one.
    assert_eq!(written(&format!("{}\u{e9}", "x".repeat(62))), "x".repeat(62));
    assert_eq!(
        written(&format!("\"{}\u{20ac}y\"", "x".repeat(61))),
        "x".repeat(61)
    );
}

#[test]
fn what_is_refused() {
    for sql in [
        "sel",
        "select 1 select 2",
        "select 1; delete from",
        "select 'open",
        "select $$open",
        "select /* open",
        "\\d",
        "delete from t where",
        "select 123abc",
        "select E'\\xff'",
    ] {
        assert_eq!(kind(sql), Kind::Syntax, "{sql}");
    }
    assert_eq!(super::refused("select\0 1").position, Some(6));
    assert_eq!(kind(&format!("select 1 {}", " ".repeat(1 << 20))), Kind::TooLong);
    assert_eq!(kind(&"select 1;".repeat(1001)), Kind::TooMany);
    assert_eq!(
        kind(&format!("select {}1", "-+".repeat(100_000))),
        Kind::Operators
    );
    let refused = super::refused("sel 'secret'");
    assert!(!refused.to_string().contains("sel"), "{refused}");
    assert!(refused.detail.unwrap().contains("sel"));
}

/// On the stack of a worker thread: the agent must outlive any text.
fn on_a_small_stack<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(f)
        .unwrap()
        .join()
        .unwrap()
}

#[test]
fn nesting_ends_in_an_answer() {
    on_a_small_stack(|| {
        for n in [30, 45, 60, 100, 1000, 10_000, 100_000] {
            for (open, close) in [
                ("(", ")"),
                ("(select ", ")"),
                ("f(", ")"),
                ("array[", "]"),
                ("not ", ""),
                ("case when true then ", " end"),
                ("1+", ""),
                ("a||", ""),
                ("coalesce(", ")"),
            ] {
                let text = format!("select {}1{}", open.repeat(n), close.repeat(n));
                match understand(&text) {
                    Ok(_) => {}
                    Err(e) => assert!(
                        matches!(e.kind, Kind::TooDeep | Kind::TooLong | Kind::TooManyTokens),
                        "{open} {n}: {e:?}"
                    ),
                }
            }
            for repeated in [
                " union all select 1",
                " join u on true",
                " , lateral (select 1) x",
            ] {
                let _ = understand(&format!("select 1 from t{}", repeated.repeat(n)));
            }
        }
    });
}

#[test]
fn what_is_too_deep_is_incomplete() {
    let chain = "||a".repeat(80);
    check(&[
        case(
            Box::leak(format!("select a{chain} from s.t where lower(x) = 'y'").into()),
            "select",
        )
        .reads("s.t")
        .calls("lower")
        .access(Access::Write)
        .incomplete("too_deep"),
        case(
            Box::leak(format!("with d as (delete from t returning a) select a{chain} from d").into()),
            "delete select",
        )
        // The name of a CTE, too: rather too much.
        .reads("d")
        .writes("t")
        .access(Access::Write)
        .filtered(false)
        .incomplete("too_deep"),
        case(
            Box::leak(format!("select a{chain} into t from f()").into()),
            "create select",
        )
        .writes("t")
        .calls("f")
        .incomplete("too_deep unknown_function")
        .admin("Ddl"),
    ]);
    for refused in [
        "prepare p as ",
        "copy (",
        "explain ",
        "declare c cursor for ",
        "create view v as ",
    ] {
        let end = if refused == "copy (" { ") to stdout" } else { "" };
        assert_eq!(
            kind(&format!("{refused}select a{chain}{end}")),
            Kind::TooDeep,
            "{refused}"
        );
    }
    let several = format!("select 1 from x; select a{chain} from t; drop table y");
    let statements = understand(&several).unwrap();
    assert_eq!(statements.len(), 3);
    assert!(statements[0].tree.is_some() && statements[1].tree.is_none());
    assert_eq!(&several[statements[2].text.clone()], "drop table y");
    assert_eq!(statements[2].facts.access, Access::Admin);
}
