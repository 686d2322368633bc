//! Builds the eBPF programs, which the agent embeds.
//!
//! Not with aya-build: that wants a rustup nightly and takes neither another compiler nor the flags that give the
//! object its types (`--btf`), without which there is no socket storage. `ebpf/` needs a compiler that may use unstable
//! options and has the source of `core` beside it; [`toolchain`] lists where one is looked for.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const TARGET: &str = "bpfel-unknown-none";
const HELP: &str = "run `cargo xtask setup`, which installs what the eBPF programs need";

fn main() -> Result<(), Box<dyn Error>> {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let ebpf = manifest
        .parent()
        .ok_or("the agent has no parent directory")?
        .join("ebpf");
    for path in ["src", "Cargo.toml", "Cargo.lock", "abi/src", "abi/Cargo.toml"] {
        println!("cargo:rerun-if-changed={}", ebpf.join(path).display());
    }
    println!("cargo:rerun-if-env-changed=PORTCULLIS_EBPF_RUSTC");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let target = target_dir(&out);
    build(&ebpf, &target, &toolchain()?)?;
    let built = fs::read(target.join(TARGET).join("release/portcullis"))?;
    let object = out.join("portcullis.bpf.o");
    // An unchanged file keeps its time, and so nothing that embeds it is compiled again.
    if fs::read(&object).ok().as_ref() != Some(&built) {
        // Another name for the same file (a target directory that was copied by links) keeps what it has.
        let _not_there = fs::remove_file(&object);
        fs::write(&object, built)?;
    }
    Ok(())
}

/// `ebpf` below the workspace's target directory: one build for every profile and for check, clippy and test.
fn target_dir(out: &Path) -> PathBuf {
    out.ancestors()
        .find(|dir| dir.join("CACHEDIR.TAG").exists())
        .unwrap_or(out)
        .join("ebpf")
}

/// A compiler that has the source of `core`: the one of `PORTCULLIS_EBPF_RUSTC`, the distribution's, or a nightly.
fn toolchain() -> Result<PathBuf, Box<dyn Error>> {
    if let Some(named) = env::var_os("PORTCULLIS_EBPF_RUSTC").map(PathBuf::from) {
        if has_source(&named) {
            return Ok(named);
        }
        return Err(format!(
            "PORTCULLIS_EBPF_RUSTC={} has no rust-src; {HELP}",
            named.display()
        )
        .into());
    }
    let nightly = Command::new("rustup")
        .args(["which", "--toolchain", "nightly", "rustc"])
        .output()
        .ok()
        .filter(|found| found.status.success())
        .map(|found| PathBuf::from(String::from_utf8_lossy(&found.stdout).trim()));
    [Some(PathBuf::from("/usr/bin/rustc")), nightly]
        .into_iter()
        .flatten()
        .find(|rustc| has_source(rustc))
        .ok_or_else(|| {
            format!("no compiler with rust-src: neither /usr/bin/rustc nor a rustup nightly; {HELP}").into()
        })
}

fn cargo_home() -> PathBuf {
    match env::var_os("CARGO_HOME") {
        Some(home) => home.into(),
        None => PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo"),
    }
}

fn has_source(rustc: &Path) -> bool {
    Command::new(rustc)
        .args(["--print", "sysroot"])
        .env_remove("RUSTUP_TOOLCHAIN")
        .output()
        .is_ok_and(|printed| {
            Path::new(String::from_utf8_lossy(&printed.stdout).trim())
                .join("lib/rustlib/src/rust/library/Cargo.lock")
                .exists()
        })
}

fn build(ebpf: &Path, target: &Path, rustc: &Path) -> Result<(), Box<dyn Error>> {
    if Command::new("bpf-linker").arg("--version").output().is_err() {
        return Err(format!("bpf-linker is not installed; {HELP}").into());
    }
    let mut cargo = Command::new(env::var_os("CARGO").ok_or("CARGO is not set")?);
    // What the outer build set for the host's compiler is not for this one.
    for name in [
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
        "CLIPPY_ARGS",
    ] {
        cargo.env_remove(name);
    }
    let flags = [
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        // No path of the building machine in the object: it is the same wherever it is built.
        format!("--remap-path-prefix={}=ebpf", ebpf.display()),
        format!("--remap-path-prefix={}=cargo", cargo_home().display()),
    ];
    let status = cargo
        .current_dir(ebpf)
        .env("RUSTC", rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .args(["build", "--quiet", "--release", "--locked", "-Zbuild-std=core"])
        .args(["--target", TARGET, "--target-dir"])
        .arg(target)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!(
            "the eBPF programs did not build ({status}); if the compiler or the linker is the cause, {HELP}"
        )
        .into())
    }
}
