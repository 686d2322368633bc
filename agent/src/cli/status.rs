//! `portcullis status`

use std::process::ExitCode;

use super::{block_on, control::Control};
use crate::{
    app::{ApprovalStatus, DoorStatus, OlderStatus, Status},
    config::Config,
    console::text::one_line,
    reconcile::ReconcileStatus,
    redirect::Unanswered,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let control = Control::new(&config.host.run_dir);
    let status: Status = block_on(control.get("/v1/status"))??;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print(&status);
    }
    Ok(if status.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(s: &Status) {
    println!(
        "Portcullis {} on {}, pid {}, since {}",
        s.version, s.host, s.pid, s.started_at
    );
    println!("\nWorkloads");
    for w in &s.workloads {
        let who = w.subject.as_deref().unwrap_or("-");
        let until = w.expires_at.as_deref().unwrap_or("-");
        println!("  {:<24} {:<12} subject {who}, until {until}", w.name, w.state);
        if let Some(error) = &w.error {
            println!("  {:<24} {error}", "");
        }
        if !w.opened.is_empty() {
            println!("  {:<24} opened by its guard: {}", "", w.opened.join(", "));
        }
    }
    println!("\nTagged cgroups");
    for t in &s.tags {
        println!(
            "  {:<48} {:<24} by {}, id {}",
            t.cgroup, t.workload, t.source, t.id
        );
        let counted: Vec<_> = t
            .counters
            .iter()
            .filter(|(_, n)| **n > 0)
            .map(|(k, n)| format!("{k} {n}"))
            .collect();
        if !counted.is_empty() {
            println!("  {:<48} {}", "", counted.join(", "));
        }
        for line in older(&t.older) {
            println!("  {:<48} {line}", "");
        }
    }
    let attached = s.programs.iter().filter(|p| p.attached).count();
    println!("\nPrograms   {attached} of {} attached", s.programs.len());
    print_doors(&s.doors);
    for e in &s.exempt {
        let whose = e.workload.as_deref().unwrap_or("every workload");
        let state = if e.expired { "ended" } else { "until" };
        println!(
            "Exempt     {} for {whose}: {}, by {}, {state} {}, used {}",
            e.name, e.what, e.owner, e.expires_at, e.used
        );
    }
    print_reconciled(&s.reconcile);
    let tested = s.selftest.as_ref().map(super::selftest::summary);
    println!(
        "Self-test  {}",
        tested.as_deref().unwrap_or("never: `portcullis selftest`")
    );
    println!(
        "Policy     {} ({} policies, generation {})",
        s.policy.hash, s.policy.policies, s.policy.generation
    );
    println!(
        "Ledger     {} entries, root {}, {} on disk, durability {}",
        s.ledger.size,
        s.ledger.root,
        human(s.ledger.bytes),
        s.ledger.durability
    );
    for w in &s.ledger.witnesses {
        let at = w.at.as_deref().unwrap_or("never");
        let error = w.error.as_deref().map(|e| format!("; {e}")).unwrap_or_default();
        println!(
            "Witness    {}: {} entries cosigned, last {at}{error}",
            w.name, w.size
        );
    }
    for sink in &s.ship {
        println!("Ship       {}", super::ship::line(sink));
    }
    if let Some(t) = &s.ledger.timestamps {
        let at = t.at.as_deref().unwrap_or("none in this run");
        let error = t.error.as_deref().map(|e| format!("; {e}")).unwrap_or_default();
        println!("Timestamp  {}: {} entries, last {at}{error}", t.url, t.size);
    }
    print_approvals(&s.approvals);
    println!("Connections {} live", s.connections);
    for (site, n) in s.errors.iter().filter(|(_, n)| **n > 0) {
        println!("Kernel     {n} failures at {site}");
    }
    let Unanswered {
        refused,
        overloaded,
        unread,
    } = s.resolver;
    if refused + overloaded + unread > 0 {
        println!(
            "Resolver   not answered: {refused} that no workload asked, {overloaded} over the bounds, {unread} for want of room"
        );
    }
    if s.problems.is_empty() {
        println!("\nEverything is enforced.");
    }
    for problem in &s.problems {
        println!("\nPROBLEM    {problem}");
    }
}

/// What became of sockets older than a tag: nothing where there were none.
pub(super) fn older(s: &OlderStatus) -> Vec<String> {
    let mut lines = Vec::new();
    if s.destroyed + s.left + s.ended > 0 {
        lines.push(format!(
            "Older sockets: {} destroyed, {} left, {} processes ended for theirs",
            s.destroyed, s.left, s.ended
        ));
    }
    for process in &s.processes {
        let who = match process.pid {
            0 => "no process of the workload".to_owned(),
            pid => format!("process {pid} ({})", one_line(&process.command)),
        };
        let end = if process.ended { ", ended" } else { "" };
        let error = process
            .error
            .as_ref()
            .map(|e| format!("; {e}"))
            .unwrap_or_default();
        let sockets = process.sockets.iter().map(|socket| {
            let to = socket.remote.as_ref().map(|to| format!(" to {to}"));
            let at = socket
                .local
                .as_ref()
                .filter(|_| to.is_none())
                .map(|at| format!(" at {at}"));
            let left = socket.left.as_ref().map(|why| format!(", left: {why}"));
            let made = match socket.made.as_str() {
                "unknown" => String::new(),
                made => format!(" made {made}"),
            };
            format!(
                "{}{made}{}{}",
                socket.kind,
                to.or(at).unwrap_or_default(),
                left.unwrap_or_default()
            )
        });
        let sockets: Vec<_> = sockets.collect();
        lines.push(format!("  {who}{end}: {}{error}", sockets.join("; ")));
    }
    lines.extend(s.error.as_ref().map(|e| format!("Older sockets go on: {e}")));
    lines
}

fn print_approvals(a: &ApprovalStatus) {
    let oldest = a.oldest.as_deref().map(|at| format!(", the oldest since {at}"));
    let oldest = oldest.unwrap_or_default();
    match &a.issuer {
        Some(issuer) => println!(
            "Approvals  {} open{oldest}, {} grants in force; approvers sign in at {issuer}",
            a.open, a.grants
        ),
        None => println!(
            "Approvals  nobody can answer, so what needs approval is denied: set [approvals] issuer and client_id"
        ),
    }
    if let Some(page) = &a.page {
        println!("           page {page}");
    }
    for workload in &a.flooding {
        println!("           {workload} asks faster than it is answered, and is turned away");
    }
    for target in &a.notify {
        let error = target.error.as_deref().map(|e| format!("; last: {e}"));
        println!(
            "Notify     {} ({}): {} sent, {} failed{}",
            target.name,
            target.kind,
            target.sent,
            target.failed,
            error.unwrap_or_default()
        );
    }
}

/// Whether what the kernel counted is on record.
pub(super) fn print_reconciled(s: &ReconcileStatus) {
    let Some(at) = &s.at else {
        println!("Complete   not compared yet: each minute, or `portcullis reconcile`");
        return;
    };
    let lost = match s.lost_at_restart {
        0 => String::new(),
        n => format!("; {n} connections were cut when the agent before this one ended"),
    };
    println!(
        "Complete   {} cgroups compared at {at}, {} differences{lost}",
        s.cgroups,
        s.differences.len()
    );
    for difference in &s.differences {
        println!("  {difference}");
    }
}

/// How many are closed, and each that is not: none is silently open.
fn print_doors(doors: &[DoorStatus]) {
    let open: Vec<_> = doors.iter().filter(|door| door.closed.is_none()).collect();
    println!(
        "Doors      {} of {} closed",
        doors.len() - open.len(),
        doors.len()
    );
    for door in open {
        let who = if door.root { " (to root)" } else { "" };
        println!("  {:<20} open{who}: {}", door.door, door.why);
    }
}

pub(super) fn human(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}
