//! Running the cases against every target, round by round.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use e2e::{
    child::Said,
    daemon,
    nginx::Nginx,
    site::{Options, Site},
    world::{UPSTREAM, World},
};

use super::{
    Rounds,
    case::{self, CASES, Case},
    load::Result_,
    scan,
    table::{self, Sample, Target, targets},
};

const TARGETS: [Target; 4] = targets("nginx");
const PROXY_PORT: u16 = 18_080;
/// Connections held open to see what one costs; twice as many descriptors must fit the usual limit of 1024.
const HELD: usize = 400;

/// What can be measured round by round.
pub trait Measure {
    /// One thing to measure.
    type Case;
    /// The case's name.
    fn name(case: &Self::Case) -> &'static str;
    /// Brings what is in the middle into the target's mode.
    fn turn_to(&mut self, target: Target) -> Result<()>;
    /// Measures a case once.
    fn measure(&mut self, target: Target, case: &Self::Case) -> Result<Sample>;
}

/// Every case on every target, round by round: what the machine does meanwhile falls on all of them.
pub fn interleaved<M: Measure>(
    bench: &mut M,
    cases: &[M::Case],
    targets: &[Target],
    rounds: &Rounds,
) -> Result<Vec<Sample>> {
    eprintln!(
        "{} cases, {} targets, {} rounds of {} s: about {:.0} s",
        cases.len(),
        targets.len(),
        rounds.rounds,
        rounds.seconds,
        (cases.len() * targets.len()) as f64 * f64::from(rounds.rounds) * (rounds.seconds + 0.2)
    );
    let mut samples = Vec::new();
    for round in 0..rounds.rounds {
        for target in targets {
            bench.turn_to(*target)?;
            for case in cases {
                let (name, round) = (M::name(case), round + 1);
                eprintln!("round {round} of {}: {:<22} {name}", rounds.rounds, target.name());
                let sample = bench
                    .measure(*target, case)
                    .with_context(|| format!("{}: {name}", target.name()))?;
                samples.push(sample);
            }
        }
    }
    Ok(samples)
}

/// Writes the results where they were asked for.
pub fn write(rounds: &Rounds, results: &serde_json::Value) -> Result<()> {
    if let Some(file) = &rounds.json {
        fs::write(file, serde_json::to_string_pretty(results)?)?;
        eprintln!("written to {}", file.display());
    }
    Ok(())
}

pub fn http(world: &World, rounds: &Rounds) -> Result<()> {
    let cases: Vec<Case> = CASES
        .into_iter()
        .filter(|c| c.name.contains(&rounds.case))
        .collect();
    let mut bench = Bench::new(world, rounds.seconds)?;
    let samples = interleaved(&mut bench, &cases, &TARGETS, rounds)?;
    let mut memory = Vec::new();
    if rounds.case.is_empty() {
        eprintln!("memory: {HELD} idle connections each");
        for target in TARGETS.into_iter().skip(1) {
            for tls in [false, true] {
                bench.turn_to(target)?;
                memory.push((target, tls, bench.held(target, tls)?));
            }
        }
    }
    let scanned = scan::scan()?;
    let titles = cases.iter().map(|case| {
        let aim = case
            .aim
            .map(|a| format!("  (aim: {a:.2} of direct in mode power)"));
        (case.name, aim.unwrap_or_default())
    });
    table::print("requests", titles, &TARGETS, &samples);
    table::memory(&memory);
    table::scanned(&scanned);
    write(rounds, &table::json(&samples, &memory, &scanned))?;
    bench.site.daemon.stop()
}

struct Bench<'w> {
    site: Site<'w>,
    proxy: Nginx,
    seconds: f64,
}

impl Measure for Bench<'_> {
    type Case = Case;

    fn name(case: &Case) -> &'static str {
        case.name
    }

    fn turn_to(&mut self, target: Target) -> Result<()> {
        match target {
            Target::Direct | Target::Relay(_) => Ok(()),
            Target::Power => self.site.set_durability("power"),
            Target::Process => self.site.set_durability("process"),
        }
    }

    fn measure(&mut self, target: Target, case: &Case) -> Result<Sample> {
        let mut command = self.command(target, case.tls)?;
        command.args([
            "--path",
            case.path,
            "--connections",
            &case.connections.to_string(),
        ]);
        command.args(["--seconds", &self.seconds.to_string()]);
        if case.fresh {
            command.arg("--fresh");
        }
        let before = self.cpu(target)?;
        let said = Said::by(&mut command)?;
        let cpu = self.cpu(target)?.saturating_sub(before);
        let out = said.ok()?;
        let result: Result_ = serde_json::from_str(out.trim())?;
        if result.requests == 0 {
            bail!("no request succeeded");
        }
        let cpu_us = cpu.as_secs_f64() * 1e6 / result.requests as f64;
        Ok(Sample {
            target,
            case: case.name,
            result,
            cpu_us,
        })
    }
}

impl<'w> Bench<'w> {
    fn new(world: &'w World, seconds: f64) -> Result<Self> {
        let site = Site::start(world, "bench", &Options::default())?;
        case::files(&site.nginx)?;
        let proxy = Nginx::reverse_proxy(world, PROXY_PORT)?;
        Ok(Self { site, proxy, seconds })
    }

    fn command(&self, target: Target, tls: bool) -> Result<Command> {
        let own = std::env::current_exe()?;
        let world = self.site.world;
        let mut command = match target {
            Target::Direct | Target::Relay(_) => world.host(&own),
            // Outside the workload's way of being started: only what is redirected is measured.
            Target::Power | Target::Process => self.site.workload().tagged(&own),
        };
        let address = match (target, tls) {
            (Target::Relay(_), false) => format!("127.0.0.1:{PROXY_PORT}"),
            (Target::Relay(_), true) => format!("127.0.0.1:{}", PROXY_PORT + 1),
            (_, false) => format!("{UPSTREAM}:80"),
            (_, true) => format!("{UPSTREAM}:443"),
        };
        command.args(["load", "--address", &address]);
        if tls {
            command.arg("--roots").arg(match target {
                Target::Direct | Target::Relay(_) => world.path("roots.pem"),
                Target::Power | Target::Process => self.site.daemon.data_dir().join("ca.pem"),
            });
        }
        Ok(command)
    }

    /// CPU time of the proxy in the middle.
    fn cpu(&self, target: Target) -> Result<Duration> {
        match target {
            Target::Direct => Ok(Duration::ZERO),
            Target::Relay(_) => self.proxy.workers()?.into_iter().map(daemon::cpu).sum(),
            Target::Power | Target::Process => self.site.daemon.cpu(),
        }
    }

    /// Memory per idle connection, in bytes.
    fn held(&self, target: Target, tls: bool) -> Result<f64> {
        let resident = || match target {
            Target::Direct => Ok(0),
            Target::Relay(_) => self
                .proxy
                .workers()?
                .into_iter()
                .map(daemon::resident)
                .sum::<Result<u64>>(),
            Target::Power | Target::Process => self.site.daemon.resident(),
        };
        let mut command = self.command(target, tls)?;
        command.args([
            "--path",
            "/bench/1k.json",
            "--connections",
            &HELD.to_string(),
            "--seconds",
            "0",
            "--hold",
        ]);
        let before = resident()?;
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        let after = resident()?;
        child.kill()?;
        child.wait()?;
        if line.trim() != "held" {
            bail!("the connections could not be held");
        }
        Ok(after.saturating_sub(before) as f64 / HELD as f64)
    }
}
