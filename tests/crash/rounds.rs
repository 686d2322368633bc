//! kill -9 under load, again and again, while segments are sealed.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    child::Process,
    paths,
    site::{Options, Site},
};
use portcullis::{
    ledger::{Tail, parts},
    model::Seq,
};
use serde_json::Value;

use super::with_site;

/// How often; `PORTCULLIS_CRASH_ROUNDS` takes another number, for a quick look.
const ROUNDS: u32 = 100;
/// A ledger sees so many of them, and then there is a fresh one: `verify` reads all of it each time.
const A_LEDGER: u32 = 25;

#[test]
fn every_operation_that_the_upstream_saw_has_its_entry() {
    let rounds = std::env::var("PORTCULLIS_CRASH_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(ROUNDS);
    let mut total = Total::default();
    while total.rounds < rounds {
        let more = (rounds - total.rounds).min(A_LEDGER);
        with_site("rounds", &Options::default(), |site| {
            crash(site, more, &mut total)
        });
    }
    println!("{total:?}");
    // A load that reached nothing would prove nothing.
    assert!(
        total.busy * 2 > rounds,
        "only {} of {rounds} kills had operations under way",
        total.busy
    );
    assert!(total.segments * 2 > rounds as usize, "{total:?}");
}

/// What was done and seen, over all ledgers.
#[derive(Debug, Default)]
struct Total {
    rounds: u32,
    /// Rounds in which operations were under way.
    busy: u32,
    seen: usize,
    recorded: usize,
    segments: usize,
    launching: Duration,
    verifying: Duration,
}

fn crash(site: &mut Site<'_>, rounds: u32, total: &mut Total) -> Result<()> {
    let mut load = start_load(site)?;
    load.push(start_sealing(site)?);
    let dir = site.daemon.data_dir().to_path_buf();
    let mut seen = Seen::new(Tail::new(&dir, Seq(0)));
    for round in 0..rounds {
        // Long enough for some operations, and never at the same point.
        let before = site.backend.seen().len();
        std::thread::sleep(Duration::from_millis(u64::from(rand::random_range(5..80u32))));
        site.daemon.kill9();
        total.busy += u32::from(site.backend.seen().len() > before);
        let began = Instant::now();
        site.daemon.launch().with_context(|| format!("round {round}"))?;
        total.launching += began.elapsed();
        seen.compare(site).with_context(|| format!("round {round}"))?;
        let began = Instant::now();
        let said = site.daemon.cli(&["verify", &dir.display().to_string()])?;
        ensure!(said.code == 0, "round {round}: verify: {said:?}");
        total.verifying += began.elapsed();
        total.rounds += 1;
    }
    for mut one in load {
        one.kill9();
    }
    total.segments += parts(&dir)?.iter().filter(|p| p.sealed).count();
    total.seen += seen.upstream;
    total.recorded += seen.recorded.len();
    Ok(())
}

/// Three curls that never stop, plain and TLS, reading and writing; each request has a number of its own.
fn start_load(site: &Site<'_>) -> Result<Vec<Process>> {
    let ca = site.daemon.data_dir().join("ca.pem");
    let each = [("a", "http", ""), ("b", "https", ""), ("c", "http", "-d x=1")];
    each.iter()
        .map(|(name, scheme, more)| {
            // A refused connect costs curl nothing; without the pause it would use up the numbers.
            let script = format!(
                "n=0; while :; do n=$((n+1)); \
                 curl -s -o /dev/null --max-time 20 --cacert '{}' {more} \"{scheme}://api.internal/op/{name}$n-[1-40]\"; \
                 sleep 0.01; done",
                ca.display()
            );
            let mut command = site.workload().tagged("sh");
            command.args(["-c", &script]);
            Process::start(&format!("load-{name}"), site.world.dir(), &mut command)
        })
        .collect()
}

/// An admin who asks for segments, without end.
fn start_sealing(site: &Site<'_>) -> Result<Process> {
    let mut shell = site.shell(&paths::portcullis()?)?;
    // While the daemon is down it is refused.
    shell.args([
        "-c",
        "while :; do portcullis ledger seal || true; sleep 0.1; done",
    ]);
    Process::start("sealing", site.world.dir(), &mut shell)
}

/// What the upstream has seen, against what is recorded.
struct Seen {
    upstream: usize,
    recorded: HashSet<String>,
    tail: Tail,
}

impl Seen {
    fn new(tail: Tail) -> Self {
        Self {
            upstream: 0,
            recorded: HashSet::new(),
            tail,
        }
    }

    fn compare(&mut self, site: &Site<'_>) -> Result<()> {
        // First the upstream: whatever it has seen by now was recorded before.
        let seen = site.backend.seen();
        loop {
            let found = self.tail.read(Seq(u64::MAX), 1000, 4 << 20)?;
            if found.is_empty() {
                break;
            }
            for entry in found {
                let body: Value = serde_json::from_str(&entry.body)?;
                if body["kind"] == "operation" {
                    let resource = body["resource"]["id"].as_str().context("a resource")?;
                    self.recorded.insert(resource.into());
                }
            }
        }
        for request in &seen[self.upstream..] {
            let path = request.split_once(' ').map_or("", |r| r.1);
            ensure!(
                self.recorded.contains(&format!("api.internal{path}")),
                "{request} has no entry"
            );
        }
        self.upstream = seen.len();
        Ok(())
    }
}
