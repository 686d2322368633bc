//! Starting the process that writes, and killing it.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use portcullis::config::Durability;
use rand::{Rng as _, rngs::StdRng};

use super::Run;

/// Starts a process on the ledger, kills it at a random moment of its life, and gives what it said; and whether it had
/// to be killed.
pub fn kill_one(
    dir: &Path,
    durability: Durability,
    random: &mut StdRng,
    ship_to: Option<&Path>,
    environment: &[(&str, &OsStr)],
) -> Result<(Run, bool)> {
    let close = if random.random_range(0..8) == 0 {
        random.random_range(5..40)
    } else {
        0
    };
    let mut child = Command::new(env!("CARGO_BIN_EXE_ledger-load"))
        .arg(dir)
        .arg(durability.as_str())
        .args([random.random::<u32>().to_string(), close.to_string()])
        .arg(ship_to.unwrap_or(Path::new("-")))
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().context("its output")?;
    let (heard, hear) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut run = Run::default();
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            run.hear(&line);
            // Nobody listens any more once the moment has come.
            let _ = heard.send((run.opened.is_some(), run.sealed.len()));
        }
        run
    });
    let until = |reached: fn(&(bool, usize)) -> bool| {
        let deadline = Instant::now() + Duration::from_secs(5);
        while let Ok(now) = hear.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if reached(&now) {
                return;
            }
        }
    };
    // Some are killed wherever they are, perhaps while they open the ledger; some when they have sealed a segment.
    let micros = match random.random_range(0..10) {
        0..2 => random.random_range(0..40_000),
        2..4 => {
            until(|(_, sealed)| *sealed > 0);
            random.random_range(0..20_000)
        }
        _ => {
            until(|(open, _)| *open);
            random.random_range(0..60_000)
        }
    };
    drop(hear);
    std::thread::sleep(Duration::from_micros(micros));
    child.kill()?;
    let output = child.wait_with_output()?;
    let run = reader.join().map_err(|_| anyhow::anyhow!("the reader"))?;
    let killed = output.status.signal() == Some(9);
    ensure!(
        killed || run.closed && output.status.success(),
        "it ended by itself: {}, {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok((run, killed))
}
