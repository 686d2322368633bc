//! Edits of tables, views and indexes, and of the rows that explain a file.

use super::bench::{EXPORTS, FILES, KINDS, LIVE, SEALED, edits};

edits! { TABLES:
    view_changed, FILES, "changes: ", |c| c.sql("DROP VIEW changes; CREATE VIEW changes AS SELECT 1 AS entry");
    view_filtered, FILES, "operations: ", |c| {
        let sql: String = c.one("SELECT sql FROM sqlite_master WHERE name = 'operations'");
        c.sql(&format!("DROP VIEW operations; {sql} LIMIT 3"));
    };
    view_removed, FILES, "sessions: ", |c| c.sql("DROP VIEW sessions");
    view_added, FILES, "denials: ", |c| c.sql("CREATE VIEW denials AS SELECT * FROM operations");
    view_renamed, FILES, "changes: |was: ", |c| {
        let sql: String = c.one("SELECT sql FROM sqlite_master WHERE name = 'changes'");
        c.sql(&format!("DROP VIEW changes; {}", sql.replace("VIEW changes", "VIEW was")));
    };
    view_in_the_place_of_a_table, FILES, "policy_set: ", |c| {
        c.sql("DROP TABLE policy_set; CREATE VIEW policy_set AS SELECT '' AS hash, '' AS text WHERE 0");
    };
    view_without_a_line_end, FILES, "sessions: ", |c| {
        let sql: String = c.one("SELECT sql FROM sqlite_master WHERE name = 'sessions'");
        c.sql(&format!("DROP VIEW sessions; {}", sql.replacen('\n', " ", 1)));
    };
    table_added, FILES, "notes: ", |c| c.sql("CREATE TABLE notes (text TEXT) STRICT");
    table_in_the_name_of_sqlite, KINDS, "Entry2: ", |c| c.sql("CREATE TABLE Entry2 (sqlite_x TEXT)");
    table_removed, FILES, "timestamp: ", |c| c.sql("DROP TABLE timestamp");
    column_added, FILES, "entry: ", |c| c.sql("ALTER TABLE entry ADD COLUMN remark TEXT");
    column_renamed, LIVE, "tree: ", |c| c.sql("ALTER TABLE tree RENAME COLUMN nodes TO roots");
    type_taken_away, KINDS, "checkpoint: ", |c| {
        c.sql("CREATE TABLE c AS SELECT * FROM checkpoint; DROP TABLE checkpoint;
               CREATE TABLE checkpoint (size INTEGER PRIMARY KEY, note); INSERT INTO checkpoint SELECT * FROM c; DROP TABLE c");
    };
    trigger_added, FILES, "t: ", |c| c.sql("CREATE TRIGGER t AFTER INSERT ON entry BEGIN SELECT 1; END");
    index_added, FILES, "i: ", |c| c.sql("CREATE INDEX i ON entry (salt)");
    index_on_part, FILES, "i: ", |c| c.sql("CREATE INDEX i ON payload (operation) WHERE number = 0");
    index_removed, EXPORTS, "entry_session: ", |c| c.sql("DROP INDEX entry_session");
    index_that_tells_what_a_file_is_removed, EXPORTS, "entry_", |c| c.sql("DROP INDEX payload_operation");
    index_that_lies, EXPORTS, "the file is damaged", |c| {
        // The index keeps the old kind of an entry that has another.
        let conn = c.conn();
        let sql = "SELECT sql FROM sqlite_master WHERE name = 'payload_operation'";
        let declared: String = conn.query_row(sql, [], |r| r.get(0)).unwrap();
        drop(conn);
        let write = |text: &str| {
            let conn = c.conn();
            let version: i64 = conn.query_row("PRAGMA schema_version", [], |r| r.get(0)).unwrap();
            conn.execute_batch("PRAGMA writable_schema=ON").unwrap();
            conn.execute("UPDATE sqlite_master SET sql = ?1 WHERE name = 'payload_operation'", [text]).unwrap();
            conn.execute_batch(&format!("PRAGMA schema_version={}", version + 1)).unwrap();
        };
        write("CREATE INDEX payload_operation ON payload (operation, direction, number) WHERE number > 0");
        c.sql("REINDEX payload_operation");
        write(&declared);
    };
}

edits! { WORDS:
    column_described_otherwise, SEALED, "table columns", |c| {
        c.sql("UPDATE columns SET description = 'x' WHERE name = 'operations' AND column = 'decision'");
    };
    column_not_described, SEALED, "table columns", |c| c.sql("DELETE FROM columns WHERE column = 'decision'");
    column_described_that_is_not_there, SEALED, "table columns", |c| {
        c.sql("INSERT INTO columns VALUES ('operations', 'innocent', 'Always true.')");
    };
    about_the_size, SEALED, "table about", |c| c.sql("UPDATE about SET text = '1' WHERE topic = 'entries'");
    about_the_root, SEALED, "table about", |c| c.sql("UPDATE about SET text = replace(text, 'a', 'b') WHERE topic = 'root'");
    about_removed, SEALED, "table about", |c| c.sql("DELETE FROM about WHERE topic = 'root'");
    about_something_more, SEALED, "table about", |c| c.sql("INSERT INTO about VALUES ('complete', 'Nothing is missing.')");
    about_another_kind_of_file, SEALED, "table about", |c| c.sql("UPDATE about SET text = 'ledger' WHERE topic = 'file'");
    about_the_beginning, SEALED, "table about", |c| c.sql("UPDATE about SET text = '1' WHERE topic = 'first'");
    about_another_key, SEALED, "table about", |c| {
        c.sql("UPDATE about SET text = replace(text, 'host-1', 'host-9') WHERE topic = 'key'");
    };
    about_another_segment, &[super::bench::On::Segment], "table about", |c| {
        c.sql("UPDATE about SET text = '9' WHERE topic = 'segment'");
    };
    about_more_bodies, EXPORTS, "table about", |c| {
        c.sql("UPDATE about SET text = '9' || text WHERE topic = 'selected'");
    };
    control_shown_otherwise, SEALED, "table controls", |c| c.sql("UPDATE controls SET shows = 'Everything.'");
    control_removed, SEALED, "table controls", |c| {
        c.sql("DELETE FROM controls WHERE control = (SELECT max(control) FROM controls)");
    };
    control_asked_otherwise, SEALED, "table control_queries", |c| c.sql("UPDATE control_queries SET sql = 'SELECT 1'");
    about_nothing_left, SEALED, "table about", |c| c.sql("DELETE FROM about");
}
