//! A container of crun(1), rootful: namespaces of its own, in the cgroup of a workload.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

/// An OCI bundle, removed at the end.
pub struct Bundle(TempDir);

impl Bundle {
    /// Runs a script with busybox, and has nothing else.
    ///
    /// # Errors
    /// Without busybox or crun.
    pub fn busybox(script: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let root = root(directory.path(), &["bin"])?;
        fs::copy("/bin/busybox", root.join("bin/busybox")).context("this needs busybox-static")?;
        symlink("busybox", root.join("bin/sh"))?;
        Self::configured(directory, script, &[])
    }

    /// Runs a script with the host's programs, read-only, and with files of its own in /etc: nothing there is the host's.
    ///
    /// # Errors
    /// Without crun.
    pub fn of_host(script: &str, etc: &[(&str, &str)]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let root = root(directory.path(), &["usr", "etc", "tmp"])?;
        for name in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{name}"), root.join(name))?;
        }
        for (name, text) in etc {
            fs::write(root.join("etc").join(name), text)?;
        }
        let usr =
            json!({ "destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"] });
        Self::configured(directory, script, &[usr])
    }

    /// The container's root directory.
    #[must_use]
    pub fn rootfs(&self) -> std::path::PathBuf {
        self.0.path().join("rootfs")
    }

    fn configured(directory: TempDir, script: &str, mounts: &[Value]) -> Result<Self> {
        let mut spec = Command::new("crun");
        let done = spec.arg("spec").current_dir(directory.path()).status();
        ensure!(done.is_ok_and(|done| done.success()), "this needs crun");
        let file = directory.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = json!(["/bin/sh", "-c", script]);
        let process = config["process"].as_object_mut().context("no process")?;
        process.remove("rlimits");
        let mut all = vec![json!({ "destination": "/proc", "type": "proc", "source": "proc" })];
        all.extend_from_slice(mounts);
        config["mounts"] = all.into();
        let linux = config["linux"].as_object_mut().context("no linux")?;
        linux.remove("resources");
        config["linux"]["namespaces"] = json!([
            { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
        ]);
        fs::write(&file, config.to_string())?;
        Ok(Self(directory))
    }

    /// Runs it in a cgroup. crun does not know cgroup2 beside version 1, so it is shown cgroup2 alone.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, cgroup: &Path) -> Result<Child> {
        let name = format!("portcullis-test-{}", std::process::id());
        let script = format!(
            "echo 0 > {cgroup}/cgroup.procs; mount -t cgroup2 cgroup2 /sys/fs/cgroup; \
             exec crun --root {at}/state --cgroup-manager=disabled run -b {at} {name}",
            cgroup = cgroup.display(),
            at = self.0.path().display()
        );
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().context("unshare")
    }
}

/// The container's root directory, with what a kernel needs and more.
fn root(directory: &Path, more: &[&str]) -> Result<std::path::PathBuf> {
    let root = directory.join("rootfs");
    for below in ["proc", "dev", "sys"].iter().chain(more) {
        fs::create_dir_all(root.join(below))?;
    }
    Ok(root)
}
