//! The tree as it will be on the host.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use super::ROOT;
use crate::step::{command, output, run};

/// What is installed as it is: from, to, both below their roots. A directory goes with all in it.
const FILES: [(&str, &str); 10] = [
    (
        "agent/packaging/portcullis.toml",
        "etc/portcullis/portcullis.toml",
    ),
    ("agent/packaging/systemd", "usr/lib/systemd/system"),
    ("policies", "usr/share/portcullis/policies"),
    ("README.md", "usr/share/doc/portcullis/README.md"),
    ("CHANGELOG.md", "usr/share/doc/portcullis/CHANGELOG.md"),
    ("LICENSE", "usr/share/doc/portcullis/LICENSE"),
    ("ebpf/LICENSE-MIT", "usr/share/doc/portcullis/LICENSE-ebpf-MIT"),
    (
        "agent/ARCHITECTURE.md",
        "usr/share/doc/portcullis/ARCHITECTURE.md",
    ),
    (
        "agent/packaging/README.md",
        "usr/share/doc/portcullis/PACKAGING.md",
    ),
    (
        "agent/packaging/debian/copyright",
        "usr/share/doc/portcullis/copyright",
    ),
];

/// Where each shell looks; zsh in one place on Debian and in another elsewhere.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/portcullis"),
    ("fish", "usr/share/fish/vendor_completions.d/portcullis.fish"),
    ("zsh", "usr/share/zsh/vendor-completions/_portcullis"),
];

/// Lays everything out anew. Man pages and completions are what the binary itself says.
pub fn lay_out(binary: &Path, bill: &Path, epoch: u64) -> anyhow::Result<()> {
    let root = Path::new(ROOT);
    if root.exists() {
        fs::remove_dir_all(root)?;
    }
    let program = root.join("usr/bin/portcullis");
    copy(binary, &program).with_context(|| binary.display().to_string())?;
    for (from, to) in FILES {
        copy(Path::new(from), &root.join(to)).with_context(|| from.to_owned())?;
    }
    copy(bill, &root.join("usr/share/doc/portcullis/portcullis.cdx.json"))?;
    for (shell, to) in COMPLETIONS {
        let text = output(Command::new(&program).args(["completions", shell]))?;
        write(&root.join(to), &text)?;
    }
    // Elsewhere than on Debian: the same file.
    let elsewhere = root.join("usr/share/zsh/site-functions");
    fs::create_dir_all(&elsewhere)?;
    symlink("../vendor-completions/_portcullis", elsewhere.join("_portcullis"))?;
    manual(root, &program)?;
    modes(root)?;
    // Times are in archives; the packers take them from the files.
    run(command("find", &[ROOT, "-exec", "touch", "--no-dereference"])
        .arg(format!("--date=@{epoch}"))
        .args(["{}", "+"]))?;
    Ok(())
}

/// By section, compressed as both distributions want it, without name and time in the file.
fn manual(root: &Path, program: &Path) -> anyhow::Result<()> {
    let pages = root.join("usr/share/man");
    let flat = pages.join("flat");
    run(Command::new(program).arg("man").arg(&flat))?;
    let mut names: Vec<PathBuf> = fs::read_dir(&flat)?
        .map(|e| Ok(e?.path()))
        .collect::<std::io::Result<_>>()?;
    names.sort();
    let mut gzip = command("gzip", &["--best", "--no-name"]);
    for page in names {
        let section = page
            .extension()
            .context("a page without a section")?
            .to_string_lossy()
            .into_owned();
        let into = pages.join(format!("man{section}"));
        fs::create_dir_all(&into)?;
        let to = into.join(page.file_name().context("a page without a name")?);
        fs::rename(&page, &to)?;
        gzip.arg(to);
    }
    run(&mut gzip)?;
    fs::remove_dir(&flat)?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    if from.is_dir() {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    fs::create_dir_all(to.parent().context("no parent")?)?;
    fs::copy(from, to)?;
    Ok(())
}

fn write(to: &Path, text: &str) -> anyhow::Result<()> {
    fs::create_dir_all(to.parent().context("no parent")?)?;
    Ok(fs::write(to, text)?)
}

/// Whatever the umask and the checkout made of them.
fn modes(directory: &Path) -> anyhow::Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(directory)? {
        let (path, kind) = entry.and_then(|e| Ok((e.path(), e.file_type()?)))?;
        if kind.is_dir() {
            modes(&path)?;
        } else if kind.is_file() {
            let program = path.parent().is_some_and(|p| p.ends_with("bin"));
            let mode = if program { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}
