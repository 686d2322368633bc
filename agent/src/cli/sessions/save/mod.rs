//! `portcullis sessions export`: one session as a file for other programs.

mod asciicast;
mod gather;
mod har;
mod jsonl;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use serde_json::json;

use super::{super::control::Control, ledger_of};
use crate::{
    cli::block_on,
    config::Config,
    ledger::{hash_file, replay::Replay},
    model::SessionId,
};

#[derive(Debug, clap::Args)]
pub(in super::super) struct Args {
    /// The session's id, as `list` prints it.
    id: uuid::Uuid,
    /// What the file is to be.
    #[arg(long, value_enum)]
    format: Format,
    /// The file to write; it must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// An export, a segment or another ledger instead of this host's own.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// HTTP archive 1.2: requests and answers, as browsers' tools read them.
    Har,
    /// asciicast v3: what `replay` shows, for asciinema.
    Asciicast,
    /// One JSON object a line for each statement: text, parameters, decision, result.
    Jsonl,
}

impl Format {
    fn word(self) -> &'static str {
        match self {
            Self::Har => "har",
            Self::Asciicast => "asciicast",
            Self::Jsonl => "jsonl",
        }
    }
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let shown = args.out.display();
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    let file = options.open(&args.out).with_context(|| shown.to_string())?;
    let count = match write(args, config, file) {
        Ok(count) => count,
        Err(e) => {
            // It is ours, and not whole.
            let _ = std::fs::remove_file(&args.out);
            return Err(e);
        }
    };
    let (sha256, bytes) = hash_file(&args.out).with_context(|| shown.to_string())?;
    println!(
        "{shown}: {count} {}, {bytes} bytes",
        match args.format {
            Format::Har => "requests",
            Format::Asciicast => "steps",
            Format::Jsonl => "statements",
        }
    );
    println!("SHA-256 {sha256}");
    if args.file.is_none() {
        tell(args, config, &sha256, bytes)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(args: &Args, config: &Config, file: File) -> anyhow::Result<u64> {
    let replay = Replay::open(&ledger_of(args.file.as_ref(), config), SessionId(args.id))?;
    let mut out = BufWriter::new(file);
    let count = match args.format {
        Format::Har => har::write(replay, &mut out)?,
        Format::Asciicast => asciicast::write(replay, &args.id, &mut out)?,
        Format::Jsonl => jsonl::write(replay, &mut out)?,
    };
    out.flush()?;
    out.into_inner()
        .map_err(std::io::IntoInnerError::into_error)?
        .sync_all()?;
    Ok(count)
}

/// Custody: who took what, as an entry. Without a daemon the file is there all the same, and that is said.
fn tell(args: &Args, config: &Config, sha256: &str, bytes: u64) -> anyhow::Result<()> {
    let file = std::path::absolute(&args.out).unwrap_or_else(|_| args.out.clone());
    let custody = json!({
        "asked": { "session": args.id.hyphenated().to_string(), "format": args.format.word() },
        "bytes": bytes,
        "file": Path::new(&file).display().to_string(),
        "sha256": sha256,
    });
    let control = Control::new(&config.host.run_dir);
    let told: Result<serde_json::Value, _> = block_on(control.post("/v1/export", &custody))?;
    if let Err(e) = told {
        eprintln!("portcullis: this export is not on record in the ledger: {e}");
    }
    Ok(())
}
