//! `portcullis ledger timestamp`

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    cli::{
        block_on,
        control::{Control, ControlError},
    },
    config::Config,
    ledger::{
        Ledger, Options,
        timestamp::{Stamped, TOKEN_MAX, TsaRoots, timestamp_request},
    },
};

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(in crate::cli) struct Which {
    /// Write a request to this file; it must not exist.
    #[arg(long, value_name = "FILE.tsq")]
    request: Option<PathBuf>,
    /// Take an authority's answer from this file.
    #[arg(long, value_name = "FILE.tsr")]
    response: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    which: Which,
    /// PEM roots to which the authority's certificate has to chain; [ledger.timestamp] ca_file unless given.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    match (&args.which.request, &args.which.response) {
        (Some(out), _) => request(out, config),
        (None, Some(from)) => response(from, args, config),
        (None, None) => Ok(ExitCode::FAILURE),
    }
}

/// The ledger, where no daemon has it: its lock keeps one from starting meanwhile.
fn offline(config: &Config) -> anyhow::Result<Ledger> {
    let dir = &config.host.data_dir;
    anyhow::ensure!(
        dir.join("ledger.key").exists(),
        "{} holds no ledger",
        dir.display()
    );
    // The host's name is of use to a new ledger only, and this is none.
    Ledger::open(dir, Options::new("unknown", config.ledger.durability))
        .context("no daemon runs, and the ledger cannot be opened")
}

fn request(out: &PathBuf, config: &Config) -> anyhow::Result<ExitCode> {
    let control = Control::new(&config.host.run_dir);
    let sealed: Result<serde_json::Value, _> =
        block_on(control.post("/v1/ledger/seal", &serde_json::json!({})))?;
    match sealed {
        Ok(_) => {}
        Err(ControlError::NotRunning { .. }) => {
            let ledger = offline(config)?;
            let sealed = block_on(ledger.seal())?;
            ledger.close();
            sealed?;
        }
        Err(e) => return Err(e.into()),
    }
    let (size, request) = timestamp_request(&config.host.data_dir)?;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(out);
    let mut file = file.with_context(|| out.display().to_string())?;
    file.write_all(&request)?;
    file.sync_all()?;
    println!("{}: a request over the first {size} entries", out.display());
    Ok(ExitCode::SUCCESS)
}

fn response(from: &PathBuf, args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    use std::io::Read as _;
    let mut answer = Vec::new();
    let file = std::fs::File::open(from).with_context(|| from.display().to_string())?;
    file.take(TOKEN_MAX as u64 + 1).read_to_end(&mut answer)?;
    let configured = config.ledger.timestamp.as_ref().and_then(|t| t.ca_file.as_ref());
    let ca = args.ca.as_ref().or(configured);
    let ca = ca.map(|path| std::fs::read_to_string(path).with_context(|| path.display().to_string()));
    let ca = ca.transpose()?;
    let control = Control::new(&config.host.run_dir);
    let body = serde_json::json!({ "answer": STANDARD.encode(&answer), "ca": ca });
    let stamped: Stamped = match block_on(control.post("/v1/ledger/timestamp", &body))? {
        Ok(stamped) => stamped,
        Err(ControlError::NotRunning { .. }) => {
            let roots = ca
                .as_ref()
                .map(|pem| TsaRoots::from_pem(pem.as_bytes()))
                .transpose()?;
            let ledger = offline(config)?;
            let actor =
                serde_json::json!({ "pid": std::process::id(), "uid": nix::unistd::getuid().as_raw() });
            let stamped = block_on(ledger.add_timestamp(answer, roots, actor))?;
            ledger.close();
            stamped?
        }
        Err(e) => return Err(e.into()),
    };
    println!(
        "The first {} entries were there at {}, says {}",
        stamped.size, stamped.at, stamped.tsa
    );
    if ca.is_none() {
        println!("Its certificate was not held against anybody's roots: give them with --ca.");
    }
    Ok(ExitCode::SUCCESS)
}
