//! Real clients through the real redirect: curl, openssl, Python requests, Node fetch, started by `portcullis run` and
//! otherwise unchanged. Needs root; being unable to run is a failure.

// A test fails by panicking.
#![allow(clippy::panic, clippy::unwrap_used)]

mod aws;
mod console;
mod credentials;
mod dns;
mod evidence;
mod execs;
mod exempt;
mod export;
mod guard;
mod older;
mod podman;
mod postgres;
mod secrets;
mod service;
mod ship;
mod sinks;
mod streams;
mod tools;
mod tour;

use anyhow::Result;
use e2e::{
    backend::SECRETS,
    site::{Options, Site},
    world::World,
};

/// Runs a test in a world and a site of its own.
fn with_site(name: &str, test: impl FnOnce(&mut Site<'_>) -> Result<()> + Send) {
    with_options(name, |_| Ok(Options::default()), test);
}

/// The same with a site of another kind.
fn with_options(
    name: &str,
    options: impl FnOnce(&World) -> Result<Options> + Send,
    test: impl FnOnce(&mut Site<'_>) -> Result<()> + Send,
) {
    let result = World::enter(|world| {
        let mut site = Site::start(world, name, &options(world)?)?;
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

/// Personal data that a text shows.
fn shown(text: &str) -> Vec<&'static str> {
    SECRETS.into_iter().filter(|s| text.contains(s)).collect()
}

/// A workload may be root, so the socket's mode does not keep it out; its cgroup does.
#[test]
fn a_workload_cannot_use_the_control_socket() {
    with_site("control", |site| {
        let status = |mut command: std::process::Command| {
            let config = site.daemon.config();
            e2e::child::Said::by(command.arg("--config").arg(config).args(["workload", "list"]))
        };
        let outside = status(site.world.host(e2e::paths::portcullis()?))?;
        outside.ok()?;
        let inside = status(site.workload().tagged(e2e::paths::portcullis()?))?;
        assert_eq!(inside.code, 1, "{}", inside.out);
        // By the kernel, where it is asked of UNIX sockets; else by the daemon.
        let refused = ["permission denied", "belongs to workload"];
        assert!(
            refused.iter().any(|why| inside.err.contains(why)),
            "{}",
            inside.err
        );
        Ok(())
    });
}

#[test]
fn without_a_tag_nothing_changes() {
    with_site("untagged", |site| {
        let mut curl = site.world.host("curl");
        let said = e2e::child::Said::by(curl.args(["-sS", "https://api.internal/customers"]))?.ok()?;
        assert_eq!(shown(&said), SECRETS);
        assert_eq!(site.backend.seen(), ["GET /customers"]);
        Ok(())
    });
}
