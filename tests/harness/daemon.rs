//! The real `portcullis daemon`, and the commands that talk to it.

use std::{
    fs,
    os::unix::net::{UnixDatagram, UnixStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

use crate::{
    child::{Process, Said},
    manager::Manager,
    paths,
    wait::{DEADLINE, wait_until},
    world::World,
};

/// A daemon with its configuration file; killed when dropped.
pub struct Daemon<'w> {
    world: &'w World,
    config: PathBuf,
    run_dir: PathBuf,
    data_dir: PathBuf,
    process: Option<Process>,
    /// Who keeps its sockets, where a test has it managed; and the cgroup that it is started in.
    managed: Option<(Manager, PathBuf)>,
}

impl<'w> Daemon<'w> {
    /// Writes the configuration and starts the daemon; returns when it says that it is ready.
    ///
    /// `config` is everything but `[host]`.
    ///
    /// # Errors
    /// When it does not become ready; with its log.
    pub fn start(world: &'w World, config: &str) -> Result<Self> {
        let mut daemon = Self::configure(world, config)?;
        daemon.launch()?;
        Ok(daemon)
    }

    /// Writes the configuration only.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn configure(world: &'w World, config: &str) -> Result<Self> {
        let (data_dir, run_dir) = (world.path("data"), world.path("run"));
        let file = world.path("portcullis.toml");
        let host = format!(
            "[host]\ndata_dir = \"{}\"\nrun_dir = \"{}\"\n",
            data_dir.display(),
            run_dir.display()
        );
        fs::write(&file, format!("{host}\n{config}"))?;
        Ok(Self {
            world,
            config: file,
            run_dir,
            data_dir,
            process: None,
            managed: None,
        })
    }

    /// Has it managed from its next start on, as systemd would: started in this cgroup, which is made anew each time, with
    /// its control socket made for it and with what it had kept.
    ///
    /// # Errors
    /// When the manager's sockets cannot be made.
    pub fn manage(&mut self, cgroup: &Path, watchdog: Duration) -> Result<()> {
        let manager = Manager::new(self.world.dir(), &self.control(), watchdog)?;
        self.managed = Some((manager, cgroup.to_path_buf()));
        Ok(())
    }

    /// From its next start on, the manager keeps so many descriptors at most.
    ///
    /// # Errors
    /// When it is not managed.
    pub fn limit_store(&mut self, room: usize) -> Result<()> {
        let (manager, _) = self.managed.as_mut().context("it is not managed")?;
        manager.limit(room);
        Ok(())
    }

    /// The manager, having heard what was said by now.
    ///
    /// # Errors
    /// When there is none, or it cannot hear.
    pub fn manager(&mut self) -> Result<&Manager> {
        let (manager, _) = self.managed.as_mut().context("it is not managed")?;
        manager.hear()?;
        Ok(manager)
    }

    fn launch_managed(&mut self) -> Result<()> {
        let (manager, cgroup) = self.managed.as_mut().context("it is not managed")?;
        // As systemd does: the cgroup of the last run is gone, with the sockets that were made in it still there.
        if cgroup.exists() {
            wait_until("the last run's cgroup to be empty", DEADLINE, || {
                fs::remove_dir(&*cgroup).is_ok()
            })?;
        }
        fs::create_dir_all(&*cgroup)?;
        let mut command = self.world.host_in(cgroup, paths::portcullis()?);
        command.arg("daemon").arg("--config").arg(&self.config);
        command.env_remove("PORTCULLIS_CONFIG");
        let mut command = manager.start(command);
        manager.hand_on(true)?;
        let process = Process::start("daemon", self.world.dir(), &mut command);
        manager.hand_on(false)?;
        let mut process = process?;
        let mut ended = None;
        let mut heard = Ok(());
        let waited = wait_until("the daemon to be ready", DEADLINE, || {
            heard = manager.hear();
            ended = process.ended();
            heard.is_err() || ended.is_some() || manager.heard("READY=1") > 0
        });
        heard?;
        if let Some(status) = ended {
            bail!("the daemon ended with {status}; its log:\n{}", process.log());
        }
        waited.with_context(|| process.log())?;
        self.process = Some(process);
        Ok(())
    }

    /// Starts it, and waits until it has said READY=1 (`sd_notify(3)`) and its control socket answers.
    ///
    /// # Errors
    /// When it ends instead, or takes too long; with its log.
    pub fn launch(&mut self) -> Result<()> {
        if self.managed.is_some() {
            return self.launch_managed();
        }
        let notify = self.world.path("notify.sock");
        let _not_there = fs::remove_file(&notify);
        let socket = UnixDatagram::bind(&notify)?;
        socket.set_nonblocking(true)?;
        let mut command = self.world.host(paths::portcullis()?);
        command
            .arg("daemon")
            .arg("--config")
            .arg(&self.config)
            .env("NOTIFY_SOCKET", &notify);
        command.env_remove("PORTCULLIS_CONFIG");
        let mut process = Process::start("daemon", self.world.dir(), &mut command)?;
        let (mut ready, mut ended) = (false, None);
        let waited = wait_until("the daemon to be ready", DEADLINE, || {
            let mut buffer = [0; 512];
            while let Ok(n) = socket.recv(&mut buffer) {
                ready |= buffer[..n].split(|b| *b == b'\n').any(|line| line == b"READY=1");
            }
            ended = process.ended();
            ended.is_some() || (ready && UnixStream::connect(self.control()).is_ok())
        });
        if let Some(status) = ended {
            bail!("the daemon ended with {status}; its log:\n{}", process.log());
        }
        waited.with_context(|| process.log())?;
        self.process = Some(process);
        Ok(())
    }

    /// kill -9.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::SIGTERM)?;
            process.wait(Duration::from_secs(30))?;
        }
        Ok(())
    }

    /// SIGHUP: read the configuration and policy again.
    ///
    /// # Errors
    /// When it does not run.
    pub fn reload(&self) -> Result<()> {
        self.process
            .as_ref()
            .context("the daemon does not run")?
            .signal(Signal::SIGHUP)
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.process.as_mut().is_some_and(|p| p.ended().is_none())
    }

    /// What it logged, over all starts.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.world.path("daemon.log")).unwrap_or_default()
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The data directory: ledger, keys, host CA.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The live ledger.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.data_dir.join("ledger.db")
    }

    /// The control socket.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.run_dir.join("control.sock")
    }

    /// A `portcullis` command with this daemon's configuration, to be run on the host.
    ///
    /// # Errors
    /// When `portcullis` has not been built.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.world.host(paths::portcullis()?);
        command.arg("--config").arg(&self.config).args(arguments);
        Ok(command)
    }

    /// Runs a `portcullis` command to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn cli(&self, arguments: &[&str]) -> Result<Said> {
        Said::by(&mut self.command(arguments)?)
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resident(&self) -> Result<u64> {
        resident(self.pid().context("the daemon does not run")?)
    }

    /// CPU time used so far, user and system, from /proc/PID/stat.
    ///
    /// # Errors
    /// When it does not run.
    pub fn cpu(&self) -> Result<Duration> {
        cpu(self.pid().context("the daemon does not run")?)
    }
}

/// CPU time that a process has used, user and system (proc(5), fields 14 and 15).
///
/// # Errors
/// When it is gone.
pub fn cpu(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name in parentheses, which may contain anything.
    let rest = stat.rsplit(')').next().context("no name in /proc/PID/stat")?;
    let ticks: u64 = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|n| n.parse::<u64>().unwrap_or(0))
        .sum();
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100);
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// A process's resident memory in bytes, from /proc/PID/status.
///
/// # Errors
/// When it is gone.
pub fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}
