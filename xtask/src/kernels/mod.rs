//! `cargo xtask kernels`: the same programs in other kernels, in machines made of nothing but an emulator.
//!
//! No hardware virtualization is asked for: everything runs under emulation, which is slow and runs everywhere.
//! What was downloaded and made stays below `target/kernels`, so that a second run needs no network.

mod archive;
mod deb;
mod image;
mod kernel;
mod machine;
mod payload;
mod stage;

use std::time::{Duration, Instant};

use anyhow::bail;

use self::{archive::Archive, image::Image, kernel::Kernel, machine::Outcome, stage::Stage};
use crate::{
    setup,
    step::{root, say},
};

/// Which kernels, and what is done in each.
#[derive(clap::Args)]
pub struct Kernels {
    /// Only these kernels (6.1, 6.12, newest), comma-separated; all without it.
    #[arg(long, value_delimiter = ',', value_name = "KERNEL")]
    kernel: Vec<String>,
    /// Only these stages (verify, doctor, redirect, service), comma-separated; all without it.
    #[arg(long, value_delimiter = ',', value_name = "STAGE")]
    only: Vec<String>,
    /// Only redirect tests whose name contains one of these, comma-separated.
    #[arg(long, value_delimiter = ',', value_name = "TEXT")]
    test: Vec<String>,
    /// More for the kernels' command line: lsm=landlock,yama starts them without LSM programs.
    #[arg(long, default_value = "", value_name = "PARAMETERS")]
    boot: String,
    /// Take what is built already, however old.
    #[arg(long)]
    no_build: bool,
    /// Get kernels and image anew: otherwise what target/kernels holds is used as it is.
    #[arg(long)]
    fresh: bool,
}

/// One line of the table at the end.
struct Line {
    kernel: String,
    stage: Stage,
    took: Duration,
    outcome: Outcome,
}

pub fn kernels(arguments: &Kernels) -> anyhow::Result<()> {
    let wanted = archive::select(&arguments.kernel)?;
    let stages = Stage::select(&arguments.only)?;
    setup::setup()?;
    setup::for_kernels()?;
    let work = root().canonicalize()?.join("target/kernels");
    if arguments.fresh && work.exists() {
        std::fs::remove_dir_all(&work)?;
    }
    std::fs::create_dir_all(&work)?;
    let built = stage::build(&work, &stages, !arguments.no_build)?;
    let archive = Archive::open(&work)?;
    let image = Image::ensure(&work, &archive)?;
    let mut table = Vec::new();
    for spec in wanted {
        let kernel = Kernel::ensure(&work, &archive, spec)?;
        for stage in &stages {
            say(&format!("{} in {}", stage.name(), kernel.version), stage.what());
            let began = Instant::now();
            let outcome = stage.run(
                &work,
                (&image, &kernel),
                &built,
                (&arguments.test, &arguments.boot),
            )?;
            table.push(Line {
                kernel: kernel.version.clone(),
                stage: *stage,
                took: began.elapsed(),
                outcome,
            });
        }
    }
    report(&table)
}

fn report(table: &[Line]) -> anyhow::Result<()> {
    eprintln!("\n{:<28} {:<10} {:>6}  RESULT", "KERNEL", "STAGE", "TOOK");
    for line in table {
        eprintln!(
            "{:<28} {:<10} {:>4} s  {}",
            line.kernel,
            line.stage.name(),
            line.took.as_secs(),
            line.outcome
        );
    }
    let failed = table.iter().filter(|l| !l.outcome.good()).count();
    if failed > 0 {
        bail!("{failed} of {} failed; see above", table.len());
    }
    Ok(())
}
