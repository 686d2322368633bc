//! `cargo xtask setup`: what building and testing need beyond Rust itself.
//!
//! Idempotent: a need that is met costs one look. Nothing is ever asked.

mod apt;
mod needs;

use anyhow::bail;
use needs::{Need, Remedy};

use crate::step::say;

pub fn setup() -> anyhow::Result<()> {
    say(
        "setup",
        "what building and testing need beyond Rust; what is there already stays as it is",
    );
    bring(needs::all())
}

/// What making packages needs: the toolchain, and what wraps.
pub fn for_dist() -> anyhow::Result<()> {
    say("setup", "what building and packing need beyond Rust itself");
    bring(needs::for_dist())
}

/// What `cargo xtask kernels` needs beyond that.
pub fn for_kernels() -> anyhow::Result<()> {
    say(
        "setup",
        "what other kernels need: an emulator, and what makes disks for it",
    );
    bring(needs::for_kernels())
}

fn bring(needs: Vec<Need>) -> anyhow::Result<()> {
    let mut missing = Vec::new();
    for need in needs {
        if need.met() {
            eprintln!("    {:<18} there      {}", need.name, need.why);
            continue;
        }
        eprintln!("    {:<18} installing {}", need.name, need.why);
        if let Err(error) = install(&need) {
            missing.push(format!("{:<18} {}\n{:20}{error:#}", need.name, need.why, ""));
        } else if !need.met() {
            missing.push(format!(
                "{:<18} {}\n{:20}the installation succeeded, yet it is not found",
                need.name, need.why, ""
            ));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("\nStill missing:");
    for line in &missing {
        eprintln!("  - {line}");
    }
    bail!("setup could not bring everything; see the list above")
}

fn install(need: &Need) -> anyhow::Result<()> {
    match &need.remedy {
        Remedy::Apt(packages) => {
            apt::install(packages)?;
            // The lists at hand can name a version that is too old.
            if need.met() {
                Ok(())
            } else {
                apt::refresh_and_install(packages)
            }
        }
        Remedy::Run(steps) => {
            for step in *steps {
                crate::step::run(&mut step())?;
            }
            Ok(())
        }
        Remedy::Admin(advice) => bail!("{advice}"),
    }
}
