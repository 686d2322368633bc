//! Appending from many tasks at once.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use bytes::Bytes;
use portcullis::{
    config::Durability,
    ledger::{FrameDigest, Ledger, Options},
    model::{Direction, Entry, EntryKind, OperationId, Rfc3339},
};
use uuid::Uuid;

use super::{Case, Measured};

/// As fast as they can.
pub fn full(dir: &Path, case: Case, durability: Durability, seconds: f64) -> Result<Measured> {
    with_ledger(dir, case, durability, seconds, None)
}

/// At a rate over all writers together.
pub fn paced(dir: &Path, case: Case, durability: Durability, seconds: f64, rate: f64) -> Result<Measured> {
    with_ledger(dir, case, durability, seconds, Some(rate))
}

fn with_ledger(
    dir: &Path,
    case: Case,
    durability: Durability,
    seconds: f64,
    rate: Option<f64>,
) -> Result<Measured> {
    let place = tempfile::tempdir_in(dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()?;
    let ledger = Ledger::open(place.path(), Options::new("bench", durability))?;
    let for_time = Duration::from_secs_f64(seconds);
    let began = Instant::now();
    let took = runtime.block_on(async {
        let writers: Vec<_> = (0..case.writers)
            .map(|n| {
                let step = rate.map(|r| Duration::from_secs_f64(case.writers as f64 / r));
                // Writers do not start in step.
                let late = step.map_or(Duration::ZERO, |s| s.mul_f64(n as f64 / case.writers as f64));
                tokio::spawn(write(ledger.clone(), case, began, for_time, step, late))
            })
            .collect();
        let mut took = Vec::new();
        for writer in writers {
            took.extend(writer.await??);
        }
        anyhow::Ok(took)
    })?;
    let whole = began.elapsed();
    ledger.close();
    let rate = took.len() as f64 / whole.as_secs_f64();
    let (p50_us, p99_us) = percentiles(took);
    Ok(Measured {
        rate,
        mb: rate * (case.body + case.frame) as f64 / 1e6,
        p50_us,
        p99_us,
    })
}

async fn write(
    ledger: Ledger,
    case: Case,
    began: Instant,
    for_time: Duration,
    step: Option<Duration>,
    late: Duration,
) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    let text = words(case.frame.max(1 << 16));
    let mut due = began + late;
    let mut offset = 0;
    while began.elapsed() < for_time {
        if let Some(step) = step {
            tokio::time::sleep_until(due.into()).await;
            due += step;
        }
        let entry = entry(case.body);
        let operation = OperationId(entry.id);
        let one = Instant::now();
        ledger.append(entry).await?;
        took.push(one.elapsed());
        if case.frame > 0 {
            let mut digest = FrameDigest::new();
            offset = (offset + 4093) % (text.len() - case.frame + 1);
            let bytes = text.slice(offset..offset + case.frame);
            ledger
                .frame_next(&mut digest, operation, Direction::Down, bytes)
                .await?;
        }
    }
    Ok(took)
}

/// An entry whose body has about so many bytes.
pub fn entry(bytes: usize) -> Entry {
    let id = Uuid::now_v7();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos() as i64);
    let head = format!(
        "{{\"action\":\"http:request\",\"at\":\"{}\",\"decision\":\"deny\",\"id\":\"{id}\",\"kind\":\"operation\",\"text\":\"",
        Rfc3339(now)
    );
    let tail = "\",\"v\":1,\"workload\":\"bench\"}";
    let fill = bytes.saturating_sub(head.len() + tail.len());
    let mut body = String::with_capacity(bytes + 16);
    body.push_str(&head);
    body.extend(std::iter::repeat_n('x', fill));
    body.push_str(tail);
    Entry {
        id,
        kind: EntryKind::Operation,
        body,
    }
}

/// Text that compresses as JSON of an API does.
pub fn words(bytes: usize) -> Bytes {
    let mut text = String::with_capacity(bytes * 2 + 200);
    let mut n: u64 = 0x9e37_79b9;
    while text.len() < bytes * 2 {
        n = n
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!(
            "{{\"id\":{},\"state\":\"{}\",\"amount\":{}.{:02},\"name\":\"[masked:name]\",\"note\":\"{:x}\"}},",
            n >> 44,
            ["open", "paid", "held", "sent"][(n >> 61) as usize & 3],
            n >> 50 & 4095,
            n >> 40 & 63,
            n >> 36 & 0xffff,
        ));
    }
    Bytes::from(text)
}

/// The middle and the slowest hundredth, in microseconds.
pub fn percentiles(mut took: Vec<Duration>) -> (f64, f64) {
    took.sort_unstable();
    let at = |q: f64| {
        let i = ((took.len() as f64 * q) as usize).min(took.len().saturating_sub(1));
        took.get(i).map_or(f64::NAN, |d| d.as_secs_f64() * 1e6)
    };
    (at(0.5), at(0.99))
}
