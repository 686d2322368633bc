//! `cargo xtask verify-bpf`.

use crate::{
    setup,
    step::{cargo, run, say},
};

pub fn verify_bpf() -> anyhow::Result<()> {
    setup::setup()?;
    say(
        "verify-bpf",
        "this kernel's verifier has the last word on every program",
    );
    run(cargo().args([
        "run",
        "--quiet",
        "--package",
        "portcullis",
        "--bin",
        "portcullis",
        "--",
        "verify-bpf",
    ]))?;
    Ok(())
}
