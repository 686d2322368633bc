//! `cargo xtask check`: the rules of the house that a program can check.

mod licences;
mod policies;
mod rows;
mod sizes;
mod source;

use std::time::Instant;

use anyhow::bail;

use crate::{
    setup,
    step::{cargo, command, run, say, succeeds},
};

/// One check: its name, why it is there, and how it is done.
type Check = (&'static str, &'static str, fn() -> anyhow::Result<()>);

/// Cheap ones first; what needs a build last.
const CHECKS: [Check; 7] = [
    ("fmt", "one form for all source", fmt),
    (
        "rows",
        "a module imports only from rows above its own",
        rows::check,
    ),
    (
        "sizes",
        "files that fit a head: none above 600 lines, most about 120",
        sizes::check,
    ),
    ("licences", "only what deny.toml allows comes in", licences::check),
    (
        "clippy",
        "warnings are errors; so are functions above 100 lines",
        clippy,
    ),
    (
        "policies",
        "every shipped pack keeps its promises",
        policies::check,
    ),
    ("fuzz", "a few seconds of hostile bytes for every parser", fuzz),
];

pub fn check(only: &[String]) -> anyhow::Result<()> {
    if let Some(unknown) = only.iter().find(|o| CHECKS.iter().all(|c| c.0 != o.as_str())) {
        bail!(
            "there is no check '{unknown}'; there are {}",
            CHECKS.map(|c| c.0).join(", ")
        );
    }
    let chosen: Vec<&Check> = CHECKS
        .iter()
        .filter(|c| only.is_empty() || only.iter().any(|o| o == c.0))
        .collect();
    if chosen
        .iter()
        .any(|c| ["clippy", "policies", "fuzz"].contains(&c.0))
    {
        setup::setup()?;
    }

    let mut table = Vec::new();
    for (name, why, check) in chosen {
        say(name, why);
        let began = Instant::now();
        let result = check();
        if let Err(error) = &result {
            eprintln!("    FAILED {error:#}");
        }
        table.push((name, began.elapsed(), result.is_err()));
    }
    eprintln!();
    for (name, took, failed) in &table {
        let word = if *failed { "FAILED" } else { "ok" };
        eprintln!("    {name:<10} {word:<7} {:>6.1} s", took.as_secs_f64());
    }
    let failed: Vec<_> = table.iter().filter(|t| t.2).map(|t| *t.0).collect();
    if !failed.is_empty() {
        bail!("check failed: {}", failed.join(", "));
    }
    Ok(())
}

fn fmt() -> anyhow::Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    // ebpf/ is no member of this workspace.
    run(cargo().args(["fmt", "--manifest-path", "ebpf/Cargo.toml", "--check"]))?;
    Ok(())
}

fn clippy() -> anyhow::Result<()> {
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    // The eBPF crate takes the clippy of the compiler that builds it, which Debian cannot install beside rustup.
    if !succeeds("/usr/bin/clippy-driver", &["--version"]) {
        eprintln!(
            "    ebpf/ is left to its own compiler's warnings: there is no clippy of that compiler here"
        );
        return Ok(());
    }
    let mut clippy = command(
        "cargo",
        &[
            "check",
            "--release",
            "--target",
            "bpfel-unknown-none",
            "-Zbuild-std=core",
            "--target-dir",
            "target/ebpf",
        ],
    );
    clippy.args(["--manifest-path", "ebpf/Cargo.toml"]);
    clippy.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
    clippy
        .env("RUSTC_WORKSPACE_WRAPPER", "/usr/bin/clippy-driver")
        .env("CLIPPY_ARGS", "-Dwarnings");
    run(&mut clippy)?;
    Ok(())
}

fn fuzz() -> anyhow::Result<()> {
    // By number, so that every run has the same inputs; by time, so that a slow machine gets on.
    let mut fuzz = cargo();
    fuzz.args(["run", "--quiet", "--package", "e2e", "--bin", "fuzz", "--"]);
    run(fuzz.args(["--inputs", "20000", "--seconds", "8"]))?;
    Ok(())
}
