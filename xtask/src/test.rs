//! `cargo xtask test`.

use crate::{
    setup,
    step::{cargo, run, say, succeeds},
};

pub fn test(filter: Option<&str>) -> anyhow::Result<()> {
    setup::setup()?;
    say(
        "build",
        "the agent with its eBPF programs, and all tests; a cold build takes some minutes",
    );
    // The tests start the built agent, so it has to be there and fresh before they run.
    run(cargo().args(["build", "--package", "portcullis", "--bins"]))?;

    let mut command = cargo();
    if succeeds("cargo", &["nextest", "--version"]) {
        say(
            "test",
            "unit, in_process, redirect, clients, crash; with nextest, a process for each test",
        );
        // What is slow, or wants the machine for itself, is said in .config/nextest.toml.
        command.args([
            "nextest",
            "run",
            "--workspace",
            "--no-fail-fast",
            "--no-tests",
            "pass",
        ]);
    } else {
        say(
            "test",
            "unit, in_process, redirect, clients, crash; with cargo test, as nextest is not installed",
        );
        command.args(["test", "--workspace", "--all-targets", "--no-fail-fast"]);
        // Tests share one kernel: network namespaces, cgroups and two cores.
        command.env("RUST_TEST_THREADS", "2");
    }
    command.args(filter);
    run(&mut command)?;
    Ok(())
}
