//! The packages: what they say of themselves, and what installing and removing them does.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::{Context as _, ensure};

use super::{
    super::ROOT,
    root::Root,
    tree::{self, Known},
};
use crate::step::{command, output, run};

const CONFIGURATION: &str = "/etc/portcullis/portcullis.toml";
const PROGRAM: &str = "usr/bin/portcullis";
/// All that systemd may be told when the package is installed: nothing is enabled, and nothing is started.
const RELOAD: &str = "--system daemon-reload\n";
/// zsh looks elsewhere on Debian than it does where there is rpm.
const OF_DEB: Known = Known {
    absent: &["usr/share/zsh/site-functions/_portcullis"],
    more: &["usr/share/doc/portcullis/changelog.Debian.gz"],
};
const OF_RPM: Known = Known {
    absent: &["usr/share/zsh/vendor-completions/_portcullis"],
    more: &["usr/share/zsh/site-functions/_portcullis"],
};

pub fn deb(package: &Path, scratch: &Path, epoch: u64) -> anyhow::Result<()> {
    let control = scratch.join("deb");
    run(command("dpkg-deb", &["--raw-extract"]).args([package, &control]))?;
    let own = control.join("DEBIAN");
    let read = |name: &str| fs::read_to_string(own.join(name)).with_context(|| name.to_owned());
    let (fields, version) = (read("control")?, env!("CARGO_PKG_VERSION"));
    for field in [
        "Package: portcullis\n".to_owned(),
        format!("Version: {version}-"),
        "Depends: libc6 (".into(),
    ] {
        ensure!(fields.contains(&field), "no '{field}' in\n{fields}");
    }
    ensure!(
        read("conffiles")? == format!("{CONFIGURATION}\n"),
        "conffiles: {}",
        read("conffiles")?
    );
    for script in ["postinst", "prerm", "postrm"] {
        let script = own.join(script);
        ensure!(
            fs::metadata(&script)?.permissions().mode() & 0o7777 == 0o755,
            "{}",
            script.display()
        );
        run(command("sh", &["-n"]).arg(&script))?;
    }
    let log = control.join("usr/share/doc/portcullis/changelog.Debian.gz");
    let log = output(command("gzip", &["--decompress", "--stdout"]).arg(log))?;
    let named = log.lines().next().unwrap_or_default();
    ensure!(
        named.contains(&format!("({version}-")),
        "packaging/debian/changelog is of another version: {named}"
    );
    fs::remove_dir_all(&own)?;
    tree::compare(Path::new(ROOT), &control, epoch, &OF_DEB).context("the .deb")?;

    let root = Root::make(scratch.join("dpkg"), &Path::new(ROOT).join(PROGRAM))?;
    let dpkg = |words: &[&str]| {
        // What it depends on is there, and on no package's list.
        let mut dpkg = command("dpkg", &["--force-depends"]);
        dpkg.arg(format!("--root={}", root.path().display())).args(words);
        dpkg
    };
    run(dpkg(&["--install"]).arg(package))?;
    works(&root)?;
    run(&mut dpkg(&["--remove", "portcullis"]))?;
    ensure!(
        root.path().join(&CONFIGURATION[1..]).exists(),
        "the configuration went with the package"
    );
    run(&mut dpkg(&["--purge", "portcullis"]))?;
    gone(&root).context("the .deb")
}

pub fn rpm(package: &Path, scratch: &Path, epoch: u64) -> anyhow::Result<()> {
    let root = Root::make(scratch.join("rpm"), &Path::new(ROOT).join(PROGRAM))?;
    let rpm = |words: &[&str]| {
        let mut rpm = Command::new("rpm");
        rpm.arg("--root")
            .arg(root.path())
            .args(["--dbpath", "/var/lib/rpm"])
            .args(words);
        rpm
    };
    run(&mut rpm(&["--initdb"]))?;
    // What it depends on is there, and in no package.
    run(rpm(&["--install", "--nodeps"]).arg(package))?;
    works(&root)?;
    let into = scratch.join("rpm-added");
    root.added(&into)?;
    tree::compare(Path::new(ROOT), &into, epoch, &OF_RPM).context("the .rpm")?;
    let zsh = "usr/share/zsh/vendor-completions/_portcullis";
    let there = into.join("usr/share/zsh/site-functions/_portcullis");
    ensure!(
        fs::read(Path::new(ROOT).join(zsh))? == fs::read(there)?,
        "zsh's completions"
    );
    run(&mut rpm(&["--verify", "--nodeps", "portcullis"]))?;
    let configuration = output(&mut rpm(&["--query", "--configfiles", "portcullis"]))?;
    ensure!(
        configuration == format!("{CONFIGURATION}\n"),
        "configuration files: {configuration}"
    );
    run(&mut rpm(&["--erase", "--nodeps", "portcullis"]))?;
    gone(&root).context("the .rpm")
}

/// Installed: the program runs with the libraries that are there, and systemd was told no more than to look again.
fn works(root: &Root) -> anyhow::Result<()> {
    let said = output(
        command("chroot", &[])
            .arg(root.path())
            .args(["/usr/bin/portcullis", "--version"]),
    )?;
    ensure!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
    let told = root.told()?;
    ensure!(told == RELOAD, "systemd was told:\n{told}");
    Ok(())
}

/// Removed: units are stopped and disabled, and nothing is left.
fn gone(root: &Root) -> anyhow::Result<()> {
    let told = root.told()?;
    for word in [
        "stop portcullis.socket portcullis.service",
        "disable portcullis.socket",
    ] {
        ensure!(told.contains(word), "systemd was not told '{word}':\n{told}");
    }
    ensure!(
        told.ends_with(RELOAD),
        "systemd was not told to look again:\n{told}"
    );
    root.is_as_before()
}
