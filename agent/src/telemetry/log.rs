//! `tracing` to the journal, as text, or as JSON.

use std::{io::IsTerminal as _, os::unix::fs::MetadataExt as _};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{Log, LogFormat};

/// Why logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not one.
    #[error("[log] filter '{0}': {1}; write for example \"info\" or \"portcullis=debug\"")]
    Filter(String, tracing_subscriber::filter::ParseError),
    /// The journal does not answer.
    #[error("[log] format = \"journald\": the journal's socket cannot be used: {0}")]
    Journal(std::io::Error),
    /// Logging was set up before.
    #[error("logging is set up already")]
    Twice,
}

/// Sets up logging for the process, once.
///
/// # Errors
/// When the filter is malformed or the journal was asked for and is not there.
pub fn init(config: &Log) -> Result<(), LogError> {
    let filter =
        EnvFilter::try_new(&config.filter).map_err(|e| LogError::Filter(config.filter.clone(), e))?;
    let registry = tracing_subscriber::registry().with(filter);
    let done = match config.format {
        LogFormat::Journald => registry
            .with(tracing_journald::layer().map_err(LogError::Journal)?)
            .try_init(),
        LogFormat::Auto if stderr_is_journal() => match tracing_journald::layer() {
            Ok(layer) => registry.with(layer).try_init(),
            Err(_) => registry.with(text()).try_init(),
        },
        LogFormat::Auto | LogFormat::Text => registry.with(text()).try_init(),
        LogFormat::Json => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .with_writer(std::io::stderr),
            )
            .try_init(),
    };
    done.map_err(|_| LogError::Twice)
}

fn text<S>() -> impl tracing_subscriber::Layer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
}

/// Whether standard error is the stream that systemd named in `JOURNAL_STREAM` (device:inode), sd_journal(3).
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(meta) = std::fs::metadata("/proc/self/fd/2") else {
        return false;
    };
    stream == format!("{}:{}", meta.dev(), meta.ino())
}
