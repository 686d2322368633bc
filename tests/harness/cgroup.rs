//! cgroups of a test's own, removed with everything below them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// How the names of everything start that is made on the machine; the process id follows.
pub const PREFIX: &str = "portcullis-e2e-";

/// A cgroup's directory; dropping it ends what runs in it and removes it with all below.
#[derive(Debug)]
pub struct Cgroup {
    mount: PathBuf,
    path: PathBuf,
}

impl Cgroup {
    /// A fresh one directly below the cgroup2 mount, named after this process.
    ///
    /// # Errors
    /// Without root or cgroup2.
    pub fn new(name: &str) -> Result<Self> {
        let mount = mount()?;
        sweep(&mount);
        let path = mount.join(format!("{PREFIX}{}-{name}", std::process::id()));
        fs::create_dir_all(&path).context("these tests need root: mkdir of a cgroup")?;
        Ok(Self { mount, path })
    }

    /// Makes one below this; it goes with this.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn below(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path below the mount, as configuration names it.
    #[must_use]
    pub fn name(&self) -> String {
        format!(
            "/{}",
            self.path
                .strip_prefix(&self.mount)
                .unwrap_or(&self.path)
                .display()
        )
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Where cgroup2 is mounted, also beside version 1 in a hybrid layout.
fn mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found = fields
        .find(|f| f.get(2) == Some(&"cgroup2"))
        .context("these tests need cgroup2, mounted")?;
    Ok(found[1].into())
}

/// Ends the processes of a tree of cgroups and removes it, leaves first.
fn remove(path: &Path) {
    // Since Linux 5.14; whoever is left on an older kernel was a child of this process and has been ended by it.
    let _not_there = fs::write(path.join("cgroup.kill"), "1");
    let began = Instant::now();
    while !remove_tree(path) && began.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn remove_tree(path: &Path) -> bool {
    for entry in fs::read_dir(path).into_iter().flatten().filter_map(Result::ok) {
        if entry.path().is_dir() {
            remove_tree(&entry.path());
        }
    }
    fs::remove_dir(path).is_ok() || !path.exists()
}

/// Removes what processes left that could not clean up after themselves.
fn sweep(mount: &Path) {
    let gone = |name: &str| {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
    };
    for entry in fs::read_dir(mount).into_iter().flatten().filter_map(Result::ok) {
        if gone(&entry.file_name().to_string_lossy()) {
            remove(&entry.path());
        }
    }
    for directory in ["/sys/fs/bpf", "/tmp"] {
        for entry in fs::read_dir(directory)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
        {
            if gone(&entry.file_name().to_string_lossy()) {
                let _left_for_the_next_run = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// A directory for pins below bpffs, removed with all links and maps in it.
#[derive(Debug)]
pub struct Pins(PathBuf);

impl Pins {
    /// A name of its own; the daemon makes the directory.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(Path::new("/sys/fs/bpf").join(format!("{PREFIX}{}-{name}", std::process::id())))
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _never_made = fs::remove_dir_all(&self.0);
    }
}
