//! Commands that run as the workload.

use std::{path::Path, process::Command};

use anyhow::Result;

use crate::{child::Said, daemon::Daemon, paths, site::WORKLOAD, world::World};

/// Two ways to be the workload: started by `portcullis run`, or in a cgroup that was tagged beforehand.
pub struct Workload<'s> {
    pub(crate) world: &'s World,
    pub(crate) daemon: &'s Daemon<'s>,
    pub(crate) cgroup: &'s Path,
    pub(crate) parent: String,
}

impl Workload<'_> {
    /// A command under `portcullis run`, which also gives it trust in the host CA.
    ///
    /// # Errors
    /// When `portcullis` has not been built.
    pub fn command(&self, words: &[&str]) -> Result<Command> {
        // Below the test's own cgroup: whatever is killed here is removed with it.
        let arguments = [
            "run",
            "--workload",
            WORKLOAD,
            "--cgroup-parent",
            &self.parent,
            "--",
        ];
        let mut command = self.daemon.command(&arguments)?;
        command.args(words);
        Ok(command)
    }

    /// Runs a command under `portcullis run` to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, words: &[&str]) -> Result<Said> {
        Said::by(&mut self.command(words)?)
    }

    /// Python, under `portcullis run`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn python(&self, script: &str) -> Result<Said> {
        self.run(&[paths::python(), "-c", script])
    }

    /// A command in the tagged cgroup, without anything else: what a service of the host's init system gets.
    #[must_use]
    pub fn tagged(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.world.host_in(self.cgroup, program)
    }
}
