//! moto, the AWS CLI and boto3, installed once below `target/` by a committed list of versions and hashes.
//!
//! To be called outside of any world: there is no network inside.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Result, anyhow};
use e2e::child::Said;

/// Where the scripts are.
pub fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/aws")
}

/// The directory with their programs.
pub fn programs() -> Result<PathBuf> {
    static PLACE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let place = PLACE.get_or_init(|| install().map_err(|e| format!("{e:#}")));
    place.clone().map(|p| p.join("bin")).map_err(|e| anyhow!(e))
}

fn install() -> Result<PathBuf> {
    let list = source().join("requirements.txt");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("aws-python");
    let (done, wanted) = (place.join("requirements.done"), fs::read(&list)?);
    if fs::read(&done).is_ok_and(|there| there == wanted) {
        return Ok(place);
    }
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    let mut venv = Command::new("/usr/bin/python3");
    Said::by(venv.args(["-m", "venv"]).arg(&place))?.ok()?;
    let mut pip = Command::new(place.join("bin/pip"));
    pip.args(["install", "--quiet", "--require-hashes", "--only-binary", ":all:"]);
    Said::by(pip.arg("-r").arg(&list))?.ok()?;
    // Last: half an installation is none.
    fs::write(done, wanted)?;
    Ok(place)
}
