//! What the disk and SQLite do by themselves.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use rusqlite::Connection;

use super::{Measured, append::percentiles};

const BYTES: usize = 1024;

/// Appends and syncs, one after the other.
pub fn disk(dir: &Path, seconds: f64) -> Result<Measured> {
    let path = dir.join("raw");
    let mut file = File::create(&path)?;
    let block = [b'x'; BYTES];
    let mut took = Vec::new();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs_f64(seconds) {
        let one = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        took.push(one.elapsed());
    }
    std::fs::remove_file(&path)?;
    Ok(measured(took, 1, began.elapsed()))
}

/// Inserts rows of 1 KB, so many to a commit.
pub fn sqlite(dir: &Path, seconds: f64, full: bool, rows: usize) -> Result<Measured> {
    let path = dir.join("raw.db");
    let db = Connection::open(&path)?;
    db.execute_batch(
        "PRAGMA journal_mode=WAL; CREATE TABLE entry (seq INTEGER PRIMARY KEY, body TEXT NOT NULL)",
    )?;
    db.pragma_update(None, "synchronous", if full { "FULL" } else { "NORMAL" })?;
    let text = "x".repeat(BYTES);
    let mut took = Vec::new();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs_f64(seconds) {
        let one = Instant::now();
        let tx = db.unchecked_transaction()?;
        {
            let mut insert = tx.prepare_cached("INSERT INTO entry (body) VALUES (?1)")?;
            for _ in 0..rows {
                insert.execute([&text])?;
            }
        }
        tx.commit()?;
        took.push(one.elapsed());
    }
    let measured = measured(took, rows, began.elapsed());
    drop(db);
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(dir.join(format!("raw.db{suffix}")));
    }
    Ok(measured)
}

fn measured(took: Vec<Duration>, each: usize, whole: Duration) -> Measured {
    let rate = (took.len() * each) as f64 / whole.as_secs_f64();
    let (p50_us, p99_us) = percentiles(took);
    Measured {
        rate,
        mb: rate * BYTES as f64 / 1e6,
        p50_us,
        p99_us,
    }
}
