//! A real OpenTelemetry collector (rotel) between the sink and the receiver: what it takes by either transport, decodes
//! and passes on is what was recorded.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use e2e::{
    child::Process,
    wait::{DEADLINE, wait_until},
};

use super::{
    install,
    rig::{self, Receiver, Rig, TOKEN},
};

fn rotel(dir: &Path, grpc: u16, http: u16, to: u16) -> Result<Process> {
    let programs = install::programs()?;
    // A program inside the package; the wheel does not mark it so.
    let found = std::process::Command::new(programs.join("python"))
        .args([
            "-c",
            "import os, rotel; print(os.path.join(os.path.dirname(rotel.__file__), 'rotel-agent'))",
        ])
        .output()?;
    let program = String::from_utf8(found.stdout)?.trim().to_owned();
    let mut command = std::process::Command::new(program);
    command
        .arg("start")
        .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")])
        .args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}")])
        .args(["--exporter", "otlp", "--otlp-exporter-protocol", "http"])
        // It wants to know where traces would go, too.
        .args(["--otlp-exporter-endpoint", &format!("http://127.0.0.1:{to}")])
        .args([
            "--otlp-exporter-logs-endpoint",
            &format!("http://127.0.0.1:{to}/v1/logs"),
        ])
        .args([
            "--otlp-exporter-custom-headers",
            &format!("Authorization=Bearer {TOKEN}"),
        ])
        .arg("--pid-file")
        .arg(dir.join("rotel.pid"))
        .arg("--log-file")
        .arg(dir.join("rotel-agent.log"));
    let mut process = Process::start("rotel", dir, &mut command)?;
    let listens = |port: u16| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    let up = wait_until("the collector to listen", DEADLINE, || {
        process.ended().is_some() || (listens(grpc) && listens(http))
    });
    up.with_context(|| process.log())?;
    ensure!(
        process.ended().is_none(),
        "the collector ended:\n{}",
        process.log()
    );
    Ok(process)
}

fn through(protocol: &str) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().to_owned();
    let mut receiver = Receiver::new(&path, "otlp-http", &[])?;
    receiver.start()?;
    let (grpc, http) = (rig::free_port()?, rig::free_port()?);
    let collector = rotel(&path, grpc, http, receiver.port)?;
    let port = if protocol == "grpc" { grpc } else { http };
    let config = format!(
        "[[ship]]\nname = 'siem'\nkind = 'otlp'\nprotocol = '{protocol}'\nurl = 'http://127.0.0.1:{port}'\n\
         allow_http = true\ngzip = true\n"
    );
    let mut rig = Rig::new(dir, &config)?;
    rig.record(2)?;
    rig.start()?;
    rig.all_taken()?;
    let mut last = None;
    // The collector answers before it passes on.
    let there = wait_until("everything behind the collector", DEADLINE, || {
        let held = receiver.got().and_then(|mut got| {
            got.sort_by_key(|one| one.seq);
            rig.holds(&got, &[], rig::event)
        });
        let is_held = held.is_ok();
        last = held.err();
        is_held
    });
    there.with_context(|| format!("{last:?}\n{}\n{}", collector.log(), receiver.log()))
}

#[test]
fn a_collector_takes_and_passes_on_grpc() {
    through("grpc").unwrap();
}

#[test]
fn a_collector_takes_and_passes_on_http() {
    through("http").unwrap();
}
