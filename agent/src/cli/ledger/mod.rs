//! `portcullis ledger`

mod seal;

use std::process::ExitCode;

use crate::config::Config;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Seal everything recorded so far into a segment now, and say where it is.
    ///
    /// The daemon does so by itself when the live ledger has [ledger] segment_bytes, or is segment_age old.
    Seal(seal::Args),
}

pub(super) fn run(command: &Command, config: &Config) -> anyhow::Result<ExitCode> {
    match command {
        Command::Seal(args) => seal::run(args, config),
    }
}
