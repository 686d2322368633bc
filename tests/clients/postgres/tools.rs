//! PostgreSQL's own tools: psql, pg_dump, pg_restore, pgbench.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    child::{Process, Said},
    postgres::{APP, BENCH, BIN, DATABASE},
    shop::{MASKED_SSN, Shop},
    wait::{DEADLINE, wait_until},
};
use nix::sys::signal::Signal;

use super::{Way, at_rest, install, transcript::masked, with_shop};

/// In place of a notice that a DO block wrote: it could hold anything.
const CODE_WORDS: &str = "[masked] the server's words are not shown: code that was called wrote them";

/// One of the tools, told where to connect by libpq's variables.
fn tool(shop: &Shop<'_>, way: Way, tls: bool, program: &str) -> Command {
    let mut command = way.command(shop, &Path::new(BIN).join(program), &[]);
    let (user, password) = way.login();
    command.env("PGHOST", way.host()).env("PGPORT", "5432");
    command.env("PGUSER", user).env("PGPASSWORD", password);
    command.env("PGDATABASE", DATABASE).env("PGTZ", "UTC");
    if tls {
        command.env("PGSSLMODE", "verify-full");
        command.env("PGSSLROOTCERT", way.roots(shop));
        if way == Way::PassThrough {
            // What is bound to the workload's TLS connection cannot log in on another.
            command.env("PGCHANNELBINDING", "disable");
        }
    } else {
        command.env("PGSSLMODE", "disable");
    }
    command
}

fn psql(shop: &Shop<'_>, way: Way, tls: bool, file: &str) -> Result<Said> {
    let mut psql = tool(shop, way, tls, "psql");
    // From where the script is, so that its name in messages is short.
    psql.current_dir(install::source());
    Said::by(psql.args(["-XAq", "-f", file]))
}

/// The lines of both that are not the same.
fn same(direct: &str, through: &str) -> Result<()> {
    for (n, (was, is)) in direct.lines().zip(through.lines()).enumerate() {
        ensure!(was == is, "line {}: {is}\ninstead of: {was}", n + 1);
    }
    ensure!(direct == through, "one goes on after the other's end:\n{through}");
    Ok(())
}

#[test]
fn psql_gets_the_same() {
    with_shop("psql", |shop| {
        let direct = psql(shop, Way::Direct, false, "script.sql")?;
        ensure!(direct.out.contains("219-09-9999"), "{direct:?}");
        for (way, tls) in [
            (Way::Brokered, false),
            (Way::Brokered, true),
            (Way::PassThrough, false),
            (Way::PassThrough, true),
        ] {
            let through = psql(shop, way, tls, "script.sql")?;
            let here = || format!("{way:?}, TLS: {tls}; it said on standard error:\n{}", through.err);
            same(&masked(&direct.out), &through.out).with_context(here)?;
            same(&direct.err.replace("a 1 notice", CODE_WORDS), &through.err).with_context(here)?;
        }
        at_rest(shop)
    });
}

#[test]
fn denials_leave_the_connection_usable() {
    with_shop("psql-denials", |shop| {
        for way in [Way::Brokered, Way::PassThrough] {
            let said = psql(shop, way, true, "denials.sql")?;
            let expected = "alone 42501\nin a string 42501\nin a CTE 42501\nprepared 42501\nexplained 42501\n\
                in a transaction 42501\nafter it 25P02\nsame|count\nt|0\n(1 row)\n";
            ensure!(said.out == expected, "{}\n{}", said.out, said.err);
            for part in [
                "ERROR:  42501:",
                "DETAIL:",
                "HINT:",
                "orders are kept for the auditors",
            ] {
                ensure!(said.err.contains(part), "no '{part}' in\n{}", said.err);
            }
        }
        // Nothing of it has reached the server, also not what came with it in one string.
        for text in ["DELETE FROM orders", "VALUES (77)"] {
            ensure!(!shop.postgres.saw(text), "the server saw {text}");
        }
        ensure!(shop.postgres.saw("VALUES (78)"), "the server's log cannot tell");
        Ok(())
    });
}

#[test]
fn an_interrupt_cancels() {
    with_shop("psql-cancel", |shop| {
        for (way, tls) in [(Way::Brokered, true), (Way::PassThrough, false)] {
            let name = format!("cancel-{way:?}");
            let mut command = tool(shop, way, tls, "psql");
            command.args(["-XAq", "-c", "SELECT pg_sleep(600)"]);
            let mut running = Process::start(&name, shop.site.world.dir(), &mut command)?;
            let active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(600)'";
            wait_until("the statement to run", DEADLINE, || {
                shop.postgres.admin(active).is_ok_and(|n| n.trim() == "1")
            })?;
            running.signal(Signal::SIGINT)?;
            running.wait(Duration::from_secs(30))?;
            let said = running.log();
            ensure!(said.contains("canceling statement due to user request"), "{said}");
            ensure!(shop.postgres.admin(active)?.trim() == "0", "it still runs");
        }
        Ok(())
    });
}

/// A dump without the two lines that hold a random word.
fn dump(shop: &Shop<'_>, way: Way, arguments: &[&str]) -> Result<String> {
    let dump = Said::by(tool(shop, way, true, "pg_dump").args(arguments))?.ok()?;
    let lines = dump
        .lines()
        .filter(|l| !l.starts_with("\\restrict ") && !l.starts_with("\\unrestrict "));
    Ok(lines.map(|l| format!("{l}\n")).collect())
}

#[test]
fn dumps_are_the_same() {
    with_shop("pg-dump", |shop| {
        for way in [Way::Brokered, Way::PassThrough] {
            let nothing_masked = ["--exclude-table-data=customers"];
            same(
                &dump(shop, Way::Direct, &nothing_masked)?,
                &dump(shop, way, &nothing_masked)?,
            )?;
            for all in [
                &[][..],
                &["--inserts"],
                &["--column-inserts", "--rows-per-insert=3"],
            ] {
                let direct = dump(shop, Way::Direct, all)?;
                ensure!(direct.contains("219-09-9999"), "{direct}");
                let through = dump(shop, way, all)?;
                same(&masked(&direct), &through).with_context(|| format!("{way:?} {all:?}"))?;
            }
        }
        at_rest(shop)
    });
}

#[test]
fn a_dump_can_be_restored() {
    with_shop("pg-restore", |shop| {
        let file: PathBuf = shop.site.world.path("shop.dump");
        let mut custom = tool(shop, Way::Direct, false, "pg_dump");
        Said::by(custom.arg("--format=custom").arg("--file").arg(&file))?.ok()?;
        // What deletes orders may not be defined either.
        let contents = Said::by(
            tool(shop, Way::Direct, false, "pg_restore")
                .arg("--list")
                .arg(&file),
        )?
        .ok()?;
        let (refused, kept): (Vec<&str>, Vec<&str>) =
            contents.lines().partition(|l| l.contains(" forget_orders("));
        ensure!(refused.len() == 1, "{contents}");
        let list = shop.site.world.path("shop.list");
        std::fs::write(&list, kept.join("\n"))?;
        shop.postgres
            .admin(&format!("CREATE DATABASE permitted OWNER {}", APP.name))?;
        let mut permitted = tool(shop, Way::Direct, false, "pg_restore");
        permitted
            .args(["--exit-on-error", "--dbname", "permitted", "--use-list"])
            .arg(&list);
        Said::by(permitted.arg(&file))?.ok()?;
        let original = dump(shop, Way::Direct, &["--dbname=permitted"])?;
        for way in [Way::Brokered, Way::PassThrough] {
            let database = format!("restored_{way:?}").to_lowercase();
            shop.postgres
                .admin(&format!("CREATE DATABASE {database} OWNER {}", APP.name))?;
            let mut restore = tool(shop, way, true, "pg_restore");
            restore.args(["--dbname", &database]);
            let said = Said::by(restore.arg(&file))?;
            // It goes on after an error: what it cannot create it cannot give to its owner either.
            ensure!(
                said.err.contains("errors ignored on restore: 2")
                    && said.err.matches("denied by Portcullis").count() == 1
                    && said.err.contains("orders are kept for the auditors")
                    && said.err.contains("FUNCTION public.forget_orders"),
                "{way:?}: {said:?}"
            );
            let restored = dump(shop, Way::Direct, &[&format!("--dbname={database}")])?;
            same(&original, &restored)?;
        }
        Ok(())
    });
}

#[test]
fn pgbench_runs_in_all_its_modes() {
    with_shop("pgbench", |shop| {
        let run = |arguments: &[&str]| {
            let mut pgbench = tool(shop, Way::Brokered, false, "pgbench");
            pgbench.env("PGDATABASE", BENCH);
            Said::by(pgbench.args(arguments))?.ok()
        };
        run(&["--initialize", "--quiet", "--foreign-keys"])?;
        let mut done = 0;
        for mode in ["simple", "extended", "prepared"] {
            for script in ["tpcb-like", "select-only"] {
                let said = run(&[
                    "--protocol",
                    mode,
                    "--builtin",
                    script,
                    "--client=4",
                    "--transactions=100",
                    "--no-vacuum",
                ])?;
                ensure!(
                    said.contains("number of transactions actually processed: 400/400")
                        && said.contains("number of failed transactions: 0 "),
                    "{mode}, {script}: {said}"
                );
            }
            done += 400;
        }
        // A connection for each transaction.
        let said = run(&[
            "--connect",
            "--select-only",
            "--client=4",
            "--transactions=25",
            "--no-vacuum",
        ])?;
        ensure!(said.contains("actually processed: 100/100"), "{said}");
        // Server and books agree.
        let sums = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history), \
            (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(bbalance) FROM pgbench_branches), \
            (SELECT count(*) FROM pgbench_history)";
        let sums = shop.postgres.admin_in(BENCH, sums)?;
        ensure!(sums.trim() == format!("t|t|{done}"), "{sums}");
        Ok(())
    });
}

/// The tour of the way: what the workload asks for is on record, and can be read as a table.
#[test]
fn a_session_can_be_shown() {
    with_shop("psql-show", |shop| {
        let mut command = tool(shop, Way::Brokered, true, "psql");
        let said = Said::by(command.args([
            "-XAqt",
            "-c",
            "DELETE FROM orders WHERE id = 7",
            "-c",
            "SELECT id, name, ssn FROM customers WHERE id <= 2 ORDER BY id",
        ]))?;
        let out = said.ok()?;
        ensure!(out.contains("Ada Lovelace") && out.contains(MASKED_SSN), "{out}");
        let ledger = e2e::ledger::Reader::open(&shop.site.daemon.ledger())?;
        let session = "SELECT session FROM sessions WHERE closed_at IS NOT NULL";
        wait_until("the session's end", DEADLINE, || {
            ledger.column(session).is_ok_and(|ids| ids.len() == 1)
        })?;
        let id = ledger.column(session)?.remove(0);
        let shown = shop.site.daemon.cli(&["sessions", "show", &id])?.ok()?;
        for part in [
            " deny sql:statement shop-db/shop",
            "  > DELETE FROM orders WHERE id = 7",
            "  > SELECT id, name, ssn FROM customers",
            "Ada Lovelace",
            "Grace Hopper",
            MASKED_SSN,
        ] {
            ensure!(shown.contains(part), "no '{part}' in\n{shown}");
        }
        ensure!(!shown.contains("219-09-9999"), "{shown}");
        let cli = |args: &[&str]| shop.site.daemon.cli(args)?.ok();
        let replay = cli(&[
            "sessions",
            "replay",
            &id,
            "--speed",
            "1000",
            "--max-pause",
            "10ms",
        ])?;
        for part in [
            "> SELECT id, name, ssn FROM customers",
            "Grace Hopper",
            MASKED_SSN,
            "closed: ",
        ] {
            ensure!(replay.contains(part), "no '{part}' in\n{replay}");
        }
        let out = shop.site.world.path("session.jsonl").display().to_string();
        cli(&["sessions", "export", &id, "--format", "jsonl", "--out", &out])?;
        let lines = std::fs::read_to_string(&out)?;
        let lines: Vec<serde_json::Value> = lines
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        let of = |decision: &str| lines.iter().filter(|l| l["decision"] == decision).count();
        ensure!(of("deny") == 1 && of("allow") >= 1, "{lines:?}");
        let rows = lines
            .iter()
            .flat_map(|l| l["received"].as_array().into_iter().flatten());
        let mut rows = rows.flat_map(|r| r["rows"].as_array().into_iter().flatten());
        ensure!(
            rows.any(|row| row[1] == "Ada Lovelace" && row[2] == MASKED_SSN),
            "{lines:?}"
        );
        ensure!(
            !lines.iter().any(|l| l.to_string().contains("219-09-9999")),
            "{lines:?}"
        );
        at_rest(shop)
    });
}
