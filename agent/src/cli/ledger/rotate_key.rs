//! `portcullis ledger rotate-key`

use std::{path::Path, process::ExitCode};

use anyhow::Context as _;

use crate::{
    cli::{
        block_on,
        control::{Control, ControlError},
    },
    config::Config,
    ledger::{Ledger, Options, Rotated},
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let control = Control::new(&config.host.run_dir);
    let rotated: Rotated = match block_on(control.post("/v1/ledger/rotate-key", &serde_json::json!({})))? {
        Ok(rotated) => rotated,
        Err(ControlError::NotRunning { .. }) => offline(config)?,
        Err(e) => return Err(e.into()),
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rotated)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!("Replaced, as entry {} says.", rotated.entry);
    println!("Old public key  {}", rotated.old);
    println!("New public key  {}", rotated.new);
    println!(
        "It is in {}: give it to whoever verifies. The old one goes on verifying what is there, and what follows.",
        config.host.data_dir.join("ledger.pub").display()
    );
    Ok(ExitCode::SUCCESS)
}

/// No daemon runs: the ledger's own lock keeps one from starting meanwhile.
fn offline(config: &Config) -> anyhow::Result<Rotated> {
    let dir: &Path = &config.host.data_dir;
    let there = dir.join("ledger.key").exists();
    anyhow::ensure!(there, "{} holds no ledger", dir.display());
    // The host's name is of use to a new ledger only, and this is none.
    let ledger = Ledger::open(dir, Options::new("unknown", config.ledger.durability))
        .context("no daemon runs, and the ledger cannot be opened")?;
    let actor = serde_json::json!({ "pid": std::process::id(), "uid": nix::unistd::getuid().as_raw() });
    let rotated = ledger.rotate_key(&actor);
    ledger.close();
    Ok(rotated?)
}
