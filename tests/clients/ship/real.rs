//! What a real daemon records, as events: a workload that is served and refused, an admin at work, humans asked.

use std::io::Write as _;

use anyhow::{Context as _, ensure};
use e2e::{paths, site::Options};
use portcullis::{ledger::Tail, model::Seq, ship::view::HostFacts};

use super::{super::with_options, install, ocsf::validate};

/// Requests that pass, are refused and are held; a revoked and a restored workload; an export; a stop and a start.
const ACTS: &str = r#"
portcullis run --workload deploy-bot -- curl -s https://api.internal/customers
portcullis run --workload deploy-bot -- curl -s -X DELETE https://api.internal/customers/1
portcullis run --workload deploy-bot -- curl -s -X PATCH -d '{}' https://api.internal/customers/1
portcullis run --workload deploy-bot -- curl -s -m 1 -d '{"name":"Alan"}' -H 'Content-Type: application/json' https://api.internal/customers
portcullis run --workload deploy-bot -- curl -s https://api.internal/whoami
portcullis workload revoke deploy-bot
portcullis run --workload deploy-bot -- curl -s https://api.internal/customers
portcullis workload restore deploy-bot
portcullis export --out "$DATA/taken.db"
true
"#;

#[test]
fn what_a_daemon_records_is_valid_ocsf() {
    // There is no network inside a world.
    install::programs().unwrap();
    with_options("events", Options::demo, |site| {
        let mut shell = site.shell(&paths::portcullis()?)?;
        shell.stdin(std::process::Stdio::piped());
        let mut running = shell.spawn()?;
        let mut stdin = running.stdin.take().context("no stdin")?;
        // The shell ends with the first command that fails, as a refused curl does not: it answers.
        stdin.write_all(format!("set +e\n{ACTS}").as_bytes())?;
        drop(stdin);
        ensure!(running.wait()?.success(), "the shell failed");
        site.daemon.reload()?;
        site.daemon.stop()?;
        site.daemon.launch()?;
        let mut tail = Tail::new(site.daemon.data_dir(), Seq(0));
        let entries = tail.read(Seq(u64::MAX), 100_000, 1 << 30)?;
        let classes = validate(&entries, &HostFacts::new("host-1"))?;
        for class in [
            "Application Lifecycle",
            "Authentication",
            "Authorize Session",
            "Entity Management",
            "HTTP Activity",
            "Network Activity",
        ] {
            ensure!(classes.contains(class), "no {class} in {classes}");
        }
        Ok(())
    });
}
