//! `portcullis approvals list --watch`

use std::io::{IsTerminal as _, Write as _};

use super::{
    client::{AskError, Client},
    print,
};
use crate::console::Watched;

/// Shows everything again whenever it changes, until it is interrupted.
pub(super) async fn run(client: &Client, json: bool) -> Result<(), AskError> {
    let terminal = std::io::stdout().is_terminal();
    let mut seen = String::new();
    loop {
        let watched: Watched = client.get(&format!("/v1/approvals/watch?seen={seen}")).await?;
        let changed = watched.seen != seen;
        seen = watched.seen;
        // On a terminal ages advance even where nothing happens.
        if !changed && (json || !terminal) {
            continue;
        }
        let text = if json {
            serde_json::to_string(&watched.overview).map_err(|e| AskError::Failed(e.to_string()))? + "\n"
        } else if terminal {
            // Home, the rest of the screen cleared.
            format!("\x1b[H\x1b[J{}", print::list(&watched.overview))
        } else {
            format!("{}\n", print::list(&watched.overview))
        };
        let mut out = std::io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        if let Err(e) = written {
            // Whoever read it went away.
            return if e.kind() == std::io::ErrorKind::BrokenPipe {
                Ok(())
            } else {
                Err(AskError::Failed(e.to_string()))
            };
        }
    }
}
