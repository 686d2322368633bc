//! `portcullis approvals`: what waits for humans, and their answers.

mod answer;
pub(super) mod client;
mod login;
mod print;
mod store;
mod watch;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use uuid::Uuid;

use self::client::{AskError, Client};
use super::block_on;
use crate::{
    approval::{Overview, View},
    config::Config,
};

/// Whom to speak to, and what to do.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The page to speak to, such as https://approvals.example.com; unless set, this host's daemon.
    #[arg(long, global = true, value_name = "URL", env = "PORTCULLIS_APPROVALS_URL")]
    url: Option<String>,
    /// PEM roots for the page's and the issuer's TLS, beside the host's.
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List what is open.
    List {
        /// Stay, and show every change as it happens.
        #[arg(long)]
        watch: bool,
        /// Print JSON; with --watch one line for each change.
        #[arg(long)]
        json: bool,
    },
    /// Show everything about one request: the whole masked operation, who asks, what policy said, and what a
    /// time-boxed grant could cover.
    Show {
        /// Its id, as `list` shows it.
        id: Uuid,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say yes: to this operation, once, unless told otherwise.
    Approve {
        /// The request's id.
        id: Uuid,
        /// Why; it goes on record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// To all that wait at this moment and are identical.
        #[arg(long, conflicts_with_all = ["grant", "shape"])]
        waiting: bool,
        /// For so long (30m, 2h), to every operation of a shape.
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, requires = "shape")]
        grant: Option<Duration>,
        /// Which shape, by its number in `show`.
        #[arg(long, value_name = "N", requires = "grant")]
        shape: Option<usize>,
        /// Print the request as it stands then, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say no. The operation is denied, with your reason.
    Deny {
        /// The request's id.
        id: Uuid,
        /// Why; the workload is told, and it goes on record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Print the request as it stands then, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// List what passes without asking again.
    Grants {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// End a grant before its time.
    EndGrant {
        /// The grant's id.
        id: Uuid,
        /// Why; it goes on record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Let everything of a workload pass that only approval holds back, for a time. Takes two people.
    #[command(subcommand)]
    BreakGlass(BreakGlass),
    /// Sign in: shows a code to type in at the issuer, in any browser (device flow, RFC 8628).
    Login,
    /// Forget the sign-in.
    Logout,
}

#[derive(Debug, clap::Subcommand)]
enum BreakGlass {
    /// Ask for it, as the first person.
    Ask {
        /// The workload.
        workload: String,
        /// For how long (15m).
        #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
        time: Duration,
        /// Why; it goes on record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Confirm what somebody else asked for, as the second person.
    Confirm {
        /// Its id, as `list` shows it.
        id: Uuid,
        /// Why; it goes on record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// Runs the command. The configuration is needed where no --url is given.
pub(super) fn run(args: &Args, config: impl FnOnce() -> anyhow::Result<Config>) -> anyhow::Result<ExitCode> {
    let config = match args.url {
        Some(_) => None,
        None => Some(config()?),
    };
    let client = Client::new(args.url.as_deref(), args.ca_file.as_deref(), config.as_ref())?;
    match block_on(dispatch(args, &client, config.as_ref()))? {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("portcullis: {error}");
            Ok(ExitCode::from(error.exit_code()))
        }
    }
}

async fn dispatch(args: &Args, client: &Client, config: Option<&Config>) -> Result<(), AskError> {
    match &args.command {
        Command::List { watch: true, json } => watch::run(client, *json).await,
        Command::List { watch: false, json } => {
            let overview: Overview = client.get("/v1/approvals").await?;
            out(*json, &overview, print::list)
        }
        Command::Show { id, json } => {
            let view: View = client.get(&format!("/v1/approvals/{id}")).await?;
            out(*json, &view, print::show)
        }
        Command::Grants { json } => {
            let overview: Overview = client.get("/v1/approvals").await?;
            out(*json, &overview.grants, |grants| print::grants(grants))
        }
        Command::Login => login::login(client, args.ca_file.as_deref(), config).await,
        Command::Logout => login::logout(client),
        command => answer::run(client, command).await,
    }
}

/// Prints as JSON, or for people.
fn out<T: serde::Serialize>(
    json: bool,
    value: &T,
    people: impl FnOnce(&T) -> String,
) -> Result<(), AskError> {
    let text = if json {
        serde_json::to_string_pretty(value).map_err(|e| AskError::Failed(e.to_string()))? + "\n"
    } else {
        people(value)
    };
    print!("{text}");
    Ok(())
}
