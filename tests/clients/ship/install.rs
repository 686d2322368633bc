//! What receives and checks, installed once below `target/` by a committed list of versions and hashes.
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
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/ship")
}

/// The directory with their programs.
pub fn programs() -> Result<PathBuf> {
    static PLACE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let place = PLACE.get_or_init(|| install().map_err(|e| format!("{e:#}")));
    place.clone().map(|p| p.join("bin")).map_err(|e| anyhow!(e))
}

/// Python with the packages, on a script of this folder.
pub fn python(script: &str) -> Result<Command> {
    let mut command = Command::new(programs()?.join("python"));
    command.arg(source().join(script));
    Ok(command)
}

fn install() -> Result<PathBuf> {
    let list = source().join("requirements.txt");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ship-python");
    let (done, wanted) = (place.join("requirements.done"), fs::read(&list)?);
    // Tests are processes of their own: one installs, the others wait for it.
    let lock = fs::File::create(place.with_extension("lock"))?;
    lock.lock()?;
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
