//! `portcullis selftest`

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::{
    block_on,
    cgroup::{self, FreshCgroup},
    control::Control,
};
use crate::{
    app::Status,
    clock::Clock,
    config::Config,
    model::{Rfc3339, WorkloadName},
    redirect::{bpf, cgroup as tree, doors},
    selftest::{self, Places, Report, Row, Verdict},
};

/// How long the daemon has to enforce the tag.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Exit 1 also when a door is open that is said to be open.
    #[arg(long)]
    strict: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let control = Control::new(&config.host.run_dir);
    let attempts = tried(args, &control)?;
    let report = Report {
        at: Rfc3339(Clock::System.now_ns()).to_string(),
        kernel: nix::sys::utsname::uname()?
            .release()
            .to_string_lossy()
            .into_owned(),
        doors: attempts,
    };
    block_on(control.post::<serde_json::Value>("/v1/selftest", &report))??;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("\n{}", summary(&report));
    }
    let bad = report.failed() > 0 || args.strict && report.count(Verdict::Open) > 0;
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// In a cgroup of its own, which is removed whatever comes.
fn tried(args: &Args, control: &Control) -> anyhow::Result<Vec<Row>> {
    let mount = cgroup::mount_point()?;
    let outside = mount
        .join(tree::of_process("self")?.trim_start_matches('/'))
        .join("cgroup.procs");
    let name = WorkloadName::new(selftest::WORKLOAD)?;
    let fresh = FreshCgroup::create(&mount, cgroup::PARENT, &name)
        .context("the workload cannot be made; run this as root")?;
    let done = wait_for_tag(control, fresh.id.0).and_then(|()| {
        // As they are while the workload is there.
        let facts =
            doors::Facts::of_kernel().with_programs(steady(control, fresh.id.0)?.iter().map(String::as_str));
        let judged = doors::judge(&facts);
        let program = std::env::current_exe()?;
        let places = Places {
            inside: fresh.procs(),
            outside,
        };
        let mut told = |row: &Row| {
            if !args.json {
                print(row);
            }
        };
        if !args.json {
            println!(
                "{:<18} {:<10} {:<8} how it was seen",
                "door", "closed by", "result"
            );
        }
        selftest::run(places, &program, &judged, &mut told)
    });
    // One that does not die keeps the cgroup, which is said then.
    let _empty = fresh.kill_all(Duration::from_secs(5));
    fresh
        .remove()
        .with_context(|| format!("{} is left", fresh.dir.display()))?;
    done
}

/// The programs that are on this cgroup and those that watch the whole host, but for those that close no door by themselves.
fn steady(control: &Control, cgroup: u64) -> anyhow::Result<Vec<String>> {
    let status: Status = block_on(control.get("/v1/status"))??;
    let agent = status.programs.iter().find(|p| p.name == "agent_ops");
    let agent = agent.map_or(cgroup, |p| p.cgroup);
    let there = status.programs.iter().filter(|p| p.attached && !p.unsteady);
    let own = there.filter(|p| p.cgroup == cgroup || p.cgroup == agent);
    Ok(own.map(|program| program.name.clone()).collect())
}

/// Until every program is attached: before, nothing would be refused.
fn wait_for_tag(control: &Control, cgroup: u64) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let there = steady(control, cgroup)?;
        if bpf::programs()
            .iter()
            .all(|name| there.iter().any(|found| found == name))
        {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("the daemon does not enforce the throw-away workload: see its log and `portcullis status`");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn print(row: &Row) {
    let by = row.mechanism.as_deref().unwrap_or("nothing");
    let result = match row.result {
        Verdict::Closed => "closed",
        Verdict::Open if row.failed => "FAILED",
        Verdict::Open => "open",
        Verdict::Untried => "untried",
    };
    println!("{:<18} {by:<10} {result:<8} {}", row.door, row.how);
}

/// One line for people.
pub(super) fn summary(report: &Report) -> String {
    let failed = match report.failed() {
        0 => "none let through what it should not".to_owned(),
        n => format!("{n} LET THROUGH WHAT THEY SHOULD NOT"),
    };
    format!(
        "{} doors tried at {} on Linux {}: {} closed, {} open, {} not tried; {failed}",
        report.doors.len(),
        report.at,
        report.kernel,
        report.count(Verdict::Closed),
        report.count(Verdict::Open),
        report.count(Verdict::Untried),
    )
}

/// `portcullis selftest-attempt` (hidden): one attempt, in a process of its own.
pub(super) fn attempt() -> anyhow::Result<ExitCode> {
    selftest::attempt_here()?;
    Ok(ExitCode::SUCCESS)
}
