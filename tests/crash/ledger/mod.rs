//! The ledger alone, killed and cut off the power, over and over: what it said is durable is there afterwards, and
//! everything verifies.

mod child;
mod found;
mod kill;
mod power;
mod said;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use portcullis::{
    config::Durability,
    ledger::{
        Ledger, Options, VerifierKey, parts,
        verify::{Checks, Report, VerifyError, verify_files},
    },
};

pub use self::{
    found::Found,
    said::{Run, Sealed},
};

/// A number from the environment, or the usual one.
fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(usual)
}

/// Everything in a data directory verifies as one chain, under the key that is beside it.
fn verify_all(dir: &Path) -> Result<Report> {
    let key = std::fs::read_to_string(dir.join("ledger.pub"))?;
    let key = VerifierKey::parse(key.trim_end()).context("ledger.pub")?;
    let checks = Checks {
        key: Some(key),
        ..Checks::default()
    };
    match verify_files(&[dir.into()], &checks, &mut |_| {}) {
        // Ended after a new key was put there, and before it had signed anything: the next start has it sign.
        Err(finding) if matches!(finding.error, VerifyError::Key { .. }) => {
            Ok(verify_files(&[dir.into()], &Checks::default(), &mut |_| {})?)
        }
        other => Ok(other?),
    }
}

/// Opens the ledger as the next start does, lets it finish what was under way, and closes it: then nothing is left in
/// the directory that does not belong there.
fn finish(dir: &Path, durability: Durability) -> Result<()> {
    let ledger = Ledger::open(dir, Options::new("crash", durability)).context("it does not open again")?;
    // Seals what had ended before, too.
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let sealed = runtime.block_on(ledger.seal());
    ledger.close();
    sealed.context("what had ended cannot be sealed")?;
    tidy(dir)
}

/// Names that may be in a data directory, and nothing else: one part that is written, segments without a hole.
fn tidy(dir: &Path) -> Result<()> {
    let parts = parts(dir)?;
    let known = [
        "ledger.db",
        "ledger.key",
        "ledger.pub",
        "ledger.state",
        "segments",
        "ship",
    ];
    let mut allowed: Vec<String> = known.map(String::from).into();
    for (n, part) in (0..).zip(&parts) {
        ensure!(part.number == n, "part {n} is missing: {parts:?}");
        let last = n + 1 == parts.len() as u64;
        ensure!(part.sealed != last, "part {n} was left behind: {parts:?}");
        if last {
            let name = part.path.file_name().unwrap_or_default();
            let link = std::fs::read_link(dir.join("ledger.db"))?;
            ensure!(link == Path::new(name), "ledger.db leads to {}", link.display());
            // Whoever reads leaves the side files behind.
            allowed.extend(["", "-shm", "-wal"].map(|side| format!("{}{side}", name.display())));
        }
    }
    for item in std::fs::read_dir(dir)? {
        let name = item?.file_name().to_string_lossy().into_owned();
        ensure!(allowed.contains(&name), "{name} was left behind");
    }
    // There is no directory before there is a segment.
    let segments = std::fs::read_dir(dir.join("segments")).map_or(0, Iterator::count);
    ensure!(
        segments + 1 == parts.len(),
        "something was left behind in segments/"
    );
    Ok(())
}
