//! kill -9 at random moments of writing, sealing, starting and closing.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use e2e::wait::{DEADLINE, wait_until};
use portcullis::{
    config::Durability,
    ledger::{Ledger, Options, parts},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::{Found, Run, child::kill_one, finish, number, verify_all};

/// How often; `PORTCULLIS_CRASH_KILLS` takes another number.
const KILLS: u64 = 500;
/// A ledger sees so many of them, and then there is a fresh one.
const A_LEDGER: u64 = 25;
/// Everything is verified after so many; what was acknowledged is looked for after each.
const VERIFY_EVERY: u64 = 5;

/// What was done, over all ledgers.
#[derive(Debug, Default)]
struct Total {
    kills: u64,
    /// Kills before the ledger was open.
    at_start: u64,
    /// Processes that came to their end before they were killed.
    ended: u64,
    acknowledged: usize,
    segments: u64,
    checking: Duration,
}

#[test]
fn nothing_acknowledged_is_lost_at_any_moment() {
    let seed = number("PORTCULLIS_CRASH_SEED", rand::random());
    let kills = number("PORTCULLIS_CRASH_KILLS", KILLS);
    let mut total = Total::default();
    let began = Instant::now();
    for ledger in 0.. {
        if total.kills >= kills {
            break;
        }
        let rounds = A_LEDGER.min(kills - total.kills);
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(ledger));
        if let Err(error) = one_ledger(rounds, &mut random, &mut total) {
            panic!("PORTCULLIS_CRASH_SEED={seed}, ledger {ledger}: {error:?}");
        }
    }
    println!("{total:?} in {:?}", began.elapsed());
    // Kills of a process that does nothing would prove nothing.
    assert!(
        total.acknowledged as u64 > kills * 5 && total.segments * 5 > kills,
        "{total:?}"
    );
    assert!(total.ended * 2 < kills, "{total:?}");
}

fn one_ledger(rounds: u64, random: &mut StdRng, total: &mut Total) -> Result<()> {
    // A sync on a disk takes time in which nothing else happens; in memory there are more points to be killed at.
    let memory = Path::new("/dev/shm");
    let (root, durability) = if random.random_range(0..3) > 0 && memory.is_dir() {
        (tempfile::tempdir_in(memory)?, Durability::Process)
    } else {
        (tempfile::tempdir()?, Durability::Power)
    };
    let dir = root.path().join("data");
    let shipped = root.path().join("shipped");
    std::fs::create_dir(&shipped)?;
    let mut found = Found::new(&dir);
    let mut runs = Vec::new();
    for round in 1..=rounds {
        let (run, killed) = kill_one(&dir, durability, random, Some(&shipped), &[])
            .with_context(|| format!("round {round}"))?;
        total.kills += 1;
        total.at_start += u64::from(run.opened.is_none());
        total.ended += u64::from(!killed);
        total.acknowledged += run.acknowledged.len();
        runs.push(run);
        let began = Instant::now();
        check(&dir, &mut found, &runs, round % VERIFY_EVERY == 0)
            .with_context(|| format!("after round {round}, {durability:?}"))?;
        total.checking += began.elapsed();
    }
    let began = Instant::now();
    let before = std::mem::take(&mut found.order);
    // It has a file of the ledger open.
    drop(found);
    ship_rest(&dir, durability, &shipped).context("shipping")?;
    finish(&dir, durability)?;
    let mut again = Found::new(&dir);
    again.read_on()?;
    ensure!(
        again.order.starts_with(&before),
        "read from the first on, it is another"
    );
    for run in &runs {
        again.hold(run, true)?;
    }
    let segments = parts(&dir)?.iter().filter(|p| p.sealed).count() as u64;
    again.segments_are_told(&dir, segments)?;
    let report = verify_all(&dir)?;
    ensure!(
        report.gaps == 0 && report.unsealed == 0 && report.policy_sets_missing == 0,
        "{report:?}"
    );
    total.segments += segments;
    total.checking += began.elapsed();
    Ok(())
}

/// Starts once more, until every segment was shipped; each arrived as it is.
fn ship_rest(dir: &Path, durability: Durability, to: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ledger = Ledger::open(dir, Options::new("crash", durability))?;
    runtime.block_on(ledger.seal())?;
    let all: Vec<PathBuf> = parts(dir)?
        .into_iter()
        .filter(|p| p.sealed)
        .map(|p| p.path)
        .collect();
    let shipping = e2e::ship::to_directory(dir, &ledger, to)?;
    let next = || shipping.status().first().map_or(0, |sink| sink.next);
    wait_until("all segments are shipped", DEADLINE, || {
        next() >= all.len() as u64
    })?;
    runtime.block_on(shipping.close());
    ledger.close();
    for segment in all {
        // Its name there has its range and its hash besides.
        let stem = segment.file_stem().context("its name")?.to_string_lossy();
        let begin = format!("{stem}-");
        let copy = std::fs::read_dir(to.join("crash"))?
            .filter_map(|item| Some(item.ok()?.path()))
            .find(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(&begin) && name.ends_with(".db")
            })
            .with_context(|| format!("{stem} is not there"))?;
        let bytes = std::fs::read(&copy).with_context(|| copy.display().to_string())?;
        ensure!(bytes == std::fs::read(&segment)?, "{} is another", copy.display());
    }
    Ok(())
}

/// Whether what was said until now is there.
fn check(dir: &Path, found: &mut Found, runs: &[Run], verify: bool) -> Result<()> {
    // Killed before it had made a file at all.
    if !dir.exists() || parts(dir)?.is_empty() {
        return found.hold(runs.last().context("a run")?, true);
    }
    found.read_on()?;
    found.hold(runs.last().context("a run")?, true)?;
    if verify {
        let report = verify_all(dir)?;
        ensure!(report.gaps == 0, "{report:?}");
        ensure!(report.entries == found.order.len() as u64, "{report:?}");
    }
    Ok(())
}
