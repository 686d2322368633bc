//! Edits of entries.

use super::bench::{CHAIN, FILES, KINDS, LIVE, SEALED, SEGMENT, edits};

edits! { ENTRIES:
    body_changed, FILES, "entry ", |c| c.sql("UPDATE entry SET body = replace(body, 'bot-a', 'bot-c') WHERE seq = OPERATION");
    body_nulled, FILES, "entry ", |c| c.sql("UPDATE entry SET body = NULL WHERE seq = OPERATION");
    body_given_to_another_entry, KINDS, "entry ", |c| {
        c.sql("UPDATE entry SET body = (SELECT body FROM entry WHERE seq = OPERATION) WHERE seq = 0");
    };
    body_of_another_type, LIVE, "entry ", |c| c.loose("entry", "UPDATE entry SET body = CAST(body AS BLOB) WHERE seq = OPERATION");
    body_as_a_number, LIVE, "entry ", |c| c.loose("entry", "UPDATE entry SET body = 7 WHERE seq = OPERATION");
    body_withheld, &[super::bench::On::Segment, super::bench::On::Live], "entry ", |c| {
        c.sql("UPDATE entry SET body = NULL, salt = NULL WHERE seq = 0");
    };
    body_withheld_afterwards, &[super::bench::On::Full], "table about", |c| {
        c.sql("UPDATE entry SET body = NULL, salt = NULL WHERE seq = 0");
    };
    salt_changed, FILES, "entry ", |c| c.sql("UPDATE entry SET salt = zeroblob(16) WHERE seq = OPERATION");
    salt_nulled, FILES, "entry ", |c| c.sql("UPDATE entry SET salt = NULL WHERE seq = OPERATION");
    salt_lengthened, FILES, "entry ", |c| c.sql("UPDATE entry SET salt = CAST(salt || x'00' AS BLOB) WHERE seq = OPERATION");
    salt_moved_into_the_body, LIVE, "entry ", |c| {
        c.loose("entry", "UPDATE entry SET body = substr(salt, 9) || CAST(body AS BLOB), salt = substr(salt, 1, 8) WHERE seq = OPERATION");
    };
    salt_as_text, LIVE, "entry ", |c| c.loose("entry", "UPDATE entry SET salt = 'sixteen letters!' WHERE seq = OPERATION");
    leaf_changed, FILES, "entry ", |c| c.sql("UPDATE entry SET leaf = zeroblob(32) WHERE seq = OPERATION");
    leaf_shortened, FILES, "entry ", |c| c.sql("UPDATE entry SET leaf = substr(leaf, 1, 31) WHERE seq = OPERATION");
    leaf_nulled, KINDS, "entry ", |c| c.loose("entry", "UPDATE entry SET leaf = NULL WHERE seq = OPERATION");
    leaf_of_a_withheld_entry_changed, &[super::bench::On::Filtered], "checkpoint of ", |c| {
        c.sql("UPDATE entry SET leaf = zeroblob(32) WHERE seq = (SELECT min(seq) FROM entry WHERE body IS NULL)");
    };
    withheld_body_invented, &[super::bench::On::Filtered], "entry ", |c| {
        c.sql("UPDATE entry SET body = '{}', salt = zeroblob(16) WHERE seq = (SELECT min(seq) FROM entry WHERE body IS NULL)");
    };
    rehashed, FILES, "checkpoint of ", |c| c.body("OPERATION", |b| b.replace("bot-a", "bot-c"));
    rehashed_with_another_salt, FILES, "checkpoint of ", |c| {
        c.sql("UPDATE entry SET salt = zeroblob(16) WHERE seq = OPERATION");
        c.body("OPERATION", |b| b.replace("\"allow\"", "\"deny\""));
    };
    operation_allowed_afterwards, FILES, "checkpoint of ", |c| c.body("OPERATION", |b| b.replace("policy_permit", "approved"));
    deleted, FILES, "entry ", |c| c.sql("DELETE FROM entry WHERE seq = OPERATION");
    deleted_and_closed_up, FILES, "checkpoint of |entry |frame ", |c| {
        c.sql("DELETE FROM entry WHERE seq = 0; UPDATE entry SET seq = seq - 1");
    };
    first_deleted, FILES, "entry ", |c| c.sql("DELETE FROM entry WHERE seq = 0");
    last_deleted, FILES, "checkpoint of ", |c| c.sql("DELETE FROM entry WHERE seq = LAST");
    all_deleted, FILES, "checkpoint of ", |c| c.sql("DELETE FROM entry; DELETE FROM payload");
    moved_away, FILES, "entry ", |c| c.sql("UPDATE entry SET seq = seq + 3 WHERE seq = LAST");
    moved_far_away, FILES, "entry ", |c| c.sql("UPDATE entry SET seq = 4611686018427387903 WHERE seq = LAST");
    moved_before_the_beginning, FILES, "entry ", |c| c.sql("UPDATE entry SET seq = -9 WHERE seq = 0");
    hidden_at_the_end_of_the_numbers, FILES, "entry ", |c| {
        c.sql("INSERT INTO entry SELECT 9223372036854775807, body, salt, leaf FROM entry WHERE seq = OPERATION");
    };
    hidden_before_the_beginning, FILES, "entry ", |c| {
        c.sql("INSERT INTO entry SELECT -1, body, salt, leaf FROM entry WHERE seq = OPERATION");
    };
    swapped, KINDS, "checkpoint of |entry |frame ", |c| {
        c.sql("UPDATE entry SET seq = -1 WHERE seq = 0; UPDATE entry SET seq = 0 WHERE seq = LAST;
               UPDATE entry SET seq = LAST + 1 WHERE seq = -1");
    };
    reversed, KINDS, "entry |checkpoint of |frame ", |c| {
        c.sql("UPDATE entry SET seq = -1 - seq; UPDATE entry SET seq = seq - (SELECT min(seq) FROM entry)");
    };
    inserted, FILES, "checkpoint of |entry |frame ", |c| {
        c.sql("UPDATE entry SET seq = -1 - seq; UPDATE entry SET seq = -seq WHERE seq < 0;
               INSERT INTO entry SELECT 0, body, salt, leaf FROM entry WHERE seq = 1");
    };
    session_repeated_at_the_end, SEALED, "the entries from ", |c| {
        c.sql("INSERT INTO entry SELECT LAST + 1, body, salt, leaf FROM entry WHERE seq = 0");
    };
    outcome_repeated_at_the_end, FILES, "entry ", |c| {
        c.sql("INSERT INTO entry SELECT LAST + 1, body, salt, leaf FROM entry WHERE seq = OUTCOME");
    };
    outcome_of_nothing, FILES, "entry ", |c| {
        c.body("OUTCOME", |b| b.replace("\"operation\":\"0", "\"operation\":\"1"));
    };
    cut_off, FILES, "checkpoint of |entry ", |c| {
        c.sql("DELETE FROM entry WHERE seq > 3; DELETE FROM payload WHERE place >= 4 << 20");
    };
    cut_off_with_the_checkpoints, SEGMENT, "table statement", |c| {
        let size = c.one::<i64>("SELECT max(seq) FROM entry");
        c.sql(&format!("DELETE FROM entry WHERE seq = {size}; DELETE FROM checkpoint"));
        let tree = c.tree();
        let note = super::super::checkpoint::Checkpoint::sign(c.host(), tree.size(), &tree.root());
        c.conn().execute("INSERT INTO checkpoint VALUES (?1, ?2)", rusqlite::params![size, note]).unwrap();
        c.about();
    };
    cut_off_in_the_middle_of_a_chain, CHAIN, "the entries from |checkpoint of ", |c| {
        c.sql("DELETE FROM entry WHERE seq = LAST");
    };
    nothing_is_signed, SEALED, "the entries from 0 on", |c| {
        c.body("OPERATION", |b| b.replace("bot-a", "bot-c"));
        c.sql("DELETE FROM checkpoint");
        c.about();
    };
    cut_off_where_a_checkpoint_is, &[super::bench::On::Full], "the kept checkpoint of ", |c| {
        c.keep();
        let size: i64 = c.one("SELECT min(size) FROM checkpoint");
        c.sql(&format!(
            "DELETE FROM entry WHERE seq >= {size}; DELETE FROM checkpoint WHERE size > {size};
             DELETE FROM payload WHERE place >> 20 >= {size}"
        ));
        c.about();
    };
    rewritten_and_signed_by_the_host, &[super::bench::On::Segment], "the kept checkpoint of ", |c| {
        c.keep();
        c.body("OPERATION", |b| b.replace("bot-a", "bot-c"));
        c.sign_all(c.host());
        c.about();
    };
    end_is_not_signed, &[super::bench::On::Full, super::bench::On::Filtered], "the entries from ", |c| {
        c.sql("DELETE FROM checkpoint WHERE size = (SELECT max(size) FROM checkpoint)");
    };
}

edits! { SPELLING:
    white_space, KINDS, "entry ", |c| c.body("OPERATION", |b| b.replace("\":", "\": "));
    white_space_behind, KINDS, "entry ", |c| c.body("OPERATION", |b| format!("{b}\n"));
    keys_in_another_order, KINDS, "entry ", |c| {
        c.body("OPERATION", |b| b.replace("\"pid\":7", "\"aid\":7"));
    };
    key_twice, KINDS, "entry ", |c| c.body("OPERATION", |b| b.replacen("{\"action\"", "{\"action\":\"x\",\"action\"", 1));
    number_as_a_fraction, KINDS, "entry ", |c| c.body("OPERATION", |b| b.replace("\"pid\":7", "\"pid\":7.0"));
    number_with_an_exponent, KINDS, "entry ", |c| c.body("OPERATION", |b| b.replace("\"pid\":7", "\"pid\":7e0"));
    number_below_zero_that_is_zero, KINDS, "entry ", |c| c.body("OPERATION", |b| b.replace("\"pid\":7", "\"pid\":-0"));
    number_of_more_than_64_bits, KINDS, "entry ", |c| {
        c.body("OPERATION", |b| b.replace("\"pid\":7", "\"pid\":18446744073709551616"));
    };
    letter_escaped, KINDS, "entry ", |c| c.body("OPERATION", |b| b.replace("bot-a", "bot-\\u0061"));
    slash_escaped, KINDS, "entry ", |c| c.body("OPERATION", |b| b.replace("/usr", "\\/usr"));
    escape_in_capitals, KINDS, "entry ", |c| c.body("OPERATION", |b| b.replace("\\u0001", "\\u000B"));
    half_a_surrogate, KINDS, "entry ", |c| c.body("OPERATION", |b| b.replace("bot-a", "bot-\\ud800"));
    nested_deeply, KINDS, "entry ", |c| {
        c.body("OPERATION", |b| b.replace("\"controls\":[]", &format!("\"controls\":{}{}", "[".repeat(70), "]".repeat(70))));
    };
    not_an_object, KINDS, "entry ", |c| c.body("OPERATION", |b| format!("[{b}]"));
    byte_order_mark, LIVE, "entry ", |c| c.body("OPERATION", |b| format!("\u{feff}{b}"));
    id_in_capitals, KINDS, "entry ", |c| c.body("OUTCOME", |b| {
        let at = b.find("\"id\":\"").unwrap() + 6;
        format!("{}{}{}", &b[..at], b[at..at + 36].replace('-', "").to_uppercase(), &b[at + 36..])
    });
    id_of_another_kind, KINDS, "entry ", |c| c.body("OUTCOME", |b| {
        let at = b.find("\"id\":\"").unwrap() + 6 + 14;
        format!("{}4{}", &b[..at], &b[at + 1..])
    });
    kind_unknown, KINDS, "entry ", |c| c.body("OPERATION", |b| b.replace("\"kind\":\"operation\"", "\"kind\":\"remark\""));
    kind_missing, KINDS, "entry ", |c| c.body("OPERATION", |b| b.replace("\"kind\":\"operation\",", ""));
    version_true, KINDS, "entry ", |c| c.body("OPERATION", |b| b.replace("\"v\":1", "\"v\":true"));
    version_of_tomorrow, KINDS, "entry ", |c| c.body("OPERATION", |b| b.replace("\"v\":1", "\"v\":2"));
    time_not_in_utc, KINDS, "entry ", |c| c.body("OUTCOME", |b| {
        let at = b.find("\"at\":\"").unwrap() + 6 + 29;
        format!("{}+{}", &b[..at], &b[at + 1..])
    });
}
