//! `portcullis verify`

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::Context as _;

use super::bar::Bar;
use crate::{
    config::Config,
    ledger::{
        note::{NoteError, VerifierKey},
        timestamp::TsaRoots,
        verify::{Checks, DISCLOSURE_MAX, Report, Stamp, verify_disclosure, verify_files},
        witness::cosignature::WitnessKey,
    },
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Exports, segments, ledgers, or data directories. Several are verified as one chain, in whatever order they are
    /// given. Without any: this host's own ledger, all of it.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The host's public key (`ledger.pub`), had from the host by another way than the files themselves.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The public key of a witness (C2SP form) whose cosignature is to be there; can be given several times.
    #[arg(long, value_name = "FILE")]
    witness: Vec<PathBuf>,
    /// A checkpoint of this ledger that was kept elsewhere: names a rollback, a fork, and a history written anew.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// The roots (PEM) of a time-stamping authority: a timestamp is to be there, and each has to chain to them.
    #[arg(long, value_name = "FILE")]
    tsa: Option<PathBuf>,
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

/// What the files are held against.
fn checks(args: &Args) -> anyhow::Result<Checks> {
    let key = |path: &PathBuf| small(path, |text| VerifierKey::parse(text.trim()));
    let witness = |path: &PathBuf| small(path, |text| WitnessKey::parse(text.trim()));
    let note = |path: &PathBuf| small(path, |text| Ok(text.to_owned()));
    Ok(Checks {
        key: args.key.as_ref().map(key).transpose()?,
        witnesses: args.witness.iter().map(witness).collect::<Result<_, _>>()?,
        against: args.against.as_ref().map(note).transpose()?,
        tsa: match &args.tsa {
            Some(path) => {
                let pem = std::fs::read(path).with_context(|| path.display().to_string())?;
                Some(TsaRoots::from_pem(&pem).with_context(|| path.display().to_string())?)
            }
            None => None,
        },
    })
}

/// The text of a disclosure; `None` when the file is something else.
fn disclosure(path: &Path) -> anyhow::Result<Option<String>> {
    use std::io::Read as _;
    if path.is_dir() {
        return Ok(None);
    }
    let named = || path.display().to_string();
    let mut first = [0];
    let mut file = std::fs::File::open(path).with_context(named)?;
    if file.read(&mut first).with_context(named)? == 0 || first[0] != b'{' {
        return Ok(None);
    }
    let mut text = String::from("{");
    file.take(DISCLOSURE_MAX)
        .read_to_string(&mut text)
        .with_context(named)?;
    Ok(Some(text))
}

fn one_entry(text: &str, checks: &Checks, json: bool) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        checks.against.is_none(),
        "--against is for ledgers, not for one entry"
    );
    let told = match verify_disclosure(text, checks) {
        Ok(told) => told,
        Err(e) if json => {
            println!("{}", serde_json::json!({ "error": e.to_string() }));
            return Ok(ExitCode::FAILURE);
        }
        Err(e) => {
            println!("BAD: {e}");
            return Ok(ExitCode::FAILURE);
        }
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&told)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "OK: entry {} of {}, in the tree of {} entries that {} signed",
        told.seq, told.origin, told.size, told.signed_by
    );
    println!("{}", serde_json::to_string_pretty(&told.entry)?);
    for (key, at) in &told.witnesses {
        println!("The witness {key} cosigned that tree at {at}");
    }
    for stamp in &told.timestamps {
        print_stamp(stamp);
    }
    if told.replaced {
        println!(
            "The key that signed it was replaced since by the one given: whoever got hold of the old one could have \
             signed it, too."
        );
    }
    if !told.key_given {
        println!("The key is the file's own; give the host's with --key to know that it is the host's.");
    }
    Ok(ExitCode::SUCCESS)
}

fn print_stamp(stamp: &Stamp) {
    let own = if stamp.trusted {
        ""
    } else {
        " (its certificate was not held against anybody's roots: give them with --tsa)"
    };
    println!(
        "{} states that the first {} entries were there at {}{own}",
        stamp.tsa, stamp.size, stamp.at
    );
}

pub(super) fn run(args: &Args, config: impl FnOnce() -> anyhow::Result<Config>) -> anyhow::Result<ExitCode> {
    let checks = checks(args)?;
    if let [file] = args.files.as_slice()
        && let Some(text) = disclosure(file)?
    {
        return one_entry(&text, &checks, args.json);
    }
    let files = if args.files.is_empty() {
        vec![config()?.host.data_dir]
    } else {
        args.files.clone()
    };
    let mut bar = Bar::new("verifying");
    let began = Instant::now();
    let verdict = verify_files(&files, &checks, &mut |p| bar.show(p));
    bar.end();
    match verdict {
        Ok(report) if args.json => println!("{}", serde_json::to_string_pretty(&report)?),
        Ok(report) => tell(&report, began.elapsed().as_secs_f64()),
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

#[expect(clippy::cast_precision_loss, reason = "it is shown with one decimal")]
fn tell(report: &Report, seconds: f64) {
    println!("OK: {} entries, root {}", report.entries, report.root);
    if report.first > 0 {
        println!(
            "{} of them came before: only the hashes over them are here, and signed",
            report.first
        );
    }
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
    if report.purged_frames > 0 {
        println!(
            "{} payload frames were purged, as the host declares and signed: their hashes are here",
            report.purged_frames
        );
    }
    if report.purged_entries > 0 {
        println!(
            "{} entries were purged, as the host declares and signed: only the tree over them is here",
            report.purged_entries
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
    println!(
        "{} files, {:.1} MB in {seconds:.1} s: {:.0} MB/s",
        report.files,
        report.bytes as f64 / 1e6,
        report.bytes as f64 / 1e6 / seconds.max(1e-9)
    );
    tell_trust(report);
    if !report.key_given {
        println!("The key is the file's own; give the host's with --key to know that it is the host's.");
    }
}

/// What others vouch for.
fn tell_trust(report: &Report) {
    if report.rotations > 0 {
        println!(
            "The key was replaced {} times, each time signed by both",
            report.rotations
        );
    }
    for w in &report.witnesses {
        let own = if w.given {
            ""
        } else {
            " (its key is from the host's own entries: give it with --witness)"
        };
        println!(
            "The witness {} cosigned {} entries, last at {}{own}",
            w.key, w.size, w.at
        );
    }
    if let Some(stamp) = &report.timestamp {
        print_stamp(stamp);
    }
    let unknown = report.unknown_cosignatures + report.unknown_timestamps;
    if unknown > 0 {
        println!("{unknown} cosignatures and timestamps could not be checked with these files alone");
    }
    if let Some(size) = report.against {
        println!("The kept checkpoint of {size} entries is of this history");
    }
}
