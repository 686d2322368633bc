//! The steps of the demo, one function each.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use e2e::{
    backend::SECRETS,
    child::{Process, Said},
    ledger::Reader,
    site::{SUBJECT, Site, WORKLOAD},
    wait::{DEADLINE, wait_until},
};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::show::Show;

const URL: &str = "https://api.internal/customers";

/// Which pieces of personal data a text shows.
fn shown(text: &str) -> Vec<&'static str> {
    SECRETS.into_iter().filter(|s| text.contains(s)).collect()
}

fn json(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

fn pretty(text: &str) -> String {
    json(text)
        .and_then(|v| serde_json::to_string_pretty(&v).ok())
        .unwrap_or_else(|| text.to_owned())
}

fn curl_outside(site: &Site<'_>, arguments: &[&str]) -> Result<Said> {
    Said::by(
        site.world
            .host("curl")
            .args(["-sS", "--max-time", "20"])
            .args(arguments),
    )
}

fn curl(site: &Site<'_>, arguments: &[&str]) -> Result<Said> {
    let mut words = vec!["curl", "-sS", "--max-time", "20"];
    words.extend(arguments);
    site.workload().run(&words)
}

pub fn ready(show: &Show, site: &Site<'_>) -> Result<()> {
    show.run("admin", "portcullis status");
    let said = site.daemon.cli(&["status"])?;
    show.came(&said.out);
    show.check(
        "status is 0: everything that is configured is enforced",
        said.code == 0,
        || said.err.clone(),
    );
    let list = site.daemon.cli(&["workload", "list"])?.ok()?;
    show.check(
        "the workload has a verified identity",
        list.contains(SUBJECT),
        || list.clone(),
    );
    Ok(())
}

pub fn outside(show: &Show, site: &Site<'_>) -> Result<()> {
    show.step("Outside: what the API really says");
    show.run("admin", &format!("curl {URL}"));
    let said = curl_outside(site, &[URL])?;
    show.came(&said.out);
    show.check(
        "all personal data is there",
        shown(&said.out).len() == SECRETS.len(),
        || format!("{said:?}"),
    );
    Ok(())
}

pub fn masked(show: &Show, site: &Site<'_>) -> Result<()> {
    show.step("Inside: the same curl, nothing configured in it, in a tagged cgroup");
    show.tell(
        "The kernel redirects its socket; the agent knows the cgroup's identity, asks the policy, records",
    );
    show.tell("the operation, and only then speaks to the API. What comes back is masked while it streams.");
    show.run(WORKLOAD, &format!("curl {URL}"));
    let said = curl(site, &[URL])?;
    show.came(&pretty(&said.out));
    show.check(
        "curl succeeded, over TLS that it verified",
        said.code == 0,
        || said.err.clone(),
    );
    show.check(
        "none of the personal data is there",
        shown(&said.out).is_empty(),
        || format!("{:?}", shown(&said.out)),
    );
    let value = json(&said.out);
    let first = value.as_ref().and_then(|v| v.pointer("/customers/0"));
    show.check(
        "it is valid JSON, with everything else as it was",
        first.is_some_and(|c| c["id"] == 1 && c["name"] == "Ada Lovelace" && c["plan"] == "gold"),
        || said.out.clone(),
    );
    Ok(())
}

pub fn refused(show: &Show, site: &Site<'_>) -> Result<()> {
    show.step("A DELETE is refused, and says why in a form that a program can act on");
    let before = site.backend.customers();
    show.run(WORKLOAD, &format!("curl -i -X DELETE {URL}/1"));
    let said = curl(site, &["-i", "-X", "DELETE", "https://api.internal/customers/1"])?;
    let (head, body) = said.out.split_once("\r\n\r\n").unwrap_or((&said.out, ""));
    show.came(head);
    show.came(&pretty(body));
    let problem = head
        .to_ascii_lowercase()
        .contains("content-type: application/problem+json");
    show.check(
        "403 with application/problem+json (RFC 9457)",
        head.contains(" 403") && problem,
        || head.into(),
    );
    show.check(
        "it names the policy that decided",
        body.contains("no-deletes"),
        || body.into(),
    );
    show.check(
        "the API still has the customer",
        site.backend.customers() == before,
        String::new,
    );
    let deletes = site
        .nginx
        .requests()
        .iter()
        .filter(|r| r.starts_with("DELETE"))
        .count();
    show.check("nginx never saw a DELETE", deletes == 0, || {
        format!("{:?}", site.nginx.requests())
    });
    show.tell("The connection stays usable: the same curl, a DELETE and then a GET, on one connection.");
    let write = [
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} on connection %{num_connects}\\n",
    ];
    let mut words = vec!["-X", "DELETE", "https://api.internal/customers/1"];
    words.extend(write);
    words.extend(["--next", URL]);
    words.extend(write);
    let said = curl(site, &words)?;
    show.came(&said.out);
    let answers: Vec<&str> = said.out.lines().collect();
    show.check(
        "403, then 200 without a new connection",
        answers == ["403 on connection 1", "200 on connection 0"],
        || format!("{said:?}"),
    );
    Ok(())
}

pub fn untouched(show: &Show, site: &Site<'_>) -> Result<()> {
    show.step("Outside again: nobody else on this host notices anything");
    let before = operations(site)?;
    show.run("admin", &format!("curl {URL}"));
    let said = curl_outside(site, &[URL])?;
    show.came(&said.out);
    show.check("unmasked", shown(&said.out).len() == SECRETS.len(), || {
        format!("{said:?}")
    });
    show.check(
        "and not recorded: it is no workload",
        operations(site)? == before,
        String::new,
    );
    Ok(())
}

pub fn revoked(show: &Show, site: &Site<'_>) -> Result<()> {
    show.step("Revoking the workload stops it at once");
    show.tell("A long download is under way in the workload.");
    let stream = "https://api.internal/events?count=600&ms=100";
    show.run(WORKLOAD, &format!("curl -N '{stream}' &"));
    let mut command = site
        .workload()
        .command(&["curl", "-sSN", "--max-time", "60", stream])?;
    let mut curl_running = Process::start("stream", site.world.dir(), &mut command)?;
    wait_until("events to arrive", DEADLINE, || {
        curl_running.log().contains("data:")
    })
    .with_context(|| curl_running.log())?;
    show.run("admin", &format!("portcullis workload revoke {WORKLOAD}"));
    let began = Instant::now();
    show.came(&site.daemon.cli(&["workload", "revoke", WORKLOAD])?.ok()?);
    let ended = curl_running.wait(Duration::from_secs(10));
    let took = began.elapsed();
    show.check(
        &format!(
            "the live download ended, {} ms after the command was given",
            took.as_millis()
        ),
        ended.is_ok_and(|s| !s.success()) && took < Duration::from_secs(3),
        || curl_running.log(),
    );
    let leaked = shown(&curl_running.log());
    show.check("what had come down was masked", leaked.is_empty(), || {
        format!("{leaked:?}")
    });
    show.run(WORKLOAD, &format!("curl -i {URL}"));
    let said = curl(site, &["-i", URL])?;
    show.came(said.out.lines().last().unwrap_or(&said.err));
    show.check(
        "a new request is denied: identity_revoked",
        said.out.contains("identity_revoked"),
        || format!("{said:?}"),
    );
    show.run("admin", &format!("portcullis workload restore {WORKLOAD}"));
    show.came(&site.daemon.cli(&["workload", "restore", WORKLOAD])?.ok()?);
    let said = curl(site, &[URL])?;
    show.check(
        "restored, it works again",
        said.code == 0 && said.out.contains("Ada"),
        || format!("{said:?}"),
    );
    Ok(())
}

pub fn killed(show: &Show, site: &mut Site<'_>) -> Result<()> {
    show.step("kill -9 the daemon: refused, not leaked, and nothing recorded is lost");
    show.tell("The workload sends requests as fast as it can, while the daemon is killed.");
    let mut command = site.workload().command(&[
        "curl",
        "-sS",
        "--max-time",
        "30",
        "https://api.internal/op/[1-100000]",
    ])?;
    let mut burst = Process::start("burst", site.world.dir(), &mut command)?;
    let requests = || {
        site.backend
            .seen()
            .iter()
            .filter(|r| r.starts_with("GET /op/"))
            .count()
    };
    wait_until("requests to arrive", DEADLINE, || requests() > 50).with_context(|| burst.log())?;
    let acknowledged = operations(site)?;
    show.run("admin", "kill -9 $(pidof portcullis)");
    site.daemon.kill9();
    burst.signal(Signal::SIGTERM)?;
    burst.wait(DEADLINE)?;
    let arrived = site.nginx.requests().len();
    show.run(WORKLOAD, &format!("curl {URL}"));
    let said = Said::by(
        site.workload()
            .tagged("curl")
            .args(["-sSv", "--max-time", "5", URL]),
    )?;
    let refused = said
        .err
        .lines()
        .find(|l| l.contains("refused"))
        .unwrap_or(&said.err)
        .to_owned();
    show.came(&refused);
    show.check(
        "ECONNREFUSED (curl's exit status 7)",
        said.code == 7 && refused.contains("refused"),
        || format!("{said:?}"),
    );
    show.check(
        "the API saw nothing",
        site.nginx.requests().len() == arrived,
        || format!("{:?}", site.nginx.requests().last()),
    );
    show.run("admin", "systemctl start portcullis");
    site.daemon.launch()?;
    let ledger = Reader::open(&site.daemon.ledger())?;
    show.check(
        "every entry that was there is there",
        operations(site)? >= acknowledged,
        String::new,
    );
    let recorded: std::collections::HashSet<String> = ledger
        .column("SELECT resource FROM operations")?
        .into_iter()
        .collect();
    let seen = site.backend.seen();
    let ops: Vec<_> = seen.iter().filter_map(|r| r.strip_prefix("GET /op/")).collect();
    let missing: Vec<_> = ops
        .iter()
        .filter(|n| !recorded.contains(&format!("api.internal/op/{n}")))
        .collect();
    show.check(
        &format!(
            "each of the {} requests that the API saw has its entry",
            ops.len()
        ),
        missing.is_empty(),
        || format!("without entry: {missing:?}"),
    );
    let said = curl(site, &[URL])?;
    show.check(
        "and the workload goes on",
        said.code == 0 && said.out.contains("Ada"),
        || format!("{said:?}"),
    );
    Ok(())
}

pub fn rows(show: &Show, site: &Site<'_>) -> Result<()> {
    show.step("What was recorded, as an auditor asks for it");
    let sql = "SELECT entry, substr(at, 12, 12) AS at, workload, subject, action, resource, decision, reason, status, \
               masked FROM operations WHERE resource NOT LIKE '%/op/%' ORDER BY entry";
    show.run("auditor", &format!("sqlite3 ledger.db \"{sql}\""));
    let ledger = Reader::open(&site.daemon.ledger())?;
    let rows = ledger.rows(sql)?;
    show.table(&ledger.columns(sql)?, &rows);
    let denied = rows.iter().filter(|r| r.contains(&"deny".to_owned())).count();
    show.check(
        "allowed and denied operations are there, with subject and reason",
        denied >= 3 && rows.len() > denied,
        || format!("{} rows, {denied} denied", rows.len()),
    );
    let masked = ledger.column("SELECT masked FROM operations WHERE masked LIKE '%email%'")?;
    show.check(
        "masked values are counted by class",
        !masked.is_empty(),
        String::new,
    );
    let sql = "SELECT substr(at, 12, 12) AS at, workload, event, reason FROM workload_events \
               WHERE event IN ('bound', 'revoked', 'restored') ORDER BY entry";
    show.run("auditor", &format!("sqlite3 ledger.db \"{sql}\""));
    let events = ledger.rows(sql)?;
    show.table(&ledger.columns(sql)?, &events);
    show.check(
        "so is what the admin did",
        events.iter().any(|e| e.contains(&"revoked".to_owned())),
        String::new,
    );
    let at_rest = personal_data_at_rest(site)?;
    show.check(
        "no personal data is in any file of the ledger",
        at_rest.is_empty(),
        || format!("{at_rest:?}"),
    );
    Ok(())
}

/// Raw search of every file in the data directory. Compressed payloads were masked before they were compressed.
fn personal_data_at_rest(site: &Site<'_>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(site.daemon.data_dir())? {
        let path = entry?.path();
        if path.is_file() {
            let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
            found.extend(
                shown(&text)
                    .into_iter()
                    .map(|s| format!("{s} in {}", path.display())),
            );
        }
    }
    Ok(found)
}

pub fn evidence(show: &Show, site: &mut Site<'_>) -> Result<()> {
    show.step("Evidence that stands alone");
    let out = site.world.path("evidence.db");
    let file = out.display().to_string();
    show.run("auditor", "portcullis export --out evidence.db");
    show.came(&site.daemon.cli(&["export", "--out", &file])?.ok()?);
    show.run("auditor", "portcullis verify evidence.db");
    let said = site.daemon.cli(&["verify", &file])?;
    show.came(&said.out);
    show.check("verify passes", said.code == 0, || format!("{said:?}"));

    show.tell("Somebody changes one byte: the refused DELETE was of another customer, they say.");
    let altered = site.world.path("altered.db");
    std::fs::copy(&out, &altered)?;
    let connection = rusqlite::Connection::open(&altered)?;
    let entry: i64 = connection.query_row(
        "SELECT min(seq) FROM entry WHERE body LIKE '%\"decision\":\"deny\"%/customers/1%'",
        [],
        |row| row.get(0),
    )?;
    let sql = "UPDATE entry SET body = substr(body, 1, instr(body, '/customers/1') + 10) || '2' || \
               substr(body, instr(body, '/customers/1') + 12) WHERE seq = ";
    show.run("somebody", &format!("sqlite3 evidence.db \"{sql}{entry}\""));
    connection.execute(&format!("{sql}?1"), [entry])?;
    drop(connection);
    show.run("auditor", "portcullis verify evidence.db");
    let said = site.daemon.cli(&["verify", &altered.display().to_string()])?;
    show.came(&format!("{}{}", said.out, said.err));
    let text = format!("{}{}", said.out, said.err);
    show.check("verify fails with status 1", said.code == 1, || {
        format!("{said:?}")
    });
    show.check(&format!("and names entry {entry}"), names(&text, entry), || {
        text.clone()
    });
    Ok(())
}

/// Whether a text has the number as a word.
fn names(text: &str, number: i64) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| word == number.to_string())
}

fn operations(site: &Site<'_>) -> Result<i64> {
    Reader::open(&site.daemon.ledger())?.number("SELECT count(*) FROM operations")
}
