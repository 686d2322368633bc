//! `portcullis verify`

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;

use super::bar::Bar;
use crate::ledger::{self, note::VerifierKey};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// An export, or a ledger.
    file: PathBuf,
    /// The host's public key (`ledger.pub`), had from the host by another way than the file itself.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let key = match &args.key {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            Some(VerifierKey::parse(text.trim()).with_context(|| path.display().to_string())?)
        }
        None => None,
    };
    let mut bar = Bar::new("verifying");
    let verdict = ledger::verify::verify(&args.file, key.as_ref(), &mut |p| bar.show(p));
    bar.end();
    match verdict {
        Ok(report) if args.json => println!("{}", serde_json::to_string_pretty(&report)?),
        Ok(report) => {
            println!("OK: {} entries, root {}", report.entries, report.root);
            println!(
                "{} checkpoints of {} signed; {} payload frames match",
                report.checkpoints, report.origin, report.frames
            );
            if report.withheld > 0 {
                println!(
                    "{} entries are withheld: only their hashes are in the file",
                    report.withheld
                );
            }
            if report.unsealed > 0 {
                println!(
                    "{} entries came after the last checkpoint: nothing signed covers them yet",
                    report.unsealed
                );
            }
            if report.gaps > 0 {
                println!(
                    "{} gap entries say that something could not be recorded",
                    report.gaps
                );
            }
            if !report.key_given {
                println!(
                    "The key is the file's own; give the host's with --key to know that it is the host's."
                );
            }
        }
        Err(e) => {
            if args.json {
                println!("{}", serde_json::json!({ "error": e.to_string() }));
            } else {
                println!("BAD: {e}");
            }
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}
