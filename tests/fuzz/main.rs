//! Hostile bytes for every parser that meets bytes from outside, without a nightly compiler: a seed corpus, a mutator,
//! and for each target the properties that must hold. `cargo xtask check` runs each for a few seconds; an hour is
//! `cargo run --release -p e2e --bin fuzz -- --seconds 3600 --seed $RANDOM`.

#[path = "../in_process/rig.rs"]
#[allow(dead_code, clippy::unwrap_used)]
mod rig;

mod mutate;
mod targets;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Parser;
use mutate::Mutator;
use targets::Target;

#[derive(Parser)]
struct Arguments {
    /// Seconds per target.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Only targets whose name contains this.
    #[arg(long, default_value = "")]
    target: String,
    /// Where the mutator starts; the same seed gives the same inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut failed = 0;
    for make in targets::ALL {
        match make() {
            Ok(target) if target.name().contains(&arguments.target) => {
                failed += u32::from(!run(target, &arguments));
            }
            Ok(_) => {}
            Err(error) => {
                eprintln!("a target cannot be set up: {error:#}");
                failed += 1;
            }
        }
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs one target; false at the first input that breaks a property.
fn run(mut target: Box<dyn Target>, arguments: &Arguments) -> bool {
    let name = target.name();
    let mut mutator = Mutator::new(arguments.seed, target.seeds());
    let began = Instant::now();
    let mut inputs = 0u64;
    while began.elapsed() < Duration::from_secs_f64(arguments.seconds) {
        // The seeds themselves come first, unchanged.
        let input = mutator.next(inputs);
        let random = mutator.random();
        let result: Result<Result<()>, _> = catch_unwind(AssertUnwindSafe(|| target.check(&input, random)));
        let why = match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(_) => Some("it panicked".into()),
        };
        inputs += 1;
        if let Some(why) = why {
            let file = std::env::temp_dir().join(format!("portcullis-fuzz-{name}"));
            let saved =
                std::fs::write(&file, &input).map_or_else(|e| e.to_string(), |()| file.display().to_string());
            eprintln!("{name:<10} FAILED after {inputs} inputs: {why}");
            eprintln!(
                "{:<10} input: {:?}",
                "",
                String::from_utf8_lossy(&input[..input.len().min(600)])
            );
            eprintln!("{:<10} saved: {saved}", "");
            return false;
        }
    }
    let rate = inputs as f64 / began.elapsed().as_secs_f64();
    eprintln!("    {name:<10} {inputs:>8} inputs, {rate:>8.0} a second");
    true
}
