//! `portcullis sessions replay`

use std::{io::Write as _, path::PathBuf, process::ExitCode, time::Duration};

use super::{ledger_of, screen::Screen};
use crate::{
    config::Config,
    ledger::replay::{Replay, Step},
    model::SessionId,
};

#[derive(Debug, clap::Args)]
pub(in super::super) struct Args {
    /// The session's id, as `list` prints it.
    id: uuid::Uuid,
    /// How many times as fast as it went: 1, 4, 0.5; or max, without any pause.
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = speed)]
    speed: Speed,
    /// No pause is longer than this, e.g. 2s.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    max_pause: Option<Duration>,
    /// How many rows of each result table.
    #[arg(long, value_name = "N", default_value_t = 20)]
    rows: usize,
    /// An export, a segment or another ledger instead of this host's own.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Speed {
    Times(f64),
    Max,
}

fn speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    match text.parse::<f64>() {
        Ok(times) if times.is_finite() && times > 0.0 => Ok(Speed::Times(times)),
        _ => Err("it is a number above 0, or max".into()),
    }
}

impl Args {
    /// How long to wait between two steps.
    fn pause(&self, ns: i64) -> Duration {
        let Speed::Times(times) = self.speed else {
            return Duration::ZERO;
        };
        let real = Duration::from_nanos(u64::try_from(ns).unwrap_or(0));
        // A factor near 0 makes a pause that no clock can measure; then it lasts as long as this one can.
        let pause = Duration::try_from_secs_f64(real.as_secs_f64() / times).unwrap_or(Duration::MAX);
        self.max_pause.map_or(pause, |most| pause.min(most))
    }
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let mut replay = Replay::open(&ledger_of(args.file.as_ref(), config), SessionId(args.id))?;
    let mut screen = Screen::new(args.rows);
    let mut last: Option<Step> = None;
    let mut out = std::io::stdout().lock();
    while let Some(step) = replay.next_step()? {
        if last.is_none() {
            writeln!(
                out,
                "Seconds since it began. Those of payload (~) are not on record: they lie between the entries around it."
            )?;
        }
        let pause = args.pause(
            last.as_ref()
                .map_or(0, |last| step.at_ns.saturating_sub(last.at_ns)),
        );
        if !pause.is_zero() {
            out.flush()?;
            std::thread::sleep(pause);
        }
        match out.write_all(screen.show(&step).as_bytes()) {
            // Whoever watched has seen enough.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            written => written?,
        }
        last = Some(step);
    }
    if let Some(last) = &last {
        out.write_all(screen.end(last).as_bytes())?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(speed: Speed, max_pause: Option<Duration>) -> Args {
        let id = uuid::Uuid::nil();
        Args {
            id,
            speed,
            max_pause,
            rows: 1,
            file: None,
        }
    }

    #[test]
    fn pauses_follow_speed_and_their_limit() {
        assert_eq!(speed("4"), Ok(Speed::Times(4.0)));
        assert_eq!(speed("max"), Ok(Speed::Max));
        for wrong in ["0", "-1", "inf", "nan", "fast", ""] {
            assert!(speed(wrong).is_err(), "{wrong}");
        }
        let second = 1_000_000_000;
        assert_eq!(
            args(Speed::Times(4.0), None).pause(second),
            Duration::from_millis(250)
        );
        assert_eq!(args(Speed::Max, None).pause(second), Duration::ZERO);
        let most = Some(Duration::from_millis(100));
        assert_eq!(
            args(Speed::Times(1.0), most).pause(second),
            Duration::from_millis(100)
        );
        assert_eq!(
            args(Speed::Times(1e-300), most).pause(second),
            Duration::from_millis(100)
        );
        // Clocks step back.
        assert_eq!(args(Speed::Times(1.0), None).pause(-5), Duration::ZERO);
    }
}
