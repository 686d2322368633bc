//! `portcullis disclose`

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    config::Config,
    ledger::{
        LedgerError,
        disclose::{Disclosure, disclose},
    },
};

/// A checkpoint comes every second while the daemon runs.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The entry: its place (`entry` in every view) or its id.
    #[arg(value_name = "ENTRY")]
    entry: String,
    /// The file to write; it must not exist. Standard output without.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// From this export, segment or data directory instead of this host's ledger.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

pub(super) fn run(args: &Args, config: impl FnOnce() -> anyhow::Result<Config>) -> anyhow::Result<ExitCode> {
    let from = match &args.from {
        Some(from) => from.clone(),
        None => config()?.host.data_dir,
    };
    let disclosure = covered(&from, &args.entry)?;
    let mut text = serde_json::to_string_pretty(&disclosure)?;
    text.push('\n');
    let Some(out) = &args.out else {
        print!("{text}");
        return Ok(ExitCode::SUCCESS);
    };
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(out);
    let mut file = file.with_context(|| out.display().to_string())?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    println!(
        "{}: entry {}, and nothing else of the ledger",
        out.display(),
        disclosure.entry.seq
    );
    Ok(ExitCode::SUCCESS)
}

/// Waits for the checkpoint that covers what was just recorded.
fn covered(from: &Path, entry: &str) -> anyhow::Result<Disclosure> {
    let began = Instant::now();
    loop {
        match disclose(from, entry) {
            Err(LedgerError::Uncovered { .. }) if began.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(50));
            }
            other => return Ok(other?),
        }
    }
}
