//! Batches and pipelines: every message in its order, to the byte, however it is cut.

use super::*;
use crate::protocol::conformance::ALLOW;

fn session() -> Vec<u8> {
    [
        query("SELECT 1 AS a"),
        [parse("s", "SELECT 2 AS b"), describe(b'S', "s"), bare(b'H')].concat(),
        [bind("p", "s", &["x"]), execute("p"), bare(b'S')].concat(),
        [
            bind("", "s", &["y"]),
            execute(""),
            bind("", "s", &["z"]),
            execute(""),
            bare(b'S'),
        ]
        .concat(),
        query("BEGIN"),
        [run("", "SELECT 1 AS a"), run("t", "SELECT 2 AS b"), bare(b'S')].concat(),
        query("ROLLBACK; SELECT 1 AS a"),
        query(""),
        [bare(b'S'), vec![b'C', 0, 0, 0, 7, b'S', b's', 0], bare(b'S')].concat(),
    ]
    .concat()
}

fn fake() -> Fake {
    server(&[
        ("SELECT 1 AS a", Canned::rows(&[("a", 0, 0, 23)], &[&["1"]])),
        (
            "SELECT 2 AS b",
            Canned::rows(&[("b", 0, 0, 25)], &[&["two"], &["zwei"]]),
        ),
    ])
}

#[tokio::test]
async fn every_split_gives_the_same_exchange() {
    let rig = Rig::new(ALLOW);
    let sent = session();
    let whole = exchange(&rig, fake(), &[&sent]).await;
    assert!(whole.tags().ends_with("ZCTDCZIZZ3Z"), "{}", whole.tags());
    let ups: Vec<u8> = whole.up.iter().map(|(t, _)| *t).collect();
    for at in (1..sent.len()).step_by(7) {
        let (a, b) = sent.split_at(at);
        let went = exchange(&rig, fake(), &[a, b]).await;
        assert_eq!(went.down, whole.down, "split at {at}");
        assert_eq!(went.operations, whole.operations, "split at {at}");
        let tags: Vec<u8> = went.up.iter().map(|(t, _)| *t).collect();
        assert_eq!(
            tags.iter().filter(|t| **t != b'H').collect::<Vec<_>>(),
            ups.iter().filter(|t| **t != b'H').collect::<Vec<_>>(),
            "split at {at}"
        );
    }
}

#[tokio::test]
async fn what_is_allowed_goes_up_as_it_is() {
    let rig = Rig::new(ALLOW);
    // Everything is described by the workload itself, so that nothing of ours is added.
    let sent = [
        query("SELECT 1 AS a"),
        [parse("s", "SELECT 2 AS b"), describe(b'S', "s"), bare(b'H')].concat(),
        [bind("p", "s", &["x"]), execute("p"), bare(b'S')].concat(),
        [run("", "SELECT 1 AS a"), bare(b'S')].concat(),
        bare(b'X'),
    ]
    .concat();
    let went = exchange(&rig, fake(), &[&sent]).await;
    assert_eq!(went.up, messages(&sent));
    assert!(matches!(went.result, Some(Ok(()))));
}

#[tokio::test]
async fn an_error_skips_to_sync_on_both_sides() {
    let rig = Rig::new(ALLOW);
    let mut fake = fake();
    fake.canned
        .insert("SELECT 3", Canned::fails("22012", "division by zero"));
    let batch = [
        run("", "SELECT 3"),
        run("", "SELECT 1 AS a"),
        bare(b'S'),
        run("", "SELECT 1 AS a"),
        bare(b'S'),
    ]
    .concat();
    let went = exchange(&rig, fake, &[&batch, &query("SELECT 1 AS a")]).await;
    assert_eq!(went.tags(), "12nEZ12TDCZTDCZ", "{}", went.text());
    assert!(went.text().contains("division by zero"));
}

#[tokio::test]
async fn a_refused_definition_leaves_the_one_before() {
    let rig = Rig::new(POLICY);
    let first = [parse("s", "SELECT 2 AS b"), bare(b'S')].concat();
    // The server refuses the second Parse: `s` is still the first, whatever the workload would like us to think.
    let second = [parse("s", "SELECT 1 AS a"), bare(b'S')].concat();
    let third = [bind("", "s", &[]), execute(""), bare(b'S')].concat();
    let went = exchange(&rig, fake(), &[&first, &[second, third].concat()]).await;
    assert_eq!(went.tags(), "1ZEZ2DDCZ", "{}", went.text());
    assert!(went.text().contains("zwei"));
}

#[tokio::test]
async fn copy_in_takes_data_until_it_is_done() {
    let rig = Rig::new(ALLOW);
    let copy = Canned {
        copy: Some(Vec::new()),
        ..Canned::default()
    };
    let fake = || {
        server(&[
            ("COPY (SELECT 1) TO STDOUT", Canned::default()),
            ("COPY t FROM STDIN", copy.clone()),
        ])
    };
    let data = [
        vec![b'd', 0, 0, 0, 6, b'1', b'\n'],
        vec![b'd', 0, 0, 0, 6, b'2', b'\n'],
        bare(b'c'),
    ]
    .concat();
    let mut with_catalog = fake();
    with_catalog.catalog = "{}".into();
    let went = exchange(&rig, with_catalog, &[&query("COPY t FROM STDIN"), &data, &data]).await;
    assert_eq!(went.tags(), "GCZ", "{}", went.text());
    assert_eq!(
        went.up.iter().filter(|(t, _)| *t == b'd').count(),
        2,
        "what nobody takes is dropped"
    );
}

#[tokio::test]
async fn a_copy_ends_with_its_workload() {
    let rig = Rig::new(ALLOW);
    let copy = Canned {
        copy: Some(Vec::new()),
        ..Canned::default()
    };
    let data = [b'd', 0, 0, 0, 6, b'1', b'\n'];
    for end in [data.len(), data.len() - 1] {
        let fake = server(&[("COPY t FROM STDIN", copy.clone())]);
        let pieces: [&[u8]; 3] = [&query("COPY t FROM STDIN"), &data, &data[..end]];
        let went = exchange(&rig, fake, &pieces).await;
        assert_eq!(
            matches!(went.result, Some(Ok(()))),
            end == data.len(),
            "{:?}",
            went.result
        );
        assert!(went.result.is_some(), "it ends, {end} bytes");
        let up = went.up_tags();
        assert!(up.trim_end_matches('X').ends_with('d'), "no CopyDone: {up}");
    }
}

#[tokio::test]
async fn only_data_comes_where_data_is_taken() {
    let rig = Rig::new(ALLOW);
    let copy = Canned {
        copy: Some(Vec::new()),
        ..Canned::default()
    };
    for next in [query("SELECT 1 AS a"), run("", "SELECT a FROM t")] {
        let fake = server(&[("COPY t FROM STDIN", copy.clone())]);
        let went = exchange(&rig, fake, &[&query("COPY t FROM STDIN"), &next]).await;
        assert_eq!(went.tags(), "GE", "{}", went.text());
        assert!(went.text().contains("08P01"), "{}", went.text());
        let up = went.up_text();
        assert!(!up.contains("1 AS a") && !up.contains("a FROM t"), "{up}");
    }
}

#[tokio::test]
async fn a_query_in_a_batch_that_failed_is_skipped_on_both_sides() {
    let rig = Rig::new(ALLOW);
    let mut fake = fake();
    fake.canned
        .insert("SELECT 3", Canned::fails("22012", "division by zero"));
    // Names of the query are looked up, so that the error is seen before it goes up.
    let batch = [run("", "SELECT 3"), query("SELECT a FROM t")].concat();
    let after = [bare(b'S'), query("SELECT 1 AS a")].concat();
    let went = exchange(&rig, fake, &[&batch, &after]).await;
    assert_eq!(went.tags(), "12nEZTDCZ", "{}", went.text());
    assert!(matches!(went.result, Some(Ok(()))));
    assert!(!went.up_text().contains("FROM t"), "{}", went.up_text());
}

#[tokio::test]
async fn a_server_that_goes_away_is_told_of() {
    let rig = Rig::new(ALLOW);
    let mut fake = fake();
    fake.dies_at = Some("SELECT 1 AS a");
    let went = exchange(&rig, fake, &[&query("SELECT 1 AS a")]).await;
    assert_eq!(went.tags(), "E", "{}", went.text());
    assert!(went.text().contains("08006"));
    assert!(matches!(went.result, Some(Err(ProtocolError::Upstream(_)))));
}
