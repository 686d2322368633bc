//! What the kernel counted is on record, also over a kill -9; and every way out is really tried on a host.

use anyhow::{Result, ensure};
use e2e::{
    child::Said,
    ledger::Reader,
    site::{Options, Site},
};

use super::with_site;

fn ask(site: &Site<'_>) -> Result<Said> {
    let url = "http://api.internal/customers";
    Said::by(site.workload().tagged("curl").args([
        "-s",
        "--max-time",
        "20",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        url,
    ]))
}

fn events(site: &Site<'_>, event: &str) -> Result<i64> {
    let sql = format!("SELECT count(*) FROM agent_events WHERE kind = 'agent' AND event = '{event}'");
    Reader::open(&site.daemon.ledger())?.number(&sql)
}

#[test]
fn what_the_kernel_counted_is_on_record() {
    with_site("complete", &Options::default(), |site| {
        for _ in 0..20 {
            let said = ask(site)?;
            ensure!(said.out == "200", "{said:?}");
        }
        let said = site.daemon.cli(&["reconcile"])?;
        ensure!(said.code == 0, "{said:?}");
        let counted = "SELECT max(json_extract(c.value, '$.outcomes.tcp_accepted') = json_extract(c.value, '$.sessions')
            AND json_extract(c.value, '$.sessions') >= 20)
            FROM agent_events AS e, json_each(e.detail, '$.cgroups') AS c WHERE e.event = 'reconciled'";
        ensure!(
            Reader::open(&site.daemon.ledger())?.number(counted)? == 1,
            "not what was asked"
        );

        // An end that nobody sees coming is explained, and what follows it is held against the same counters.
        site.daemon.kill9();
        let said = ask(site)?;
        ensure!(said.out != "200", "{said:?}");
        site.daemon.launch()?;
        for _ in 0..5 {
            ensure!(ask(site)?.out == "200", "after the start");
        }
        let said = site.daemon.cli(&["reconcile"])?;
        ensure!(said.code == 0, "{said:?}");
        ensure!(events(site, "reconciliation_failed")? == 0, "a difference");
        ensure!(events(site, "reconciled")? >= 2, "not recorded");
        Ok(())
    });
}

#[test]
fn every_way_out_is_tried_and_put_on_record() {
    with_site("selftest", &Options::default(), |site| {
        let said = site.daemon.cli(&["selftest"])?;
        println!("{}", said.out);
        ensure!(said.code == 0, "{said:?}");
        for door in [
            "tcp ",
            "udp ",
            "quic ",
            "raw ",
            "listen-tcp ",
            "io-uring-connect ",
            "setuid ",
            "rdma ",
            "tap ",
            "vhost-vsock ",
        ] {
            let line = said.out.lines().find(|line| line.starts_with(door));
            ensure!(
                line.is_some_and(|line| line.contains(" closed ")),
                "{door}: {line:?}\n{}",
                said.out
            );
        }
        ensure!(events(site, "selftest")? == 1, "not recorded");
        let status = site.daemon.cli(&["status"])?;
        ensure!(
            status.out.contains("Self-test") && status.out.contains("doors tried at"),
            "{status:?}"
        );
        Ok(())
    });
}
