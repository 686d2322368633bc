//! PostgreSQL: pgbench's transactions, and results of a million rows.

mod case;
mod drain;

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};
use e2e::{
    child::Said,
    daemon,
    haproxy::Haproxy,
    postgres::{BENCH, BIN, TRUST},
    shop::Shop,
    world::{UPSTREAM, World},
};

use self::case::{CASES, Case, Work};
use super::{
    Rounds,
    load::Result_,
    run::{Measure, interleaved, write},
    table::{self, Sample, Target, targets},
};
pub use drain::{Drain, drain};

const TARGETS: [Target; 4] = targets("haproxy");
const RELAY_PORT: u16 = 15_432;

pub fn run(world: &World, rounds: &Rounds) -> Result<()> {
    let cases: Vec<Case> = CASES
        .into_iter()
        .filter(|c| c.name.contains(&rounds.case))
        .collect();
    let mut bench = Bench::new(world, rounds.seconds)?;
    let samples = interleaved(&mut bench, &cases, &TARGETS, rounds)?;
    let titles = cases.iter().map(|case| (case.name, case.aim.to_owned()));
    table::print("transactions", titles, &TARGETS, &samples);
    write(rounds, &table::json(&samples, &[], &[]))?;
    bench.shop.site.daemon.stop()
}

struct Bench<'w> {
    shop: Shop<'w>,
    relay: Haproxy,
    seconds: f64,
}

impl<'w> Bench<'w> {
    fn new(world: &'w World, seconds: f64) -> Result<Self> {
        let shop = Shop::start(world, "bench", "process")?;
        eprintln!(
            "filling the database: pgbench at scale {}, and a million rows",
            case::SCALE
        );
        for setting in [
            "log_statement = none",
            "log_connections = off",
            "autovacuum = off",
        ] {
            shop.postgres.admin(&format!("ALTER SYSTEM SET {setting}"))?;
        }
        shop.postgres.admin("SELECT pg_reload_conf()")?;
        let mut pgbench = shop.postgres.command("pgbench", BENCH);
        pgbench.args(["--initialize", "--quiet", "--scale", &case::SCALE.to_string()]);
        Said::by(&mut pgbench)?.ok()?;
        shop.postgres.admin_in(BENCH, case::WIDE)?;
        shop.postgres.admin_in(BENCH, "VACUUM FREEZE ANALYZE")?;
        fs::write(world.path("fifty.sql"), case::FIFTY)?;
        let relay = Haproxy::relay(world, RELAY_PORT, shop.postgres.address())?;
        Ok(Self { shop, relay, seconds })
    }

    /// A program on the side that the target is for, told where to connect.
    fn command(&self, target: Target, program: &Path) -> Command {
        let site = &self.shop.site;
        let mut command = match target {
            Target::Direct | Target::Relay(_) => site.world.host(program),
            // Outside the workload's way of being started: only what is redirected is measured.
            Target::Power | Target::Process => site.workload().tagged(program),
        };
        let (host, port) = match target {
            Target::Relay(_) => ("127.0.0.1", RELAY_PORT),
            Target::Direct | Target::Power | Target::Process => (UPSTREAM, 5432),
        };
        // How one logs in is not measured; through the agent it is its own login that counts.
        command.env("PGHOST", host).env("PGPORT", port.to_string());
        command.env("PGUSER", TRUST.name).env("PGDATABASE", BENCH);
        command.env("PGSSLMODE", "disable");
        command
    }

    /// CPU time of what is in the middle.
    fn cpu(&self, target: Target) -> Result<Duration> {
        match target {
            Target::Direct => Ok(Duration::ZERO),
            Target::Relay(_) => daemon::cpu(self.relay.pid()),
            Target::Power | Target::Process => self.shop.site.daemon.cpu(),
        }
    }

    fn work(&self, target: Target, work: &Work) -> Result<Result_> {
        match work {
            Work::Pgbench {
                script,
                mode,
                clients,
            } => self.pgbench(target, script, mode, *clients),
            Work::Drain(sql) => {
                let mut command = self.command(target, &std::env::current_exe()?);
                command.args(["drain", "--seconds", &self.seconds.to_string(), "--sql", sql]);
                let out = Said::by(&mut command)?.ok()?;
                Ok(serde_json::from_str(out.trim())?)
            }
        }
    }

    fn pgbench(&self, target: Target, script: &str, mode: &str, clients: u32) -> Result<Result_> {
        let logs = tempfile::tempdir_in(self.shop.site.world.dir())?;
        let mut command = self.command(target, &Path::new(BIN).join("pgbench"));
        command.args(["--no-vacuum", "--protocol", mode]);
        match script {
            "fifty" => command.arg("--file").arg(self.shop.site.world.path("fifty.sql")),
            built_in => command.args(["--builtin", built_in]),
        };
        let threads = clients.min(2).to_string();
        command.args(["--client", &clients.to_string(), "--jobs", &threads]);
        command.args(["--time", &self.seconds.ceil().to_string()]);
        // One transaction in ten writes a line: enough for percentiles.
        command.args(["--log", "--sampling-rate", "0.1", "--log-prefix"]);
        command.arg(logs.path().join("log"));
        let out = Said::by(&mut command)?.ok()?;
        let number = |after: &str| -> Result<f64> {
            let line = out.lines().find_map(|l| l.trim().strip_prefix(after));
            let word = line.and_then(|l| l.split_whitespace().next());
            word.and_then(|w| w.parse().ok())
                .with_context(|| format!("no '{after}' in what pgbench printed:\n{out}"))
        };
        let requests = number("number of transactions actually processed:")?;
        if number("number of failed transactions:")? > 0.0 {
            bail!("transactions failed:\n{out}");
        }
        let took = latencies(logs.path())?;
        let at = |q: f64| took.get((took.len() as f64 * q) as usize).copied().unwrap_or(0.0);
        Ok(Result_ {
            requests: requests as u64,
            seconds: requests / number("tps =")?,
            p50_us: at(0.5),
            p99_us: at(0.99),
            ..Result_::default()
        })
    }
}

/// What pgbench's logs say that transactions took, in microseconds, sorted.
fn latencies(dir: &Path) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    for file in fs::read_dir(dir)? {
        let text = fs::read_to_string(file?.path())?;
        // client, transaction, time, script, ...
        all.extend(
            text.lines()
                .filter_map(|l| l.split(' ').nth(2)?.parse::<f64>().ok()),
        );
    }
    all.sort_by(f64::total_cmp);
    Ok(all)
}

impl Measure for Bench<'_> {
    type Case = Case;

    fn name(case: &Case) -> &'static str {
        case.name
    }

    fn turn_to(&mut self, target: Target) -> Result<()> {
        match target {
            Target::Direct | Target::Relay(_) => Ok(()),
            Target::Power => self.shop.site.set_durability("power"),
            Target::Process => self.shop.site.set_durability("process"),
        }
    }

    fn measure(&mut self, target: Target, case: &Case) -> Result<Sample> {
        let before = self.cpu(target)?;
        let result = self.work(target, &case.work)?;
        let cpu = self.cpu(target)?.saturating_sub(before);
        if result.requests == 0 {
            bail!("nothing succeeded");
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
