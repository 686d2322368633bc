//! `portcullis ship list|status|retry|dead-letter`

use std::process::ExitCode;

use anyhow::bail;

use super::{block_on, control::Control, status::human};
use crate::{
    config::Config,
    ship::{DeadLetter, SinkStatus},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the sinks, a line for each; exit 1 when one fails or has dead letters.
    ///
    /// WAITING is what a sink has not taken: sealed segments, or entries. For entries, their bytes are reckoned by those
    /// before. Nothing that waits is lost; it is sent when the sink takes it, in its order, at most at max_rate.
    List(Json),
    /// Say all about one sink, or about each; exit 1 when one fails or has dead letters.
    Status {
        /// The [[ship]] name.
        name: Option<String>,
        #[command(flatten)]
        json: Json,
    },
    /// Try again now, not after the pause.
    Retry {
        /// The [[ship]] name.
        name: String,
    },
    /// Show what a sink rejected for good (the first thousand), or have it sent again.
    ///
    /// A dead letter names an entry or a segment; what is in it is in the ledger, for as long as the ledger keeps it.
    DeadLetter {
        /// The [[ship]] name.
        name: String,
        /// Have all of them sent again, once what they were rejected for is mended.
        #[arg(long)]
        requeue: bool,
        #[command(flatten)]
        json: Json,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Json {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &Command, config: &Config) -> anyhow::Result<ExitCode> {
    let control = Control::new(&config.host.run_dir);
    let sinks = || -> anyhow::Result<Vec<SinkStatus>> { Ok(block_on(control.get("/v1/ship"))??) };
    match command {
        Command::List(Json { json }) => {
            let sinks = sinks()?;
            if *json {
                println!("{}", serde_json::to_string_pretty(&sinks)?);
            } else if sinks.is_empty() {
                println!("there is no [[ship]] in the configuration");
            } else {
                println!("{}", table(&sinks));
            }
            Ok(code(&sinks))
        }
        Command::Status {
            name,
            json: Json { json },
        } => {
            let mut sinks = sinks()?;
            if let Some(name) = name {
                sinks.retain(|sink| sink.name == *name);
                if sinks.is_empty() {
                    bail!("there is no [[ship]] '{name}'; see `portcullis ship list`");
                }
            }
            if *json {
                println!("{}", serde_json::to_string_pretty(&sinks)?);
            } else {
                print!("{}", sinks.iter().map(block).collect::<Vec<_>>().join("\n"));
            }
            Ok(code(&sinks))
        }
        Command::Retry { name } => {
            let path = format!("/v1/ship/{}/retry", part(name)?);
            let _: serde_json::Value = block_on(control.post(&path, &serde_json::json!({})))??;
            println!("{name} tries now; see `portcullis ship status {name}`");
            Ok(ExitCode::SUCCESS)
        }
        Command::DeadLetter {
            name, requeue: true, ..
        } => {
            let path = format!("/v1/ship/{}/requeue", part(name)?);
            let _: serde_json::Value = block_on(control.post(&path, &serde_json::json!({})))??;
            println!("the dead letters of {name} are sent again; see `portcullis ship status {name}`");
            Ok(ExitCode::SUCCESS)
        }
        Command::DeadLetter {
            name,
            json: Json { json },
            ..
        } => {
            let path = format!("/v1/ship/{}/dead-letters", part(name)?);
            let letters: Vec<DeadLetter> = block_on(control.get(&path))??;
            if *json {
                println!("{}", serde_json::to_string_pretty(&letters)?);
            } else if letters.is_empty() {
                println!("{name} has no dead letters");
            } else {
                println!("{}", letters_table(&letters));
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A name that is part of a path as it is.
fn part(name: &str) -> anyhow::Result<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if name.is_empty() || !name.bytes().all(plain) {
        bail!("'{name}' is no name of a [[ship]]");
    }
    Ok(name)
}

fn code(sinks: &[SinkStatus]) -> ExitCode {
    let bad = |sink: &SinkStatus| sink.error.is_some() || sink.dead_letters > 0 || sink.state == "stopped";
    if sinks.iter().any(bad) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// One sink in a line, for `status`.
pub(super) fn line(sink: &SinkStatus) -> String {
    let mut text = format!(
        "{} ({}): {}, {} taken",
        sink.name, sink.kind, sink.state, sink.taken
    );
    if sink.waiting > 0 {
        text.push_str(&format!(", {}", waiting(sink)));
    }
    if sink.dead_letters > 0 {
        text.push_str(&format!(", {} dead letters", sink.dead_letters));
    }
    if let Some(error) = &sink.error {
        text.push_str(&format!("; {} ({})", error.why, error.class));
    }
    text
}

fn waiting(sink: &SinkStatus) -> String {
    let reckoned = if sink.unit == "entries" { "about " } else { "" };
    format!(
        "{} {} waiting ({reckoned}{}, the oldest for {})",
        sink.waiting,
        sink.unit,
        human(sink.waiting_bytes),
        humantime::format_duration(std::time::Duration::from_secs(sink.waiting_seconds))
    )
}

fn block(sink: &SinkStatus) -> String {
    let mut lines = vec![
        format!("{} ({}): {}", sink.name, sink.kind, sink.state),
        format!(
            "  taken         {} {}, {}{}",
            sink.taken,
            sink.unit,
            human(sink.taken_bytes),
            sink.taken_at
                .as_deref()
                .map(|at| format!(", last at {}", seconds(at)))
                .unwrap_or_default()
        ),
        format!("  next          {}", sink.next),
        format!(
            "  waiting       {}",
            if sink.waiting == 0 {
                "nothing".into()
            } else {
                waiting(sink)
            }
        ),
        format!(
            "  rejected      {}, {} of them dead letters, {} not kept",
            sink.rejected, sink.dead_letters, sink.not_kept
        ),
        format!("  purged first  {} entries", sink.purged),
        format!(
            "  required      {}",
            if sink.required {
                "yes: nothing is purged that it did not take"
            } else {
                "no"
            }
        ),
    ];
    if let Some(error) = &sink.error {
        lines.push(format!(
            "  failing       since {} ({} tries), {}: {}",
            seconds(&error.since),
            error.tries,
            error.class,
            error.why
        ));
        if let Some(at) = &error.next_try {
            lines.push(format!("  next try      {}", seconds(at)));
        }
    }
    lines.join("\n") + "\n"
}

fn table(sinks: &[SinkStatus]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header([
        "SINK",
        "KIND",
        "STATE",
        "NEXT",
        "TAKEN",
        "WAITING",
        "DEAD",
        "LAST ERROR",
    ]);
    for sink in sinks {
        let error = sink.error.as_ref().map(|e| format!("{}: {}", e.class, e.why));
        table.add_row([
            sink.name.clone(),
            sink.kind.clone(),
            sink.state.clone(),
            sink.next.to_string(),
            sink.taken.to_string(),
            sink.waiting.to_string(),
            sink.dead_letters.to_string(),
            error.unwrap_or_else(|| "-".into()),
        ]);
    }
    table
}

fn letters_table(letters: &[DeadLetter]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["REJECTED", "PLACE", "KIND", "ID", "CLASS", "WHY"]);
    for letter in letters {
        table.add_row([
            &seconds(&letter.at),
            &letter.place.to_string(),
            &letter.kind,
            &letter.id,
            letter.class.as_str(),
            &letter.why,
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
    use crate::ship::SinkError;

    fn sink(error: bool) -> SinkStatus {
        SinkStatus {
            name: "siem".into(),
            kind: "otlp".into(),
            state: if error { "failing".into() } else { "waiting".into() },
            required: true,
            unit: "entries".into(),
            next: 7,
            taken: 6,
            taken_bytes: 600,
            taken_at: Some("2026-11-26T00:00:00.000000000Z".into()),
            waiting: 2 * u64::from(error),
            waiting_bytes: 200,
            waiting_seconds: 90,
            rejected: 1,
            purged: 0,
            dead_letters: u64::from(error),
            not_kept: 0,
            error: error.then(|| SinkError {
                class: "unreachable".into(),
                why: "nobody listens".into(),
                since: "2026-11-26T00:00:00.000000000Z".into(),
                seconds: 90,
                tries: 4,
                next_try: None,
            }),
        }
    }

    #[test]
    fn what_is_said_of_a_sink() {
        assert_eq!(line(&sink(false)), "siem (otlp): waiting, 6 taken");
        assert_eq!(
            line(&sink(true)),
            "siem (otlp): failing, 6 taken, 2 entries waiting (about 200 B, the oldest for 1m 30s), 1 dead letters; \
             nobody listens (unreachable)"
        );
        let text = block(&sink(true));
        assert!(
            text.contains("since 2026-11-26T00:00:00Z (4 tries), unreachable: nobody listens"),
            "{text}"
        );
        assert!(
            table(&[sink(true)])
                .to_string()
                .contains("unreachable: nobody listens")
        );
    }
}
