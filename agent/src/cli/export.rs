//! `portcullis export`

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;

use super::{bar::Bar, block_on, control::Control, time::moment};
use crate::{
    clock::Clock,
    config::Config,
    ledger::{self, ExportOptions, controls},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file to write; it must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Only from this time on: RFC 3339 (`2026-11-21T06:00:00Z`), or ago (`24h`, `7d`).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only of this workload.
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// Only of this session.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Only the kinds of entries that the evidence for this control is read from, e.g. AU-2. Can be given more than once.
    #[arg(long, value_name = "ID")]
    control: Vec<String>,
    /// Whether the file has an index for full-text search, which takes about a third of what it is over.
    #[arg(long, value_name = "yes|no", default_value = "yes", action = clap::ArgAction::Set, value_parser = yes_or_no)]
    search: bool,
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("it is yes or no".into()),
    }
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let now_ns = Clock::System.now_ns();
    let time = |text: &Option<String>| text.as_deref().map(|t| moment(t, now_ns)).transpose();
    let options = ExportOptions {
        since_ns: time(&args.since)?,
        until_ns: time(&args.until)?,
        workload: args.workload.clone(),
        session: args.session.as_deref().map(session).transpose()?,
        controls: if args.control.is_empty() {
            Vec::new()
        } else {
            controls::select(controls::controls(), &args.control)?
        },
        without_search: !args.search,
        unsealed: false,
        now_ns,
    };
    let data_dir = &config.host.data_dir;
    await_checkpoint(&data_dir.join("ledger.db"))?;
    let mut bar = Bar::new("exporting");
    let done = ledger::export(data_dir, &args.out, &options, &mut |p| bar.show(p))?;
    bar.end();
    println!(
        "{}: {} of {} entries, {} payload frames, {} bytes",
        args.out.display(),
        done.selected,
        done.entries - done.first,
        done.frames,
        done.bytes
    );
    println!("SHA-256   {}", done.sha256);
    println!("Tree root {} at entry {}", done.root, done.entries);
    // Custody: who took what, as an entry. Without a daemon the export is made all the same, and says so.
    let file = std::path::absolute(&args.out).unwrap_or_else(|_| args.out.clone());
    let custody = serde_json::json!({
        "asked": options.asked(),
        "bytes": done.bytes,
        "exported": {
            "entries": done.entries,
            "first": done.first,
            "frames": done.frames,
            "root": done.root,
            "selected": done.selected,
        },
        "file": file.display().to_string(),
        "sha256": done.sha256,
    });
    let control = Control::new(&config.host.run_dir);
    let told: Result<serde_json::Value, _> = block_on(control.post("/v1/export", &custody))?;
    if let Err(e) = told {
        eprintln!("portcullis: this export is not on record in the ledger: {e}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The one spelling that entries have.
fn session(id: &str) -> anyhow::Result<String> {
    let id = uuid::Uuid::try_parse(id).with_context(|| format!("'{id}' is no session's id"))?;
    Ok(id.hyphenated().to_string())
}

/// Waits until a checkpoint covers what is recorded by now: an export has nothing that no signature covers, and what
/// happened in the last second is what is asked for most. A daemon signs every second; without one, nothing comes.
pub(super) fn await_checkpoint(ledger: &std::path::Path) -> anyhow::Result<()> {
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(3);
    let began = std::time::Instant::now();
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let db =
        rusqlite::Connection::open_with_flags(ledger, flags).with_context(|| ledger.display().to_string())?;
    db.busy_timeout(PATIENCE)?;
    let number = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0));
    let recorded = number("SELECT coalesce(max(seq) + 1, 0) FROM entry")?;
    while number("SELECT coalesce(max(size), 0) FROM checkpoint")? < recorded && began.elapsed() < PATIENCE {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Ok(())
}
