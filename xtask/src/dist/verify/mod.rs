//! What was made, opened and installed by the tools that hosts have, before anybody else does.
//!
//! It is a step of `dist` and no test beside it: the packers that it takes are installed for nothing else.

mod installed;
mod root;
mod texts;
mod tree;

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{OUT, ROOT};
use crate::step::{command, run, say};

/// Fails where anything is otherwise than it should be.
pub fn verify(epoch: u64) -> anyhow::Result<()> {
    say(
        "verify",
        "what is in the packages; installed, and removed again, in a root of its own",
    );
    run(command("sha256sum", &["--check", "--strict", "--quiet", "SHA256SUMS"]).current_dir(OUT))?;
    texts::check(Path::new(ROOT))?;
    let scratch = Scratch(std::env::temp_dir().join(format!("portcullis-verify-{}", std::process::id())));
    tarball(&scratch.0.join("tarball"), epoch)?;
    installed::deb(&made("deb")?, &scratch.0, epoch)?;
    installed::rpm(&made("rpm")?, &scratch.0, epoch)?;
    // Errors only: among its warnings are that scripts call systemctl, and that the changelog is called CHANGELOG.md.
    run(command("lintian", &["--allow-root", "--fail-on", "error"]).arg(made("deb")?))?;
    Ok(())
}

/// The tree as it is.
fn tarball(into: &Path, epoch: u64) -> anyhow::Result<()> {
    fs::create_dir_all(into)?;
    run(command(
        "tar",
        &[
            "--extract",
            "--same-owner",
            "--preserve-permissions",
            "--directory",
        ],
    )
    .arg(into)
    .arg("--file")
    .arg(made("gz")?))?;
    tree::compare(Path::new(ROOT), into, epoch, &tree::Known::default()).context("the tarball")
}

/// The one file of that kind.
fn made(extension: &str) -> anyhow::Result<PathBuf> {
    let mut found = fs::read_dir(OUT)?.map(|entry| Ok(entry?.path()));
    let is = |path: &PathBuf| path.extension() == Some(OsStr::new(extension));
    let path = found.find(|path: &std::io::Result<PathBuf>| path.as_ref().map_or(true, is));
    Ok(path
        .with_context(|| format!("no .{extension} in {OUT}"))??
        .canonicalize()?)
}

/// A directory that goes with the value.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _never_made = fs::remove_dir_all(&self.0);
    }
}
