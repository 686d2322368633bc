//! The daemon ships, and its commands show and steer that.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use e2e::{
    site::{Options, Site},
    wait::{DEADLINE, wait_for, wait_until},
};
use serde_json::Value;

fn list(site: &Site<'_>) -> Result<(i32, Value)> {
    let said = site.daemon.cli(&["ship", "list", "--json"])?;
    Ok((
        said.code,
        serde_json::from_str(&said.out).with_context(|| said.err)?,
    ))
}

#[test]
fn sinks_of_the_daemon() {
    let options = |world: &e2e::world::World| {
        fs::create_dir(world.path("archive"))?;
        let (archive, events) = (world.path("archive"), world.path("events.jsonl"));
        let config = format!(
            "[[ship]]\nname = \"archive\"\nkind = \"directory\"\npath = \"{}\"\n\
             [[ship]]\nname = \"siem\"\nkind = \"jsonl\"\nformat = \"json\"\npath = \"{}\"\n",
            archive.display(),
            events.display()
        );
        Ok(Options {
            config,
            ..Options::default()
        })
    };
    super::with_options("ship", options, |site| {
        site.daemon.cli(&["ledger", "seal"])?.ok()?;
        wait_until("both to take what there is", DEADLINE, || {
            list(site).is_ok_and(|(code, sinks)| {
                code == 0 && sinks[0]["taken"] == 1 && sinks[1]["taken"].as_u64() > Some(3)
            })
        })?;
        let events = fs::read_to_string(site.world.path("events.jsonl"))?;
        ensure!(events.contains("\"event\":\"started\""), "{events}");
        let status = site.daemon.cli(&["status"])?.ok()?;
        ensure!(
            status.contains("Ship       archive (directory): waiting, 1 taken"),
            "{status}"
        );
        // The receiver goes: that is told, and nothing else suffers.
        let archive = site.world.path("archive");
        fs::rename(&archive, site.world.path("away"))?;
        site.daemon.cli(&["ledger", "seal"])?.ok()?;
        let error = wait_for("the failure", DEADLINE, || {
            let (code, sinks) = list(site).ok()?;
            let error = sinks[0]["error"].clone();
            (code == 1 && !error.is_null()).then_some(error)
        })?;
        ensure!(error["class"] == "missing", "{error}");
        let text = site.daemon.cli(&["ship", "status", "archive"])?;
        ensure!(text.code == 1 && text.out.contains("missing"), "{text:?}");
        fs::rename(site.world.path("away"), &archive)?;
        site.daemon.cli(&["ship", "retry", "archive"])?.ok()?;
        wait_until("the second segment", DEADLINE, || {
            list(site).is_ok_and(|(code, sinks)| code == 0 && sinks[0]["taken"] == 2)
        })?;
        let none = site.daemon.cli(&["ship", "dead-letter", "archive"])?.ok()?;
        ensure!(none.contains("no dead letters"), "{none}");
        let unknown = site.daemon.cli(&["ship", "retry", "nobody"])?;
        ensure!(
            unknown.code == 1 && unknown.err.contains("archive, siem"),
            "{unknown:?}"
        );
        // Another configuration: one sink goes, the other stays where it was.
        let config = fs::read_to_string(site.daemon.config())?;
        let cut = config.find("[[ship]]\nname = \"siem\"").context("no such sink")?;
        fs::write(site.daemon.config(), &config[..cut])?;
        site.daemon.reload()?;
        wait_until("one sink", DEADLINE, || {
            list(site).is_ok_and(|(_, sinks)| sinks.as_array().is_some_and(|all| all.len() == 1))
        })?;
        ensure!(list(site)?.1[0]["taken"] == 2, "it began anew");
        Ok(())
    });
}
