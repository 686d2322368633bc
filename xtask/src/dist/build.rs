//! The binary, without a word about where it was built.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::step::{cargo, output, run, say};

/// What stands for the directories of the machine that builds.
const SOURCE: &str = "/usr/src/portcullis";
const REGISTRY: &str = "/usr/src/cargo";

/// Builds the program with profile `dist`, and gives its path.
pub fn build(root: &Path, epoch: u64) -> anyhow::Result<PathBuf> {
    say("build", "one binary, with the eBPF programs in it; profile dist");
    let root = root.canonicalize()?;
    let home = cargo_home()?;
    // Where both match, the last one counts: the workspace may be below the home, and not the other way round.
    let rust = [
        format!("--remap-path-prefix={}={REGISTRY}", home.display()),
        format!("--remap-path-prefix={}={SOURCE}", root.display()),
    ];
    let c = [
        format!("-ffile-prefix-map={}={REGISTRY}", home.display()),
        format!("-ffile-prefix-map={}={SOURCE}", root.display()),
    ]
    .join(" ");
    let mut command = cargo();
    command
        .args(["build", "--locked", "--profile", "dist"])
        .args(["--package", "portcullis", "--bin", "portcullis"])
        .current_dir(&root)
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", rust.join("\x1f"))
        .env("CFLAGS", &c)
        .env("CXXFLAGS", &c)
        .env("SOURCE_DATE_EPOCH", epoch.to_string());
    run(&mut command)?;
    Ok(target_dir(&root)?.join("dist/portcullis"))
}

fn cargo_home() -> anyhow::Result<PathBuf> {
    match std::env::var_os("CARGO_HOME") {
        Some(home) => Ok(home.into()),
        None => Ok(PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cargo")),
    }
}

/// Where cargo builds, which a configuration may have moved.
fn target_dir(root: &Path) -> anyhow::Result<PathBuf> {
    let metadata = output(
        cargo()
            .args(["metadata", "--format-version", "1", "--no-deps"])
            .current_dir(root),
    )?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let directory = metadata["target_directory"]
        .as_str()
        .context("cargo metadata names no target_directory")?;
    Ok(directory.into())
}
