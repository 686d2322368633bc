//! `portcullis retention`

mod print;

use std::{process::ExitCode, time::Duration};

use anyhow::bail;
use serde_json::json;
use uuid::Uuid;

use super::{
    approvals::client::{AskError, Client},
    block_on,
    control::Control,
    time::moment,
};
use crate::{
    clock::Clock,
    config::Config,
    ledger::retention::{EntriesPurge, Hold, Pass, RetentionStatus},
    model::{Rfc3339, WorkloadName},
};

/// A pass over all segments may take hours: it leaves the disk to the data path.
const PASS: Duration = Duration::from_secs(12 * 3600);

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Say what is kept, what is held, what can be purged when, how much that frees, and how the disk budget stands.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Purge now what payload is due; the daemon does so once a day. Exit 1 when something could not be purged.
    Run {
        /// Only say what would go.
        #[arg(long)]
        dry_run: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Legal holds: what no purge may touch.
    #[command(subcommand)]
    Hold(HoldCommand),
    /// Ask for a purge of entries, as the first of two people.
    ///
    /// It takes a sign-in (`portcullis approvals login`) of somebody in one of [retention] purge_groups, and a second one
    /// who confirms it within a quarter of an hour; being root purges nothing. Whole segments go, oldest first, that are
    /// older than [retention] entries and under no legal hold; what is left of each is its place in the signed tree.
    ///
    /// Exit status: 0 done; 1 it could not be asked or done; 2 wrong arguments; 3 refused; 4 not signed in.
    Purge {
        /// Entries. (Payload is purged by its age alone; see `run`.)
        #[arg(long, required = true)]
        entries: bool,
        /// Of segments that end before this time: a date (`2023-01-31`), RFC 3339, or ago (`3y`).
        #[arg(long, value_name = "TIME")]
        before: String,
        /// Why; it goes on record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Confirm a purge of entries that somebody else asked for, as the second person. It is done when this returns.
    Confirm {
        /// Its id, as `status` shows it.
        id: Uuid,
        /// Why; it goes on record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum HoldCommand {
    /// Keep what all of the given options fit, whatever its age, until the hold is released.
    Add {
        /// Of this workload.
        #[arg(long, value_name = "NAME", value_parser = WorkloadName::new)]
        workload: Option<WorkloadName>,
        /// Of this session.
        #[arg(long, value_name = "ID")]
        session: Option<Uuid>,
        /// From this time on: a date, RFC 3339, or ago (`24h`).
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Before this time.
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// Why; it goes on record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// List the holds that stand.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Release a hold: what it kept goes by its age again.
    Release {
        /// Its id, as `list` shows it.
        id: Uuid,
        /// Why; it goes on record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// Runs the command.
pub(super) fn run(command: &Command, config: &Config) -> anyhow::Result<ExitCode> {
    let control = Control::new(&config.host.run_dir);
    match command {
        Command::Status { json } => {
            let status: RetentionStatus = block_on(control.get("/v1/retention"))??;
            out(*json, &status, print::status)?;
        }
        Command::Run { dry_run, json } => {
            let control = control.with_timeout(PASS);
            let pass: Pass = block_on(control.post("/v1/retention/run", &json!({ "dry": dry_run })))??;
            out(*json, &pass, print::pass)?;
            if !pass.failed.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Hold(command) => hold(command, &control, config)?,
        Command::Purge { before, reason, .. } => {
            let body = json!({ "before": rfc3339(before)?, "reason": reason });
            return person(config, |client| async move {
                let asked: EntriesPurge = client.post("/v1/retention/entries", &body).await?;
                print!("{}", print::asked(&asked));
                Ok(())
            });
        }
        Command::Confirm { id, reason } => {
            let path = format!("/v1/retention/entries/{id}/confirm");
            let body = json!({ "reason": reason });
            return person(config, |client| async move {
                let done: EntriesPurge = client.post(&path, &body).await?;
                print!("{}", print::confirmed(&done));
                Ok(())
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn hold(command: &HoldCommand, control: &Control, config: &Config) -> anyhow::Result<()> {
    match command {
        HoldCommand::Add {
            workload,
            session,
            since,
            until,
            reason,
        } => {
            let time = |text: &Option<String>| text.as_deref().map(rfc3339).transpose();
            let body = json!({
                "workload": workload, "session": session, "since": time(since)?, "until": time(until)?, "reason": reason,
            });
            let hold: Hold = block_on(control.post("/v1/retention/holds", &body))??;
            println!("{}  {}", hold.id, hold.scope);
            if let Some(name) = workload
                && !config.workload.iter().any(|w| w.name == *name)
            {
                eprintln!(
                    "portcullis: there is no [[workload]] '{name}' in the configuration; the hold stands all the same"
                );
            }
        }
        HoldCommand::List { json } => {
            let status: RetentionStatus = block_on(control.get("/v1/retention"))??;
            out(*json, &status.holds, |holds| print::holds(holds))?;
        }
        HoldCommand::Release { id, reason } => {
            let path = format!("/v1/retention/holds/{id}/release");
            let hold: Hold = block_on(control.post(&path, &json!({ "reason": reason })))??;
            println!("released: {}", hold.scope);
        }
    }
    Ok(())
}

/// What takes a sign-in.
fn person<F: Future<Output = Result<(), AskError>>>(
    config: &Config,
    ask: impl FnOnce(Client) -> F,
) -> anyhow::Result<ExitCode> {
    // What is confirmed is done before the answer comes.
    let client = Client::new(None, None, Some(config))?.patient(PASS);
    match block_on(ask(client))? {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("portcullis: {error}");
            Ok(ExitCode::from(error.exit_code()))
        }
    }
}

/// A time as people write it, also as a date alone (UTC).
fn rfc3339(text: &str) -> anyhow::Result<String> {
    let now = Clock::System.now_ns();
    let ns =
        moment(text, now).or_else(|error| moment(&format!("{text}T00:00:00Z"), now).map_err(|_| error))?;
    if ns < 0 {
        bail!("'{text}' is before 1970");
    }
    Ok(Rfc3339(ns).to_string())
}

/// Prints as JSON, or for people.
fn out<T: serde::Serialize>(json: bool, value: &T, people: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(value)?);
    } else {
        print!("{}", people(value));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_people() {
        assert_eq!(rfc3339("2023-01-31").unwrap(), "2023-01-31T00:00:00.000000000Z");
        assert_eq!(
            rfc3339("2023-01-31T05:00:00+02:00").unwrap(),
            "2023-01-31T03:00:00.000000000Z"
        );
        assert!(rfc3339("3y").is_ok() && rfc3339("then").is_err() && rfc3339("1900-01-01").is_err());
    }
}
