//! What is purged, by the real daemon and its commands: killed in the middle, held, and by two people's word.

use std::{fs, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    person::Person,
    site::{Options, Site, WORKLOAD},
};
use serde_json::Value;

use super::with_site;

fn options(retention: &str) -> Options {
    Options {
        durability: "process",
        config: format!(
            "[approvals]\nissuer = \"corp\"\nclient_id = \"approvers\"\n[retention]\n{retention}"
        ),
        ..Options::default()
    }
}

/// The workload reads something, and it is sealed.
fn recorded(site: &Site<'_>) -> Result<()> {
    let url = "http://api.internal/customers";
    let said = site
        .workload()
        .run(&["curl", "-sSf", "--max-time", "20", url])?
        .ok()?;
    ensure!(!said.is_empty(), "nothing passed");
    site.daemon.cli(&["ledger", "seal"])?.ok()?;
    Ok(())
}

fn json(site: &Site<'_>, arguments: &[&str]) -> Result<Value> {
    let said = site.daemon.cli(arguments)?.ok()?;
    Ok(serde_json::from_str(&said)?)
}

/// Frames with and without their bytes, over all segments.
fn frames(site: &Site<'_>) -> Result<(u64, u64)> {
    let status = json(site, &["retention", "status", "--json"])?;
    let segments = status["segments"].as_array().context("no segments")?;
    let sum = |pointer: &str| segments.iter().filter_map(|s| s.pointer(pointer)?.as_u64()).sum();
    Ok((sum("/payload/0"), sum("/purged_frames")))
}

fn verify(site: &Site<'_>) -> Result<()> {
    let dir = site.daemon.data_dir().display().to_string();
    let key = site.daemon.data_dir().join("ledger.pub").display().to_string();
    site.daemon.cli(&["verify", &dir, "--key", &key])?.ok()?;
    Ok(())
}

#[test]
fn a_purge_that_is_killed_is_done_or_not_begun() {
    with_site("purge-kill", &options("payloads = \"0s\"\n"), |site| {
        for round in 0..12u64 {
            recorded(site)?;
            let mut run = site.daemon.command(&["retention", "run"])?;
            let mut running = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
            std::thread::sleep(Duration::from_millis(round * 3));
            site.daemon.kill9();
            running.wait()?;
            verify(site)?;
            site.daemon.launch()?;
            site.daemon.cli(&["retention", "run"])?.ok()?;
            let (left, purged) = frames(site)?;
            ensure!(
                left == 0 && purged > round,
                "round {round}: {left} left, {purged} purged"
            );
            verify(site)?;
        }
        let segments = fs::read_dir(site.daemon.data_dir().join("segments"))?;
        for file in segments {
            let name = file?.file_name();
            ensure!(name.to_string_lossy().ends_with(".db"), "{name:?} is left");
        }
        ensure!(!site.daemon.data_dir().join("retention.intent").exists());
        // Every purge has its entry, and every entry its purge.
        let dir = site.daemon.data_dir().display().to_string();
        let sql = "SELECT count(*) FROM ledger_events WHERE event = 'payload_purged'";
        let told = count(site, &dir, sql)?;
        let mut stated = 0;
        for file in fs::read_dir(site.daemon.data_dir().join("segments"))? {
            let conn = rusqlite::Connection::open(file?.path())?;
            let sql = "SELECT count(*) FROM statement WHERE note LIKE '%payload purged%'";
            stated += conn.query_row(sql, [], |r| r.get::<_, i64>(0))?;
        }
        ensure!(told == stated, "{told} entries, {stated} statements");
        Ok(())
    });
}

/// A count over all parts.
fn count(site: &Site<'_>, dir: &str, sql: &str) -> Result<i64> {
    let mut total = 0;
    let live = fs::read_dir(dir)?.chain(fs::read_dir(site.daemon.data_dir().join("segments"))?);
    for file in live {
        let path = file?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let is_part = name.starts_with("ledger-") || name.starts_with("segment-");
        if is_part && name.ends_with(".db") {
            let conn = rusqlite::Connection::open(path)?;
            total += conn.query_row(sql, [], |r| r.get::<_, i64>(0))?;
        }
    }
    Ok(total)
}

#[test]
fn a_hold_keeps_it_and_two_people_end_it() {
    let retention = "payloads = \"0s\"\nentries = \"0s\"\npurge_groups = [\"records\"]\n";
    with_site("purge-people", &options(retention), |site| {
        recorded(site)?;
        let held = [
            "retention",
            "hold",
            "add",
            "--workload",
            WORKLOAD,
            "--reason",
            "case 12",
        ];
        let hold = site.daemon.cli(&held)?.ok()?;
        let hold = hold.split_whitespace().next().context("no id")?.to_owned();
        site.daemon.cli(&["retention", "run"])?.ok()?;
        let (left, _) = frames(site)?;
        ensure!(left > 0, "the held payload is gone");
        // Not even after the hold's file is gone and the daemon was killed.
        site.daemon.kill9();
        fs::remove_file(site.daemon.data_dir().join("retention.holds"))?;
        site.daemon.launch()?;
        site.daemon.cli(&["retention", "run"])?.ok()?;
        ensure!(frames(site)?.0 == left, "the held payload is gone");
        let ask = [
            "retention",
            "purge",
            "--entries",
            "--before",
            "2100-01-01",
            "--reason",
            "schedule 7",
        ];
        let said = site.daemon.cli(&ask)?;
        ensure!(said.code == 4, "root alone asked: {said:?}");
        Person::new(site, "ada").sign_in(&["records"])?;
        let said = Person::new(site, "ada").says(&ask)?;
        ensure!(said.code == 3 && said.err.contains("legal hold"), "{said:?}");
        let release = ["retention", "hold", "release", &hold, "--reason", "case closed"];
        site.daemon.cli(&release)?.ok()?;
        let asked = Person::new(site, "ada").says(&ask)?.ok()?;
        let id = asked
            .split("retention confirm ")
            .nth(1)
            .and_then(|t| t.split(' ').next());
        let id = id.with_context(|| asked.clone())?.to_owned();
        let confirm = ["retention", "confirm", &id, "--reason", "checked"];
        let said = Person::new(site, "ada").says(&confirm)?;
        ensure!(said.code == 3 && said.err.contains("somebody else"), "{said:?}");
        Person::new(site, "bob").sign_in(&["dba"])?;
        let said = Person::new(site, "bob").says(&confirm)?;
        ensure!(
            said.code == 3 && said.err.contains("none of the groups"),
            "{said:?}"
        );
        Person::new(site, "eve").sign_in(&["records"])?;
        let done = Person::new(site, "eve").says(&confirm)?.ok()?;
        ensure!(done.contains("by Ada and Eve"), "{done}");
        let status = json(site, &["retention", "status", "--json"])?;
        ensure!(status["segments"][0]["stub"] == true, "{status}");
        verify(site)?;
        // And the ledger goes on from there.
        recorded(site)?;
        site.daemon.stop()?;
        site.daemon.launch()?;
        verify(site)?;
        site.daemon.cli(&["status"])?.ok()?;
        Ok(())
    });
}
