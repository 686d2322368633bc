//! Secrets in use: not in what the server says, and not in what the workload sends.

use super::*;
use crate::model::{Reason, SecretSink as _};

const SECRET: &str = "s3cr3t-of-others";
/// The same as a bytea.
const HEX: &str = "\\x7333637233742d6f662d6f7468657273";

fn rig() -> Rig {
    let rig = Rig::new("@id(\"all\") permit (principal, action, resource);");
    rig.shared.secrets.replace("a", &[SECRET.as_bytes()]);
    rig
}

#[tokio::test]
async fn nothing_that_the_server_says_holds_one() {
    let rig = rig();
    assert!(HEX.ends_with(&hex::encode(SECRET)));
    let mut fake = server(&[(
        "SELECT 'x' AS note",
        Canned::rows(
            &[("note", 0, 0, 25), (SECRET, 0, 0, 25)],
            &[&[SECRET, "a"], &["b", HEX]],
        ),
    )]);
    fake.canned.insert("SELECT 5", Canned::fails("22023", SECRET));
    let went = exchange(&rig, fake, &[&query("SELECT 'x' AS note"), &query("SELECT 5")]).await;
    assert_eq!(went.tags(), "TDDCZEZ", "{}", went.text());
    assert!(
        !went.text().contains(SECRET) && !went.text().contains(&HEX[2..]),
        "{}",
        went.text()
    );
    assert_eq!(went.text().matches(&"*".repeat(SECRET.len())).count(), 3);
    rig.shared.ledger.close();
    let bytes = std::fs::read(rig.dir.path().join("ledger.db")).unwrap();
    assert!(memchr::memmem::find(&bytes, SECRET.as_bytes()).is_none());
    let db = rusqlite::Connection::open(rig.dir.path().join("ledger.db")).unwrap();
    let counted: i64 = db
        .query_row(
            "SELECT sum(json_extract(body, '$.masked.injected_secret')) FROM entry",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(counted, 4);
}

#[tokio::test]
async fn no_statement_and_no_parameter_holds_one_and_the_connection_lives_on() {
    let rig = rig();
    let leak = format!("SELECT '{SECRET}'");
    let prepared = [
        parse("s", "SELECT $1::text"),
        bind("", "s", &[SECRET]),
        execute(""),
        bare(b'S'),
    ]
    .concat();
    let named = [parse("t", &leak), bare(b'S')].concat();
    let fine = query("SELECT 1");
    let fake = server(&[("SELECT 1", Canned::tag("SELECT 1"))]);
    let went = exchange(&rig, fake, &[&query(&leak), &prepared, &named, &fine]).await;
    assert!(
        went.tags().starts_with("EZEZEZ"),
        "{} {}",
        went.tags(),
        went.text()
    );
    assert_eq!(went.text().matches("secret_leak").count(), 3, "{}", went.text());
    assert!(!went.up_text().contains(SECRET), "{}", went.up_text());
    assert!(went.up_text().contains("SELECT 1"), "{}", went.up_text());
    rig.shared.ledger.close();
    let bytes = std::fs::read(rig.dir.path().join("ledger.db")).unwrap();
    assert!(memchr::memmem::find(&bytes, SECRET.as_bytes()).is_none());
}

#[tokio::test]
async fn copied_data_is_one_stream() {
    let rig = rig();
    let begin = query("COPY t FROM STDIN");
    let data = |text: &str| {
        let mut out = BytesMut::new();
        write(&mut out, b'd', |out| out.extend_from_slice(text.as_bytes()));
        out
    };
    let copy = Canned {
        copy: Some(Vec::new()),
        ..Canned::default()
    };
    let fake = server(&[("COPY t FROM STDIN", copy)]);
    let pieces = [data("a\ts3cr3t-"), data("of-others\n")];
    let went = exchange(&rig, fake, &[&begin, &pieces[0], &pieces[1]]).await;
    assert!(
        matches!(went.result, Some(Err(ProtocolError::Refused(Reason::SecretLeak)))),
        "{:?} {}",
        went.result,
        went.tags()
    );
    assert!(!went.up_text().contains("of-others"), "{}", went.up_text());
}
