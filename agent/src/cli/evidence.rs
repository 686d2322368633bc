//! `portcullis evidence`

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, ensure};

use super::{bar::Bar, block_on, control::Control, export::await_checkpoint, time::moment};
use crate::{
    clock::Clock,
    config::Config,
    ledger::{
        VerifierKey,
        controls::{select, with_overlays},
        evidence::{self, Evidence, Options, Plan, Source},
    },
    model::text::visible,
};

/// Report what the records show of each control (NIST SP 800-53), and what they do not.
///
/// The records are verified first, then asked. Each report is itself a record. Without --out and --format a summary is
/// printed. A copy of the records of the period is made in TMPDIR, or else /var/tmp, and removed again.
///
/// Exit status: 0 the report is made; 1 it is not, or it is and says that the records did not verify; 2 wrong arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only of this control, e.g. AC-2; can be given several times.
    #[arg(long, value_name = "ID")]
    control: Vec<String>,
    /// Only from this time on: RFC 3339 (`2026-11-21T06:00:00Z`), or ago (`24h`, `7d`).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only of this workload, and of what concerns the whole host.
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// html for people, json and csv for programs and spreadsheets, oscal for compliance tools (assessment results).
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The file to write; it must not exist. Its ending (.html, .json, .csv) says the format where --format does not.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// From this export or sealed segment in place of this host's ledger. The period is the file's own.
    #[arg(long, value_name = "EXPORT_OR_SEGMENT", conflicts_with_all = ["since", "until", "workload"])]
    file: Option<PathBuf>,
    /// How many rows of each answer the report shows.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=1000))]
    samples: u16,
    /// A directory with controls of your own (`*.toml`), added to those built in or in their place; can be given several
    /// times. They come after those of `[evidence] controls_dir`.
    #[arg(long, value_name = "DIR")]
    overlay: Vec<PathBuf>,
    /// The host's public key (`ledger.pub`), had from the host by another way than the records.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// How long one question may take.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    time_limit: Duration,
    /// For oscal: where the assessment plan is, that the results belong to (a URI reference).
    #[arg(long, value_name = "HREF")]
    assessment_plan: Option<String>,
}

impl Args {
    /// Whether it can do without this host's configuration.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.file.is_some()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Html,
    Json,
    Csv,
    Oscal,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "html" | "htm" => Some(Self::Html),
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Oscal => "oscal",
        }
    }
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let format = match (args.format, &args.out) {
        (Some(format), _) => Some(format),
        (None, Some(out)) => Some(
            Format::of(out)
                .context("which format? Give --format, or a file that ends in .html, .json or .csv")?,
        ),
        (None, None) => None,
    };
    ensure!(
        args.assessment_plan.is_none() || format == Some(Format::Oscal),
        "--assessment-plan goes with --format oscal"
    );
    if let Some(out) = &args.out {
        ensure!(!out.exists(), "{}: it exists already", out.display());
    }
    let options = options(args, config)?;
    let ledger = &config.host.data_dir;
    let source = match &args.file {
        Some(file) => Source::File(file),
        None => {
            await_checkpoint(&ledger.join("ledger.db"))?;
            Source::Ledger(ledger)
        }
    };
    let mut bar: Option<(&str, Bar)> = None;
    let report = evidence::evidence(source, &options, &mut |what, p| {
        if bar.as_ref().is_none_or(|(shown, _)| *shown != what) {
            bar = Some((what, Bar::new(what)));
        }
        if let Some((_, bar)) = &mut bar {
            bar.show(p);
        }
    })?;
    if let Some((_, bar)) = bar {
        bar.end();
    }
    let text = match format {
        None => summary(&report),
        Some(format) => write(&report, format, args)?,
    };
    match &args.out {
        Some(out) => {
            put(out, &text)?;
            println!("{}: {} controls", out.display(), report.controls.len());
            println!("Tree root {}", report.head.root);
        }
        None => std::io::stdout().write_all(text.as_bytes())?,
    }
    if let Some(error) = &report.verdict.error {
        eprintln!("portcullis: the records did not verify: {}", visible(error));
    }
    if args.file.is_none() {
        tell(args, config, format, &text, &report)?;
    }
    Ok(if report.verdict.verified {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn options(args: &Args, config: &Config) -> anyhow::Result<Options> {
    let now_ns = Clock::System.now_ns();
    let time = |text: &Option<String>| text.as_deref().map(|t| moment(t, now_ns)).transpose();
    let mut overlays: Vec<PathBuf> = config.evidence.controls_dir.iter().cloned().collect();
    overlays.extend(args.overlay.iter().cloned());
    let key = match &args.key {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            Some(VerifierKey::parse(text.trim()).with_context(|| path.display().to_string())?)
        }
        None => None,
    };
    Ok(Options {
        since_ns: time(&args.since)?,
        until_ns: time(&args.until)?,
        workload: args.workload.clone(),
        controls: select(with_overlays(&overlays)?, &args.control)?,
        samples: args.samples.into(),
        limit: args.time_limit,
        key,
        now_ns,
    })
}

fn write(report: &Evidence, format: Format, args: &Args) -> anyhow::Result<String> {
    Ok(match format {
        Format::Html => evidence::html(report)?,
        Format::Json => serde_json::to_string_pretty(report)? + "\n",
        Format::Csv => evidence::csv(report),
        Format::Oscal => {
            let plan = args.assessment_plan.as_deref().map_or(Plan::None, Plan::At);
            evidence::oscal(report, plan)?
        }
    })
}

/// A new file for its owner alone, whole or not at all.
fn put(out: &Path, text: &str) -> anyhow::Result<()> {
    let dir = out.parent().filter(|p| !p.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .prefix(".evidence-")
        .tempfile_in(dir.unwrap_or(Path::new(".")))
        .with_context(|| out.display().to_string())?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist_noclobber(out)
        .with_context(|| out.display().to_string())?;
    Ok(())
}

fn summary(report: &Evidence) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["CONTROL", "HEADLINE", "WITH ROWS", "TO EXPLAIN", "ABOUT"]);
    for control in &report.controls {
        let with_rows = control
            .queries
            .iter()
            .filter(|q| !q.exception && q.rows > 0)
            .count();
        let explain: u64 = control
            .queries
            .iter()
            .filter(|q| q.exception)
            .map(|q| q.rows)
            .sum();
        table.add_row([
            control.id.clone(),
            control.status.headline().into(),
            format!(
                "{with_rows} of {}",
                control.queries.iter().filter(|q| !q.exception).count()
            ),
            explain.to_string(),
            visible(&control.title).into_owned(),
        ]);
    }
    let verdict = if report.verdict.verified {
        "verified"
    } else {
        "NOT VERIFIED"
    };
    format!(
        "{table}\n{} records of {}, {verdict}. Tree root {}\n",
        report.range.records,
        visible(&report.head.origin),
        report.head.root
    )
}

/// Custody: who made a report, of what, as an entry. Without a daemon the report is made all the same, and says so.
fn tell(
    args: &Args,
    config: &Config,
    format: Option<Format>,
    text: &str,
    report: &Evidence,
) -> anyhow::Result<()> {
    let controls: Vec<&str> = report.controls.iter().map(|c| &*c.id).collect();
    let file = args
        .out
        .as_ref()
        .map(|out| std::path::absolute(out).unwrap_or_else(|_| out.clone()));
    // Of records that did not verify there is no root to speak of.
    let exported = report.verdict.report.as_ref().map(|verified| {
        serde_json::json!({
            "entries": verified.entries,
            "first": verified.first,
            "frames": verified.frames,
            "root": verified.root,
            "selected": report.range.records,
        })
    });
    let custody = serde_json::json!({
        "asked": {
            "controls": controls,
            "format": format.map_or("summary", Format::word),
            "report": "evidence",
            "since": report.range.since,
            "until": report.range.until,
            "workload": report.range.workload,
        },
        "bytes": text.len(),
        "exported": exported,
        "file": file.map_or_else(|| "(standard output)".into(), |f| f.display().to_string()),
        "sha256": hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes())),
    });
    let control = Control::new(&config.host.run_dir);
    let told: Result<serde_json::Value, _> = block_on(control.post("/v1/export", &custody))?;
    if let Err(e) = told {
        eprintln!("portcullis: this report is not on record in the ledger: {e}");
    }
    Ok(())
}
