//! The agent ends while operations wait for a human: nothing passes, and the record says that nobody was heard.

use std::{
    path::Path,
    process::{Child, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    ledger::Reader,
    site::{Options, Site},
    wait::{DEADLINE, wait_for, wait_until},
};

use super::with_site;

const POLICY: &str = r#"
@id("agents-use-the-api")
permit (principal in Group::"agents", action == Action::"http:request", resource in HttpHost::"api.internal");

@id("deletes-are-approved")
@reason("customers are deleted with the approval of their owners")
@approval("customer-owners")
@hold("10m")
forbid (principal, action == Action::"http:request", resource)
when { context.http.method == "DELETE" }
unless { context has approval };
"#;

fn options() -> Options {
    Options {
        policy: POLICY.into(),
        config: "[approvals]\nissuer = \"corp\"\nclient_id = \"approvers\"\n".into(),
        ..Options::default()
    }
}

/// Deletions by the workload that wait, each for its own answer, once all of them are on record.
fn held(site: &Site<'_>, count: usize) -> Result<Vec<Child>> {
    let workload = site.workload();
    let deletions = (0..count).map(|n| {
        let mut curl = workload.tagged("curl");
        curl.args(["-sS", "--max-time", "60", "-X", "DELETE", "-w", "\\n%{http_code}"])
            .arg(format!("http://api.internal/customers/{n}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(curl.spawn()?)
    });
    let deletions = deletions.collect::<Result<Vec<_>>>()?;
    let open = "SELECT count(*) FROM approvals WHERE state = 'open'";
    let ledger = site.daemon.ledger();
    wait_until("the requests to be on record", DEADLINE, || {
        let reader = Reader::open(&ledger).and_then(|l| l.number(open));
        reader.is_ok_and(|n| n == i64::try_from(count).unwrap_or(0))
    })?;
    Ok(deletions)
}

fn states(ledger: &Path, count: usize, reason: &str) -> Result<()> {
    let sql = format!("SELECT count(*) FROM approval_events WHERE event = 'lapsed' AND reason = '{reason}'");
    wait_for("the requests to be on record as lapsed", DEADLINE, || {
        let reader = Reader::open(ledger).ok()?;
        let lapsed = reader.number(&sql).ok()?;
        let open = reader
            .number("SELECT count(*) FROM approvals WHERE state <> 'lapsed'")
            .ok()?;
        (lapsed == i64::try_from(count).unwrap_or(0) && open == 0).then_some(())
    })
}

fn nothing_passed(site: &Site<'_>) -> Result<()> {
    let deleted = site
        .nginx
        .requests()
        .iter()
        .filter(|r| r.contains("DELETE"))
        .count();
    ensure!(deleted == 0, "{deleted} deletions passed");
    Ok(())
}

#[test]
fn a_stop_tells_what_waits_and_records_that_it_lapsed() {
    with_site("held-stop", &options(), |site| {
        let waiting = held(site, 5)?;
        site.daemon.stop()?;
        for deletion in waiting {
            let said = deletion.wait_with_output()?;
            let text = String::from_utf8_lossy(&said.stdout);
            ensure!(
                text.ends_with("503") && text.contains("draining") && text.contains("deletes-are-approved"),
                "{said:?}"
            );
        }
        nothing_passed(site)?;
        states(&site.daemon.ledger(), 5, "agent_stopped")
    });
}

#[test]
fn a_kill_lets_nothing_pass_and_the_next_start_records_that_it_lapsed() {
    with_site("held-kill", &options(), |site| {
        let waiting = held(site, 5)?;
        site.daemon.kill9();
        for deletion in waiting {
            let said = deletion.wait_with_output()?;
            ensure!(!said.status.success(), "an answer from nobody: {said:?}");
        }
        site.daemon.launch()?;
        states(&site.daemon.ledger(), 5, "agent_restarted")?;
        nothing_passed(site)?;
        let ledger = site.daemon.ledger();
        let ledger = ledger.to_str().context("a path that is no text")?;
        site.daemon.cli(&["verify", ledger])?.ok()?;
        Ok(())
    });
}
