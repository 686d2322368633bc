//! `portcullis workload list|revoke|restore`

use std::process::ExitCode;

use super::{block_on, control::Control};
use crate::{app::Status, config::Config};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List workloads with their identity and its expiry.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a workload: its operations are denied and its connections end at once, until it is restored.
    Revoke {
        /// The workload.
        name: String,
    },
    /// Give a revoked workload its identity back.
    Restore {
        /// The workload.
        name: String,
    },
}

pub(super) fn run(command: &Command, config: &Config) -> anyhow::Result<ExitCode> {
    let control = Control::new(&config.host.run_dir);
    match command {
        Command::List { json } => {
            let status: Status = block_on(control.get("/v1/status"))??;
            if *json {
                println!("{}", serde_json::to_string_pretty(&status.workloads)?);
                return Ok(ExitCode::SUCCESS);
            }
            let mut table = comfy_table::Table::new();
            table.load_style(comfy_table::presets::NOTHING);
            table.set_header(["WORKLOAD", "STATE", "SUBJECT", "ISSUER", "UNTIL", "LAST ERROR"]);
            for w in &status.workloads {
                table.add_row([
                    w.name.as_str(),
                    &w.state,
                    w.subject.as_deref().unwrap_or("-"),
                    &w.issuer,
                    w.expires_at.as_deref().unwrap_or("-"),
                    w.error.as_deref().unwrap_or("-"),
                ]);
            }
            println!("{table}");
        }
        Command::Revoke { name } => {
            let body = serde_json::json!({ "workload": name });
            let _: serde_json::Value = block_on(control.post("/v1/workload/revoke", &body))??;
            println!("{name} is revoked: its operations are denied and its connections have ended");
        }
        Command::Restore { name } => {
            let body = serde_json::json!({ "workload": name });
            let _: serde_json::Value = block_on(control.post("/v1/workload/restore", &body))??;
            println!("{name} is restored");
        }
    }
    Ok(ExitCode::SUCCESS)
}
