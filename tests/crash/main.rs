//! The agent killed, its disk full, its policy broken, its issuer gone: nothing passes unrecorded, and nothing that was
//! recorded is lost. Needs root; being unable to run is a failure.

// A test fails by panicking.
#![allow(clippy::panic, clippy::unwrap_used)]

mod closed;
mod complete;
mod held;
mod ledger;
mod postgres;
mod retention;
mod rounds;

use anyhow::Result;
use e2e::{
    site::{Options, Site},
    world::World,
};

/// Runs a test in a world and a site of its own.
fn with_site(name: &str, options: &Options, test: impl FnOnce(&mut Site<'_>) -> Result<()> + Send) {
    let result = World::enter(|world| {
        let mut site = Site::start(world, name, options)?;
        test(&mut site).map_err(|e| e.context(format!("the daemon's log:\n{}", tail(&site.daemon.log()))))
    });
    if let Err(error) = result {
        panic!("{error:?}");
    }
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
