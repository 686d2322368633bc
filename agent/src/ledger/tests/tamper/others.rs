//! Edits of what concerns other keys than the host's one: those before and after it, witnesses; and of purges.

use rusqlite::params;

use super::{
    super::checkpoint::Checkpoint,
    bench::{Case, On, edits, flipped, stranger},
};
use crate::ledger::succession::Succession;

const ROTATED: &[On] = &[On::Rotated];
const PURGED: &[On] = &[On::Purged];
const WITNESSED: &[On] = &[On::Witnessed];

/// Changes the statement that begins or goes on like this.
fn statement(c: &Case<'_>, like: &str, change: impl Fn(&str) -> String) {
    let old: String = c.one(&format!("SELECT note FROM statement WHERE note LIKE '{like}'"));
    let new = change(&old);
    assert_ne!(old, new);
    c.conn()
        .execute(
            "UPDATE statement SET note = ?1 WHERE note = ?2",
            params![new, old],
        )
        .unwrap();
}

/// Signs the first or the last checkpoint again, with this one of the two keys.
fn sign_again(c: &Case<'_>, which: &str, key: usize) {
    let size: i64 = c.one(&format!("SELECT {which}(size) FROM checkpoint"));
    let note: String = c.one(&format!("SELECT note FROM checkpoint WHERE size = {size}"));
    let text = &note[..=note.rfind("\n\n").unwrap()];
    let note = c.bench.rotated[key].sign(text);
    c.conn()
        .execute(
            "UPDATE checkpoint SET note = ?1 WHERE size = ?2",
            params![note, size],
        )
        .unwrap();
}

edits! { KEYS:
    old_key_signs_after_its_end, ROTATED, "checkpoint of ", |c| sign_again(c, "max", 0);
    new_key_signs_before_its_time, ROTATED, "entry |checkpoint of ", |c| sign_again(c, "min", 1);
    old_key_removed, ROTATED, "checkpoint of |entry |key ", |c| {
        let key = c.bench.rotated[0].verifier().to_string();
        c.conn().execute("DELETE FROM key WHERE vkey = ?1", [key]).unwrap();
    };
    new_key_removed, ROTATED, "checkpoint of |entry |key ", |c| {
        let key = c.bench.rotated[1].verifier().to_string();
        c.conn().execute("DELETE FROM key WHERE vkey = ?1", [key]).unwrap();
    };
    third_key_added_with_a_statement_of_its_own, ROTATED, "table statement|entry ", |c| {
        let other = stranger(c.bench.key.verifier().name());
        let conn = c.conn();
        conn.execute("INSERT INTO key VALUES (?1)", [other.verifier().to_string()]).unwrap();
        let note = Succession::sign(&c.bench.rotated[0], &other, 1);
        conn.execute("INSERT INTO statement VALUES (?1)", [note]).unwrap();
    };
    succession_signed_by_the_new_key_alone, ROTATED, "table statement", |c| {
        let other = stranger(c.bench.key.verifier().name());
        let conn = c.conn();
        conn.execute("INSERT INTO key VALUES (?1)", [other.verifier().to_string()]).unwrap();
        let note = Succession::sign(&c.bench.rotated[1], &other, 1);
        let mut lines: Vec<&str> = note.lines().collect();
        lines.remove(lines.len() - 2);
        conn.execute("INSERT INTO statement VALUES (?1)", [lines.join("\n") + "\n"]).unwrap();
    };
    succession_said_to_be_another_time, ROTATED, "table statement", |c| {
        let [old, new] = &c.bench.rotated;
        let note = Succession::sign(old, new, 999).replace("\n999\n", "\n1\n");
        c.conn().execute("INSERT INTO statement VALUES (?1)", [note]).unwrap();
    };
    rotation_changed_and_hashed_again, ROTATED, "entry ", |c| {
        let seq: i64 = c.one("SELECT seq FROM entry WHERE body LIKE '%\"event\":\"key_rotated\"%'");
        let (old, new) = (c.bench.rotated[0].verifier().to_string(), c.bench.rotated[1].verifier().to_string());
        c.body(&seq.to_string(), |b| b.replace(&format!("\"old\":\"{old}\""), &format!("\"old\":\"{new}\"")));
    };
    last_checkpoint_of_a_stranger, ROTATED, "checkpoint of ", |c| {
        let tree = c.tree();
        let note = Checkpoint::sign(&stranger(c.bench.key.verifier().name()), tree.size(), &tree.root());
        let sql = "UPDATE checkpoint SET note = ?1 WHERE size = (SELECT max(size) FROM checkpoint)";
        c.conn().execute(sql, [note]).unwrap();
    };
}

edits! { PURGES:
    tombstone_removed, PURGED, "frame ", |c| c.sql("DELETE FROM statement WHERE note LIKE '%payload purged%'");
    tombstone_changed, PURGED, "table statement", |c| statement(c, "%payload purged%", |n| n.replace("90days", "1days"));
    tombstone_signed_by_somebody_else, PURGED, "table statement", |c| {
        statement(c, "%payload purged%", |n| c.sign(&n[..=n.rfind("\n\n").unwrap()], false));
    };
    tombstone_of_more_frames, PURGED, "table statement", |c| {
        statement(c, "%payload purged%", |n| c.sign(&n[..=n.rfind("\n\n").unwrap()].replace("\nframes ", "\nframes 1"), true));
    };
    tombstone_of_another_segment, PURGED, "table statement", |c| {
        statement(c, "%payload purged%", |n| c.sign(&n[..=n.rfind("\n\n").unwrap()].replace("\nsegment 0", "\nsegment 1"), true));
    };
    tombstone_of_other_frames, PURGED, "table statement", |c| {
        statement(c, "%payload purged%", |n| {
            let text = &n[..=n.rfind("\n\n").unwrap()];
            let at = text.find("identities ").unwrap() + 11;
            c.sign(&format!("{}{}{}", &text[..at], "0".repeat(64), &text[at + 64..]), true)
        });
    };
    purged_bytes_invented, PURGED, "frame ", |c| {
        c.sql("UPDATE payload SET bytes = zeroblob(size), codec = 0 WHERE place = (SELECT min(place) FROM payload WHERE bytes IS NULL)");
    };
    purged_hash_changed, PURGED, "entry |frame ", |c| {
        c.sql("UPDATE payload SET sha256 = zeroblob(32) WHERE place = (SELECT min(place) FROM payload WHERE bytes IS NULL)");
    };
    purged_frame_removed, PURGED, "entry |frame ", |c| {
        c.sql("DELETE FROM payload WHERE place = (SELECT min(place) FROM payload WHERE bytes IS NULL)");
    };
    more_purged_than_declared, PURGED, "frame ", |c| {
        c.sql("UPDATE payload SET bytes = NULL WHERE place = (SELECT max(place) FROM payload)");
    };
}

edits! { WITNESSES:
    cosignature_removed, WITNESSED, "there is no cosignature by the witness", |c| c.sql("DELETE FROM witness");
    cosignature_changed, WITNESSED, "a witness's cosignature", |c| {
        let line: String = c.one("SELECT signature FROM witness");
        let value = line.trim_end().rsplit(' ').next().unwrap();
        let line = line.replace(value, &flipped(value));
        c.conn().execute("UPDATE witness SET signature = ?1", [line]).unwrap();
    };
    cosignature_of_another_root, WITNESSED, "a witness's cosignature", |c| {
        c.cosign(1_795_242_600, |text| text.replace(text.lines().nth(2).unwrap(), &flipped(text.lines().nth(2).unwrap())));
    };
    cosignature_of_another_host, WITNESSED, "a witness's cosignature", |c| {
        c.cosign(1_795_242_600, |text| text.replace("host-1", "host-2"));
    };
    cosignature_at_no_time, WITNESSED, "a witness's cosignature", |c| c.cosign(0, str::to_owned);
    cosignature_of_another_size, WITNESSED, "a witness's cosignature", |c| {
        c.sql("UPDATE witness SET size = (SELECT min(size) FROM checkpoint)");
    };
    cosignature_of_no_form, WITNESSED, "a witness's cosignature", |c| c.sql("UPDATE witness SET signature = 'signed: me'");
}
