//! `portcullis doctor`

use std::process::ExitCode;

use crate::{
    config::Config,
    doctor::{self, Facts, Report, State},
};

/// Say what this host can enforce and what it cannot, and what to change.
///
/// Tries every eBPF program without attaching one, and looks at what else enforcement stands on. Changes nothing; no
/// daemon needs to run. Exit status: 0 workloads can be gated here, whatever doors stay open; 1 something is missing
/// without which they cannot.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let report = doctor::report(&Facts::gather(&config.redirect.pin_dir));
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(if report.enforceable {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(report: &Report) {
    println!("Linux {} ({})\n", report.kernel, report.architecture);
    for finding in &report.findings {
        let state = match finding.state {
            State::Good => "ok",
            State::Limited => "limited",
            State::Missing => "MISSING",
        };
        println!("{state:<8} {:<19} {}", finding.id, finding.found);
        if let Some(advice) = &finding.advice {
            println!("{:<28} -> {advice}", "");
        }
    }
    let open: Vec<_> = report.doors.iter().filter(|d| d.closed.is_none()).collect();
    println!(
        "\nDoors      {} of {} would be closed",
        report.doors.len() - open.len(),
        report.doors.len()
    );
    for door in open {
        let who = if door.root { " (to root)" } else { "" };
        println!("  {:<20} open{who}: {}", door.door, door.why);
    }
    if report.enforceable {
        println!("\nWorkloads can be gated on this host.");
    } else {
        println!("\nWorkloads cannot be gated on this host; see MISSING above.");
    }
}
