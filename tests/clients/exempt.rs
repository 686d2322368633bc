//! `[[exempt]]`: what passes by the side of policy, for how long, and what is on record of it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    child::Said,
    ledger::Reader,
    site::{Options, Site},
    wait::wait_until,
    world::UPSTREAM,
};

use super::with_options;

/// No protocol that the agent knows: it says something and closes.
const SERVER: &str = "
import socket, sys
s = socket.create_server((sys.argv[1], 7777))
print('listening', flush=True)
while True:
    c, _ = s.accept()
    c.sendall(b'greetings')
    c.close()
";

const CLIENT: &str = "
import socket, sys
c = socket.create_connection((sys.argv[1], 7777), 10)
print(c.recv(64).decode())
";

/// Names, and what has to be in the entry of a change.
const CHANGES: &str = "
SELECT coalesce(json_extract(body, '$.before[0].name'), ''), coalesce(json_extract(body, '$.after[0].name'), ''),
  coalesce(json_extract(body, '$.detail.expired[0]'), ''), coalesce(json_extract(body, '$.detail.used.other'), '')
FROM entry WHERE json_extract(body, '$.subject') = 'exempt'";

fn rule(name: &str, expires: &str) -> String {
    format!(
        "[[exempt]]\nname = \"{name}\"\nowner = \"ops\"\nexpires = \"{expires}\"\nworkload = \"deploy-bot\"\n\
         protocol = \"tcp\"\ndestination = \"{UPSTREAM}/32\"\nports = \"7777\"\n"
    )
}

fn heard(site: &Site<'_>) -> Result<bool> {
    let output = site
        .workload()
        .tagged("python3")
        .args(["-c", CLIENT, UPSTREAM])
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).contains("greetings"))
}

fn status(site: &Site<'_>) -> Result<serde_json::Value> {
    let said = Said::by(&mut site.daemon.command(&["status", "--json"])?)?;
    Ok(serde_json::from_str(&said.out)?)
}

/// Writes the configuration and waits until the daemon lists these exemptions.
fn configure(site: &Site<'_>, plain: &str, rule: &str, names: &[&str]) -> Result<()> {
    fs::write(site.daemon.config(), format!("{plain}\n{rule}"))?;
    site.daemon.reload()?;
    wait_until("the configuration is loaded", DEADLINE, || {
        status(site).is_ok_and(|found| {
            let listed = found["exempt"].as_array().into_iter().flatten();
            listed
                .map(|rule| rule["name"].as_str().unwrap_or(""))
                .eq(names.iter().copied())
        })
    })
}

/// What is on record, a row for each entry.
fn changes(site: &Site<'_>) -> Result<Vec<Vec<String>>> {
    Reader::open(&site.daemon.ledger())?.rows(CHANGES)
}

/// How long a step may take.
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn it_passes_while_it_is_in_force_and_is_on_record() {
    with_options(
        "exempt",
        |_: &_| Ok(Options::default()),
        |site| {
            let mut server = site.world.upstream("python3");
            let mut server = server
                .args(["-c", SERVER, UPSTREAM])
                .stdout(Stdio::piped())
                .spawn()?;
            let mut line = String::new();
            BufReader::new(server.stdout.take().context("its output")?).read_line(&mut line)?;
            ensure!(!heard(site)?, "nothing exempts it yet");

            let plain = fs::read_to_string(site.daemon.config())?;
            configure(site, &plain, &rule("other", "2199-12-31"), &["other"])?;
            ensure!(heard(site)?, "it is exempt");
            let found = status(site)?;
            let used = found["exempt"][0]["used"].as_u64();
            ensure!(
                found["exempt"][0]["name"] == "other"
                    && used > Some(2)
                    && found["exempt"][0]["expired"] == false,
                "{found}"
            );

            let soon = Command::new("date")
                .args(["-u", "-d", "+20 seconds", "+%FT%TZ"])
                .output()?;
            let soon = String::from_utf8(soon.stdout)?.trim().to_owned();
            configure(site, &plain, &rule("short", &soon), &["short"])?;
            ensure!(heard(site)?, "it is exempt until {soon}");
            wait_until("the end is on record", DEADLINE, || {
                changes(site).is_ok_and(|rows| rows.iter().any(|row| row[2] == "short"))
            })?;
            ensure!(!heard(site)?, "it has ended");
            let found = status(site)?;
            let problems = found["problems"].to_string();
            ensure!(
                found["exempt"][0]["expired"] == true && problems.contains("exemption 'short' has ended"),
                "{found}"
            );

            configure(site, &plain, "", &[])?;
            let rows = changes(site)?;
            let names: Vec<[&str; 3]> = rows.iter().map(|r| [&*r[0], &*r[1], &*r[2]]).collect();
            let wanted = [
                ["", "other", ""],
                ["other", "short", ""],
                ["", "", "short"],
                ["short", "", ""],
            ];
            ensure!(names == wanted, "{rows:?}");
            ensure!(rows[1][3].parse::<u64>()? > 2, "{rows:?}");
            server.kill()?;
            server.wait()?;
            Ok(())
        },
    );
}
