//! Shipped policy packs: valid against the schema, and every example decided as its author said.

use std::path::Path;

use anyhow::bail;

use crate::step::{cargo, run};

pub fn check() -> anyhow::Result<()> {
    let mut packs = Vec::new();
    if Path::new("policies").exists() {
        for entry in std::fs::read_dir("policies")? {
            let path = entry?.path();
            if path.is_dir() {
                packs.push(path);
            }
        }
    }
    packs.sort();
    if packs.is_empty() {
        bail!("there is no pack in policies/");
    }
    run(cargo().args(["build", "--quiet", "--package", "portcullis", "--bins"]))?;
    for pack in packs {
        // A pack without a README is one that nobody can choose.
        if !pack.join("README.md").exists() {
            bail!("{} has no README.md", pack.display());
        }
        let portcullis = [
            "run",
            "--quiet",
            "--package",
            "portcullis",
            "--bin",
            "portcullis",
            "--",
            "policy",
        ];
        run(cargo()
            .args(portcullis)
            .args(["check", "--deny-warnings"])
            .arg(&pack))?;
        run(cargo().args(portcullis).arg("test").arg(&pack))?;
    }
    Ok(())
}
