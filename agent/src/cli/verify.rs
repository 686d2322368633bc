//! `portcullis verify`

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;

use super::bar::Bar;
use crate::ledger::{self, Trust, VerifierKey, note::NoteError, witness::cosignature::WitnessKey};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// An export, or a ledger.
    file: PathBuf,
    /// The host's public key (`ledger.pub`), had from the host by another way than the file itself.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The public key of a witness (C2SP form) whose cosignature is to be there; can be given several times.
    #[arg(long, value_name = "FILE")]
    witness: Vec<PathBuf>,
    /// A checkpoint of this ledger that was kept elsewhere: names a rollback, a fork, and a history written anew.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A file that holds something small.
fn small<T>(path: &Path, read: impl Fn(&str) -> Result<T, NoteError>) -> anyhow::Result<T> {
    use std::io::Read as _;
    let named = || path.display().to_string();
    let mut text = String::new();
    let file = std::fs::File::open(path).with_context(named)?;
    file.take(64 << 10)
        .read_to_string(&mut text)
        .with_context(named)?;
    read(&text).with_context(named)
}

fn trust(args: &Args) -> anyhow::Result<Trust> {
    let key = |path: &PathBuf| small(path, |text| VerifierKey::parse(text.trim()));
    let witness = |path: &PathBuf| small(path, |text| WitnessKey::parse(text.trim()));
    let note = |path: &PathBuf| small(path, |text| Ok(text.to_owned()));
    Ok(Trust {
        key: args.key.as_ref().map(key).transpose()?,
        witnesses: args.witness.iter().map(witness).collect::<Result<_, _>>()?,
        against: args.against.as_ref().map(note).transpose()?,
    })
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let trust = trust(args)?;
    let mut bar = Bar::new("verifying");
    let verdict = ledger::verify_with(&args.file, &trust, &mut |p| bar.show(p));
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
            for w in &report.witnesses {
                let own = if w.given {
                    ""
                } else {
                    " (its key is from the host's own entries)"
                };
                println!(
                    "The witness {} cosigned {} entries, last at {}{own}",
                    w.key, w.size, w.at
                );
            }
            if let Some(size) = report.against {
                println!("The kept checkpoint of {size} entries is of this history");
            }
            if report.rotations > 0 {
                println!(
                    "The key was replaced {} times, each time signed by both",
                    report.rotations
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
