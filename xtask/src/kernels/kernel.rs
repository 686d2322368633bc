//! A kernel from the archive, and an initramfs that finds the image's disks.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use super::archive::{Archive, Spec};
use crate::step::{output, run, say};

/// What the disks need, where it is not built in; what each of them needs comes by itself.
const MODULES: [&str; 2] = ["virtio_pci", "virtio_blk"];
const BUSYBOX: &str = "/bin/busybox";

/// A kernel, unpacked.
pub struct Kernel {
    /// `uname -r`
    pub version: String,
    /// What `--kernel` calls it.
    pub name: &'static str,
    pub image: PathBuf,
    /// What it was built with.
    pub config: PathBuf,
    pub initramfs: PathBuf,
    /// What the guest has as /lib/modules.
    pub modules: PathBuf,
}

impl Kernel {
    /// Downloads and unpacks it, unless it is there.
    pub fn ensure(work: &Path, archive: &Archive, spec: &'static Spec) -> anyhow::Result<Self> {
        let directory = work.join(format!("linux-{}", spec.name));
        let tree = directory.join("tree");
        if !tree.exists() {
            say(
                &format!("kernel {}", spec.name),
                "the present build in Debian's archive",
            );
            let packages = archive.download(spec, &directory)?;
            let partial = directory.join("partial");
            for package in &packages {
                run(Command::new("dpkg-deb").arg("-x").args([package, &partial]))?;
            }
            let base = modules_of(&partial)?;
            let version = version_of(&base)?;
            run(Command::new("depmod")
                .arg("-b")
                .args([&base_of(&partial), Path::new(&version)]))?;
            for package in &packages {
                fs::remove_file(package)?;
            }
            fs::rename(&partial, &tree)?;
        }
        let modules = modules_of(&tree)?;
        let version = version_of(&modules)?;
        let initramfs = directory.join("initramfs");
        make_initramfs(&directory, &modules.join(&version), &initramfs)?;
        // Newer packages have them beside the modules.
        let part = |name: &str| {
            let places = [
                tree.join(format!("boot/{name}-{version}")),
                modules.join(&version).join(name),
            ];
            let found = places.into_iter().find(|p| p.exists());
            found.with_context(|| format!("the kernel's package has no {name}"))
        };
        Ok(Self {
            image: part("vmlinuz")?,
            config: part("config")?,
            name: spec.name,
            version,
            initramfs,
            modules,
        })
    }
}

/// The directory above `lib/modules`; newer packages have it below `usr`.
fn base_of(tree: &Path) -> PathBuf {
    if tree.join("lib/modules").exists() {
        tree.to_path_buf()
    } else {
        tree.join("usr")
    }
}

fn modules_of(tree: &Path) -> anyhow::Result<PathBuf> {
    let modules = base_of(tree).join("lib/modules");
    if modules.is_dir() {
        Ok(modules)
    } else {
        bail!("the kernel's package has no modules")
    }
}

fn version_of(modules: &Path) -> anyhow::Result<String> {
    let first = fs::read_dir(modules)?.next().context("no kernel version")??;
    Ok(first.file_name().to_string_lossy().into_owned())
}

fn make_initramfs(directory: &Path, modules: &Path, to: &Path) -> anyhow::Result<()> {
    let tree = directory.join("initramfs.tree");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    for inner in ["bin", "dev", "modules", "proc", "root", "sys"] {
        fs::create_dir_all(tree.join(inner))?;
    }
    fs::copy(BUSYBOX, tree.join("bin/busybox")).context(BUSYBOX)?;
    let init = tree.join("init");
    fs::write(&init, include_str!("guest/init.sh"))?;
    fs::set_permissions(&init, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let mut order = String::new();
    for module in in_order(modules)? {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        let plain = name.trim_end_matches(".xz").to_owned();
        let bytes = if name.ends_with(".xz") {
            let unpacked = Command::new("xz").arg("-dc").arg(&module).output()?;
            unpacked.stdout
        } else {
            fs::read(&module)?
        };
        fs::write(tree.join("modules").join(&plain), bytes)?;
        order.push_str(&plain);
        order.push('\n');
    }
    fs::write(tree.join("modules.order"), order)?;
    pack(&tree, to)?;
    fs::remove_dir_all(&tree)?;
    Ok(())
}

/// The files of [`MODULES`] and of what they need, what is needed first.
fn in_order(modules: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let dependencies = fs::read_to_string(modules.join("modules.dep"))?;
    let mut order: Vec<PathBuf> = Vec::new();
    for module in MODULES {
        let file = format!("/{module}.ko");
        let Some(line) = dependencies.lines().find(|l| {
            l.split(':')
                .next()
                .is_some_and(|p| p.trim_end_matches(".xz").ends_with(&file))
        }) else {
            continue;
        };
        // A module, and then what it needs, the deepest last.
        for path in line.replace(':', "").split_whitespace().rev() {
            let path = modules.join(path);
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    Ok(order)
}

/// A cpio archive, as the kernel wants it.
fn pack(tree: &Path, to: &Path) -> anyhow::Result<()> {
    let list = output(Command::new("find").arg(".").current_dir(tree))?;
    let mut child = Command::new(BUSYBOX)
        .args(["cpio", "-o", "-H", "newc"])
        .current_dir(tree)
        .stdin(Stdio::piped())
        .stdout(fs::File::create(to)?)
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(list.as_bytes())?;
    }
    if !child.wait()?.success() {
        bail!("the initramfs could not be packed");
    }
    Ok(())
}
