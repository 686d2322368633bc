//! Clients that do not come from Debian, installed once below `target/` by committed lists of versions and hashes.
//!
//! To be called outside of any world: there is no network inside.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context as _, Result, anyhow};
use e2e::child::Said;

/// Where the scripts are.
pub fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/postgres")
}

fn once(
    cell: &OnceLock<Result<PathBuf, String>>,
    install: impl FnOnce() -> Result<PathBuf>,
) -> Result<PathBuf> {
    let installed = cell.get_or_init(|| install().map_err(|e| format!("{e:#}")));
    installed.clone().map_err(|e| anyhow!(e))
}

/// A directory that is as the list `name` asks for; `install` makes it when it is not.
fn by_list(place: &str, name: &str, install: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(place);
    let list = fs::read(source().join(name))?;
    let done = place.join(format!("{name}.done"));
    if fs::read(&done).is_ok_and(|there| there == list) {
        return Ok(place);
    }
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    fs::create_dir_all(&place)?;
    install(&place).with_context(|| format!("installing what {name} lists"))?;
    // Last: half an installation is none.
    fs::write(done, list)?;
    Ok(place)
}

/// The Python that has psycopg, asyncpg and pg8000.
pub fn python() -> Result<PathBuf> {
    static PLACE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let place = once(&PLACE, || {
        by_list("postgres-python", "requirements.txt", |place| {
            let mut venv = Command::new("/usr/bin/python3");
            Said::by(venv.args(["-m", "venv"]).arg(place))?.ok()?;
            let mut pip = Command::new(place.join("bin/pip"));
            pip.args(["install", "--quiet", "--require-hashes", "--only-binary", ":all:"]);
            Said::by(pip.arg("-r").arg(source().join("requirements.txt")))?.ok()?;
            Ok(())
        })
    })?;
    Ok(place.join("bin/python"))
}

/// The directory with node-postgres.
pub fn packages() -> Result<PathBuf> {
    static PLACE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&PLACE, || {
        by_list("postgres-node", "package-lock.json", |place| {
            for name in ["package.json", "package-lock.json"] {
                fs::copy(source().join(name), place.join(name))?;
            }
            let mut npm = Command::new("npm");
            npm.args([
                "ci",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                "--prefer-offline",
            ]);
            Said::by(npm.current_dir(place))?.ok()?;
            Ok(())
        })
    })
}

/// The class path with the JDBC test, compiled, and the driver.
pub fn classes() -> Result<String> {
    static PLACE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let driver = "/usr/share/java/postgresql.jar";
    let place = once(&PLACE, || {
        by_list("postgres-java", "Jdbc.java", |place| {
            let mut javac = Command::new("javac");
            javac.args(["-encoding", "UTF-8", "-cp", driver, "-d"]).arg(place);
            Said::by(javac.arg(source().join("Jdbc.java")))?.ok()?;
            Ok(())
        })
    })?;
    Ok(format!("{}:{driver}", place.display()))
}
