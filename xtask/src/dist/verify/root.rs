//! A root to install into: a shell, what the scripts call, and the libraries that the program needs.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use super::tree;
use crate::step::{command, output};

/// Stands for systemd: what it is told is kept, and nothing is running.
const SYSTEMCTL: &str =
    "#!/bin/sh\necho \"$*\" >> /systemctl.log\ncase \" $* \" in *\" is-active \"*) exit 3;; esac\n";
const APPLETS: [&str; 5] = ["sh", "rm", "rmdir", "cat", "true"];
/// What package managers keep for themselves.
const DATABASES: [&str; 4] = ["var/lib/rpm", "var/lib/dpkg", "var/log", "var/tmp"];

/// The root, and what was in it to begin with.
pub struct Root {
    path: PathBuf,
    before: BTreeSet<PathBuf>,
}

impl Root {
    /// Makes it, for the program that will be installed.
    pub fn make(path: PathBuf, program: &Path) -> anyhow::Result<Self> {
        for directory in [
            "bin",
            "dev",
            "run/systemd/system",
            "var/lib/dpkg/updates",
            "var/lib/dpkg/info",
            "var/log",
            "var/tmp",
        ] {
            fs::create_dir_all(path.join(directory))?;
        }
        // Directories of every system, which no package of ours owns.
        for directory in [
            "etc",
            "usr/bin",
            "usr/lib/systemd/system",
            "usr/share/doc",
            "usr/share/man/man1",
            "usr/share/man/man5",
            "usr/share/man/man8",
            "usr/share/bash-completion/completions",
            "usr/share/fish/vendor_completions.d",
            "usr/share/zsh/site-functions",
            "usr/share/zsh/vendor-completions",
        ] {
            fs::create_dir_all(path.join(directory))?;
        }
        fs::write(path.join("var/lib/dpkg/status"), "")?;
        // Scripts write to it; a file does as well as the device.
        fs::write(path.join("dev/null"), "")?;
        fs::copy("/bin/busybox", path.join("bin/busybox")).context("busybox-static is missing")?;
        for applet in APPLETS {
            symlink("busybox", path.join("bin").join(applet))?;
        }
        let systemctl = path.join("bin/systemctl");
        fs::write(&systemctl, SYSTEMCTL)?;
        fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755))?;
        for library in libraries(program)? {
            let to = path.join(library.strip_prefix("/")?);
            fs::create_dir_all(to.parent().context("no parent")?)?;
            fs::copy(&library, to)?;
        }
        fs::write(path.join("systemctl.log"), "")?;
        let before = tree::list(&path)?.into_keys().collect();
        Ok(Self { path, before })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was added: copied to a tree of its own, so that it can be compared.
    pub fn added(&self, into: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(into)?;
        let mut copy = command("cp", &["--archive", "--parents", "--target-directory"]);
        copy.arg(into).arg("--").current_dir(&self.path);
        let files = self.list()?.into_iter().filter(|(_, is)| !is.is_dir());
        copy.args(files.map(|(path, _)| path));
        output(&mut copy).map(drop)
    }

    /// What is there that was not, but for the package managers' own.
    fn list(&self) -> anyhow::Result<Vec<(PathBuf, fs::Metadata)>> {
        let ours = |path: &PathBuf| !DATABASES.iter().any(|database| path.starts_with(database));
        let new = tree::list(&self.path)?.into_iter();
        Ok(new
            .filter(|(path, _)| !self.before.contains(path) && ours(path))
            .collect())
    }

    /// Fails where anything was left behind.
    pub fn is_as_before(&self) -> anyhow::Result<()> {
        let left: Vec<String> = self
            .list()?
            .iter()
            .map(|(path, _)| path.display().to_string())
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        bail!("removed, and still there:\n      {}", left.join("\n      "));
    }

    /// What systemd was told since the last time.
    pub fn told(&self) -> anyhow::Result<String> {
        let log = self.path.join("systemctl.log");
        let told = fs::read_to_string(&log)?;
        fs::write(log, "")?;
        Ok(told)
    }
}

/// What the loader says that a program needs, the loader itself included.
fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let said = output(command("ldd", &[]).arg(program))?;
    let paths = said
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}
