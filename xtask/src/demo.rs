//! `cargo xtask demo`.

use crate::{
    setup,
    step::{cargo, run, say},
};

pub fn demo() -> anyhow::Result<()> {
    setup::setup()?;
    say(
        "build",
        "the agent with its eBPF programs, and the demo; a cold build takes some minutes",
    );
    run(cargo().args(["build", "--package", "portcullis", "--package", "e2e", "--bins"]))?;
    say("demo", "every step checks what it claims");
    run(cargo().args(["run", "--quiet", "--package", "e2e", "--bin", "demo"]))?;
    Ok(())
}
