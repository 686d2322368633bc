//! PostgreSQL: the agent and the server killed under load, and a result that is larger than memory should be.

use std::{collections::HashSet, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::{
    child::{Process, Said},
    ledger::Reader,
    postgres::{APP, BIN, DATABASE},
    shop::Shop,
    wait::{DEADLINE, wait_until},
    world::{UPSTREAM, World},
};

use super::tail;

/// How often the agent is killed; `PORTCULLIS_CRASH_ROUNDS` takes another number, for a quick look.
const ROUNDS: u32 = 40;

fn with_shop(name: &str, test: impl FnOnce(&mut Shop<'_>) -> Result<()> + Send) {
    let result = World::enter(|world| {
        let mut shop = Shop::start(world, name, "power")?;
        test(&mut shop)
            .map_err(|e| e.context(format!("the daemon's log:\n{}", tail(&shop.site.daemon.log()))))
    });
    if let Err(error) = result {
        panic!("{error:?}");
    }
}

/// A command as the workload, told where to connect by libpq's variables; the agent logs in.
fn tagged(shop: &Shop<'_>, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = shop.site.workload().tagged(program);
    command.env("PGHOST", UPSTREAM).env("PGUSER", "somebody");
    command.env("PGDATABASE", DATABASE).env("PGSSLMODE", "disable");
    command
}

#[test]
fn every_statement_that_the_server_saw_has_its_entry() {
    let rounds = std::env::var("PORTCULLIS_CRASH_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(ROUNDS);
    with_shop("pg-rounds", |shop| {
        let load = start_load(shop)?;
        let mut seen = Seen::default();
        let mut busy = 0;
        for round in 0..rounds {
            let before = seen.of_the_server(shop).len();
            // Long enough for some statements, and never at the same point.
            std::thread::sleep(Duration::from_millis(u64::from(rand::random_range(20..150u32))));
            shop.site.daemon.kill9();
            busy += u32::from(seen.of_the_server(shop).len() > before);
            shop.site
                .daemon
                .launch()
                .with_context(|| format!("round {round}"))?;
            seen.compare(shop).with_context(|| format!("round {round}"))?;
            let ledger = shop.site.daemon.ledger().display().to_string();
            let said = shop.site.daemon.cli(&["verify", &ledger])?;
            ensure!(said.code == 0, "round {round}: verify: {said:?}");
        }
        for mut one in load {
            one.kill9();
        }
        println!(
            "{} statements seen, in {busy} of {rounds} rounds",
            seen.compared.len()
        );
        // A load that reached nothing would prove nothing.
        ensure!(
            busy * 2 > rounds,
            "only {busy} of {rounds} kills had statements under way"
        );
        Ok(())
    });
}

/// pgbench that never stops, in each of its modes; each statement has a number of its own in its text.
fn start_load(shop: &Shop<'_>) -> Result<Vec<Process>> {
    let script = shop.site.world.path("op.sql");
    std::fs::write(
        &script,
        "\\set n random(1, 1000000000)\nSELECT id AS op_:n FROM orders WHERE id = 7;\n",
    )?;
    let modes = ["simple", "extended", "prepared"];
    let start = |mode: &&str| {
        let loops = format!(
            "while :; do {BIN}/pgbench -n -c 2 -T 30 -M {mode} -f '{}' >/dev/null 2>&1; sleep 0.01; done",
            script.display()
        );
        let mut command = tagged(shop, "sh");
        command.args(["-c", &loops]);
        Process::start(&format!("load-{mode}"), shop.site.world.dir(), &mut command)
    };
    modes.iter().map(start).collect()
}

/// What the server has seen, against what is recorded.
#[derive(Default)]
struct Seen {
    compared: HashSet<String>,
    recorded: HashSet<String>,
    last: i64,
}

/// The numbers in a text: of `op_17`, `17`.
fn operations(text: &str) -> HashSet<String> {
    let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>();
    text.split("op_").skip(1).map(digits).collect()
}

impl Seen {
    fn of_the_server(&self, shop: &Shop<'_>) -> HashSet<String> {
        operations(&shop.postgres.log())
    }

    fn compare(&mut self, shop: &Shop<'_>) -> Result<()> {
        // First the server: whatever it has seen by now was recorded before.
        let seen = self.of_the_server(shop);
        let ledger = Reader::open(&shop.site.daemon.ledger())?;
        let sql = format!(
            "SELECT body, seq FROM entry WHERE seq > {} AND json_extract(body, '$.kind') = 'operation' ORDER BY seq",
            self.last
        );
        for row in ledger.rows(&sql)? {
            self.last = row[1].parse()?;
            self.recorded.extend(operations(&row[0]));
        }
        for operation in &seen {
            ensure!(self.recorded.contains(operation), "op_{operation} has no entry");
        }
        self.compared = seen;
        Ok(())
    }
}

#[test]
fn a_killed_server_is_an_error_and_no_more() {
    with_shop("pg-server", |shop| {
        let load = start_load(shop)?;
        wait_until("statements to run", DEADLINE, || {
            !operations(&shop.postgres.log()).is_empty()
        })?;
        let mut psql = tagged(shop, Path::new(BIN).join("psql"));
        psql.args(["-XAqt", "-c", "SELECT pg_sleep(600)"]);
        let mut sleeping = Process::start("sleeping", shop.site.world.dir(), &mut psql)?;
        wait_until("the long one to run", DEADLINE, || {
            shop.postgres.saw("pg_sleep(600)")
        })?;
        shop.postgres.kill9()?;
        sleeping.wait(DEADLINE)?;
        let said = sleeping.log();
        ensure!(
            said.contains("FATAL") || said.contains("ERROR"),
            "no message of the agent's, only: {said}"
        );
        for mut one in load {
            one.kill9();
        }
        ensure!(shop.site.daemon.runs(), "the daemon ended");
        // It is known how each ended.
        let ledger = Reader::open(&shop.site.daemon.ledger())?;
        wait_until("all sessions to end", DEADLINE, || {
            ledger
                .number("SELECT count(*) FROM sessions WHERE closed_at IS NULL")
                .is_ok_and(|n| n == 0)
        })?;
        let said = shop
            .site
            .daemon
            .cli(&["verify", &shop.site.daemon.ledger().display().to_string()])?;
        ensure!(said.code == 0, "verify: {said:?}");
        Ok(())
    });
}

#[test]
fn a_gigabyte_takes_constant_memory() {
    with_shop("pg-large", |shop| {
        let rows = 1_000_000;
        let select = format!("SELECT n, repeat('x', 1000) FROM generate_series(1, {rows}) n");
        let mut psql = tagged(shop, Path::new(BIN).join("psql"));
        Said::by(psql.args([
            "-XAqt",
            "-c",
            "SELECT n, repeat('x', 1000) FROM generate_series(1, 1000) n",
        ]))?
        .ok()?;
        let before = shop.site.daemon.resident()?;
        let options = serde_json::json!({
            "host": UPSTREAM, "port": 5432, "user": APP.name, "password": "", "database": DATABASE,
        });
        for sql in [select.clone(), format!("COPY ({select}) TO STDOUT")] {
            let mut drain = tagged(shop, env!("CARGO_BIN_EXE_postgres-workload"));
            drain.args(["drain", &options.to_string(), &sql]);
            let mut running = Process::start("drain", shop.site.world.dir(), &mut drain)?;
            let mut peak = before;
            let status = loop {
                if let Some(status) = running.ended() {
                    break status;
                }
                peak = peak.max(shop.site.daemon.resident()?);
                std::thread::sleep(Duration::from_millis(20));
            };
            let log = running.log();
            ensure!(status.success(), "{sql}: {log}");
            let Some(bytes) = log.lines().last().and_then(|l| l.parse::<u64>().ok()) else {
                bail!("{sql}: {log}");
            };
            ensure!(bytes > 1000 * rows, "{sql}: only {bytes} bytes");
            // Queues and caches have their bounds; a gigabyte of result must not show.
            ensure!(
                peak - before < 64 << 20,
                "{sql}: {} MiB more",
                (peak - before) >> 20
            );
        }
        Ok(())
    });
}
