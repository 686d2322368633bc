//! `portcullis reconcile`

use std::process::ExitCode;

use super::{block_on, control::Control, status::print_reconciled};
use crate::{app::Reconcile, config::Config, reconcile::ReconcileStatus};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The differences that are known are understood: they are problems no more. Recorded, with who said so.
    #[arg(long)]
    acknowledge: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let control = Control::new(&config.host.run_dir);
    let asked = Reconcile {
        acknowledge: args.acknowledge,
    };
    let status: ReconcileStatus = block_on(control.post("/v1/reconcile", &asked))??;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print_reconciled(&status);
    }
    Ok(if status.differences.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
