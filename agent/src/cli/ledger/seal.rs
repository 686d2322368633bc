//! `portcullis ledger seal`

use std::{process::ExitCode, time::Duration};

use crate::{
    cli::{block_on, control::Control},
    config::Config,
};

/// A segment of gigabytes takes minutes.
const PATIENCE: Duration = Duration::from_secs(1800);

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(serde::Deserialize, serde::Serialize)]
struct Answer {
    segment: Option<Segment>,
    path: Option<String>,
}

#[derive(serde::Deserialize, serde::Serialize)]
struct Segment {
    number: u64,
    first: u64,
    end: u64,
    root: String,
    sha256: String,
    bytes: u64,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let control = Control::new(&config.host.run_dir).with_timeout(PATIENCE);
    let answer: Answer = block_on(control.post("/v1/ledger/seal", &serde_json::json!({})))??;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(ExitCode::SUCCESS);
    }
    match (&answer.segment, &answer.path) {
        (Some(s), Some(path)) => {
            println!(
                "{path}: entries {} to {}, {} bytes",
                s.first,
                s.end.saturating_sub(1),
                s.bytes
            );
            println!("SHA-256 {}", s.sha256);
            println!("Tree root {}", s.root);
        }
        _ => println!("Nothing was recorded since the last segment."),
    }
    Ok(ExitCode::SUCCESS)
}
