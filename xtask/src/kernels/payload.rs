//! The second disk: the kernel's modules, the built programs, and what is to be done.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use super::kernel::Kernel;
use crate::step::run;

/// What a stage takes along.
#[derive(Default)]
pub struct Payload {
    /// Programs that the guest finds at the same path, without their debugging information.
    pub programs: Vec<PathBuf>,
    /// Directories of sources that the guest finds at the same path.
    pub sources: Vec<PathBuf>,
    /// Other files, by their name below /payload.
    pub files: Vec<(String, PathBuf)>,
    /// Small files, by their name below /payload.
    pub texts: Vec<(&'static str, String)>,
    /// The shell script that is run.
    pub script: String,
}

impl Payload {
    /// Makes the disk at `disk`.
    pub fn write(&self, kernel: &Kernel, disk: &Path) -> anyhow::Result<()> {
        let tree = disk.with_extension("tree");
        if tree.exists() {
            fs::remove_dir_all(&tree)?;
        }
        fs::create_dir_all(tree.join("tree"))?;
        fs::write(tree.join("guest.sh"), include_str!("guest/guest.sh"))?;
        fs::write(tree.join("stage.sh"), &self.script)?;
        let mut binds: Vec<String> = Vec::new();
        for program in &self.programs {
            let directory = program.parent().context("a program without a directory")?;
            let to = tree.join("tree").join(program.strip_prefix("/")?);
            fs::create_dir_all(to.parent().unwrap_or(&tree))?;
            run(Command::new("objcopy").arg("--strip-debug").args([program, &to]))?;
            binds.push(format!("{}\n", directory.display()));
        }
        for source in &self.sources {
            let to = tree.join("tree").join(source.strip_prefix("/")?);
            fs::create_dir_all(to.parent().unwrap_or(&tree))?;
            run(Command::new("cp").arg("-a").args([source, &to]))?;
            binds.push(format!("{}\n", source.display()));
        }
        // An outer directory first: an inner one would be hidden by it otherwise.
        binds.sort();
        binds.dedup();
        let inner = |b: &&String| !binds.iter().any(|o| *b != o && b.starts_with(o.trim_end()));
        let outer: String = binds.iter().filter(inner).map(String::as_str).collect();
        fs::write(tree.join("binds"), outer)?;
        for (name, file) in &self.files {
            let to = tree.join(name);
            fs::create_dir_all(to.parent().unwrap_or(&tree))?;
            fs::copy(file, to).with_context(|| file.display().to_string())?;
        }
        for (name, text) in &self.texts {
            let to = tree.join(name);
            fs::create_dir_all(to.parent().unwrap_or(&tree))?;
            fs::write(to, text)?;
        }
        run(Command::new("cp")
            .arg("-a")
            .arg(&kernel.modules)
            .arg(tree.join("modules")))?;
        if disk.exists() {
            fs::remove_file(disk)?;
        }
        run(Command::new("mkfs.ext4")
            .args(["-q", "-O", "^has_journal", "-m", "0", "-d"])
            .args([&tree, disk])
            .arg("1G"))?;
        fs::remove_dir_all(&tree)?;
        Ok(())
    }
}
