//! Side by side, in one run: direct, another proxy (nginx, haproxy), and through the agent with policy, masking and
//! recording on, in both durability modes.
//!
//! Client, upstream and proxies share this machine's cores, so ratios mean more than rates, and about 0.5 is the
//! ceiling of anything in user space. Rounds are interleaved, and medians over them are shown.

mod case;
mod client;
mod exec;
mod ledger;
mod load;
mod postgres;
mod programs;
mod run;
mod scan;
mod table;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use e2e::world::World;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// HTTP/1.1, plain and TLS.
    Http(Rounds),
    /// PostgreSQL, by pgbench and by reading wide results.
    Postgres(Rounds),
    /// The masker alone, on one core.
    Scan,
    /// The ledger alone, beside the disk and raw SQLite.
    Ledger(ledger::Ledger),
    /// Programs of workloads: followed, decided, and beside no agent at all.
    Exec(Rounds),
    /// One case of `exec`, started by it in the right cgroup.
    #[command(hide = true)]
    Act(exec::Act),
    /// The load generator, started by `http` in the right cgroup.
    #[command(hide = true)]
    Load(load::Load),
    /// Runs a statement and drops what comes back, started by `postgres` in the right cgroup.
    #[command(hide = true)]
    Drain(postgres::Drain),
}

/// How long, how often, and which.
#[derive(clap::Args)]
struct Rounds {
    /// Seconds per case and round.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Rounds; medians over them are shown.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Also write the results as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only cases whose name contains this.
    #[arg(long, default_value = "")]
    case: String,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().what {
        What::Http(rounds) => World::enter(|world| run::http(world, &rounds)),
        What::Postgres(rounds) => World::enter(|world| postgres::run(world, &rounds)),
        What::Scan => scan::scan().map(|scanned| table::scanned(&scanned)),
        What::Ledger(options) => ledger::run(&options),
        What::Exec(rounds) => exec::exec(&rounds),
        What::Act(act) => exec::act(&act),
        What::Load(load) => load::load(&load),
        What::Drain(drain) => postgres::drain(&drain),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
