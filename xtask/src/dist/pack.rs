//! The same tree, wrapped three times, and what its readers check it by.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use super::{OUT, ROOT};
use crate::step::{cargo, command, output, run, say};

/// Packs the tree; gives what was made.
pub fn pack(epoch: u64) -> anyhow::Result<Vec<PathBuf>> {
    let out = Path::new(OUT);
    if out.exists() {
        fs::remove_dir_all(out)?;
    }
    fs::create_dir_all(out)?;
    let epoch = epoch.to_string();
    say("pack", ".deb, .rpm, tarball");
    run(cargo()
        .args([
            "deb",
            "--package",
            "portcullis",
            "--no-build",
            "--no-strip",
            "--no-dbgsym",
        ])
        .args(["--locked", "--quiet", "--output", OUT])
        .env("SOURCE_DATE_EPOCH", &epoch))?;
    run(cargo()
        .args(["generate-rpm", "--package", "agent", "--output", OUT])
        .env("SOURCE_DATE_EPOCH", &epoch))?;
    let (version, machine) = (env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let tarball = out.join(format!("portcullis-{version}-{machine}-linux.tar.gz"));
    run(command(
        "tar",
        &["--create", "--sort=name", "--format=gnu", "--numeric-owner"],
    )
    .args(["--owner=0", "--group=0", "--directory", ROOT])
    .arg(format!("--mtime=@{epoch}"))
    .args(["--use-compress-program", "gzip --best --no-name", "--file"])
    .arg(&tarball)
    .args(["etc", "usr"]))?;
    fs::copy(
        Path::new(ROOT).join("usr/share/doc/portcullis/portcullis.cdx.json"),
        out.join(format!("portcullis-{version}.cdx.json")),
    )?;
    sums(out)
}

/// SHA256SUMS, as `sha256sum --check` reads it.
fn sums(out: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut made: Vec<PathBuf> = fs::read_dir(out)?
        .map(|e| Ok(e?.path()))
        .collect::<std::io::Result<_>>()?;
    made.sort();
    if made.len() != 4 {
        bail!("a .deb, an .rpm, a tarball and a bill should have been made, not {made:?}");
    }
    let mut sha256sum = command("sha256sum", &["--"]);
    for path in &made {
        sha256sum.arg(path.file_name().context("no name")?);
    }
    let text = output(sha256sum.current_dir(out))?;
    let path = out.join("SHA256SUMS");
    fs::write(&path, text)?;
    made.push(path);
    Ok(made)
}
