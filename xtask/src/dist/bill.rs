//! The bill of materials (CycloneDX 1.5): every crate in the binary, and in the eBPF object in it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use crate::step::{cargo, command, output, run, say};

/// The name of the files that cargo-cyclonedx leaves beside each manifest of a workspace.
const LEFT: &str = "portcullis-dist-sbom";
const MANIFESTS: [&str; 5] = ["agent", "ebpf", "ebpf/abi", "tests", "xtask"];

/// Writes the bill and gives its path.
pub fn bill(epoch: u64) -> anyhow::Result<PathBuf> {
    say(
        "bill of materials",
        "CycloneDX, for the binary and the eBPF object in it",
    );
    let result = make(epoch);
    for directory in MANIFESTS {
        let _not_made = std::fs::remove_file(Path::new(directory).join(format!("{LEFT}.json")));
    }
    let path = Path::new(super::OUT)
        .parent()
        .context("no parent")?
        .join("portcullis.cdx.json");
    std::fs::create_dir_all(path.parent().context("no parent")?)?;
    std::fs::write(&path, result?)?;
    Ok(path)
}

fn make(epoch: u64) -> anyhow::Result<String> {
    let host = host()?;
    let mut agent = of("agent", &host, epoch)?;
    // The object is a part of the binary, built from a workspace of its own.
    let ebpf = of("ebpf", "all", epoch)?;
    let mut parts = ebpf["components"].as_array().cloned().unwrap_or_default();
    parts.push(ebpf["metadata"]["component"].clone());
    let mut edges = ebpf["dependencies"].as_array().cloned().unwrap_or_default();
    merge(&mut agent, "components", "bom-ref", &mut parts)?;
    merge(&mut agent, "dependencies", "ref", &mut edges)?;
    let text = serde_json::to_string_pretty(&agent)?;
    // References to packages of this workspace are their directories, which are nobody else's business.
    let here = std::env::current_dir()?.canonicalize()?;
    Ok(text.replace(&format!("file://{}/", here.display()), "file:///") + "\n")
}

fn of(package: &str, target: &str, epoch: u64) -> anyhow::Result<Value> {
    let manifest = format!("{package}/Cargo.toml");
    run(cargo()
        .args(["cyclonedx", "--quiet", "--manifest-path", &manifest])
        .args(["--format", "json", "--spec-version", "1.5", "--no-build-deps"])
        .args(["--target", target, "--override-filename", LEFT])
        .env("SOURCE_DATE_EPOCH", epoch.to_string()))?;
    let path = Path::new(package).join(format!("{LEFT}.json"));
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_str(&text)?)
}

/// Adds what is not there yet, by its reference.
fn merge(bill: &mut Value, list: &str, key: &str, more: &mut Vec<Value>) -> anyhow::Result<()> {
    let present = bill[list].as_array_mut().with_context(|| format!("no {list}"))?;
    more.retain(|new| !present.iter().any(|old| old[key] == new[key]));
    present.append(more);
    Ok(())
}

fn host() -> anyhow::Result<String> {
    let said = output(&mut command("rustc", &["-vV"]))?;
    let line = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(line.context("rustc -vV names no host")?.to_owned())
}
