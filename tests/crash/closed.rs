//! Fail closed: without a ledger, a policy or an identity, nothing passes.

use std::{fs, path::Path, time::Duration};

use anyhow::{Result, ensure};
use e2e::{
    child::Said,
    issuer::Fault,
    ledger::Reader,
    site::{Options, POLICY, Site},
    wait::{DEADLINE, wait_until},
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::with_site;

const URL: &str = "http://api.internal/customers";

/// A request by the workload; its body's `reason` is what a denial says.
fn ask(site: &Site<'_>, url: &str) -> Result<Said> {
    Said::by(
        site.workload()
            .tagged("curl")
            .args(["-sS", "--max-time", "20", "-w", "\\n%{http_code}", url]),
    )
}

fn code(said: &Said) -> &str {
    said.out.lines().last().unwrap_or_default()
}

fn tmpfs(dir: &Path, options: &str) -> Result<()> {
    fs::create_dir_all(dir)?;
    Ok(mount(
        Some("none"),
        dir,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(options),
    )?)
}

#[test]
fn a_full_disk_stops_operations_and_says_so_when_there_is_room_again() {
    // Without the reserve: it is the disk itself that says no.
    let options = Options {
        config: "[retention]\nfree_space = 0\n".into(),
        ..Options::default()
    };
    with_site("full", &options, |site| {
        site.daemon.stop()?;
        let data = site.daemon.data_dir().to_path_buf();
        tmpfs(&data, "size=4m,mode=0700")?;
        site.daemon.launch()?;
        let ok = ask(site, URL)?;
        ensure!(code(&ok) == "200", "{ok:?}");
        // Random text does not compress: the payload frames fill the rest soon.
        let noise: Vec<u8> = (0..800_000).map(|_| rand::random_range(b' '..b'~')).collect();
        site.nginx.file("noise", &noise)?;
        let mut last = ok;
        for _ in 0..40 {
            last = Said::by(
                site.workload()
                    .tagged("curl")
                    .args(["-s", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}"])
                    .arg("http://api.internal/static/noise"),
            )?;
            if last.out != "200" {
                break;
            }
        }
        ensure!(last.out != "200", "the disk is full, and the answer is {last:?}");
        let before = site.nginx.requests().len();
        let denied = ask(site, URL)?;
        ensure!(
            code(&denied) == "503" && denied.out.contains("ledger_unavailable"),
            "{denied:?}"
        );
        ensure!(
            site.nginx.requests().len() == before,
            "something passed unrecorded"
        );
        let status = site.daemon.cli(&["status"])?;
        ensure!(status.code != 0, "status says that all is well: {status:?}");

        let none = None::<&str>;
        mount(none, &data, none, MsFlags::MS_REMOUNT, Some("size=64m"))?;
        wait_until("operations to resume", DEADLINE, || {
            ask(site, URL).is_ok_and(|s| code(&s) == "200")
        })?;
        let ledger = site.daemon.ledger();
        let gaps = Reader::open(&ledger)?.number("SELECT count(*) FROM agent_events WHERE kind = 'gap'")?;
        ensure!(gaps >= 1, "what could not be recorded is not on record");
        site.daemon
            .cli(&["verify", &ledger.display().to_string()])?
            .ok()?;
        site.daemon.kill9();
        umount2(&data, MntFlags::MNT_DETACH)?;
        Ok(())
    });
}

#[test]
fn little_free_space_stops_operations_before_the_disk_is_full() {
    let options = Options {
        config: "[retention]\nfree_space = \"16 MiB\"\n".into(),
        ..Options::default()
    };
    with_site("room", &options, |site| {
        site.daemon.stop()?;
        let data = site.daemon.data_dir().to_path_buf();
        tmpfs(&data, "size=48m,mode=0700")?;
        site.daemon.launch()?;
        let ok = ask(site, URL)?;
        ensure!(code(&ok) == "200", "{ok:?}");
        // Leaves about 12 MiB: less than the reserve, more than half of it.
        let ballast = data.join("ballast");
        fs::write(&ballast, vec![1; 34 << 20])?;
        // Asked of the daemon, not by traffic, which would use up the rest.
        let says = "every operation is denied until there is room";
        wait_until("the daemon to see it", DEADLINE, || {
            site.daemon
                .cli(&["status"])
                .is_ok_and(|said| said.code != 0 && said.out.contains(says))
        })?;
        let before = site.nginx.requests().len();
        let denied = ask(site, URL)?;
        ensure!(
            code(&denied) == "503" && site.nginx.requests().len() == before,
            "{denied:?}"
        );
        fs::remove_file(&ballast)?;
        wait_until("operations to resume", DEADLINE, || {
            ask(site, URL).is_ok_and(|said| code(&said) == "200")
        })?;
        let ledger = site.daemon.ledger();
        let reader = Reader::open(&ledger)?;
        let told =
            reader.column("SELECT event FROM ledger_events WHERE event LIKE 'budget_%' ORDER BY entry")?;
        ensure!(
            told.iter().any(|e| e == "budget_exhausted")
                && told
                    .iter()
                    .any(|e| e == "budget_recovered" || e == "budget_warning"),
            "{told:?}"
        );
        let lost = "SELECT count(*) FROM agent_events WHERE kind = 'gap' AND json_extract(detail, '$.operations') >= 1";
        ensure!(reader.number(lost)? >= 1, "what was denied is not on record");
        site.daemon
            .cli(&["verify", &ledger.display().to_string()])?
            .ok()?;
        site.daemon.kill9();
        umount2(&data, MntFlags::MNT_DETACH)?;
        Ok(())
    });
}

#[test]
fn a_read_only_ledger_keeps_the_daemon_from_starting_and_the_workload_from_connecting() {
    with_site("read-only", &Options::default(), |site| {
        let ok = ask(site, URL)?;
        ensure!(code(&ok) == "200", "{ok:?}");
        site.daemon.kill9();
        let data = site.daemon.data_dir().to_path_buf();
        let none = None::<&str>;
        mount(Some(&data), &data, none, MsFlags::MS_BIND, none)?;
        mount(
            none,
            &data,
            none,
            MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY,
            none,
        )?;
        let error = site.daemon.launch().err();
        ensure!(
            error.is_some(),
            "the daemon runs without a ledger that it can write"
        );
        refused(site)?;
        umount2(&data, MntFlags::MNT_DETACH)?;
        site.daemon.launch()?;
        let ok = ask(site, URL)?;
        ensure!(code(&ok) == "200", "{ok:?}");
        Ok(())
    });
}

/// ECONNREFUSED, and nothing arrives.
fn refused(site: &Site<'_>) -> Result<()> {
    let before = site.nginx.requests().len();
    let said = Said::by(
        site.workload()
            .tagged("curl")
            .args(["-sv", "--max-time", "20", URL]),
    )?;
    ensure!(
        said.code == 7 && said.err.contains("Connection refused"),
        "{said:?}"
    );
    ensure!(site.nginx.requests().len() == before, "something passed");
    Ok(())
}

#[test]
fn a_broken_policy_is_not_taken() {
    with_site("policy", &Options::default(), |site| {
        site.write_policy("permit (principal, action == Action::\"http:reqest\", resource);")?;
        site.daemon.reload()?;
        wait_until("the daemon to say so", DEADLINE, || {
            site.daemon
                .cli(&["status"])
                .is_ok_and(|s| s.code != 0 && format!("{}{}", s.out, s.err).contains("http:reqest"))
        })?;
        // The last good set is in force: reads are allowed, deletes are not.
        let ok = ask(site, URL)?;
        ensure!(code(&ok) == "200", "{ok:?}");
        let mut delete = site.workload().tagged("curl");
        let said = Said::by(delete.args(["-sS", "-X", "DELETE", "http://api.internal/customers/1"]))?;
        ensure!(said.out.contains("no-deletes"), "{said:?}");
        // It cannot be started with it, and until it is, nothing passes.
        site.daemon.stop()?;
        ensure!(
            site.daemon.launch().is_err(),
            "the daemon runs with a policy that it cannot read"
        );
        refused(site)?;
        site.write_policy(POLICY)?;
        site.daemon.launch()?;
        let ok = ask(site, URL)?;
        ensure!(code(&ok) == "200", "{ok:?}");
        Ok(())
    });
}

#[test]
fn no_policy_at_all_denies() {
    let options = Options {
        policy: "// Nothing is permitted here.\n".into(),
        ..Options::default()
    };
    with_site("default-deny", &options, |site| {
        let said = ask(site, URL)?;
        ensure!(
            code(&said) == "403" && said.out.contains("policy_default_deny"),
            "{said:?}"
        );
        ensure!(site.nginx.requests().is_empty());
        Ok(())
    });
}

#[test]
fn without_an_issuer_nobody_is_anybody() {
    with_site("issuer", &Options::default(), |site| {
        site.daemon.stop()?;
        site.issuer.fault(Fault::Down, true);
        site.daemon.launch()?;
        let said = ask(site, URL)?;
        ensure!(
            code(&said) == "403" && said.out.contains("identity_issuer_unreachable"),
            "{said:?}"
        );
        ensure!(site.nginx.requests().is_empty(), "{:?}", site.nginx.requests());
        site.issuer.fault(Fault::Down, false);
        wait_until("the identity to be had", Duration::from_secs(90), || {
            ask(site, URL).is_ok_and(|s| code(&s) == "200")
        })
    });
}

#[test]
fn an_expired_token_ends_it() {
    // No skew: the token's end is the end.
    let options = Options {
        token: Duration::from_secs(4),
        ..Options::default()
    };
    with_site("expired", &options, |site| {
        let mut denied = None;
        wait_until("the token to expire", Duration::from_secs(60), || {
            let said = ask(site, URL).ok();
            denied = said.filter(|s| code(s) == "403");
            denied.is_some()
        })?;
        ensure!(
            denied
                .as_ref()
                .is_some_and(|d| d.out.contains("identity_expired")),
            "{denied:?}"
        );
        site.write_token(Duration::from_secs(600))?;
        wait_until("the fresh token to be taken", DEADLINE, || {
            ask(site, URL).is_ok_and(|s| code(&s) == "200")
        })
    });
}
