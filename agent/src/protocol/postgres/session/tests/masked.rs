//! What comes back: masked by detectors whatever the statement, and recorded as it was shown.

use super::*;

const CARD: &str = "SELECT 'x' AS note";

fn fake() -> Fake {
    server(&[(
        CARD,
        Canned::rows(
            &[("note", 0, 0, 25)],
            &[&["plain"], &["mail a.person@example.com"], &["plain too"]],
        ),
    )])
}

#[tokio::test]
async fn detectors_see_every_row() {
    let rig = Rig::new(POLICY);
    let prepared = [
        parse("s", CARD),
        bare(b'S'),
        bind("", "s", &[]),
        execute(""),
        bare(b'S'),
        bind("", "s", &[]),
        execute(""),
        bare(b'S'),
    ]
    .concat();
    let went = exchange(&rig, fake(), &[&query(CARD), &prepared]).await;
    assert_eq!(went.tags(), "TDDDCZ1Z2DDDCZ2DDDCZ", "{}", went.text());
    assert!(!went.text().contains("a.person@"), "{}", went.text());
    assert_eq!(went.text().matches("[masked:email]").count(), 3);
    assert_eq!(went.text().matches("plain too").count(), 3);
}

#[tokio::test]
async fn notices_and_errors_are_masked() {
    let rig = Rig::new(POLICY);
    let mut fake = fake();
    fake.canned.insert(
        "SELECT 5",
        Canned::fails("22023", "no such thing as a.person@example.com"),
    );
    let went = exchange(&rig, fake, &[&query("SELECT 5")]).await;
    assert_eq!(went.tags(), "EZ");
    assert!(
        !went.text().contains("a.person@") && went.text().contains("22023"),
        "{}",
        went.text()
    );
}

#[tokio::test]
async fn rows_without_a_description_end_the_connection() {
    let rig = Rig::new(POLICY);
    let mut fake = fake();
    fake.forgets_columns = true;
    let went = exchange(&rig, fake, &[&query(CARD)]).await;
    assert!(
        went.text().contains("08P01") && !went.tags().contains('D'),
        "{} {}",
        went.tags(),
        went.text()
    );
}

#[tokio::test]
async fn parameters_are_recorded_with_their_types() {
    let rig = Rig::new(POLICY);
    let typed = [&b"P\0\0\0\x1fs\0SELECT 'x' AS note\0\0\x01"[..], b"\0\0\0\x19"].concat();
    let batch = [
        typed,
        bind("", "s", &["from a.person@example.com"]),
        execute(""),
        bare(b'S'),
    ]
    .concat();
    let went = exchange(&rig, fake(), &[&batch]).await;
    assert_eq!(went.tags(), "12DDDCZ", "{}", went.text());
    rig.shared.ledger.close();
    let ledger = rusqlite::Connection::open(rig.dir.path().join("ledger.db")).unwrap();
    let stored: Vec<(i64, Vec<u8>)> = ledger
        .prepare("SELECT codec, bytes FROM payload")
        .unwrap()
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let frames = stored.into_iter().map(|(codec, bytes)| match codec {
        0 => bytes,
        _ => zstd::decode_all(&bytes[..]).unwrap(),
    });
    let up = frames
        .map(|f| f.escape_ascii().to_string())
        .find(|f| f.starts_with('P'));
    let up = up.unwrap();
    // A Parse without text, for the type; then the Bind, masked.
    let head = r"P\x00\x00\x00\rs\x00\x00\x00\x01\x00\x00\x00\x19B";
    assert!(up.starts_with(head) && up.contains("[masked:email]"), "{up}");
    assert!(!up.contains("a.person"), "{up}");
}
