//! kill -9 at random moments of writing, sealing, starting and closing.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use portcullis::{config::Durability, ledger::parts};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::{Found, Run, finish, load, number, verify_all};

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
    let mut found = Found::new(&dir);
    let mut runs = Vec::new();
    for round in 1..=rounds {
        let run = kill_one(&dir, durability, random, total).with_context(|| format!("round {round}"))?;
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

/// Starts a process on the ledger and kills it at a random moment of its life.
fn kill_one(dir: &Path, durability: Durability, random: &mut StdRng, total: &mut Total) -> Result<Run> {
    let close = if random.random_range(0..8) == 0 {
        random.random_range(5..40)
    } else {
        0
    };
    let mut child = Command::new(load())
        .arg(dir)
        .arg(durability.as_str())
        .args([random.random::<u32>().to_string(), close.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().context("its output")?;
    let (heard, hear) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut run = Run::default();
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            run.hear(&line);
            // Nobody listens any more once the moment has come.
            let _ = heard.send((run.opened.is_some(), run.sealed.len()));
        }
        run
    });
    let until = |reached: fn(&(bool, usize)) -> bool| {
        let deadline = Instant::now() + Duration::from_secs(5);
        while let Ok(now) = hear.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if reached(&now) {
                return;
            }
        }
    };
    // Some are killed wherever they are, perhaps while they open the ledger; some when they have sealed a segment.
    let micros = match random.random_range(0..10) {
        0..2 => random.random_range(0..40_000),
        2..4 => {
            until(|(_, sealed)| *sealed > 0);
            random.random_range(0..20_000)
        }
        _ => {
            until(|(open, _)| *open);
            random.random_range(0..60_000)
        }
    };
    drop(hear);
    let moment = Duration::from_micros(micros);
    std::thread::sleep(moment);
    child.kill()?;
    let output = child.wait_with_output()?;
    let run = reader.join().map_err(|_| anyhow::anyhow!("the reader"))?;
    total.kills += 1;
    total.at_start += u64::from(run.opened.is_none());
    let killed = output.status.signal() == Some(9);
    total.ended += u64::from(!killed);
    ensure!(
        killed || run.closed && output.status.success(),
        "it ended by itself: {}, {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(run)
}
