//! `portcullis tag --unit`, `untag --unit` and `tag --here`: a systemd unit as a workload.
//!
//! A unit is tagged by a drop-in, whose first step (`ExecCondition=`, which comes before every `ExecStartPre=`) runs
//! `tag --here` as root in the unit's own cgroup. When that fails, the unit fails: without the daemon there is no unit.

mod drop_in;
mod here;

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, bail};

pub(super) use self::here::here;
use self::{drop_in::Parts, here::trust};
use super::{block_on, control::Control};
use crate::{config::Config, model::WorkloadName};

/// Where an admin's drop-ins are (`systemd.unit(5)`).
pub(super) const DIRECTORY: &str = "/etc/systemd/system";
/// The drop-in's name below `UNIT.d`.
const FILE: &str = "50-portcullis.conf";

/// How a unit is tagged.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// With --unit: restart the unit if it runs, so that it is gated now.
    #[arg(long, requires = "unit")]
    restart: bool,
    /// With --unit: print the drop-in instead of writing it.
    #[arg(long, requires = "unit", conflicts_with = "restart")]
    print: bool,
    /// With --unit: leave out what closes further doors (address families, system calls, capabilities, the cgroup tree),
    /// for a unit that cannot do without.
    #[arg(long, requires = "unit")]
    no_hardening: bool,
}

/// Writes the drop-in, and has systemd read it.
pub(super) fn tag(
    unit: &str,
    workload: &WorkloadName,
    options: &Options,
    directory: &Path,
    config: (&Path, &Config),
) -> anyhow::Result<ExitCode> {
    check(unit)?;
    let (path, config) = config;
    let trust = trust(config)?;
    for warning in &trust.warnings {
        eprintln!("portcullis tag: warning: {warning}");
    }
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let text = drop_in::text(&Parts {
        unit,
        workload,
        program: &program,
        config: path,
        run_dir: &config.host.run_dir,
        trust: &trust,
        hardening: !options.no_hardening,
    })?;
    if options.print {
        print!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    let file = file(directory, unit);
    write(&file, &text).with_context(|| file.display().to_string())?;
    println!(
        "{unit} is workload {workload} from its next start on: {}",
        file.display()
    );
    if directory != Path::new(DIRECTORY) {
        println!("That is not where systemd of this host looks, which is therefore not told.");
        return Ok(ExitCode::SUCCESS);
    }
    systemctl(&["daemon-reload"])?;
    if options.restart {
        // One that does not run stays so.
        systemctl(&["try-restart", unit])?;
    } else if is_active(unit) {
        println!("It runs now, NOT gated: systemctl restart {unit}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes the drop-in away, and the tag of the unit if it runs.
pub(super) fn untag(unit: &str, directory: &Path, config: &Config) -> anyhow::Result<ExitCode> {
    check(unit)?;
    let file = file(directory, unit);
    match fs::remove_file(&file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            bail!("{unit} is not tagged: {} is not there", file.display())
        }
        removed => removed.with_context(|| file.display().to_string())?,
    }
    if let Some(parent) = file.parent() {
        // Drop-ins of others keep it.
        let _not_empty = fs::remove_dir(parent);
    }
    println!("{unit} is no workload from its next start on");
    if directory != Path::new(DIRECTORY) {
        return Ok(ExitCode::SUCCESS);
    }
    systemctl(&["daemon-reload"])?;
    let cgroup = show(unit, "ControlGroup").unwrap_or_default();
    if cgroup.len() > 1 {
        let body = serde_json::json!({ "cgroup": cgroup });
        let answer =
            block_on(Control::new(&config.host.run_dir).post::<serde_json::Value>("/v1/untag", &body))?;
        match answer {
            Ok(_) => println!(
                "It runs, and is no workload any more; what else the drop-in set goes with its next start."
            ),
            Err(e) => println!("It runs, and may be a workload until its next start: {e}"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `systemd.unit(5)`: letters, digits and `:-_.\`, and `@` for an instance or a template. Only services run commands
/// of their own as they start.
fn check(unit: &str) -> anyhow::Result<()> {
    let stem = unit.strip_suffix(".service");
    let valid = stem.is_some_and(|stem| {
        !stem.is_empty()
            && !stem.starts_with('.')
            && unit.len() < 256
            && stem
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b))
    });
    if !valid {
        bail!("'{unit}' is not the name of a service: X.service, or X@.service for all its instances");
    }
    if unit == "portcullis.service" {
        bail!("the daemon cannot be a workload of itself");
    }
    Ok(())
}

fn file(directory: &Path, unit: &str) -> PathBuf {
    directory.join(format!("{unit}.d")).join(FILE)
}

/// Whole or not at all: half a drop-in would be half a gate.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let parent = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent)?;
    let mut new = tempfile::NamedTempFile::new_in(parent)?;
    io::Write::write_all(&mut new, text.as_bytes())?;
    new.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    Ok(())
}

fn systemctl(arguments: &[&str]) -> anyhow::Result<()> {
    let line = arguments.join(" ");
    let status = Command::new("systemctl")
        .args(arguments)
        .status()
        .with_context(|| format!("systemctl {line} cannot be run; run it where systemd is"))?;
    if !status.success() {
        bail!("systemctl {line} ended with {status}");
    }
    Ok(())
}

fn show(unit: &str, property: &str) -> Option<String> {
    let said = Command::new("systemctl")
        .args(["show", "--value", "--property", property, unit])
        .output()
        .ok()?;
    let text = String::from_utf8(said.stdout).ok()?;
    said.status.success().then(|| text.trim().to_owned())
}

fn is_active(unit: &str) -> bool {
    show(unit, "ActiveState").is_some_and(|state| state == "active" || state == "activating")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_only_and_nothing_that_is_a_path() {
        for good in ["x.service", "deploy-bot@.service", "a@b\\x2dc.service"] {
            check(good).unwrap();
        }
        for bad in [
            "x",
            "x.socket",
            ".service",
            "../x.service",
            "a/b.service",
            "a b.service",
            "a\n.service",
            "portcullis.service",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
