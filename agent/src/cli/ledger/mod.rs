//! `portcullis ledger`

mod rotate_key;
mod seal;
mod timestamp;

use std::process::ExitCode;

use crate::config::Config;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Seal everything recorded so far into a segment now, and say where it is.
    ///
    /// The daemon does so by itself when the live ledger has [ledger] segment_bytes, or is segment_age old.
    Seal(seal::Args),
    /// Replace the key that signs the ledger's checkpoints by a new one.
    ///
    /// The old key's last act is to sign, together with the new one, that the new one takes over: who has the old public
    /// key can go on verifying with it. Keep old public keys, and give the new one (`ledger.pub`) to auditors all the same.
    /// Without a running daemon the ledger is opened for it.
    RotateKey(rotate_key::Args),
    /// Have the ledger time-stamped (RFC 3161) by hand, where no time-stamping authority can be reached.
    ///
    /// First --request FILE.tsq: everything recorded so far is sealed, and a request over it written. Carry that to an
    /// authority (`curl -H 'Content-Type: application/timestamp-query' --data-binary @FILE.tsq URL`), and bring its answer
    /// back with --response FILE.tsr.
    Timestamp(timestamp::Args),
}

pub(super) fn run(command: &Command, config: &Config) -> anyhow::Result<ExitCode> {
    match command {
        Command::Seal(args) => seal::run(args, config),
        Command::RotateKey(args) => rotate_key::run(args, config),
        Command::Timestamp(args) => timestamp::run(args, config),
    }
}
