//! Medians over the rounds, as a table and as JSON.

use serde_json::{Value, json};

use super::{case::Case, load::Result_, scan::Scanned};

/// What is in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nothing.
    Direct,
    /// nginx as a reverse proxy: no policy, no masking, no record.
    Nginx,
    /// The agent; entries survive loss of power.
    Power,
    /// The agent; entries survive kill -9.
    Process,
}

/// In the order of measurement.
pub const TARGETS: [Target; 4] = [Target::Direct, Target::Nginx, Target::Power, Target::Process];

impl Target {
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
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

pub fn print(cases: &[&Case], samples: &[Sample], memory: &[(Target, bool, f64)], scanned: &[Scanned]) {
    for case in cases {
        let direct = row(samples, Target::Direct, case.name);
        let aim = case
            .aim
            .map(|a| format!("  (aim: {a:.2} of direct in mode power)"))
            .unwrap_or_default();
        println!("\n{}{aim}", case.name);
        println!(
            "  {:<20} {:>10} {:>7} {:>9} {:>10} {:>10} {:>9}",
            "", "requests/s", "ratio", "MB/s", "p50 us", "p99 us", "CPU us"
        );
        for target in TARGETS {
            let r = row(samples, target, case.name);
            let errors = if r.errors > 0 {
                format!("  {} errors", r.errors)
            } else {
                String::new()
            };
            println!(
                "  {:<20} {:>10.0} {:>6.2}x {:>9.1} {:>10.0} {:>10.0} {:>9.1}{errors}",
                target.name(),
                r.rate,
                r.rate / direct.rate.max(1e-9),
                r.mb,
                r.p50,
                r.p99,
                r.cpu
            );
        }
    }
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
    self::scanned(scanned);
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
