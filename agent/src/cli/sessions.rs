//! `portcullis sessions list|show|replay|export`

mod replay;
mod save;
mod screen;
mod tables;
#[cfg(test)]
mod tests;
mod transcript;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;

use self::transcript::Transcript;
use super::time::moment;
use crate::{
    clock::Clock,
    config::Config,
    ledger::{
        LedgerError,
        query::{Filter, OperationRow, Reader, SessionShow},
    },
    model::{OperationId, SessionId},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List connections, the newest last.
    List(ListArgs),
    /// Show one connection: its operations, PostgreSQL's with statements and result tables, and with --payload what
    /// else went over it; all masked.
    Show(ShowArgs),
    /// Show one connection as it went, in its own time or faster: decisions, statements with their results, and payload,
    /// all masked.
    Replay(replay::Args),
    /// Write one connection to a file: HAR 1.2 (HTTP), asciicast v3 (for a terminal), or JSON lines (databases).
    Export(save::Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Only of this workload.
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// Only from this time on: RFC 3339, or how long ago (`24h`).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The last so many; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    /// An export or ledger instead of this host's own.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// The session's id, as `list` prints it.
    id: uuid::Uuid,
    /// Also the recorded payload of each operation.
    #[arg(long)]
    payload: bool,
    /// How many rows of each result table.
    #[arg(long, value_name = "N", default_value_t = 20)]
    rows: usize,
    /// An export or ledger instead of this host's own.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &Command, config: &Config) -> anyhow::Result<ExitCode> {
    match command {
        Command::List(args) => list(args, config),
        Command::Show(args) => show(args, config),
        Command::Replay(args) => replay::run(args, config),
        Command::Export(args) => save::run(args, config),
    }
}

/// The file given, or this host's own ledger with all its parts.
fn ledger_of(file: Option<&PathBuf>, config: &Config) -> PathBuf {
    file.unwrap_or(&config.host.data_dir).clone()
}

/// What opens a ledger: whole, from a time on, or for an id.
type Open<'a> = &'a dyn Fn(&Path) -> Result<Reader, LedgerError>;

fn open(file: Option<&PathBuf>, config: &Config, how: Open<'_>) -> anyhow::Result<Reader> {
    let path = ledger_of(file, config);
    how(&path).with_context(|| format!("{}: has the daemon run here?", path.display()))
}

fn list(args: &ListArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let now = Clock::System.now_ns();
    let time = |text: &Option<String>| text.as_deref().map(|t| moment(t, now)).transpose();
    let filter = Filter {
        since_ns: time(&args.since)?,
        until_ns: time(&args.until)?,
        workload: args.workload.clone(),
        limit: (args.limit > 0).then_some(args.limit),
    };
    let reader = open(args.file.as_ref(), config, &|path| {
        Reader::open_since(path, filter.since_ns)
    })?;
    let rows = reader.sessions(&filter)?;
    if reader.left_out() > 0 {
        eprintln!(
            "portcullis: {} older segments are left out: so many cannot be read as one. Look into one with --file.",
            reader.left_out()
        );
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header([
        "SESSION",
        "OPENED",
        "WORKLOAD",
        "PROCESS",
        "DESTINATION",
        "PROTOCOL",
        "OPS",
        "END",
    ]);
    for r in &rows {
        let text = |t: &Option<String>| plain(t.as_deref().unwrap_or("-"));
        let port = r.port.unwrap_or_default();
        table.add_row([
            r.session.clone(),
            r.opened_at
                .as_deref()
                .and_then(|t| t.get(..19))
                .unwrap_or("-")
                .to_owned(),
            text(&r.workload),
            text(&r.process_exe),
            format!("{}:{port}", text(&r.address)),
            text(&r.protocol),
            r.operations.map_or_else(|| "-".into(), |n| n.to_string()),
            text(&r.reason),
        ]);
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}

fn show(args: &ShowArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let reader = open(args.file.as_ref(), config, &|path| {
        Reader::open_for(path, args.id)
    })?;
    let found = reader.session(SessionId(args.id))?;
    if args.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&with_payload(&found, &reader, args)?)?
        );
        return Ok(ExitCode::SUCCESS);
    }
    let s = &found.session;
    let text = |t: &Option<String>| plain(t.as_deref().unwrap_or("-"));
    println!("Session    {}", s.session);
    println!("Workload   {}", text(&s.workload));
    println!(
        "Process    {} (pid {})",
        text(&s.process_exe),
        s.process_pid.unwrap_or_default()
    );
    println!("To         {}:{}", text(&s.address), s.port.unwrap_or_default());
    println!("Protocol   {}", text(&s.protocol));
    println!("Open       {} to {}", text(&s.opened_at), text(&s.closed_at));
    println!("Ended      {}", text(&s.reason));
    for operation in &found.list {
        print(operation);
        if is_sql(operation) {
            let transcript = transcript(&reader, operation, args.rows)?;
            tables::print(&transcript, &mut std::io::stdout().lock())?;
        } else if args.payload {
            print_payload(&reader, operation)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(o: &OperationRow) {
    println!(
        "\n{} {} {} {}",
        o.at,
        o.decision,
        o.action,
        plain(o.resource.as_deref().unwrap_or("-"))
    );
    println!("  id {}, subject {}", o.id, o.subject.as_deref().unwrap_or("-"));
    println!("  {} by policies [{}]", o.reason, o.policies.join(", "));
    if let Some(outcome) = &o.outcome {
        println!(
            "  {outcome} {}: {} bytes up, {} down, {} us",
            o.status.as_deref().unwrap_or(""),
            o.bytes_up.unwrap_or_default(),
            o.bytes_down.unwrap_or_default(),
            o.duration_us.unwrap_or_default()
        );
    }
    if let Some(masked) = o.masked.as_ref().filter(|m| !m.is_empty()) {
        let classes: Vec<_> = masked.iter().map(|(class, n)| format!("{class} {n}")).collect();
        println!("  masked: {}", classes.join(", "));
    }
    // Before the parameters and results, and also where policy denied it.
    for line in o.statement.iter().flat_map(|s| s.lines()) {
        println!("  > {}", plain(line));
    }
}

/// Text that a stranger chose (a payload, a path, a program's file name): nothing in it may drive this terminal.
fn plain(text: &str) -> String {
    // What turns the direction of writing shows text that is not there.
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .map(|c| {
            if (c.is_control() && c != '\t') || turns(c) {
                '.'
            } else {
                c
            }
        })
        .collect()
}

fn print_payload(reader: &Reader, operation: &OperationRow) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for frame in reader.frames(OperationId(operation.id.parse()?))? {
        let mark = if frame.direction == "up" { '>' } else { '<' };
        if let Some(bytes) = frame.purged {
            writeln!(out, "  {mark} ({bytes} bytes, purged)")?;
        }
        for line in String::from_utf8_lossy(&frame.bytes).lines() {
            writeln!(out, "  {mark} {}", plain(line))?;
        }
    }
    Ok(())
}

/// Whether an operation's payload is PostgreSQL's messages.
fn is_sql(operation: &OperationRow) -> bool {
    operation.action.starts_with("sql:")
}

fn transcript(reader: &Reader, operation: &OperationRow, rows: usize) -> anyhow::Result<Transcript> {
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for frame in reader.frames(OperationId(operation.id.parse()?))? {
        let to = if frame.direction == "up" {
            &mut up
        } else {
            &mut down
        };
        to.extend_from_slice(&frame.bytes);
    }
    Ok(transcript::read(&up, &down, rows))
}

/// The session as JSON: PostgreSQL's operations with their statements and results, each operation with its payload
/// where that is asked for.
fn with_payload(found: &SessionShow, reader: &Reader, args: &ShowArgs) -> anyhow::Result<serde_json::Value> {
    let mut value = serde_json::to_value(found)?;
    for (operation, row) in found
        .list
        .iter()
        .zip(value["list"].as_array_mut().into_iter().flatten())
    {
        if is_sql(operation) {
            row["transcript"] = serde_json::to_value(transcript(reader, operation, args.rows)?)?;
        }
        if !args.payload {
            continue;
        }
        let frames = reader.frames(OperationId(operation.id.parse()?))?;
        let frames: Vec<_> = frames
            .iter()
            .map(|f| match f.purged {
                Some(bytes) => serde_json::json!({ "direction": f.direction, "purged_bytes": bytes }),
                None => {
                    serde_json::json!({ "direction": f.direction, "text": String::from_utf8_lossy(&f.bytes) })
                }
            })
            .collect();
        row["payload"] = frames.into();
    }
    Ok(value)
}
