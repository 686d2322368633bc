//! Two packages of one tree: an upgrade needs something to upgrade to.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::step::{output, run, say};

/// Where `cargo xtask dist` puts packages.
const OUT: &str = "target/package/out";

/// The package, and the same as a later version.
pub struct Packages {
    pub first: PathBuf,
    pub second: PathBuf,
    /// The version of the second.
    pub version: String,
}

impl Packages {
    /// Packs this program twice; without one, finds what was packed before.
    pub fn ensure(work: &Path, binary: Option<&Path>) -> anyhow::Result<Self> {
        let (first, second) = (work.join("first.deb"), work.join("second.deb"));
        if let Some(binary) = binary {
            say(
                "pack",
                "the package, and the same as a later version to upgrade to",
            );
            let stripped = work.join("portcullis");
            run(Command::new("objcopy")
                .arg("--strip-all")
                .args([binary, &stripped]))?;
            run(Command::new(std::env::current_exe()?)
                .args(["dist", "--binary"])
                .arg(&stripped))?;
            fs::copy(newest_deb()?, &first)?;
            later(work, &first, &second)?;
        }
        if !first.exists() || !second.exists() {
            bail!("the packages are not made: run without --no-build once");
        }
        let version = output(Command::new("dpkg-deb").arg("-f").arg(&second).arg("Version"))?;
        Ok(Self {
            first,
            second,
            version: version.trim().to_owned(),
        })
    }
}

fn newest_deb() -> anyhow::Result<PathBuf> {
    let files = fs::read_dir(OUT).context(OUT)?.filter_map(Result::ok);
    let debs = files
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "deb"));
    debs.max_by_key(|p| fs::metadata(p).and_then(|m| m.modified()).ok())
        .context("no package was made")
}

/// The same files under a later version.
fn later(work: &Path, first: &Path, second: &Path) -> anyhow::Result<()> {
    let tree = work.join("deb");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    run(Command::new("dpkg-deb").arg("-R").args([first, &tree]))?;
    let control = tree.join("DEBIAN/control");
    let lines = fs::read_to_string(&control)?;
    let raised = lines.lines().map(|line| match line.strip_prefix("Version: ") {
        Some(version) => format!("Version: {version}+later\n"),
        None => format!("{line}\n"),
    });
    fs::write(&control, raised.collect::<String>())?;
    run(Command::new("dpkg-deb")
        .args(["-Zgzip", "--root-owner-group", "-b"])
        .args([&tree, second]))?;
    fs::remove_dir_all(&tree)?;
    Ok(())
}
