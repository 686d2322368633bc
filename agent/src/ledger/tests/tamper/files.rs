//! Edits of whole files and of their bytes, and of chains of files.

use std::io::Write as _;

use super::bench::{CHAIN, Case, FILES, edits};

/// Changes bytes wherever they are: a page that SQLite has freed may hold an old copy.
fn everywhere(c: &Case<'_>, old: &[u8], new: &[u8]) {
    assert_eq!(old.len(), new.len());
    c.bytes(|bytes| {
        let found: Vec<usize> = memchr::memmem::find_iter(bytes, old).collect();
        assert!(!found.is_empty());
        for at in found {
            bytes[at..at + new.len()].copy_from_slice(new);
        }
    });
}

/// The page on which the rows of a table begin.
fn page(c: &Case<'_>, table: &str) -> std::ops::Range<usize> {
    let size: i64 = c.one("PRAGMA page_size");
    let root: i64 = c.one(&format!(
        "SELECT rootpage FROM sqlite_master WHERE name = '{table}'"
    ));
    let size = usize::try_from(size).unwrap();
    let from = usize::try_from(root - 1).unwrap() * size;
    from..from + size
}

edits! { BYTES:
    application_id, FILES, "read", |c| c.sql("PRAGMA application_id = 7");
    user_version, FILES, "read", |c| c.sql("PRAGMA user_version = 1");
    byte_of_a_body, FILES, "entry ", |c| everywhere(c, b"curl", b"cuRl");
    byte_of_a_leaf, FILES, "entry ", |c| {
        let leaf: Vec<u8> = c.one("SELECT leaf FROM entry WHERE body IS NOT NULL ORDER BY seq LIMIT 1");
        let mut other = leaf.clone();
        other[31] ^= 0x80;
        everywhere(c, &leaf, &other);
    };
    byte_of_a_frame, FILES, "frame ", |c| everywhere(c, b"end 0 1", b"end 0 7");
    text_that_is_none, FILES, "entry ", |c| everywhere(c, b"/usr/bin/curl", b"/usr/bin/\xff\xff\xff\xff");
    header_destroyed, FILES, "read", |c| c.bytes(|b| b[..16].fill(0));
    emptied, FILES, "read", |c| c.bytes(Vec::clear);
    no_database, FILES, "read", |c| c.bytes(|b| *b = b"There is nothing to see here.".repeat(99));
    cut_in_half, FILES, "", |c| c.bytes(|b| b.truncate(b.len() / 2));
    page_of_entries_zeroed, FILES, "", |c| {
        let page = page(c, "entry");
        c.bytes(|b| b[page].fill(0));
    };
    page_of_frames_in_the_place_of_entries, FILES, "", |c| {
        let (from, to) = (page(c, "payload"), page(c, "entry"));
        c.bytes(|b| b.copy_within(from, to.start));
    };
    page_of_checkpoints_zeroed, FILES, "", |c| {
        let page = page(c, "checkpoint");
        c.bytes(|b| b[page].fill(0));
    };
    removed, FILES, "read", |c| std::fs::remove_file(&c.main).unwrap();
    a_change_in_a_log_beside_it, FILES, "entry ", |c| {
        // What a WAL holds counts as the file does: it is copied away before SQLite writes it back, and put beside again.
        let conn = c.conn();
        let mode: String = conn.query_row("PRAGMA journal_mode=WAL", [], |r| r.get(0)).unwrap();
        assert_eq!(mode, "wal");
        conn.execute_batch("PRAGMA wal_autocheckpoint=0; UPDATE entry SET leaf = zeroblob(32) WHERE seq = 0").unwrap();
        let copy = c.dir.path().join("copy.db");
        std::fs::copy(&c.main, &copy).unwrap();
        std::fs::copy(c.main.with_extension("db-wal"), copy.with_extension("db-wal")).unwrap();
        drop(conn);
        c.files = vec![copy.clone()];
        c.main = copy;
    };
}

edits! { CHAINS:
    last_removed, CHAIN, "the kept checkpoint of ", |c| {
        c.main = c.files[3].clone();
        c.keep();
        c.files.truncate(3);
    };
    one_removed, CHAIN, "the entries from ", |c| drop(c.files.remove(1));
    two_removed, CHAIN, "the entries from ", |c| drop(c.files.drain(1..3));
    one_twice, CHAIN, "the entries from ", |c| {
        let copy = c.dir.path().join("copy.db");
        std::fs::copy(&c.main, &copy).unwrap();
        c.files.push(copy);
    };
    one_of_another_host, CHAIN, "it is of |key ", |c| c.replace(&c.bench.parts("other")[1].clone());
    first_of_another_host, CHAIN, "it is of |the entries from |key ", |c| {
        std::fs::copy(&c.bench.parts("other")[0], &c.files[0]).unwrap();
    };
    one_of_a_fork, CHAIN, "it goes on from other entries", |c| c.replace(&c.bench.parts("fork")[1].clone());
    last_of_a_fork, CHAIN, "it goes on from other entries", |c| {
        std::fs::copy(c.bench.parts("fork").last().unwrap(), &c.files[3]).unwrap();
    };
    both_histories, CHAIN, "the entries from ", |c| {
        let copy = c.dir.path().join("copy.db");
        std::fs::copy(&c.bench.parts("fork")[1], &copy).unwrap();
        c.files.push(copy);
    };
    another_segment_of_its_own, CHAIN, "the entries from ", |c| c.replace(&c.bench.parts("chain")[2].clone());
    an_older_live_part, CHAIN, "the entries from |it ", |c| {
        std::fs::copy(&c.bench.parts("older")[1], &c.files[3]).unwrap();
    };
    one_that_cannot_be_read, CHAIN, "read", |c| {
        let mut file = std::fs::File::create(&c.main).unwrap();
        file.write_all(b"gone").unwrap();
    };
    an_entry_changed_and_hashed_again, CHAIN, "checkpoint of ", |c| c.body("OPERATION", |b| b.replace("bot-a", "bot-c"));
    an_entry_changed, CHAIN, "entry ", |c| c.sql("UPDATE entry SET body = replace(body, 'bot-a', 'bot-c') WHERE seq = OPERATION");
}
