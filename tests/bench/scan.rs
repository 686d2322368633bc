//! The masker alone, on one core.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use nix::time::{ClockId, clock_gettime};
use portcullis::{
    config,
    mask::{Format, MaskRules, Masker},
};

use super::case;

/// How fast one kind of text goes through.
pub struct Scanned {
    pub name: &'static str,
    pub mb_per_second: f64,
}

/// How long each kind is scanned.
const FOR: Duration = Duration::from_millis(700);

/// Scans in the pieces that a relay reads.
pub fn scan() -> Result<Vec<Scanned>> {
    let rules = Arc::new(MaskRules::new(&config::Mask::default(), &[7; 32])?);
    let json = case::json(1 << 20);
    let log: String = (0..12_000)
        .map(|n| match n % 100 {
            0 => format!(
                "2026-01-02T03:04:05.{n:06}Z INFO user ada@example.com logged in from node-{}\n",
                n % 40
            ),
            _ => format!(
                "2026-01-02T03:04:05.{n:06}Z INFO request {n} served in {}.{:03} ms by node-{}\n",
                n % 9,
                n % 997,
                n % 40
            ),
        })
        .collect();
    let cases = [
        ("JSON, 1 % of values sensitive", Format::Json, json.as_bytes()),
        ("text, 1 % of lines sensitive", Format::Text, log.as_bytes()),
    ];
    let mut scanned = Vec::new();
    for (name, format, text) in cases {
        let mut out = Vec::with_capacity(64 * 1024);
        let (began, mut bytes) = (cpu()?, 0);
        while cpu()? - began < FOR {
            let mut masker = Masker::new(Arc::clone(&rules), rules.all(), format);
            for piece in text.chunks(32 * 1024) {
                out.clear();
                masker.push(piece, &mut out);
            }
            masker.finish(&mut out);
            bytes += text.len();
        }
        let mb_per_second = bytes as f64 / (cpu()? - began).as_secs_f64() / 1e6;
        scanned.push(Scanned { name, mb_per_second });
    }
    Ok(scanned)
}

/// CPU time of this thread: what others do on this machine meanwhile does not count.
fn cpu() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
