//! Edits of what is signed: checkpoints, statements, keys; and of where a file begins, and of policy sets.

use rusqlite::params;

use super::{
    super::checkpoint::Checkpoint,
    bench::{CHAIN, Case, EXPORTS, FILES, KINDS, LIVE, On, SEGMENT, SEGMENTS, edits, flipped, stranger},
};

/// The note of the last checkpoint, changed.
fn note(c: &Case<'_>, change: impl Fn(&str) -> String) {
    let sql = "SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1";
    let old: String = c.one(sql);
    let new = change(&old);
    assert_ne!(old, new);
    c.conn()
        .execute(
            "UPDATE checkpoint SET note = ?1 WHERE note = ?2",
            params![new, old],
        )
        .unwrap();
}

fn statement(c: &Case<'_>, change: impl Fn(&str) -> String) {
    let old: String = c.one("SELECT note FROM statement");
    let new = change(&old);
    assert_ne!(old, new);
    c.conn()
        .execute(
            "UPDATE statement SET note = ?1 WHERE note = ?2",
            params![new, old],
        )
        .unwrap();
}

fn add_statement(c: &Case<'_>, text: &str) {
    let note = c.sign(text, true);
    c.conn()
        .execute("INSERT INTO statement VALUES (?1)", [note])
        .unwrap();
}

/// The text of a note, without its signatures.
fn text(note: &str) -> &str {
    &note[..=note.rfind("\n\n").unwrap()]
}

/// The signature of the last line.
fn signature(note: &str) -> &str {
    note.trim_end().rsplit(' ').next().unwrap()
}

edits! { CHECKPOINTS:
    size_changed, FILES, "checkpoint of ", |c| {
        c.sql("UPDATE checkpoint SET size = size - 1 WHERE size = (SELECT max(size) FROM checkpoint)");
    };
    size_beyond_the_end, FILES, "checkpoint of ", |c| {
        c.sql("UPDATE checkpoint SET size = size + 1 WHERE size = (SELECT max(size) FROM checkpoint)");
    };
    size_negative, FILES, "checkpoint of ", |c| {
        c.sql("UPDATE checkpoint SET size = -size WHERE size = (SELECT max(size) FROM checkpoint)");
    };
    text_changed, FILES, "checkpoint of ", |c| note(c, |n| n.replace("host-1\n", "host-9\n"));
    size_in_the_text_changed, FILES, "checkpoint of ", |c| note(c, |n| n.replacen('\n', "\n1", 1));
    root_changed, FILES, "checkpoint of ", |c| note(c, |n| {
        let root = n.lines().nth(2).unwrap();
        n.replace(root, &flipped(root))
    });
    signature_changed, FILES, "checkpoint of ", |c| note(c, |n| n.replace(signature(n), &flipped(signature(n))));
    signature_removed, FILES, "checkpoint of ", |c| note(c, |n| text(n).into());
    signature_of_another_checkpoint, &[On::Full, On::Live], "checkpoint of ", |c| {
        let first: String = c.one("SELECT note FROM checkpoint ORDER BY size LIMIT 1");
        note(c, |n| n.replace(signature(n), signature(&first)));
    };
    note_of_another_checkpoint, &[On::Full, On::Live], "checkpoint of ", |c| {
        let first: String = c.one("SELECT note FROM checkpoint ORDER BY size LIMIT 1");
        note(c, |_| first.clone());
    };
    note_with_line_ends_of_another_system, FILES, "checkpoint of ", |c| note(c, |n| n.replace('\n', "\r\n"));
    note_emptied, FILES, "checkpoint of ", |c| note(c, |_| String::new());
    note_as_a_blob, KINDS, "checkpoint of ", |c| c.loose("checkpoint", "UPDATE checkpoint SET note = CAST(note AS BLOB)");
    note_signed_by_somebody_else, FILES, "checkpoint of ", |c| note(c, |n| c.sign(text(n), false));
    note_signed_twice_one_wrong, FILES, "checkpoint of ", |c| {
        note(c, |n| format!("{n}{}", n.lines().last().map(|l| l.replace(signature(n), &flipped(signature(n)))).unwrap() + "\n"));
    };
    rewritten_and_signed_by_somebody_else, FILES, "checkpoint of |table statement", |c| {
        c.body("OPERATION", |b| b.replace("bot-a", "bot-c"));
        c.sign_all(&stranger(c.host().verifier().name()));
        if c.on != On::Live {
            c.about();
        }
    };
    rewritten_with_a_new_key, EXPORTS, "key ", |c| {
        c.body("OPERATION", |b| b.replace("bot-a", "bot-c"));
        let key = stranger(c.host().verifier().name());
        c.sign_all(&key);
        c.about();
        c.conn().execute("UPDATE key SET vkey = ?1", [key.verifier().to_string()]).unwrap();
        c.key = Some(c.host().verifier().to_string());
    };
    of_a_root_that_nobody_had, FILES, "checkpoint of ", |c| {
        let size: i64 = c.one("SELECT max(size) FROM checkpoint");
        note(c, |_| Checkpoint::sign(c.host(), size.unsigned_abs(), &[7; 32]));
    };
}

edits! { STATEMENTS:
    range_changed, SEGMENTS, "table statement", |c| statement(c, |n| n.replace("\nentries ", "\nentries 1"));
    signature_wrong, SEGMENTS, "table statement", |c| statement(c, |n| n.replace(signature(n), &flipped(signature(n))));
    removed, SEGMENTS, "table statement", |c| c.sql("DELETE FROM statement");
    of_another_segment, SEGMENTS, "table statement", |c| {
        let other = c.bench.parts("chain")[2].clone();
        let other = rusqlite::Connection::open(other).unwrap();
        let note: String = other.query_row("SELECT note FROM statement", [], |r| r.get(0)).unwrap();
        statement(c, |_| note.clone());
    };
    of_another_segment_besides, SEGMENTS, "table statement", |c| {
        let other = c.bench.parts("chain")[2].clone();
        c.sql(&format!("ATTACH '{}' AS o; INSERT INTO statement SELECT note FROM o.statement", other.display()));
    };
    by_somebody_else, SEGMENTS, "table statement", |c| statement(c, |n| c.sign(text(n), false));
    with_more_frames, SEGMENTS, "table statement", |c| statement(c, |n| c.sign(&text(n).replace("frames ", "frames 1"), true));
    with_another_hash_of_frames, SEGMENTS, "table statement", |c| statement(c, |n| {
        let hash = text(n).lines().nth(3).unwrap().rsplit(' ').next().unwrap();
        c.sign(&text(n).replacen(hash, &flipped(hash), 1), true)
    });
    with_other_policy_sets, SEGMENTS, "table statement", |c| {
        statement(c, |n| c.sign(&text(n).replace("policy_sets ", "policy_sets 1"), true));
    };
    spelled_otherwise, SEGMENTS, "table statement", |c| {
        statement(c, |n| c.sign(&text(n).replace("segment ", "segment 0"), true));
    };
    about_something_unknown, SEGMENTS, "table statement", |c| {
        add_statement(c, &format!("{}\nremark\nall is well\n", c.host().verifier().name()));
    };
    added_to_a_file_that_has_none, &[On::Full, On::Live], "table statement", |c| {
        add_statement(c, &format!("{}\nsegment 0\nentries 0 1\n", c.host().verifier().name()));
    };
    as_a_blob, SEGMENT, "table statement", |c| c.loose("statement", "UPDATE statement SET note = CAST(note AS BLOB)");
    tombstone_for_what_is_there, SEGMENTS, "frame |table statement", |c| {
        let place: i64 = c.one("SELECT min(place) FROM payload");
        let name = c.host().verifier().name();
        let range = text(&c.one::<String>("SELECT note FROM statement")).lines().nth(2).unwrap().to_owned();
        add_statement(c, &format!(
            "{name}\npayload purged\nsegment {}\n{range}\ncause x\nframes 1\nbytes 6\ndamaged 0\nplaces {place}\nidentities {}\n\
             at 2026-11-26T00:00:00.000000000Z\nentry 01a21560-0000-7000-8000-000000000000\n",
            i32::from(c.on == On::Chain), "00".repeat(32),
        ));
    };
}

edits! { BEGINNINGS:
    size_raised, FILES, "table frontier", |c| c.sql("UPDATE frontier SET size = 1");
    size_negative, FILES, "table frontier", |c| c.sql("UPDATE frontier SET size = -1");
    nodes_added, FILES, "table frontier", |c| c.sql("UPDATE frontier SET nodes = zeroblob(32)");
    both_invented, FILES, "table frontier", |c| c.sql("UPDATE frontier SET size = 1, nodes = zeroblob(32)");
    row_removed, FILES, "table frontier", |c| c.sql("DELETE FROM frontier");
    row_added, FILES, "table frontier", |c| c.sql("INSERT INTO frontier VALUES (3, zeroblob(64))");
    nodes_of_another_history, CHAIN, "it goes on from other entries", |c| {
        c.sql("UPDATE frontier SET nodes = zeroblob(length(nodes))");
    };
    moved_with_its_checkpoint, CHAIN, "table frontier|the entries from ", |c| {
        c.sql("UPDATE frontier SET size = size - 1, nodes = zeroblob(96)");
    };
    checkpoint_there_removed, CHAIN, "table frontier", |c| {
        c.sql("DELETE FROM checkpoint WHERE size = (SELECT size FROM frontier)");
    };
    cached_tree_changed, LIVE, "table tree", |c| c.sql("UPDATE tree SET nodes = zeroblob(length(nodes))");
    cached_tree_beyond_the_end, LIVE, "table tree", |c| c.sql("UPDATE tree SET size = size + 1000");
}

edits! { REST:
    policy_text_changed, FILES, "policy set ", |c| c.sql("UPDATE policy_set SET text = replace(text, 'permit', 'forbid')");
    policy_hash_changed, FILES, "policy set ", |c| c.sql("UPDATE policy_set SET hash = replace(hash, 'a', 'b')");
    policy_text_as_a_blob, KINDS, "policy set ", |c| {
        c.loose("policy_set", "UPDATE policy_set SET text = CAST(text AS BLOB)");
    };
    policy_set_removed, SEGMENTS, "table statement", |c| c.sql("DELETE FROM policy_set");
    policy_set_added, SEGMENT, "table statement", |c| {
        let hash = hex::encode(crate::ledger::tree::sha256(&[b"permit(principal, action, resource);;"]));
        c.sql(&format!("INSERT INTO policy_set VALUES ('{hash}', 'permit(principal, action, resource);;')"));
    };
    key_changed, FILES, "key ", |c| c.sql("UPDATE key SET vkey = replace(vkey, 'host-1', 'host-9')");
    key_cut, FILES, "key ", |c| c.sql("UPDATE key SET vkey = substr(vkey, 1, length(vkey) - 1)");
    key_removed, FILES, "key |checkpoint of |table statement", |c| c.sql("DELETE FROM key");
    key_replaced, FILES, "checkpoint of |table statement", |c| {
        let key = stranger(c.host().verifier().name()).verifier().to_string();
        c.sql(&format!("UPDATE key SET vkey = '{key}'"));
    };
    key_added, FILES, "key ", |c| {
        let key = stranger(c.host().verifier().name()).verifier().to_string();
        c.sql(&format!("INSERT INTO key VALUES ('{key}')"));
    };
    key_of_another_host, FILES, "key ", |c| {
        let key = stranger("portcullis/host-2").verifier().to_string();
        c.sql(&format!("DELETE FROM key; INSERT INTO key VALUES ('{key}')"));
        c.key = Some(c.host().verifier().to_string());
    };
    witness_beyond_the_end, FILES, "a witness's cosignature", |c| {
        let line = c.sign("x\n", true).lines().last().unwrap().to_owned();
        c.conn().execute("INSERT INTO witness VALUES (100000, ?1)", [line]).unwrap();
    };
}
