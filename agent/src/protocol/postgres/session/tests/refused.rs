//! Denials: in words, without anything of the statement going up, and with both sides' idea of the transaction equal.

use super::*;

const ONE: &str = "SELECT 1 AS a";

fn one() -> (&'static str, Canned) {
    (ONE, Canned::rows(&[("a", 0, 0, 23)], &[&["1"]]))
}

#[tokio::test]
async fn a_denied_query_leaves_the_connection_usable() {
    let rig = Rig::new(POLICY);
    let went = exchange(&rig, server(&[one()]), &[&query("LISTEN evil"), &query(ONE)]).await;
    assert_eq!(went.tags(), "EZTDCZ", "{}", went.text());
    let text = went.text();
    assert!(
        text.contains("42501") && text.contains("no listening here") && text.contains("no-listen"),
        "{text}"
    );
    assert!(!went.up_text().contains("evil"), "{}", went.up_text());
    assert_eq!(went.up_tags(), "QX", "only the second query");
    assert_eq!(went.operations, 3, "login and two statements");
}

#[tokio::test]
async fn a_denied_query_in_a_transaction_fails_it_on_both_sides() {
    let rig = Rig::new(POLICY);
    let pieces = [
        query("BEGIN"),
        query("LISTEN evil"),
        query(ONE),
        query("COMMIT"),
        query(ONE),
    ];
    let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    let went = exchange(&rig, server(&[one()]), &pieces).await;
    let states: Vec<u8> = went
        .down
        .iter()
        .filter(|(t, _)| *t == b'Z')
        .map(|(_, b)| b[0])
        .collect();
    assert_eq!(states, b"TEEII", "{}", went.text());
    assert!(!went.up_text().contains("evil"));
    assert!(
        went.text().contains("no listening here"),
        "the denial, not the server's syntax error"
    );
    assert!(!went.text().contains("syntax error"));
    assert!(
        went.text().contains("25P02"),
        "the transaction is the server's to fail"
    );
}

#[tokio::test]
async fn one_denied_statement_denies_the_whole_string() {
    let rig = Rig::new(POLICY);
    let all = format!("{ONE}; LISTEN evil; {ONE}");
    let went = exchange(&rig, server(&[one()]), &[&query(&all)]).await;
    assert_eq!(
        (went.tags().as_str(), went.up_tags().as_str()),
        ("EZ", "X"),
        "{}",
        went.text()
    );
    assert_eq!(went.operations, 4, "each of them has an entry");
}

#[tokio::test]
async fn a_denied_execute_discards_to_sync() {
    let rig = Rig::new(POLICY);
    let batch = [run("", "LISTEN evil"), run("", ONE), bare(b'S')].concat();
    let next = [run("", ONE), bare(b'S')].concat();
    let went = exchange(&rig, server(&[one()]), &[&batch, &next]).await;
    assert_eq!(went.tags(), "EZ12TDCZ", "{}", went.text());
    assert!(!went.up_text().contains("evil"));
    assert_eq!(went.up_tags(), "SPBDESX");
}

#[tokio::test]
async fn what_came_before_in_the_batch_is_undone_by_the_server_itself() {
    let rig = Rig::new(POLICY);
    // The first statement ran; the client must see an error, and the server must not commit.
    let batch = [run("", ONE), run("", "LISTEN evil"), bare(b'S')].concat();
    let went = exchange(&rig, server(&[one()]), &[&batch]).await;
    assert_eq!(went.tags(), "12TDCEZ", "{}", went.text());
    assert!(went.text().contains("no listening here"));
    assert!(
        went.up_text().contains("denied by portcullis"),
        "the server fails, too"
    );
    assert!(!went.up_text().contains("evil"));
}

#[tokio::test]
async fn a_denied_prepare_defines_nothing() {
    let rig = Rig::new(POLICY);
    let first = [parse("s", "LISTEN evil"), describe(b'S', "s"), bare(b'S')].concat();
    let second = [bind("", "s", &[]), execute(""), bare(b'S')].concat();
    let went = exchange(&rig, server(&[]), &[&first, &second]).await;
    assert_eq!(went.tags(), "EZEZ", "{}", went.text());
    assert!(
        went.text().contains("26000"),
        "there is no such statement: {}",
        went.text()
    );
    assert!(!went.up_text().contains("evil"));
}

/// Running DELETE is denied, too; preparing it is not.
fn no_delete() -> String {
    format!(
        "{POLICY}\n@id(\"no-delete\") forbid (principal, action == Action::\"sql:statement\", resource)\n\
         when {{ context.sql.verbs.contains(\"delete\") && context.sql.phase != \"prepare\" }};"
    )
}

#[tokio::test]
async fn a_close_that_does_not_take_place_leaves_the_name() {
    let rig = Rig::new(&no_delete());
    let first = [parse("s", "DELETE FROM t"), bare(b'S')].concat();
    let close = vec![b'C', 0, 0, 0, 7, b'S', b's', 0];
    // Held back with what is refused, and skipped by the server after an error.
    for before in [vec![], run("", "SELECT 3")] {
        let refused = parse("", "SELECT 1; SELECT 2");
        let batch = [before, close.clone(), refused, bare(b'S')].concat();
        let mut fake = server(&[]);
        fake.canned
            .insert("SELECT 3", Canned::fails("22012", "division by zero"));
        let went = exchange(&rig, fake, &[&first, &batch, &query("EXECUTE s")]).await;
        assert!(went.text().contains("no-delete"), "{}", went.text());
        assert!(!went.up_text().contains("EXECUTE"), "{}", went.up_text());
    }
}

#[tokio::test]
async fn a_look_up_does_not_end_what_waits() {
    let rig = Rig::new(&no_delete());
    // The relation is looked up while the Bind waits, and the look-up ends with a Sync of its own.
    let batch = [
        parse("s", "DELETE FROM t"),
        bind("c", "s", &[]),
        bare(b'H'),
        query("FETCH c"),
    ]
    .concat();
    let went = exchange(&rig, server(&[]), &[&batch]).await;
    assert!(went.text().contains("no-delete"), "{}", went.text());
    assert!(!went.up_text().contains("FETCH"), "{}", went.up_text());
}

#[tokio::test]
async fn what_cannot_be_parsed_does_not_go_up() {
    let rig = Rig::new(POLICY);
    let went = exchange(
        &rig,
        server(&[one()]),
        &[
            &query("SELEC evil"),
            &[run("", "ALSO evil"), bare(b'S')].concat(),
            &query(ONE),
        ],
    )
    .await;
    assert_eq!(went.tags(), "EZEZTDCZ", "{}", went.text());
    assert!(went.text().contains("42601"));
    assert!(!went.up_text().contains("evil"));
}

#[tokio::test]
async fn two_statements_cannot_be_prepared_at_once() {
    let rig = Rig::new(POLICY);
    let batch = [run("", "SELECT 1; SELECT 2"), bare(b'S')].concat();
    let went = exchange(&rig, server(&[]), &[&batch]).await;
    assert_eq!(went.tags(), "EZ");
    assert_eq!(went.up_tags(), "SX");
}

#[tokio::test]
async fn bad_messages_end_the_connection_in_words() {
    let rig = Rig::new(POLICY);
    for bad in [
        &b"Q\0\0\0\x03"[..],
        b"Q\xff\xff\xff\xff",
        b"?\0\0\0\x04",
        b"Q\0\x20\0\0",
        b"p\0\0\0\x08abc\0",
        b"B\0\0\0\x06\0\0",
        b"E\0\0\0\x05\0",
        b"D\0\0\0\x06X\0",
    ] {
        let went = exchange(&rig, server(&[]), &[bad]).await;
        assert_eq!(went.tags(), "E", "{}: {}", bad.escape_ascii(), went.text());
        assert!(went.text().contains("FATAL"));
        assert!(
            matches!(went.result, Some(Err(ProtocolError::Refused(_)))),
            "{}",
            bad.escape_ascii()
        );
        assert!(went.up.iter().all(|(tag, _)| *tag == b'X'));
        assert_eq!(went.operations, 2, "it has an entry");
    }
}

#[tokio::test]
async fn what_is_cut_off_is_not_committed() {
    let rig = Rig::new(POLICY);
    let whole = [run("", ONE), bare(b'S')].concat();
    for end in 1..whole.len() {
        let went = exchange(&rig, server(&[one()]), &[&whole[..end]]).await;
        assert!(went.result.is_some(), "it ends, cut at {end}");
        assert!(went.operations <= 3);
        assert!(!went.up_tags().contains('S'), "cut at {end}: {}", went.up_tags());
    }
}

#[tokio::test]
async fn a_backslash_is_refused_where_it_could_hide_the_end_of_a_string() {
    let rig = Rig::new(POLICY);
    let mut fake = server(&[one()]);
    fake.says_at_start = Some(("standard_conforming_strings", "off"));
    let hidden = query(r"SELECT '\'' ; LISTEN evil -- '");
    let went = exchange(&rig, fake, &[&bare(b'S'), &hidden, &query(ONE)]).await;
    assert_eq!(went.tags(), "SZEZTDCZ", "{}", went.text());
    assert!(!went.up_text().contains("evil"));
}

#[tokio::test]
async fn a_denied_copy_is_not_asked_about() {
    let policy = r#"
    @id("login") permit (principal, action == Action::"sql:connect", resource);
    "#;
    let rig = Rig::new(policy);
    let copy = "COPY (SELECT 1 AS evil) TO STDOUT";
    let batch = [run("", copy), bare(b'S')].concat();
    let went = exchange(&rig, server(&[]), &[&query(copy), &batch]).await;
    assert_eq!(went.tags(), "EZEZ", "{}", went.text());
    assert!(!went.up_text().contains("evil"), "{}", went.up_text());
}

#[tokio::test]
async fn text_that_is_no_utf8_is_refused_and_the_connection_lives_on() {
    let rig = Rig::new(POLICY);
    let bad = [b"P\0\0\0\x09\0\xff\0\0\0".to_vec(), bare(b'S')].concat();
    let went = exchange(&rig, server(&[one()]), &[&bad, &query(ONE)]).await;
    assert_eq!(went.tags(), "EZTDCZ", "{}", went.text());
    assert!(went.text().contains("22021"), "{}", went.text());
}
