//! The power is cut, over and over: a process writes, what it does to its files is logged, and from the log directories
//! are made that a disk could have had at some moment. Each must be one that the ledger goes on with.

mod disk;
mod log;
mod sectors;

use std::{
    collections::HashMap,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use portcullis::{config::Durability, ledger::parts};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;
use uuid::Uuid;

use self::{
    disk::{Disk, Plan},
    log::Act,
};
use super::{Found, Run, child::kill_one, finish, number, verify_all};

/// How often the power is cut, for each mode; `PORTCULLIS_CRASH_CUTS` takes another number.
const CUTS: u64 = 100;
/// So many directories are made for each cut.
const REBUILT: u64 = 4;
/// So many cuts are made of what was logged between two starts from a directory that was cut.
const OF_A_LOG: u64 = 10;

#[test]
fn nothing_durable_is_lost_when_the_power_is_cut() {
    cuts(Durability::Power);
}

#[test]
fn without_syncs_the_ledger_goes_on_and_tells() {
    cuts(Durability::Process);
}

/// What was done and seen.
#[derive(Debug, Default)]
struct Total {
    cuts: u64,
    judged: u64,
    /// Acknowledged before the cut, and looked for after it; over all that were judged.
    acknowledged: usize,
    /// Judged that lack something acknowledged.
    lacking: u64,
    segments: u64,
    acts: usize,
    judging: Duration,
}

fn cuts(durability: Durability) {
    let seed = number("PORTCULLIS_CRASH_SEED", rand::random());
    let cuts = number("PORTCULLIS_CRASH_CUTS", CUTS);
    let mut total = Total::default();
    let began = Instant::now();
    let mut random = StdRng::seed_from_u64(seed);
    if let Err(error) = generations(durability, cuts, &mut random, &mut total) {
        panic!("PORTCULLIS_CRASH_SEED={seed}, {durability:?}, {total:?}: {error:?}");
    }
    println!("{durability:?} {total:?} in {:?}", began.elapsed());
    assert!(
        total.acknowledged as u64 > cuts * 20 && total.segments * 4 > cuts,
        "{total:?}"
    );
    // Where nothing is ever lost although nothing is synced, cuts cut nothing.
    assert!(
        durability == Durability::Power || total.lacking * 10 > total.judged,
        "{total:?}"
    );
}

/// Where all this happens.
struct Bench {
    top: TempDir,
    shim: PathBuf,
    durability: Durability,
}

/// What stood in the ledger when the log began, durable.
#[derive(Default)]
struct Before {
    order: Vec<Uuid>,
}

fn generations(durability: Durability, cuts: u64, random: &mut StdRng, total: &mut Total) -> Result<()> {
    // A process syncs nothing here, and what a disk would have is computed: memory will do.
    let memory = Path::new("/dev/shm");
    let top = if memory.is_dir() {
        tempfile::tempdir_in(memory)?
    } else {
        tempfile::tempdir()?
    };
    let bench = Bench {
        shim: build_shim(top.path())?,
        top,
        durability,
    };
    let mut base = bench.fresh("base")?;
    let mut before = Before::default();
    let mut age = 0;
    while total.cuts < cuts {
        // A ledger grows, and so does what it takes to judge it.
        if age == 4 {
            base = bench.fresh("base")?;
            before = Before::default();
            age = 0;
        }
        let (disk, steps) = bench.record(&base, random)?;
        total.acts += steps.len();
        let cuts = OF_A_LOG.min(cuts - total.cuts);
        let last = bench.judge_all(&disk, &steps, &before, cuts, random, total)?;
        base = bench.fresh("base")?;
        let plan = Plan::any(random, &last);
        last.make(&base, &plan, random)?;
        before.order = bench.raw(&base)?.map_or_else(Vec::new, |found| found.order);
        age += 1;
    }
    Ok(())
}

/// Compiles what is preloaded.
fn build_shim(dir: &Path) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("crash/ledger/power/powerloss.c");
    let library = dir.join("powerloss.so");
    let done = Command::new("cc")
        .args(["-std=gnu11", "-O2", "-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .output()
        .context("the C compiler")?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(library)
}

/// One thing of a log.
enum Step {
    /// The process was killed, and another starts; its files have other inodes.
    Start(HashMap<u64, usize>),
    Act(Act),
}

impl Bench {
    /// An empty directory of this name.
    fn fresh(&self, name: &str) -> Result<PathBuf> {
        let path = self.top.path().join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path)?;
        }
        std::fs::create_dir(&path)?;
        Ok(path)
    }

    /// Lets processes write, and kills them; the power is on all the while. The disk at the beginning, and what was done.
    fn record(&self, base: &Path, random: &mut StdRng) -> Result<(Disk, Vec<Step>)> {
        let begin = Disk::load(base)?;
        let mut now = begin.clone();
        let mut steps = Vec::new();
        for _ in 0..random.random_range(1..4) {
            let work = self.fresh("work")?;
            // What the page cache has: everything.
            let inodes = now.make(&work, &Plan::everything(), random)?;
            let log = self.top.path().join("log");
            // One that is killed before it makes a log anew did nothing; what the one before did is not its doing.
            std::fs::write(&log, [])?;
            let environment = [
                ("LD_PRELOAD", self.shim.as_os_str()),
                ("POWERLOSS_DIR", work.as_os_str()),
                ("POWERLOSS_LOG", log.as_os_str()),
            ];
            self.write(&work, random, &environment)?;
            now.found_at(&inodes);
            steps.push(Step::Start(inodes));
            for act in log::read(&log)? {
                now.act(&act).with_context(|| format!("{act:?}"))?;
                steps.push(Step::Act(act));
            }
        }
        Ok((begin, steps))
    }

    fn write(&self, work: &Path, random: &mut StdRng, environment: &[(&str, &OsStr)]) -> Result<()> {
        kill_one(&work.join("data"), self.durability, random, None, environment)?;
        Ok(())
    }

    /// Cuts the power at moments of a log, and judges what there could be then; the disk at the last of them.
    fn judge_all(
        &self,
        begin: &Disk,
        steps: &[Step],
        before: &Before,
        cuts: u64,
        random: &mut StdRng,
        total: &mut Total,
    ) -> Result<Disk> {
        let mut moments: Vec<usize> = (0..cuts).map(|_| moment(steps, random)).collect();
        moments.sort_unstable();
        let mut disk = begin.clone();
        let mut said: Vec<(Run, Vec<u8>)> = Vec::new();
        let mut done = 0;
        for moment in moments {
            for step in &steps[done..moment] {
                match step {
                    Step::Start(inodes) => {
                        disk.found_at(inodes);
                        said.push(Default::default());
                    }
                    Step::Act(Act::Said { bytes }) => {
                        if let Some((run, text)) = said.last_mut() {
                            hear(run, text, bytes);
                        }
                    }
                    Step::Act(act) => disk.act(act)?,
                }
            }
            done = moment;
            total.cuts += 1;
            for _ in 0..REBUILT {
                let plan = Plan::any(random, &disk);
                let began = Instant::now();
                let runs = said.iter().map(|s| &s.0);
                self.judge(&disk, &plan, runs, before, random, total)
                    .with_context(|| {
                        format!(
                            "cut at {moment} of {}: {}, {plan:?}",
                            steps.len(),
                            tell(steps, moment)
                        )
                    })?;
                total.judging += began.elapsed();
            }
        }
        Ok(disk)
    }

    fn judge<'a>(
        &self,
        disk: &Disk,
        plan: &Plan,
        runs: impl Iterator<Item = &'a Run> + Clone,
        before: &Before,
        random: &mut StdRng,
        total: &mut Total,
    ) -> Result<()> {
        let top = self.fresh("cut")?;
        disk.make(&top, plan, random)?;
        let dir = top.join("data");
        let raw = self.raw(&top).context("before the next start")?;
        let there = raw.map_or(0, |found| found.order.len() as u64);
        finish(&dir, self.durability).context("at the next start")?;
        let mut found = Found::new(&dir);
        found.read_on()?;
        ensure!(
            found.order.starts_with(&before.order),
            "what was durable before the log began is not there"
        );
        let mut lacks = false;
        for run in runs {
            found.hold(run, self.durability == Durability::Power)?;
            lacks |= found.lacks(run);
            total.acknowledged += run.acknowledged.len();
        }
        ensure!(
            !lacks || found.recovered.contains(&there),
            "{there} entries are there, acknowledged ones are lost, and nothing tells; {:?} do",
            found.recovered
        );
        let report = verify_all(&dir)?;
        ensure!(report.unsealed == 0 && report.gaps == 0, "{report:?}");
        let segments = parts(&dir)?.iter().filter(|p| p.sealed).count() as u64;
        found.segments_are_told(&dir, segments)?;
        total.segments += segments;
        total.judged += 1;
        total.lacking += u64::from(lacks);
        Ok(())
    }

    /// What is there before the ledger was opened again: it verifies as it is.
    fn raw(&self, top: &Path) -> Result<Option<Found>> {
        let dir = top.join("data");
        if !dir.exists() || parts(&dir)?.is_empty() {
            return Ok(None);
        }
        let mut found = Found::new(&dir);
        found.read_on()?;
        // Before the first entry nothing was signed, and by nobody.
        if !found.order.is_empty() {
            verify_all(&dir)?;
        }
        Ok(Some(found))
    }
}

/// A moment to cut the power at: any, or just before a sync, or just after something was said or a name changed.
fn moment(steps: &[Step], random: &mut StdRng) -> usize {
    let any = random.random_range(0..=steps.len());
    let kind = random.random_range(0..6);
    let wanted = |step: &Step| match step {
        Step::Act(Act::Sync { .. } | Act::SyncDir { .. }) => kind == 0,
        Step::Act(Act::Said { .. }) => kind == 1,
        Step::Act(Act::Rename { .. } | Act::Unlink { .. } | Act::MakeDir { .. } | Act::Create { .. }) => {
            kind == 2
        }
        _ => false,
    };
    let found = steps[any..].iter().position(wanted);
    found.map_or(any, |i| any + i + usize::from(kind > 0))
}

/// Takes in what was said; a line may come in pieces.
fn hear(run: &mut Run, text: &mut Vec<u8>, bytes: &[u8]) {
    text.extend_from_slice(bytes);
    while let Some(end) = text.iter().position(|b| *b == b'\n') {
        let line: Vec<u8> = text.drain(..=end).collect();
        run.hear(String::from_utf8_lossy(&line[..end]).trim_end());
    }
}

/// The last things before a moment, for whoever looks for the reason.
fn tell(steps: &[Step], moment: usize) -> String {
    let last = steps[..moment].iter().rev().filter_map(|step| match step {
        Step::Act(Act::Write { inode, at, bytes }) => {
            Some(format!("write {inode} at {at}, {} bytes", bytes.len()))
        }
        Step::Act(Act::Said { .. }) => None,
        Step::Act(act) => Some(format!("{act:?}")),
        Step::Start(_) => Some("start".into()),
    });
    let mut last: Vec<String> = last.take(8).collect();
    last.reverse();
    last.join("; ")
}
