//! Programs of a workload, through the daemon: recorded, denied, and named in what goes over the network.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::{
    ledger::Reader,
    site::{Options, POLICY, Site},
};

use super::with_options;

const ENFORCED: &str = r#"
@id("run-installed")
permit (principal, action == Action::"exec:run", resource)
when { context.exec.path like "/usr/*" };
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
