//! `portcullis credentials`

use std::process::ExitCode;

use super::{block_on, control::Control};
use crate::{app::CredentialStatus, config::Config};

/// List the credentials that the daemon injects and logs in with; exit 1 when one cannot be had.
///
/// One line for each [[credential]], and one for each workload where it is had with the workload's own token. VERSION
/// tells one value from the next and says nothing of it: when a file was written, the version of a secret in Vault, a
/// lease, an AWS access key id, eight digits of a token's hash. It is `-` while none is at hand: nothing is asked for
/// before it is needed, and what is not used for a quarter of an hour is forgotten. Values are never shown, and the
/// daemon does not give them to anyone who asks.
///
/// What was obtained, renewed, revoked or could not be had is on record, too: `changes` in the ledger, with the
/// subject `credential`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let control = Control::new(&config.host.run_dir);
    let all: Vec<CredentialStatus> = block_on(control.get("/v1/credentials"))??;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else if all.is_empty() {
        println!("there is no [[credential]] in the configuration");
    } else {
        println!("{}", table(&all));
        for c in &all {
            if let (Some(error), Some(at)) = (&c.error, &c.error_at) {
                println!("\n{} {error}", seconds(at));
            }
        }
    }
    let missing = all.iter().any(|c| c.error.is_some() && c.version.is_none());
    Ok(if missing {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn table(all: &[CredentialStatus]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header([
        "CREDENTIAL",
        "SOURCE",
        "WORKLOAD",
        "VERSION",
        "EXPIRES",
        "LAST USED",
        "STATE",
    ]);
    for c in all {
        let state = match (&c.error, &c.version, &c.used_at) {
            (Some(_), Some(_), _) => "cannot be renewed",
            (Some(_), None, _) => "cannot be had",
            (None, Some(_), _) => "good",
            // A client certificate is read each time it is shown.
            (None, None, Some(_)) => "not at hand",
            (None, None, None) => "not asked for",
        };
        let time = |at: &Option<String>| at.as_deref().map_or_else(|| "-".into(), seconds);
        table.add_row([
            c.reference.clone(),
            c.source.clone(),
            c.workload.clone().unwrap_or_else(|| "any".into()),
            c.version.clone().unwrap_or_else(|| "-".into()),
            time(&c.expires_at),
            time(&c.used_at),
            state.into(),
        ]);
    }
    table
}

/// Whole seconds: nine decimals help nobody here.
fn seconds(at: &str) -> String {
    match at.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => at.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each() {
        let line = |version: Option<&str>, error: Option<&str>| CredentialStatus {
            reference: "crm".into(),
            source: "vault".into(),
            workload: None,
            version: version.map(Into::into),
            user: None,
            expires_at: Some("2026-11-25T21:00:00.000000000Z".into()),
            used_at: None,
            error: error.map(Into::into),
            error_at: None,
        };
        let text = table(&[
            line(Some("7"), None),
            line(Some("7"), Some("e")),
            line(None, Some("e")),
            line(None, None),
        ])
        .to_string();
        let states = ["good", "cannot be renewed", "cannot be had", "not asked for"];
        for (line, state) in text.lines().skip(1).zip(states) {
            assert!(line.trim_end().ends_with(state), "{text}");
            assert!(line.contains("2026-11-25T21:00:00Z"), "{text}");
        }
    }
}
