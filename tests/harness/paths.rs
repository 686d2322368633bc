//! Where the repository and its built programs are.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// The repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .components()
        .collect()
}

/// The built `portcullis`: beside this program, or what `PORTCULLIS_BIN` names.
///
/// # Errors
/// When it has not been built.
pub fn portcullis() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("PORTCULLIS_BIN") {
        return Ok(named.into());
    }
    let own = std::env::current_exe().context("this program's own path")?;
    // target/PROFILE/demo, or target/PROFILE/deps/clients-0123.
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join("portcullis"))
        .find(|p| p.is_file());
    let Some(found) = found else {
        bail!(
            "portcullis is not built: `cargo build --package portcullis`, with the profile of this program"
        );
    };
    Ok(found)
}

/// The Python that has `requests`, and Debian's own otherwise.
#[must_use]
pub fn python() -> &'static str {
    let has = |python: &str| {
        std::process::Command::new(python)
            .args(["-c", "import requests"])
            .stderr(std::process::Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    };
    if has("python3") {
        "python3"
    } else {
        "/usr/bin/python3"
    }
}
