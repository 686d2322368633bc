//! A large ledger: sealed, exported, verified; and what it takes on the disk.

use std::{path::Path, time::Instant};

use anyhow::{Context as _, Result};
use portcullis::{
    config::Durability,
    ledger::{
        ExportOptions, FrameDigest, Ledger, Options, export,
        verify::{Checks, verify_files},
    },
    model::{Direction, EntryKind, OperationId},
};
use serde_json::{Value, json};

use super::append::{entry, words};

/// Every so many entries one has a payload of so many bytes.
const PAYLOAD_EVERY: u64 = 8;
const PAYLOAD: usize = 4 * 1024;

pub fn run(dir: &Path, entries: u64) -> Result<Value> {
    let place = tempfile::tempdir_in(dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()?;
    let options = Options {
        segment_bytes: 1 << 40,
        ..Options::new("bench", Durability::Process)
    };
    let ledger = Ledger::open(place.path(), options)?;
    eprintln!("recording {entries} entries");
    let raw = runtime.block_on(fill(&ledger, entries))?;
    let entries = ledger.size().0;
    let live = size(place.path())?;
    let timed = |what: &str, work: &mut dyn FnMut() -> Result<()>| -> Result<f64> {
        eprintln!("{what}");
        let began = Instant::now();
        work()?;
        Ok(began.elapsed().as_secs_f64())
    };
    let seal = timed("sealing", &mut || {
        runtime.block_on(ledger.seal())?.context("nothing was sealed")?;
        Ok(())
    })?;
    ledger.close();
    let sealed = size(place.path())?;
    let check = |path: &Path| -> Result<()> {
        verify_files(&[path.into()], &Checks::default(), &mut |_| {})?;
        Ok(())
    };
    let verify = timed("verifying the segment", &mut || check(place.path()))?;
    let out = dir.join("bench-export.db");
    let exported = timed("exporting", &mut || {
        let options = ExportOptions {
            unsealed: true,
            ..ExportOptions::default()
        };
        export(place.path(), &out, &options, &mut |_| {})?;
        Ok(())
    })?;
    let bytes = std::fs::metadata(&out)?.len();
    let verify_export = timed("verifying the export", &mut || check(&out))?;
    std::fs::remove_file(&out)?;
    let raw_mb = raw as f64 / 1e6;
    println!(
        "\n{entries} entries of 1 KB, every {PAYLOAD_EVERY}th with {PAYLOAD} bytes of payload: {raw_mb:.0} MB raw"
    );
    println!("{:<28} {:>8} {:>14} {:>10}", "", "seconds", "entries/s", "MB/s");
    for (what, seconds) in [
        ("seal", seal),
        ("verify the segment", verify),
        ("export", exported),
        ("verify the export", verify_export),
    ] {
        println!(
            "{what:<28} {seconds:>8.1} {:>14.0} {:>10.0}",
            entries as f64 / seconds,
            raw_mb / seconds
        );
    }
    let ratio = |n: u64| n as f64 / raw as f64;
    println!(
        "stored, of raw: live {:.2}, sealed {:.2}, export {:.2}",
        ratio(live),
        ratio(sealed),
        ratio(bytes)
    );
    let stored = payload(dir)?;
    Ok(json!({
        "entries": entries, "raw_bytes": raw, "live_bytes": live, "segment_bytes": sealed, "export_bytes": bytes,
        "seal_seconds": seal, "verify_seconds": verify, "export_seconds": exported,
        "verify_export_seconds": verify_export, "stored": stored,
    }))
}

/// What is stored of an operation with its outcome and its payload, by the payload's size.
fn payload(dir: &Path) -> Result<Value> {
    let mut all = Vec::new();
    println!("\n{:<28} {:>8} {:>8}", "stored, of payload", "live", "sealed");
    for bytes in [1 << 10, 16 << 10, 64 << 10, 1 << 20] {
        let place = tempfile::tempdir_in(dir)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let ledger = Ledger::open(place.path(), Options::new("bench", Durability::Process))?;
        let operations = (64 << 20) / bytes.max(16 << 10);
        runtime.block_on(async {
            let text = words(bytes);
            for _ in 0..operations {
                let entry = entry(700);
                let operation = OperationId(entry.id);
                ledger.append(entry).await?;
                let mut digest = FrameDigest::new();
                let mut at = 0;
                while at < bytes {
                    let end = (at + (64 << 10)).min(bytes);
                    ledger
                        .frame_next(&mut digest, operation, Direction::Down, text.slice(at..end))
                        .await?;
                    at = end;
                }
                ledger.enqueue(outcome(operation, digest)).await?;
            }
            anyhow::Ok(())
        })?;
        // What was enqueued is there when something appended later is.
        runtime.block_on(ledger.append(entry(300)))?;
        let live = size(place.path())?;
        runtime.block_on(ledger.seal())?;
        ledger.close();
        let sealed = size(place.path())?;
        let raw = (operations * bytes) as f64;
        println!(
            "{:<28} {:>8.2} {:>8.2}",
            format!("{} KB an operation", bytes >> 10),
            live as f64 / raw,
            sealed as f64 / raw
        );
        all.push(json!({ "payload_bytes": bytes, "live": live as f64 / raw, "sealed": sealed as f64 / raw }));
    }
    Ok(Value::Array(all))
}

fn outcome(operation: OperationId, down: FrameDigest) -> portcullis::model::Entry {
    let members = json!({
        "bytes_down": 0, "bytes_up": 0, "duration_us": 1000, "masked": {}, "operation": operation.to_string(),
        "payload": { "down": down.finish() }, "reason": "completed", "status": "200", "workload": "bench",
    });
    portcullis::ledger::entry(EntryKind::Outcome, 1_795_242_600_123_456_789, members)
}

/// Appends from 64 tasks; the raw bytes recorded.
async fn fill(ledger: &Ledger, entries: u64) -> Result<u64> {
    const TASKS: u64 = 64;
    let text = words(1 << 16);
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (ledger, text) = (ledger.clone(), text.clone());
            tokio::spawn(async move {
                let mut raw = 0;
                for n in (task..entries).step_by(TASKS as usize) {
                    if (n / TASKS).is_multiple_of(PAYLOAD_EVERY) && n + TASKS < entries {
                        let one = entry(1024);
                        let operation = OperationId(one.id);
                        raw += one.body.len() as u64;
                        ledger.append(one).await?;
                        let mut digest = FrameDigest::new();
                        let at = (n as usize * 977) % (text.len() - PAYLOAD);
                        let bytes = text.slice(at..at + PAYLOAD);
                        ledger
                            .frame_next(&mut digest, operation, Direction::Down, bytes)
                            .await?;
                        raw += PAYLOAD as u64;
                        let end = outcome(operation, digest);
                        raw += end.body.len() as u64;
                        ledger.enqueue(end).await?;
                    } else {
                        let one = entry(1024);
                        raw += one.body.len() as u64;
                        ledger.append(one).await?;
                    }
                }
                anyhow::Ok(raw)
            })
        })
        .collect();
    let mut raw = 0;
    for task in tasks {
        raw += task.await??;
    }
    Ok(raw)
}

/// Bytes of all files below a directory.
fn size(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for item in std::fs::read_dir(dir)? {
        let item = item?;
        let meta = item.metadata()?;
        if meta.is_dir() {
            bytes += size(&item.path())?;
        } else if meta.is_file() && !item.file_name().to_string_lossy().ends_with("-shm") {
            bytes += meta.len();
        }
    }
    Ok(bytes)
}
