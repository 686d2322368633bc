//! PostgreSQL: its parts without IO, and whole sessions against a made-up server.

use anyhow::{Result, anyhow};
use portcullis::protocol::postgres::fuzzing::{self, session::Sessions};

use super::Target;

/// An entry point that panics when a property does not hold.
pub struct Part {
    name: &'static str,
    seeds: &'static [&'static [u8]],
    check: fn(&[u8]),
}

/// Both sides' messages.
pub const CODEC: Part = Part {
    name: "pg-codec",
    seeds: &[
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"\0\0\0\x17\0\x03\0\0user\0ada\0\0Q\0\0\0\x0dSELECT 1\0",
        b"P\0\0\0\x11s\0SELECT $1\0\0\0B\0\0\0\x13\0s\0\0\0\0\x01\0\0\0\x01x\0\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04",
        b"D\0\0\0\x06S\0C\0\0\0\x06P\0H\0\0\0\x04X\0\0\0\x04",
        b"T\0\0\0\x1a\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0D\0\0\0\x0b\0\x01\0\0\0\x011Z\0\0\0\x05I",
        b"t\0\0\0\x0a\0\x01\0\0\0\x19",
    ],
    check: fuzzing::fuzz_postgres_codec,
};
/// Statements.
pub const SQL: Part = Part {
    name: "pg-sql",
    seeds: &[
        b"SELECT a, count(*) FROM t JOIN u USING (id) WHERE ssn = 'x' GROUP BY 1; DELETE FROM t",
        b"WITH w AS (INSERT INTO t VALUES ($1, E'\\'') RETURNING *) SELECT * FROM w",
        b"COPY (SELECT 1) TO STDOUT WITH (FORMAT csv, DELIMITER ';', HEADER, NULL '')",
        b"DO $x$BEGIN EXECUTE 'DROP TABLE t'; END$x$",
        b"EXPLAIN (ANALYZE) UPDATE t SET a = (SELECT U&'\\0061') /* /* */ */ -- x",
        b"PREPARE p (int) AS SELECT $1; EXECUTE p(1); DEALLOCATE p",
    ],
    check: fuzzing::fuzz_postgres_sql,
};
/// Values.
pub const VALUE: Part = Part {
    name: "pg-value",
    seeds: &[
        b"\x01\x00\0\x01\0\0\0\x0fada@example.com",
        b"\x02\x00\x04ada@example.com\t123\n\\N\t5\n\\.\n",
        b"\x06\x00\x93\"ada@example.com, \"\"x\"\"\",{1,2}\n",
        b"\x09\x80PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x04abcd\xff\xff",
        b"\x01\x8d\0\x01\0\0\0\x1a{\"email\":\"ada@example.com\"}",
        b"\x01\x31\0\x01\0\0\0\x18\0\0\0\x01\0\0\0\0\0\0\0\x19\0\0\0\x01\0\0\0\x01\0\0\0\0",
        b"\x01\x17\0\x01\0\0\0\x14{\"(x,\\\"{}\\\",3)\",NULL}",
        b"\x01\x00\0s\0\0\0\0\x01\0\0\0\x0bada@ex.test\0\0",
    ],
    check: fuzzing::fuzz_postgres_value,
};

impl Target for Part {
    fn name(&self) -> &'static str {
        self.name
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        self.seeds.iter().map(|s| s.to_vec()).collect()
    }

    fn check(&mut self, input: &[u8], _random: u64) -> Result<()> {
        (self.check)(input);
        Ok(())
    }
}

/// Whole sessions of a hostile workload.
pub struct Session(pub Sessions);

impl Target for Session {
    fn name(&self) -> &'static str {
        "pg-session"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        fuzzing::session::seeds()
    }

    fn check(&mut self, input: &[u8], random: u64) -> Result<()> {
        // A session is as long as its input; what matters happens within a few messages.
        self.0
            .check(&input[..input.len().min(200)], random)
            .map_err(|why| anyhow!(why))
    }
}
