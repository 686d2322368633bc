//! Edits of payload.

use super::bench::{FILES, KINDS, LIVE, On, SEGMENT, edits};

edits! { FRAMES:
    place_before_the_beginning, FILES, "frame ", |c| c.sql("UPDATE payload SET place = -place - 1 WHERE place = FRAME");
    place_behind_the_outcome, FILES, "frame |entry ", |c| c.sql("UPDATE payload SET place = (LAST + 1) << 20 WHERE place = FRAME");
    place_within_its_operation, SEGMENT, "table statement", |c| {
        c.sql("UPDATE payload SET place = place + 100 WHERE place = FRAME");
    };
    operation_of_another, FILES, "frame |entry ", |c| {
        c.sql("UPDATE payload SET operation = (SELECT max(operation) FROM payload) WHERE place = FRAME");
    };
    operation_in_capitals, FILES, "frame ", |c| c.sql("UPDATE payload SET operation = upper(operation) WHERE place = FRAME");
    operation_as_a_blob, LIVE, "frame ", |c| {
        c.loose("payload", "UPDATE payload SET operation = CAST(operation AS BLOB) WHERE place = FRAME");
    };
    direction_turned, FILES, "frame |entry ", |c| c.sql("UPDATE payload SET direction = 'up' WHERE place = FRAME");
    direction_unknown, FILES, "frame ", |c| c.sql("UPDATE payload SET direction = 'Down' WHERE place = FRAME");
    number_changed, FILES, "frame ", |c| c.sql("UPDATE payload SET number = 7 WHERE place = FRAME");
    number_negative, FILES, "frame ", |c| c.sql("UPDATE payload SET number = -1 WHERE place = FRAME");
    numbers_swapped, FILES, "frame ", |c| c.sql("UPDATE payload SET number = 1 - number WHERE direction = 'down'");
    hash_changed, FILES, "frame ", |c| c.sql("UPDATE payload SET sha256 = zeroblob(32) WHERE place = FRAME");
    hash_shortened, FILES, "frame ", |c| c.sql("UPDATE payload SET sha256 = substr(sha256, 1, 31) WHERE place = FRAME");
    hash_as_hex, LIVE, "frame ", |c| c.loose("payload", "UPDATE payload SET sha256 = hex(sha256) WHERE place = FRAME");
    codec_unknown, FILES, "frame ", |c| c.sql("UPDATE payload SET codec = 9 WHERE place = FRAME");
    codec_said_to_be_zlib, FILES, "frame ", |c| c.sql("UPDATE payload SET codec = 2 WHERE codec = 0");
    codec_said_to_be_none, SEGMENT, "frame ", |c| c.sql("UPDATE payload SET codec = 0 WHERE codec = 2");
    size_changed, FILES, "frame ", |c| c.sql("UPDATE payload SET size = size + 1 WHERE place = FRAME");
    size_negative, FILES, "frame ", |c| c.sql("UPDATE payload SET size = -1 WHERE place = FRAME");
    size_of_everything, FILES, "frame ", |c| c.sql("UPDATE payload SET size = 9223372036854775807 WHERE place = FRAME");
    bytes_changed, FILES, "frame ", |c| c.sql("UPDATE payload SET bytes = CAST('and 0 0' AS BLOB), size = 7 WHERE place = FRAME");
    bytes_cut, FILES, "frame ", |c| c.sql("UPDATE payload SET bytes = substr(bytes, 1, length(bytes) - 1) WHERE number = 0");
    bytes_lengthened, FILES, "frame ", |c| c.sql("UPDATE payload SET bytes = CAST(bytes || x'00' AS BLOB) WHERE number = 0");
    bytes_purged_without_a_word, FILES, "frame |entry |table ", |c| c.sql("UPDATE payload SET bytes = NULL WHERE place = FRAME");
    bytes_as_text, LIVE, "frame ", |c| {
        c.loose("payload", "UPDATE payload SET bytes = CAST(bytes AS TEXT) WHERE place = FRAME");
    };
    compressed_with_other_content, FILES, "frame |entry ", |c| {
        // zlib, stored as it is: `other words` and its check value.
        let raw = b"other words";
        let mut bytes = vec![0x78, 0x01, 0x01, 11, 0, 0xf4, 0xff];
        bytes.extend_from_slice(raw);
        let (a, b) = raw.iter().fold((1u32, 0u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (b + a) % 65521)
        });
        bytes.extend_from_slice(&((b << 16) | a).to_be_bytes());
        let sql = "UPDATE payload SET bytes = ?1, codec = 2, size = 11
                   WHERE place = (SELECT min(place) FROM payload WHERE number = 1)";
        c.conn().execute(sql, [bytes]).unwrap();
    };
    replaced_with_its_hash, FILES, "entry ", |c| {
        let hash = crate::ledger::tree::sha256(&[b"other words"]);
        let sql = "UPDATE payload SET bytes = CAST('other words' AS BLOB), codec = 0, size = 11, sha256 = ?1
                   WHERE place = (SELECT min(place) FROM payload WHERE number = 1)";
        c.conn().execute(sql, [hash.as_slice()]).unwrap();
    };
    swapped_between_operations, FILES, "entry ", |c| {
        c.sql("CREATE TEMP TABLE two AS SELECT p.place AS a, (SELECT max(place) FROM payload WHERE number = 1) AS b, p.*
                 FROM payload p WHERE place = FRAME;
               UPDATE payload SET (sha256, codec, size, bytes) =
                 (SELECT sha256, codec, size, bytes FROM payload WHERE place = (SELECT b FROM two))
                 WHERE place = (SELECT a FROM two);
               UPDATE payload SET (sha256, codec, size, bytes) = (SELECT sha256, codec, size, bytes FROM two)
                 WHERE place = (SELECT b FROM two)");
    };
    one_deleted, FILES, "entry |frame ", |c| c.sql("DELETE FROM payload WHERE place = FRAME");
    last_of_a_direction_deleted, FILES, "entry ", |c| c.sql("DELETE FROM payload WHERE number = 1");
    all_deleted, FILES, "entry ", |c| c.sql("DELETE FROM payload");
    repeated, FILES, "frame |entry ", |c| {
        c.sql("INSERT INTO payload SELECT place + 100, operation, direction, number, sha256, codec, size, bytes
               FROM payload WHERE place = FRAME");
    };
    added_to_an_operation, FILES, "entry ", |c| {
        c.sql("INSERT INTO payload SELECT place + 100, operation, direction, 2, sha256, codec, size, bytes
               FROM payload WHERE place = FRAME");
    };
    added_behind_the_end, FILES, "frame ", |c| {
        c.sql("INSERT INTO payload SELECT 9223372036854775807, operation, direction, 2, sha256, codec, size, bytes
               FROM payload WHERE place = FRAME");
    };
    added_to_no_operation, KINDS, "frame ", |c| {
        c.sql("INSERT INTO payload SELECT 0, '01a21560-0000-7000-8000-000000000000', direction, 0, sha256, codec, size, bytes
               FROM payload WHERE place = FRAME");
    };
    hidden_before_the_beginning, &[On::Full, On::Live], "frame ", |c| {
        c.sql("INSERT INTO payload SELECT -5, operation, direction, 0, sha256, codec, size, bytes
               FROM payload WHERE place = FRAME");
    };
}
