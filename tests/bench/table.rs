//! Medians over the rounds, as a table and as JSON.

use serde_json::{Value, json};

use super::{load::Result_, scan::Scanned};

/// What is in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nothing.
    Direct,
    /// Another proxy, by its name: no policy, no masking, no record.
    Relay(&'static str),
    /// The agent; entries survive loss of power.
    Power,
    /// The agent; entries survive kill -9.
    Process,
}

/// In the order of measurement; the other proxy by its name.
pub const fn targets(relay: &'static str) -> [Target; 4] {
    [
        Target::Direct,
        Target::Relay(relay),
        Target::Power,
        Target::Process,
    ]
}

impl Target {
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay(name) => name,
            Self::Power => "portcullis, power",
            Self::Process => "portcullis, process",
        }
    }
}

/// One case on one target in one round.
#[derive(Clone, Debug)]
pub struct Sample {
    pub target: Target,
    pub case: &'static str,
    pub result: Result_,
    /// CPU time of what is in the middle, per request.
    pub cpu_us: f64,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// The medians of one case on one target.
struct Row {
    rate: f64,
    mb: f64,
    p50: f64,
    p99: f64,
    cpu: f64,
    errors: u64,
}

fn row(samples: &[Sample], target: Target, case: &str) -> Row {
    let of = |value: fn(&Sample) -> f64| {
        median(
            samples
                .iter()
                .filter(|s| s.target == target && s.case == case)
                .map(value)
                .collect(),
        )
    };
    Row {
        rate: of(|s| s.result.requests as f64 / s.result.seconds),
        mb: of(|s| s.result.bytes as f64 / s.result.seconds / 1e6),
        p50: of(|s| s.result.p50_us),
        p99: of(|s| s.result.p99_us),
        cpu: of(|s| s.cpu_us),
        errors: samples
            .iter()
            .filter(|s| s.target == target && s.case == case)
            .map(|s| s.result.errors)
            .sum(),
    }
}

/// The table of the cases, each with its name and what is aimed at; `what` is done so often in a second.
pub fn print<'c>(
    what: &str,
    cases: impl IntoIterator<Item = (&'c str, String)>,
    targets: &[Target],
    samples: &[Sample],
) {
    for (name, aim) in cases {
        let direct = row(samples, Target::Direct, name);
        println!("\n{name}{aim}");
        println!(
            "  {:<20} {:>14} {:>7} {:>9} {:>10} {:>10} {:>9}",
            "",
            format!("{what}/s"),
            "ratio",
            "MB/s",
            "p50 us",
            "p99 us",
            "CPU us"
        );
        for target in targets {
            let r = row(samples, *target, name);
            let errors = if r.errors > 0 {
                format!("  {} errors", r.errors)
            } else {
                String::new()
            };
            println!(
                "  {:<20} {:>14.*} {:>6.2}x {:>9.1} {:>10.0} {:>10.0} {:>9.1}{errors}",
                target.name(),
                usize::from(r.rate < 100.0),
                r.rate,
                r.rate / direct.rate.max(1e-9),
                r.mb,
                r.p50,
                r.p99,
                r.cpu
            );
        }
    }
}

/// The table of memory.
pub fn memory(memory: &[(Target, bool, f64)]) {
    if !memory.is_empty() {
        println!("\nresident memory per idle connection, kB");
        for (target, tls, bytes) in memory {
            println!(
                "  {:<20} {:<6} {:>8.1}",
                target.name(),
                if *tls { "TLS" } else { "plain" },
                bytes / 1000.0
            );
        }
    }
}

/// The table of the masker alone.
pub fn scanned(scanned: &[Scanned]) {
    println!("\nscanning, per core (aim: 500 MB/s)");
    for s in scanned {
        println!("  {:<34} {:>8.0} MB/s", s.name, s.mb_per_second);
    }
}

pub fn json(samples: &[Sample], memory: &[(Target, bool, f64)], scanned: &[Scanned]) -> Value {
    let samples: Vec<Value> = samples
        .iter()
        .map(|s| json!({ "case": s.case, "target": s.target.name(), "result": s.result, "cpu_us": s.cpu_us }))
        .collect();
    let memory: Vec<Value> = memory
        .iter()
        .map(|(target, tls, bytes)| json!({ "target": target.name(), "tls": tls, "bytes_per_connection": bytes }))
        .collect();
    let scanned: Vec<Value> = scanned
        .iter()
        .map(|s| json!({ "name": s.name, "mb_per_second": s.mb_per_second }))
        .collect();
    json!({ "samples": samples, "memory": memory, "scan": scanned })
}
