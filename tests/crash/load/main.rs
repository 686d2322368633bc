//! The process that is killed: opens a ledger and writes to it from many tasks, until it ends; all the while it seals,
//! replaces the key, reads, and ships.
//!
//! `ledger-load DIR power|process SEED CLOSE_MS SHIP`; SHIP is the directory that segments go to, or `-`. Says on standard output, one write and one line each, what a test
//! holds the ledger to afterwards:
//!
//! - `open SIZE`: the ledger is open, with so many entries.
//! - `will TASK ID`: the task hands this entry over next; entries of a task keep this order.
//! - `ack TASK ID SEQ`: its entry is durable.
//! - `sealed NUMBER FIRST END SHA256`: a segment was asked for, and is there.
//! - `key KEY`: from now on this key signs.
//! - `closed`: the ledger was closed in order, after CLOSE_MS (0: never).
//!
//! What goes wrong by itself, with nobody killing it, ends it with a message and code 1.

mod work;

use std::{io::Write as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use portcullis::{
    config::Durability,
    ledger::{Ledger, Options},
};
use rand::{SeedableRng as _, rngs::StdRng};

/// Tasks that write.
const WRITERS: u64 = 8;
/// The smallest segments that a configuration can ask for.
const SEGMENT_BYTES: u64 = 1 << 20;

/// What it was started with.
struct Arguments {
    dir: PathBuf,
    durability: Durability,
    seed: u64,
    close_after: Option<Duration>,
    ship_to: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = arguments()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let Err(error) = runtime.block_on(run(arguments)) else {
        return Ok(());
    };
    eprintln!("{error:#}");
    // Tasks that go on are not waited for.
    std::process::exit(1)
}

fn arguments() -> anyhow::Result<Arguments> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [dir, durability, seed, close, ship] = given.as_slice() else {
        bail!("usage: ledger-load DIR power|process SEED CLOSE_MS SHIP");
    };
    let durability = match durability.as_str() {
        "power" => Durability::Power,
        "process" => Durability::Process,
        other => bail!("durability '{other}'"),
    };
    let close: u64 = close.parse()?;
    Ok(Arguments {
        dir: dir.into(),
        durability,
        seed: seed.parse()?,
        close_after: (close > 0).then(|| Duration::from_millis(close)),
        ship_to: (ship != "-").then(|| ship.into()),
    })
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let options = Options {
        checkpoint_every: 50,
        checkpoint_after: Duration::from_millis(5),
        segment_bytes: SEGMENT_BYTES,
        ..Options::new("crash", arguments.durability)
    };
    let dir = arguments.dir.clone();
    let ledger = tokio::task::spawn_blocking(move || Ledger::open(&dir, options))
        .await?
        .context("the ledger cannot be opened")?;
    say(&format!("open {}", ledger.size().0))?;
    let _shipping = match &arguments.ship_to {
        Some(to) => Some(e2e::ship::to_directory(&arguments.dir, &ledger, to)?),
        None => None,
    };
    let random = |stream: u64| StdRng::seed_from_u64(arguments.seed ^ (stream << 48));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..WRITERS {
        tasks.spawn(work::write(ledger.clone(), task, random(task)));
    }
    tasks.spawn(work::seal(ledger.clone(), random(WRITERS)));
    let (keyed, mut when) = (ledger.clone(), random(WRITERS + 1));
    tasks.spawn_blocking(move || work::rotate(&keyed, &mut when));
    let tail = (ledger.clone(), arguments.dir.clone());
    tasks.spawn_blocking(move || work::read(&tail.0, &tail.1));
    let closing = async {
        match arguments.close_after {
            Some(after) => tokio::time::sleep(after).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = closing => {
            let closed = ledger.clone();
            tokio::task::spawn_blocking(move || closed.close()).await?;
            say("closed")?;
            // Whoever is still about has nothing to say any more.
            std::process::exit(0);
        }
        Some(ended) = tasks.join_next() => ended?,
    }
}

/// One line, in one write: lines of tasks do not mix, and what is said is there whatever comes next.
fn say(line: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(format!("{line}\n").as_bytes())?)
}
