//! Debian packages, without questions and without starting what they bring.

use std::{path::Path, process::Command, thread, time::Duration};

use anyhow::{Context as _, bail};

use crate::step::{line, run};

/// dpkg's hook that keeps a package from starting its service: the tests want the programs, not a web server on
/// port 80 of this host.
const POLICY_RC_D: &str = "/usr/sbin/policy-rc.d";

/// Keeps Debian's PostgreSQL from making a cluster that would run from the next start of the host on.
const NO_CLUSTER: &str = "/etc/postgresql-common/createcluster.d/portcullis-setup.conf";

/// Installs packages; refreshes the package lists only when that is what stands in the way.
pub fn install(packages: &[&str]) -> anyhow::Result<()> {
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "install by hand what Debian calls {}: there is no apt-get here",
            packages.join(", ")
        );
    }
    let quiet = Quiet::hold()?;
    if known(packages) && get(&install_arguments(packages)).is_ok() {
        return Ok(());
    }
    drop(quiet);
    refresh_and_install(packages)
}

/// Refreshes the package lists, and installs packages or their newest versions.
pub fn refresh_and_install(packages: &[&str]) -> anyhow::Result<()> {
    let _quiet = Quiet::hold()?;
    get(&["update"]).context("the package lists cannot be refreshed")?;
    get(&install_arguments(packages))
}

fn install_arguments<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["install", "--yes", "--no-install-recommends", "--quiet"];
    arguments.extend(packages);
    arguments
}

/// Whether the lists at hand name a version of each; an old list may still name one that is gone.
fn known(packages: &[&str]) -> bool {
    packages.iter().all(|package| {
        Command::new("apt-cache")
            .args(["policy", package])
            .output()
            .is_ok_and(|o| {
                let text = String::from_utf8_lossy(&o.stdout).into_owned();
                text.lines()
                    .any(|l| l.trim().starts_with("Candidate:") && !l.contains("(none)"))
            })
    })
}

/// `apt-get`, waiting for whoever else is installing.
fn get(arguments: &[&str]) -> anyhow::Result<()> {
    let mut last = None;
    for attempt in 0..10 {
        let mut command = Command::new("apt-get");
        command
            .args([
                "-o",
                "DPkg::Lock::Timeout=600",
                "-o",
                "Acquire::Retries=3",
                "-o",
                "Dpkg::Use-Pty=0",
            ])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C");
        match run(&mut command) {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
        // The timeout above covers dpkg's lock, not that of the lists.
        if !lists_locked() {
            break;
        }
        eprintln!(
            "    {}: another program holds the lock; attempt {} follows",
            line(&command),
            attempt + 2
        );
        thread::sleep(Duration::from_secs(15));
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("apt-get did not run")))
}

/// Whether some process holds the lock of the package lists, by /proc/locks (POSIX locks name the inode).
fn lists_locked() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(lock) = std::fs::metadata("/var/lib/apt/lists/lock") else {
        return false;
    };
    let inode = format!(":{}", lock.ino());
    std::fs::read_to_string("/proc/locks").is_ok_and(|locks| {
        locks
            .lines()
            .any(|l| l.split_whitespace().any(|w| w.ends_with(&inode)))
    })
}

/// Keeps services from being started, and databases from being made, while it lives; leaves a hook that the admin put
/// there alone.
struct Quiet {
    ours: bool,
}

impl Quiet {
    fn hold() -> anyhow::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        if let Some(dir) = Path::new(NO_CLUSTER).parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(NO_CLUSTER, "create_main_cluster = false\n").context(NO_CLUSTER)?;
        if Path::new(POLICY_RC_D).exists() {
            return Ok(Self { ours: false });
        }
        std::fs::write(POLICY_RC_D, "#!/bin/sh\nexit 101\n").context(POLICY_RC_D)?;
        std::fs::set_permissions(POLICY_RC_D, std::fs::Permissions::from_mode(0o755))?;
        Ok(Self { ours: true })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(NO_CLUSTER);
        // Only those that nothing else is in.
        for dir in Path::new(NO_CLUSTER).ancestors().skip(1).take(2) {
            let _ = std::fs::remove_dir(dir);
        }
        if self.ours {
            let _ = std::fs::remove_file(POLICY_RC_D);
        }
    }
}
