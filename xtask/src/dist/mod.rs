//! `cargo xtask dist`: what is installed on hosts, from one build, the same bytes wherever and whenever it is made.
//!
//! Everything is laid out once below `target/package/root`, as it will be on the host; the packages and the tarball are
//! three wrappings of that tree. Times in them are the last commit's. What was made is opened, installed and removed again
//! before the command succeeds.

mod bill;
mod build;
mod layout;
mod pack;
mod same;
mod verify;

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::{
    setup,
    step::{self, say},
};

/// Where the tree is laid out that is packed; `agent/Cargo.toml` names it as well.
const ROOT: &str = "target/package/root";
/// Where the packages are put.
const OUT: &str = "target/package/out";

/// What `cargo xtask dist` is told.
#[derive(clap::Args)]
pub struct Dist {
    /// Builds everything a second time, from a clone of the last commit in another directory, and fails where one byte
    /// differs.
    #[arg(long)]
    twice: bool,
    /// Packs a binary that is built already, instead of building one: to try out packages only.
    #[arg(long, value_name = "FILE", conflicts_with = "twice")]
    binary: Option<PathBuf>,
}

pub fn dist(dist: &Dist) -> anyhow::Result<()> {
    setup::for_dist()?;
    let epoch = epoch()?;
    let binary = match &dist.binary {
        Some(binary) => binary.clone(),
        None => build::build(step::root(), epoch)?,
    };
    say("lay out", "the tree as it will be on the host");
    let bill = bill::bill(epoch)?;
    layout::lay_out(&binary, &bill, epoch)?;
    let made = pack::pack(epoch)?;
    for path in &made {
        eprintln!("    {}", path.display());
    }
    verify::verify(epoch)?;
    if dist.twice {
        same::check(Path::new(OUT))?;
    }
    Ok(())
}

/// The last commit's time, in seconds since 1970; `SOURCE_DATE_EPOCH` where that is set.
fn epoch() -> anyhow::Result<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => step::output(&mut step::command("git", &["log", "-1", "--format=%ct"]))?,
    };
    text.trim()
        .parse()
        .context("SOURCE_DATE_EPOCH, or the last commit's time, is not a number")
}
