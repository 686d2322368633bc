//! Programs of a workload, through the daemon: recorded, denied, and named in what goes over the network.

use std::{
    os::unix::process::ExitStatusExt as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    child::Process,
    ledger::Reader,
    person::Person,
    site::{Options, POLICY, Site},
    wait::DEADLINE,
    world::World,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::with_options;

const ENFORCED: &str = r#"
@id("run-installed")
permit (principal, action == Action::"exec:run", resource)
when { context.exec.path like "/usr/*" };
"#;

/// A program of the workload's own runs when an owner has said so.
const HELD: &str = r#"
@id("run-own")
permit (principal, action == Action::"exec:run", resource)
when { context.exec.path like "*/own-sh" };
@id("own-programs") @approval("owners") @hold("2m")
forbid (principal, action == Action::"exec:run", resource)
when { context.exec.path like "*/own-sh" } unless { context has approval };
"#;

/// The first rows of a question that has some; the entry of an end comes a moment after it.
fn rows(site: &Site<'_>, sql: &str) -> Result<Vec<Vec<String>>> {
    let began = Instant::now();
    loop {
        let rows = Reader::open(&site.daemon.ledger())?.rows(sql)?;
        if !rows.is_empty() {
            return Ok(rows);
        }
        ensure!(
            began.elapsed() < Duration::from_secs(20),
            "no rows of {sql}\n{}",
            site.daemon.log()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn every_program_is_an_operation_with_its_end() {
    let options = |_: &_| {
        Ok(Options {
            exec: "audit",
            ..Options::default()
        })
    };
    with_options("exec-audit", options, |site| {
        let status = site.workload().tagged("sh").args(["-c", "exit 3"]).status()?;
        ensure!(status.code() == Some(3), "{status}");
        let found = rows(
            site,
            "SELECT json_extract(o.body, '$.decision'), json_extract(o.body, '$.reason'),
               json_extract(o.body, '$.context.exec.policy'), json_extract(o.body, '$.context.exec.path'),
               length(json_extract(o.body, '$.context.exec.sha256')), json_extract(e.body, '$.status')
             FROM entry AS o JOIN entry AS e ON json_extract(e.body, '$.operation') = json_extract(o.body, '$.id')
             WHERE json_extract(o.body, '$.action') = 'exec:run' AND json_extract(o.body, '$.context.exec.command') = 'sh -c exit 3'",
        )?;
        let row: Vec<&str> = found[0].iter().map(String::as_str).collect();
        ensure!(matches!(row[..3], ["allow", "observed", "deny"]), "{row:?}");
        ensure!(
            row[3].starts_with("/usr/bin/") && row[4] == "64" && row[5] == "exit 3",
            "{row:?}"
        );
        Ok(())
    });
}

#[test]
fn what_policy_does_not_permit_does_not_run() {
    let options = |_: &_| {
        Ok(Options {
            exec: "enforce",
            policy: format!("{POLICY}{ENFORCED}"),
            ..Options::default()
        })
    };
    with_options("exec-enforce", options, |site| {
        let own = site.world.path("own-true");
        std::fs::copy("/bin/true", &own)?;
        ensure!(site.workload().tagged("true").status()?.success());
        let script = format!("{}; echo status $?", own.display());
        let output = site.workload().tagged("sh").args(["-c", &script]).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(said.contains("status 137"), "{said}");
        let sql = format!(
            "SELECT json_extract(body, '$.decision'), json_extract(body, '$.reason') FROM entry
             WHERE json_extract(body, '$.action') = 'exec:run' AND json_extract(body, '$.resource.id') = '{}'",
            own.display()
        );
        ensure!(rows(site, &sql)?[0] == ["deny", "policy_default_deny"]);
        Ok(())
    });
}

/// A site where the workload's own shell runs when an owner has said so.
fn held(policy: &str) -> impl FnOnce(&World) -> Result<Options> {
    let policy = format!("{POLICY}{ENFORCED}{policy}");
    |_| {
        Ok(Options {
            exec: "enforce",
            policy,
            config: "[approvals]\nissuer = \"corp\"\nclient_id = \"approvers\"\n".into(),
            ..Options::default()
        })
    }
}

/// Starts the workload's own shell; where it writes, if it runs.
fn own_shell(site: &Site<'_>, name: &str) -> Result<(Process, std::path::PathBuf)> {
    let (own, made) = (site.world.path("own-sh"), site.world.path(name));
    if !own.exists() {
        std::fs::copy("/bin/sh", &own)?;
    }
    let mut command = site.workload().tagged(&own);
    command.args(["-c", &format!("echo ran >> {}", made.display())]);
    Ok((Process::start(name, site.world.dir(), &mut command)?, made))
}

#[test]
fn a_program_that_needs_approval_is_stopped_until_a_human_has_answered() {
    with_options("exec-held", held(HELD), |site| {
        let grace = Person::new(site, "grace");
        grace.sign_in(&["owners"])?;
        for (answer, code) in [("approve", Some(0)), ("deny", None)] {
            let (mut waiting, made) = own_shell(site, answer)?;
            let id = grace.asked()?;
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", waiting.pid()))?;
            ensure!(stat.contains(") T "), "it is not stopped: {stat}");
            grace
                .says(&["approvals", answer, &id, "--reason", "seen"])?
                .ok()?;
            let status = waiting.wait(DEADLINE)?;
            ensure!(status.code() == code, "{answer}: {status}");
            ensure!(made.exists() == (answer == "approve"), "{answer}");
        }
        let sql = "SELECT approver FROM operations WHERE action = 'exec:run' AND approver IS NOT NULL";
        ensure!(rows(site, sql)?[0] == ["grace"]);
        Ok(())
    });
}

#[test]
fn a_program_that_nobody_answers_for_does_not_run() {
    with_options("exec-timeout", held(&HELD.replace("2m", "3s")), |site| {
        let (mut waiting, made) = own_shell(site, "unanswered")?;
        Person::new(site, "nobody").asked()?;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", waiting.pid()))?;
        ensure!(stat.contains(") T "), "it is not stopped: {stat}");
        let status = waiting.wait(DEADLINE)?;
        ensure!(status.signal() == Some(9) && !made.exists(), "{status}");
        let sql = "SELECT decision, reason FROM operations WHERE action = 'exec:run' AND decision = 'deny'";
        ensure!(
            rows(site, sql)?[0] == ["deny", "approval_timeout"],
            "{:?}",
            rows(site, sql)?
        );
        Ok(())
    });
}

/// An agent that stands still: what the programs cannot tell it any more is an entry when it goes on.
#[test]
fn what_was_not_told_is_an_entry() {
    let options = |_: &_| {
        Ok(Options {
            exec: "audit",
            ..Options::default()
        })
    };
    with_options("exec-lost", options, |site| {
        let pid = Pid::from_raw(i32::try_from(site.daemon.pid().context("no daemon")?)?);
        kill(pid, Signal::SIGSTOP)?;
        // Each with as many arguments as are kept: more than the buffer holds.
        let script = "a=$(head -c 4096 /dev/zero | tr '\\0' x); i=0
            while [ $i -lt 1200 ]; do /bin/true $a || exit 1; i=$((i+1)); done";
        let status = site.workload().tagged("sh").args(["-c", script]).status();
        kill(pid, Signal::SIGCONT)?;
        let status = status?;
        ensure!(status.success(), "they run on: {status}");
        let found = rows(
            site,
            "SELECT json_extract(body, '$.detail.lost') FROM entry WHERE json_extract(body, '$.event') = 'exec_lost'",
        )?;
        ensure!(found[0][0].parse::<u64>()? > 0, "{found:?}");
        Ok(())
    });
}

/// A script that the workload itself serves, and that nobody else is answered about: it is on record without its content,
/// others are decided as ever, and the daemon ends when it is told to.
#[test]
fn a_workload_that_answers_nobody_about_its_scripts_holds_up_nothing() {
    const SCRIPTS: &str = r#"
@id("run-scripts")
permit (principal, action == Action::"exec:run", resource)
when { context.exec.kind == "program" || context.exec has given_sha256 };
"#;
    let options = |_: &_| {
        Ok(Options {
            exec: "enforce",
            policy: format!("{POLICY}{SCRIPTS}"),
            ..Options::default()
        })
    };
    with_options("exec-made-up", options, |site| {
        let (server, script) = (site.world.path("made-up"), site.world.path("script"));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/redirect/hostile/made_up.c");
        let built = std::process::Command::new("cc")
            .args(["-O1", "-o"])
            .arg(&server)
            .arg(source)
            .status()?;
        ensure!(built.success(), "{built}");
        std::fs::write(&script, "#!/bin/sh\nexit 5\n")?;
        std::fs::create_dir(site.world.path("served"))?;
        let mut serves = std::process::Command::new(&server)
            .arg(site.tagged())
            .arg(site.world.path("served"))
            .arg("hang")
            .arg(&script)
            .arg("20")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()?;
        let mut said = std::io::BufReader::new(serves.stdout.take().context("no output")?);
        for _ in 0..20 {
            let mut line = String::new();
            std::io::BufRead::read_line(&mut said, &mut line)?;
            ensure!(line == "signal 9\n", "{line}\n{}", site.daemon.log());
        }
        ensure!(site.workload().tagged("true").status()?.success());
        let found = rows(
            site,
            "SELECT count(*), min(json_extract(body, '$.reason')), min(json_extract(body, '$.context.exec.given')),
               min(json_extract(body, '$.context.exec.incomplete')) FROM entry
             WHERE json_extract(body, '$.action') = 'exec:run' AND json_extract(body, '$.context.exec.kind') = 'script'",
        )?;
        let given = site.world.path("served").join("program").display().to_string();
        ensure!(
            found[0] == ["20", "policy_default_deny", given.as_str(), "[\"given\"]"],
            "{found:?}"
        );
        site.daemon.stop()?;
        serves.kill()?;
        serves.wait()?;
        Ok(())
    });
}
