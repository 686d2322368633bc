//! Names that stand for something else by the time they are used.

use super::*;

/// What reads `secret` can be prepared, but not executed; what is not understood is denied.
const POLICY: &str = r#"
@id("all") permit (principal, action in [Action::"sql:connect", Action::"sql:statement"], resource);
@id("no-secret") @reason("it is secret") forbid (principal, action == Action::"sql:statement", resource)
when { context.sql.phase == "execute" && context.sql.reads.contains("public.secret") };
@id("no-other") @reason("not understood") forbid (principal, action == Action::"sql:statement", resource)
unless { context.complete || context.sql.reads.contains("public.secret") };
"#;

const SECRET: &str = "SELECT a FROM secret";

fn fake() -> Fake {
    let mut fake = server(&[
        (SECRET, Canned::rows(&[("a", 0, 0, 25)], &[&["rosebud"]])),
        ("SELECT 1 AS a", Canned::rows(&[("a", 0, 0, 23)], &[&["1"]])),
        ("SELECT 3", Canned::fails("22012", "division by zero")),
    ]);
    fake.catalog = r#"{"schema": "public", "casts": false}"#.into();
    fake
}

fn sync(parts: &[&[u8]]) -> Vec<u8> {
    [&parts.concat()[..], &bare(b'S')].concat()
}

fn close(name: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out, b'C', |out| {
        out.put_u8(b'S');
        put_cstr(out, name.as_bytes());
    });
    out.to_vec()
}

#[tokio::test]
async fn what_a_failed_batch_was_to_define_is_not_believed_before_it_has_run() {
    let rig = Rig::new(POLICY);
    for name in ["", "s"] {
        let first = sync(&[&parse(name, SECRET)]);
        // The second batch fails before it comes to its definition, so that the third uses the first one.
        let second = sync(&[&run("x", "SELECT 3"), &close(name), &parse(name, "SELECT 1 AS a")]);
        let third = sync(&[&bind("", name, &[]), &describe(b'P', ""), &execute("")]);
        let went = exchange(&rig, fake(), &[&first, &[second, third].concat()]).await;
        assert!(!went.text().contains("rosebud"), "'{name}': {}", went.text());
        assert!(went.tags().ends_with("EZEZ"), "'{name}': {}", went.tags());
        assert!(went.text().contains("it is secret"), "'{name}': {}", went.text());
    }
}

#[tokio::test]
async fn what_a_batch_defines_is_there_in_the_next_one() {
    let rig = Rig::new(POLICY);
    let both = [
        sync(&[&parse("s", "SELECT 1 AS a")]),
        sync(&[&bind("", "s", &[]), &execute("")]),
    ]
    .concat();
    let went = exchange(&rig, fake(), &[&both]).await;
    assert_eq!(went.tags(), "1Z2DCZ", "{}", went.text());
}

#[tokio::test]
async fn what_stands_behind_a_change_of_names_is_not_known() {
    let rig = Rig::new(POLICY);
    let went = exchange(
        &rig,
        fake(),
        &[
            &query("SELECT 1 AS a"),
            &query("SET search_path = x; SELECT 1 AS a"),
            &query("SET statement_timeout = 5; SELECT 1 AS a"),
            &query("SET search_path = x; RESET ALL; UNLISTEN a"),
        ],
    )
    .await;
    assert_eq!(went.tags(), "TDCZEZCTDCZCCCZ", "{}", went.text());
}

#[tokio::test]
async fn a_command_that_parse_prepared_is_not_executed_by_its_name_unseen() {
    let rig = Rig::new(POLICY);
    let prepared = |sql| sync(&[&parse("s", sql)]);
    let allowed = exchange(&rig, fake(), &[&prepared("SELECT 1 AS a"), &query("EXECUTE s")]).await;
    assert_eq!(allowed.tags(), "1ZCZ", "{}", allowed.text());
    let denied = exchange(
        &rig,
        fake(),
        &[&prepared("SET search_path = x"), &query("EXECUTE s")],
    )
    .await;
    assert_eq!(denied.tags(), "1ZEZ", "{}", denied.text());
}

#[tokio::test]
async fn parameters_of_types_whose_checks_run_code_are_not_bound_unseen() {
    let rig = Rig::new(POLICY);
    let typed = |oid: u32| {
        let mut out = BytesMut::new();
        write(&mut out, b'P', |out| {
            put_cstr(out, b"");
            put_cstr(out, b"SELECT 1 AS a");
            out.put_i16(1);
            out.put_u32(oid);
        });
        sync(&[&out, &bind("", "", &["1"]), &describe(b'P', ""), &execute("")])
    };
    let mut fake = fake();
    fake.catalog = r#"{"schema": "public", "casts": false, "domains": ["checked"]}"#.into();
    let went = exchange(&rig, fake, &[&typed(23), &typed(20_000)]).await;
    assert_eq!(went.tags(), "12TDCZEZ", "{}", went.text());
}
