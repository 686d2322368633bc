//! How far a long piece of work is.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Instant,
};

use crate::ledger::Progress;

/// Progress on a terminal; nothing elsewhere.
pub(super) struct Bar {
    what: &'static str,
    shown: u64,
    began: Instant,
    tty: bool,
}

impl Bar {
    pub(super) fn new(what: &'static str) -> Self {
        Self {
            what,
            shown: u64::MAX,
            began: Instant::now(),
            tty: std::io::stderr().is_terminal(),
        }
    }

    pub(super) fn show(&mut self, p: Progress) {
        let percent = p.done.saturating_mul(100).checked_div(p.total).unwrap_or(100);
        if self.tty && percent != self.shown {
            self.shown = percent;
            eprint!("\r{} {percent} %", self.what);
            let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            if let Some(rate) = p.bytes.checked_div(ms.saturating_mul(1000))
                && p.bytes > 0
            {
                eprint!(", {rate} MB/s");
            }
            let _ = std::io::stderr().flush();
        }
    }

    pub(super) fn end(&self) {
        if self.tty {
            eprint!("\r\x1b[K");
        }
    }
}
