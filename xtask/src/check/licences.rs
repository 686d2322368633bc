//! Licences, bans and sources of everything that is compiled in, by `deny.toml`.
//!
//! The file is that of cargo-deny, which is stricter and may be run instead; this needs nothing but cargo. Keys of
//! it that are read here: `licenses.allow`, `licenses.exceptions`, `bans.deny`, `bans.multiple-versions`,
//! `bans.skip`.

mod expression;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::step::{cargo, output};

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Bans {
    #[serde(default)]
    deny: Vec<Ban>,
    multiple_versions: String,
    #[serde(default)]
    skip: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    /// Empty: whatever cargo itself takes for its registry. Never git.
    #[serde(default)]
    allow_registry: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

pub fn check() -> anyhow::Result<()> {
    let deny: Deny = toml::from_str(&std::fs::read_to_string("deny.toml")?).context("deny.toml")?;
    let mut packages = metadata("Cargo.toml")?;
    packages.extend(metadata("ebpf/Cargo.toml")?);
    let mut wrong = Vec::new();
    for package in &packages {
        wrong.extend(judge(&deny, package));
    }
    let twice = twice(&deny, &packages);
    if deny.bans.multiple_versions == "deny" {
        wrong.extend(
            twice
                .iter()
                .map(|t| format!("{t}: two versions, and no bans.skip names it")),
        );
    } else if !twice.is_empty() {
        eprintln!("    in two versions (a warning): {}", twice.join(", "));
    }
    wrong.sort();
    wrong.dedup();
    if !wrong.is_empty() {
        bail!("\n      {}", wrong.join("\n      "));
    }
    eprintln!("    {} packages, all allowed", packages.len());
    Ok(())
}

fn metadata(manifest: &str) -> anyhow::Result<Vec<Package>> {
    let text = output(
        cargo()
            .args(["metadata", "--format-version", "1", "--locked"])
            .args([
                "--filter-platform",
                "x86_64-unknown-linux-gnu",
                "--manifest-path",
                manifest,
            ]),
    )?;
    let metadata: Metadata =
        serde_json::from_str(&text).with_context(|| format!("metadata of {manifest}"))?;
    let compiled = compiled(manifest)?;
    let used = |p: &Package| compiled.contains(&format!("{} {}", p.name, p.version));
    Ok(metadata.packages.into_iter().filter(used).collect())
}

/// What is compiled in, as `NAME VERSION`: metadata also lists what no feature asks for.
fn compiled(manifest: &str) -> anyhow::Result<BTreeSet<String>> {
    let text = output(
        cargo()
            .args([
                "tree",
                "--workspace",
                "--locked",
                "--prefix",
                "none",
                "--manifest-path",
            ])
            .args([
                manifest,
                "--target",
                "x86_64-unknown-linux-gnu",
                "--edges",
                "normal,build,dev",
                "--format",
                "{p}",
            ]),
    )?;
    let name = |line: &str| {
        let mut words = line.split(' ');
        Some(format!("{} {}", words.next()?, words.next()?.strip_prefix('v')?))
    };
    Ok(text.lines().filter_map(name).collect())
}

/// Everything that is wrong with one package.
fn judge(deny: &Deny, package: &Package) -> Vec<String> {
    let mut wrong = Vec::new();
    let name = format!("{} {}", package.name, package.version);
    let exception = deny.licenses.exceptions.iter().find(|e| e.name == package.name);
    let allowed =
        |id: &str| deny.licenses.allow.contains(id) || exception.is_some_and(|e| e.allow.contains(id));
    match &package.license {
        None => wrong.push(format!("{name}: names no licence")),
        Some(license) => match expression::holds(license, &allowed) {
            Ok(true) => {}
            Ok(false) => wrong.push(format!("{name}: '{license}' is not allowed")),
            Err(error) => wrong.push(format!("{name}: '{license}' cannot be read: {error}")),
        },
    }
    if let Some(ban) = deny.bans.deny.iter().find(|b| b.name == package.name) {
        wrong.push(format!("{name}: banned: {}", ban.reason));
    }
    if let Some(source) = &package.source {
        let registry = source.strip_prefix("registry+");
        let allowed = &deny.sources.allow_registry;
        if !registry.is_some_and(|r| allowed.is_empty() || allowed.contains(r)) {
            wrong.push(format!("{name}: comes from {source}"));
        }
    }
    wrong
}

fn twice(deny: &Deny, packages: &[Package]) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages {
        versions
            .entry(&package.name)
            .or_default()
            .insert(&package.version);
    }
    versions
        .into_iter()
        .filter(|(name, v)| v.len() > 1 && deny.bans.skip.iter().all(|s| s.name != *name))
        .map(|(name, _)| name.to_owned())
        .collect()
}
