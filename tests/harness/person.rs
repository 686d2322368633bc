//! A person at the site, with a sign-in of their own: who approves, and who confirms.

use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::{
    child::{Process, Said},
    issuer::Human,
    site::Site,
    wait::{DEADLINE, wait_for},
};

/// One of them.
#[derive(Clone, Copy)]
pub struct Person<'a, 'w> {
    site: &'a Site<'w>,
    name: &'a str,
}

impl<'a, 'w> Person<'a, 'w> {
    /// Somebody who is signed in nowhere yet.
    #[must_use]
    pub fn new(site: &'a Site<'w>, name: &'a str) -> Self {
        Self { site, name }
    }

    /// A command of theirs; the sign-in is kept beside the site.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.site.daemon.command(arguments)?;
        command.env("XDG_STATE_HOME", self.site.world.path(self.name));
        Ok(command)
    }

    /// What a command of theirs says.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn says(&self, arguments: &[&str]) -> Result<Said> {
        Said::by(&mut self.command(arguments)?)
    }

    /// Signs in by the device flow, as a member of some groups; what the command printed.
    ///
    /// # Errors
    /// When there is no code to type in, or the sign-in fails.
    pub fn sign_in(&self, groups: &[&str]) -> Result<String> {
        let name = format!("login-{}", self.name);
        let mut command = self.command(&["approvals", "login"])?;
        let mut login = Process::start(&name, self.site.world.dir(), &mut command)?;
        let code = wait_for("the code to type in", DEADLINE, || {
            let log = login.log();
            let line = log.lines().find_map(|l| l.strip_prefix("Enter"))?;
            Some(line.trim().to_owned())
        })?;
        self.site.issuer.present(&Human::new(self.name, groups));
        self.site.issuer.type_in(&code);
        let status = login.wait(DEADLINE)?;
        ensure!(status.success(), "{}", login.log());
        Ok(login.log())
    }

    /// The id of the first request that is open, once there is one.
    ///
    /// # Errors
    /// When there is none within the deadline.
    pub fn asked(&self) -> Result<String> {
        wait_for("the request for approval", DEADLINE, || {
            let list = self.says(&["approvals", "list", "--json"]).ok()?;
            let list: Value = serde_json::from_str(&list.out).ok()?;
            Some(list.pointer("/open/0/id")?.as_str()?.to_owned())
        })
    }
}
