//! `portcullis daemon`

use std::{path::Path, process::ExitCode};

use anyhow::Context as _;
use nix::sys::{
    prctl,
    resource::{Resource, setrlimit},
};

use crate::app;

pub(super) fn run(config: &Path) -> anyhow::Result<ExitCode> {
    keep_memory_to_itself().context("this process's memory cannot be kept to itself")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("portcullis")
        .build()
        .context("the runtime cannot be started")?;
    runtime.block_on(app::run(config))?;
    Ok(ExitCode::SUCCESS)
}

/// No core dump, and no debugger of the same user: secrets are in this memory. /proc/PID belongs to root from now on,
/// whoever this runs as.
fn keep_memory_to_itself() -> nix::Result<()> {
    // A core_pattern that is a pipe takes no notice of the limit; that it is not dumpable it does.
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_dumpable(false)
}
