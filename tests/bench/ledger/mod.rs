//! The ledger alone: what it appends in a second, beside the disk's own rate and raw SQLite's on the same disk in the same
//! run; how long an entry takes to be durable at half of that; how fast a million entries are sealed, exported and
//! verified; and what is stored of what was recorded.

mod append;
mod big;
mod raw;

use std::path::PathBuf;

use anyhow::Result;
use portcullis::config::Durability;
use serde_json::json;

use super::Rounds;

/// Where and how much.
#[derive(clap::Args)]
pub struct Ledger {
    #[command(flatten)]
    rounds: Rounds,
    /// Entries of the ledger that is sealed, exported and verified.
    #[arg(long, default_value_t = 1_000_000)]
    entries: u64,
    /// A directory on the disk to measure; a temporary directory otherwise.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// What one case did.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Measured {
    /// Entries, rows or syncs in a second.
    pub rate: f64,
    /// Bytes of them in a second, in MB.
    pub mb: f64,
    /// Microseconds until one was durable, in the middle and for the slowest hundredth.
    pub p50_us: f64,
    pub p99_us: f64,
}

/// A case of appending.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub writers: usize,
    /// Bytes of an entry's body.
    pub body: usize,
    /// Bytes of the frame that comes with each, if any.
    pub frame: usize,
}

const CASES: [Case; 6] = [
    Case {
        name: "1 writer, 1 KB",
        writers: 1,
        body: 1024,
        frame: 0,
    },
    Case {
        name: "64 writers, 256 B",
        writers: 64,
        body: 256,
        frame: 0,
    },
    Case {
        name: "64 writers, 1 KB",
        writers: 64,
        body: 1024,
        frame: 0,
    },
    Case {
        name: "64 writers, 8 KB",
        writers: 64,
        body: 8192,
        frame: 0,
    },
    Case {
        name: "64 writers, 1 KB + 16 KB frame",
        writers: 64,
        body: 1024,
        frame: 16 * 1024,
    },
    Case {
        name: "64 writers, 1 KB + 64 KB frame",
        writers: 64,
        body: 1024,
        frame: 64 * 1024,
    },
];

/// The case that aims are set for.
const AIMED: &str = "64 writers, 1 KB";

pub fn run(options: &Ledger) -> Result<()> {
    let temp;
    let dir = match &options.dir {
        Some(dir) => dir.clone(),
        None => {
            temp = tempfile::tempdir()?;
            temp.path().to_owned()
        }
    };
    let seconds = options.rounds.seconds;
    let wanted = |name: &str| name.contains(&options.rounds.case);
    let mut rows: Vec<(String, Vec<Measured>)> = Vec::new();
    for round in 0..options.rounds.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds.rounds);
        let mut put = |name: String, measured: Measured| match rows.iter_mut().find(|(n, _)| *n == name) {
            Some((_, all)) => all.push(measured),
            None => rows.push((name, vec![measured])),
        };
        put("disk: append 1 KB + fdatasync".into(), raw::disk(&dir, seconds)?);
        for (name, full, rows) in [
            ("SQLite: 1 row a commit, NORMAL", false, 1),
            ("SQLite: 1 row a commit, FULL", true, 1),
            ("SQLite: 100 rows a commit, FULL", true, 100),
        ] {
            put(name.into(), raw::sqlite(&dir, seconds, full, rows)?);
        }
        for case in CASES.into_iter().filter(|c| wanted(c.name)) {
            for durability in [Durability::Process, Durability::Power] {
                let full = append::full(&dir, case, durability, seconds)?;
                let half = (case.name == AIMED)
                    .then(|| append::paced(&dir, case, durability, seconds, full.rate / 2.0))
                    .transpose()?;
                put(format!("ledger, {}: {}", durability.as_str(), case.name), full);
                if let Some(half) = half {
                    put(
                        format!("ledger, {}: {}, half of that", durability.as_str(), case.name),
                        half,
                    );
                }
            }
        }
    }
    let rows: Vec<(String, Measured)> = rows.into_iter().map(|(n, m)| (n, median(&m))).collect();
    table(&rows);
    let big = if options.entries > 0 && wanted("big") || options.rounds.case.is_empty() {
        Some(big::run(&dir, options.entries)?)
    } else {
        None
    };
    if let Some(path) = &options.rounds.json {
        let cases: Vec<_> = rows
            .iter()
            .map(|(name, m)| json!({ "case": name, "measured": m }))
            .collect();
        std::fs::write(
            path,
            serde_json::to_vec_pretty(&json!({ "append": cases, "big": big }))?,
        )?;
    }
    Ok(())
}

fn median(all: &[Measured]) -> Measured {
    let middle = |of: fn(&Measured) -> f64| {
        let mut values: Vec<f64> = all.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Measured {
        rate: middle(|m| m.rate),
        mb: middle(|m| m.mb),
        p50_us: middle(|m| m.p50_us),
        p99_us: middle(|m| m.p99_us),
    }
}

fn table(rows: &[(String, Measured)]) {
    let rate = |name: &str| {
        rows.iter()
            .find(|(n, _)| n == name)
            .map_or(f64::NAN, |(_, m)| m.rate)
    };
    let disk = rate("disk: append 1 KB + fdatasync");
    let sqlite = rate("SQLite: 1 row a commit, NORMAL");
    println!(
        "{:<52} {:>10} {:>8} {:>9} {:>9} {:>8} {:>8}",
        "", "a second", "MB/s", "p50 us", "p99 us", "x disk", "x SQLite"
    );
    for (name, m) in rows {
        println!(
            "{name:<52} {:>10.0} {:>8.1} {:>9.0} {:>9.0} {:>8.2} {:>8.2}",
            m.rate,
            m.mb,
            m.p50_us,
            m.p99_us,
            m.rate / disk,
            m.rate / sqlite
        );
    }
}
