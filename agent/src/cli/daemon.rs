//! `portcullis daemon`

use std::{path::Path, process::ExitCode};

use anyhow::Context as _;

use crate::app;

pub(super) fn run(config: &Path) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("portcullis")
        .build()
        .context("the runtime cannot be started")?;
    runtime.block_on(app::run(config))?;
    Ok(ExitCode::SUCCESS)
}
