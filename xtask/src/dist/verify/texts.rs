//! What is read by other programs: units, manual pages, completions, the bill of materials.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::step::{command, run};

/// What older versions of systemd do not know, and say; see agent/packaging/README.md.
const UNKNOWN: &str = "Unknown key 'FileDescriptorStorePreserve'";

pub fn check(root: &Path) -> anyhow::Result<()> {
    run(command("bash", &["-n"]).arg(root.join("usr/share/bash-completion/completions/portcullis")))?;
    units(root)?;
    manual(root)?;
    bill(&root.join("usr/share/doc/portcullis/portcullis.cdx.json")).context("the bill of materials")
}

/// As systemd reads them, with the program where it was laid out.
fn units(root: &Path) -> anyhow::Result<()> {
    let from = root.join("usr/lib/systemd/system");
    let scratch =
        super::Scratch(std::env::temp_dir().join(format!("portcullis-units-{}", std::process::id())));
    fs::create_dir_all(&scratch.0)?;
    let program = root.join("usr/bin/portcullis").canonicalize()?;
    let mut verify = command("systemd-analyze", &["verify", "--man=no"]);
    for entry in fs::read_dir(from)? {
        let unit = entry?;
        let text = fs::read_to_string(unit.path())?;
        ensure!(
            unit.file_type()?.is_file(),
            "{}: nothing is enabled here",
            unit.path().display()
        );
        let to = scratch.0.join(unit.file_name());
        fs::write(
            &to,
            text.replace("/usr/bin/portcullis", &program.to_string_lossy()),
        )?;
        verify.arg(to);
    }
    let said = verify.output().context("systemd-analyze")?;
    let text = String::from_utf8_lossy(&said.stderr);
    let wrong: Vec<&str> = text.lines().filter(|line| !line.contains(UNKNOWN)).collect();
    ensure!(said.status.success() && wrong.is_empty(), "the units: {text}");
    Ok(())
}

/// Without a warning of the formatter, in the way in which lintian asks it.
fn manual(root: &Path) -> anyhow::Result<()> {
    let mut pages = 0;
    for (path, is) in super::tree::list(&root.join("usr/share/man"))? {
        if !is.is_file() {
            continue;
        }
        let said = Command::new("man")
            .args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"])
            .arg(root.join("usr/share/man").join(&path))
            .env("LC_ALL", "C.UTF-8")
            .env("MANROFFSEQ", "")
            .env("MANWIDTH", "80")
            .stdin(Stdio::null())
            .output()
            .context("man")?;
        let text = String::from_utf8_lossy(&said.stderr);
        ensure!(
            said.status.success() && text.is_empty(),
            "{}: {text}",
            path.display()
        );
        ensure!(!said.stdout.is_empty(), "{} is empty", path.display());
        pages += 1;
    }
    ensure!(
        pages > 40,
        "{pages} manual pages: one for each command was expected"
    );
    Ok(())
}

/// CycloneDX, as far as its schema says what must be there; every reference leads somewhere, and the eBPF object is in it.
fn bill(path: &Path) -> anyhow::Result<()> {
    let bill: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
    ensure!(
        bill["bomFormat"] == "CycloneDX" && bill["specVersion"] == "1.5",
        "{}",
        bill["specVersion"]
    );
    let own = &bill["metadata"]["component"];
    ensure!(
        own["name"] == "portcullis" && own["version"] == env!("CARGO_PKG_VERSION"),
        "it is of {own}"
    );
    let components = bill["components"].as_array().context("no components")?;
    let mut known: BTreeSet<&str> = own["bom-ref"].as_str().into_iter().collect();
    for component in components {
        for key in ["type", "name", "version", "bom-ref", "purl"] {
            ensure!(component[key].is_string(), "{}: no {key}", component["name"]);
        }
        ensure!(
            component["licenses"].is_array(),
            "{}: no licence",
            component["name"]
        );
        let reference = component["bom-ref"].as_str().unwrap_or_default();
        ensure!(known.insert(reference), "{reference} is there twice");
    }
    for edge in bill["dependencies"].as_array().context("no dependencies")? {
        let on = edge["dependsOn"].as_array().into_iter().flatten();
        for reference in on.chain([&edge["ref"]]).filter_map(Value::as_str) {
            ensure!(known.contains(reference), "{reference} is no component");
        }
    }
    for part in ["aya", "aya-ebpf", "rustls", "cedar-policy", "hickory-resolver"] {
        ensure!(components.iter().any(|c| c["name"] == part), "{part} is missing");
    }
    Ok(())
}
