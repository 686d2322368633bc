//! Whether another build of the same commit, elsewhere, makes the same bytes.

use std::{fs, path::Path, process::Command};

use anyhow::bail;

use crate::step::{cargo, command, output, root, run, say};

/// Clones the last commit to a directory of another name, and makes everything there with a target directory of its own.
pub fn check(out: &Path) -> anyhow::Result<()> {
    say("again", "from a clone of the last commit, in another directory");
    if !output(&mut command("git", &["status", "--porcelain"]))?
        .trim()
        .is_empty()
    {
        bail!("there are changes that are not committed: a clone would be of something else");
    }
    let elsewhere = std::env::temp_dir().join(format!("portcullis-dist-{}", std::process::id()));
    let result = build_and_compare(out, &elsewhere);
    let _never_made = fs::remove_dir_all(&elsewhere);
    result
}

fn build_and_compare(out: &Path, elsewhere: &Path) -> anyhow::Result<()> {
    run(Command::new("git")
        .args(["clone", "--quiet", "--local"])
        .arg(root().canonicalize()?)
        .arg(elsewhere))?;
    run(cargo()
        .args(["xtask", "dist"])
        .current_dir(elsewhere)
        .env_remove("CARGO_TARGET_DIR"))?;
    let read = |directory: &Path| fs::read_to_string(directory.join("SHA256SUMS"));
    let (first, second) = (read(out)?, read(&elsewhere.join(super::OUT))?);
    if first != second {
        bail!("two builds of one commit differ:\n{first}\n{second}");
    }
    eprintln!("    the same bytes twice:\n{first}");
    Ok(())
}
