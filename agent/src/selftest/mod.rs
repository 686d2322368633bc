//! `portcullis selftest`: whether each door of a workload is what the catalog says, found out by trying.
//!
//! A throw-away cgroup is tagged like any workload's. In it, one process after the other does what a hostile one would,
//! as root, since what is closed to root is closed to all. Targets are this test's own: a network namespace behind a
//! device, where a capture counts the frames that arrive, and a process and sockets on this host. A door is open when
//! something arrived, whatever the calls answered; it is closed when nothing did.
//!
//! README.md beside this says what each verdict is worth.

mod address;
mod attempts;
mod host;
mod range;
mod setuid;
mod sys;
mod verdict;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

pub use self::verdict::{Report, Row, Verdict};
use self::{
    attempts::{MADE, Seen, Targets},
    host::{Later, Outside},
    range::Range,
    setuid::Helper,
};
use crate::{
    model::WorkloadName,
    redirect::{doors::Judged, tags},
};

/// The workload's name, which the configuration need not have.
pub const WORKLOAD: &str = "portcullis-selftest";
/// The hidden command that makes one attempt.
pub const COMMAND: &str = "selftest-attempt";
/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A port for servers that the attempts make; taken, the attempt is refused.
const PORT: u16 = 47_193;

/// Where the processes run, and where those go that leave.
pub struct Places {
    /// `cgroup.procs` of the throw-away workload.
    pub inside: PathBuf,
    /// `cgroup.procs` of a cgroup outside.
    pub outside: PathBuf,
}

/// Tries every door, in the catalog's order; `told` hears of each.
///
/// # Errors
/// When the targets cannot be made, or the capture does not see what it should.
pub fn run(
    places: Places,
    program: &Path,
    doors: &[Judged],
    told: &mut dyn FnMut(&Row),
) -> anyhow::Result<Vec<Row>> {
    let range = Range::make()?;
    let outside = Outside::make()?;
    let helper = Helper::make(program).context("the set-user-id helper")?;
    let later = Later::make(&places.inside)?;
    let targets = Targets {
        v4: range::THERE,
        v6: range::THERE6,
        device: range::DEVICE.into(),
        index: range.index,
        here: range::HERE,
        port: PORT,
        inside: places.inside,
        outside: places.outside,
        victim: outside.victim(),
        victim_at: outside.victim_at()?,
        netns: range.path(),
        stream: outside.path("stream"),
        known: outside.path(".s.PGSQL.5432"),
        datagram: outside.path("datagram"),
        hidden: outside.hidden.clone(),
        giver: outside.path("giver"),
        helper: helper.path(),
        served: range::SERVED,
        devices: outside.devices(),
        later: later.procs(),
    };
    let mut rows = Vec::new();
    for door in doors {
        let tried = |name: &str| -> anyhow::Result<Row> {
            let (seen, status) = attempt(program, name, &targets, &range)?;
            let frames = range.frames()?;
            Ok(verdict::judge(door, name, seen.as_ref(), status, frames))
        };
        let mut row = tried(door.door)?;
        if door.door == "older-sockets" {
            row = verdict::both(row, tried(MADE)?);
        }
        told(&row);
        rows.push(row);
    }
    Ok(rows)
}

/// What `selftest-attempt` reads on its standard input.
#[derive(Serialize, Deserialize)]
struct Order {
    door: String,
    targets: Targets,
}

/// One attempt, in the process that makes it: the order is on standard input, one line.
///
/// # Errors
/// When there is no order.
pub fn attempt_here() -> anyhow::Result<()> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let order: Order = serde_json::from_str(&line)?;
    let seen = attempts::attempt(&order.door, &order.targets);
    println!("{}", serde_json::to_string(&seen)?);
    Ok(())
}

/// Starts a process for one attempt, answers it where it waits, and ends it where it does not end itself. What it said
/// last; `None` when it said nothing.
fn attempt(
    program: &Path,
    door: &str,
    targets: &Targets,
    range: &Range,
) -> anyhow::Result<(Option<Seen>, ExitStatus)> {
    let mut child = Command::new(program)
        .arg(COMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| program.display().to_string())?;
    let order = Order {
        door: door.into(),
        targets: targets.clone(),
    };
    let mut stdin = child.stdin.take().context("no standard input")?;
    let stdout = child.stdout.take().context("no standard output")?;
    writeln!(stdin, "{}", serde_json::to_string(&order)?)?;
    let (said, hear) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout.take(1 << 16)).lines().map_while(Result::ok) {
            let _nobody_hears = said.send(line);
        }
    });
    let until = Instant::now() + PATIENCE;
    let mut seen = None;
    while let Ok(line) = hear.recv_timeout(until.saturating_duration_since(Instant::now())) {
        if line == "\"Ready\"" {
            answer(door, child.id(), targets, range);
            let _it_has_ended = stdin.write_all(b"x");
        } else {
            seen = serde_json::from_str(&line).ok();
        }
    }
    Ok((seen, end(child, until)?))
}

/// What the test does for an attempt that waits for it.
fn answer(door: &str, pid: u32, targets: &Targets, range: &Range) {
    match door {
        "older-sockets" => drop(range.frames()),
        MADE => {
            let _not_seen = range.frames();
            let directory = targets.later.parent().unwrap_or(Path::new(""));
            // Untagged, nothing ends, which is seen.
            let _not_tagged = WorkloadName::new(WORKLOAD).map(|name| tags::set(directory, &name));
        }
        "listen-tcp" => range.knock(targets.port),
        "listen-udp" => range.drop_in(targets.port),
        "moved-out" => {
            let _refused = std::fs::write(&targets.outside, pid.to_string());
        }
        _ => {}
    }
}

fn end(mut child: Child, until: Instant) -> anyhow::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= until {
            child.kill()?;
            return Ok(child.wait()?);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
