//! `portcullis tag --here`: the cgroup of the caller, as a unit's first step.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use nix::sched::{CloneFlags, setns};
use serde::Deserialize;

use crate::{
    cli::{
        block_on,
        control::{Control, ControlError, chain},
        trust::{Sources, TrustPlan},
    },
    config::Config,
    model::{CgroupId, WorkloadName},
    redirect::{cgroup, tags},
    tls,
};

/// Below `[host] run_dir`: what each tagged unit sees in place of the host's bundles.
pub(super) const TRUST: &str = "units";
/// By which systemd fails the unit; any other status of an ExecCondition skips it, as if all were well.
const FAILED: u8 = 255;
/// Where systemd puts the commands of a unit whose own cgroup is delegated (`systemd.resource-control(5)`).
const CONTROL: &str = "/.control";

/// What the daemon says of the caller.
#[derive(Deserialize)]
struct Caller {
    workload: Option<WorkloadName>,
    enforced: bool,
}

#[derive(Deserialize)]
struct Tagged {
    cgroup_id: u64,
}

/// Tags, and gives 255 when that cannot be done. In a process with one thread.
pub(in crate::cli) fn here(
    workload: &WorkloadName,
    unit: Option<&str>,
    config: anyhow::Result<Config>,
) -> ExitCode {
    match config.and_then(|config| {
        leave_namespace(&config.host.run_dir)?;
        tag(workload, unit, &config)
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("portcullis tag --here: {}\nNothing may run here.", chain(&why));
            ExitCode::from(FAILED)
        }
    }
}

/// Looks at the host's files. What the unit's drop-in has mounted over them is in the way already where systemd mounts for
/// conditions, too: the bundles of the last start, to which the host CA was added, and over `[host] run_dir` what hides
/// the control socket.
fn leave_namespace(run_dir: &Path) -> anyhow::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    if is_mounted(&mounts, run_dir) {
        let host = fs::File::open("/proc/1/ns/mnt").context("the host's mount namespace")?;
        setns(host, CloneFlags::CLONE_NEWNS).context("cannot enter the host's mount namespace")?;
    }
    Ok(())
}

/// proc_pid_mountinfo(5): the fifth field is the mount point. A path with a blank in it is escaped there, and is in no
/// drop-in.
fn is_mounted(mountinfo: &str, path: &Path) -> bool {
    mountinfo
        .lines()
        .any(|line| line.split(' ').nth(4).map(Path::new) == Some(path))
}

fn tag(workload: &WorkloadName, unit: Option<&str>, config: &Config) -> anyhow::Result<()> {
    let control = Control::new(&config.host.run_dir);
    let own = cgroup::of_process("self")?;
    let own = own.strip_suffix(CONTROL).unwrap_or(&own);
    if own.trim_matches('/').is_empty() {
        bail!("this is the root cgroup, which cannot be a workload");
    }
    let dir = cgroup::find_mount()?.join(own.trim_start_matches('/'));
    let id = cgroup::id(&dir)?;
    match block_on(control.get::<Caller>("/v1/self"))? {
        // Processes of an earlier run have kept the cgroup, and with it the tag.
        Ok(Caller {
            workload: Some(present),
            enforced,
        }) => {
            if present != *workload {
                bail!("this cgroup belongs to workload {present} already");
            }
            if !enforced {
                bail!("not every program is attached: portcullis status says which");
            }
        }
        Ok(Caller { workload: None, .. }) => {
            let body = serde_json::json!({ "cgroup": own, "workload": workload });
            // An answer means that every program is in its place.
            let tagged: Tagged = block_on(control.post("/v1/tag", &body))??;
            if tagged.cgroup_id != id.0 {
                bail!(
                    "the daemon enforces cgroup {}, not {} ({own})",
                    tagged.cgroup_id,
                    id.0
                );
            }
        }
        // Where UNIX sockets are gated, a process of a workload does not get as far as to ask.
        Err(ControlError::NotAllowed { socket }) => {
            let present = tags::get(&dir)?;
            if present.as_ref() != Some(workload) || !is_hooked(&config.redirect.pin_dir, id) {
                return Err(ControlError::NotAllowed { socket }.into());
            }
        }
        Err(other) => return Err(other.into()),
    }
    match unit {
        Some(unit) => lay_out(unit, config),
        None => Ok(()),
    }
}

/// Whether the guard and the redirect of a tagged cgroup are pinned.
fn is_hooked(pin_dir: &Path, id: CgroupId) -> bool {
    let links = pin_dir.join(format!("tags/{}", id.0));
    ["link_egress", "link_connect4", "link_connect6"]
        .iter()
        .all(|link| links.join(link).exists())
}

/// What makes a workload trust the host CA. The unit's own variables are not known here.
pub(super) fn trust(config: &Config) -> anyhow::Result<TrustPlan> {
    let ca_file = config.host.data_dir.join(tls::CERT_FILE);
    let ca_pem = fs::read_to_string(&ca_file).with_context(|| {
        format!(
            "{}: the daemon makes the host CA when it first starts; has it run?",
            ca_file.display()
        )
    })?;
    TrustPlan::new(&Sources {
        root: Path::new("/"),
        ca_pem: &ca_pem,
        seen_at: &config.host.run_dir,
        env: &|_| None,
    })
    .context("cannot prepare the CA bundles")
}

/// Makes the unit's files anew: the host's bundles may have changed since it last started.
fn lay_out(unit: &str, config: &Config) -> anyhow::Result<()> {
    super::check(unit)?;
    let directory: PathBuf = config.host.run_dir.join(TRUST).join(unit);
    let remade = || -> io::Result<()> {
        match fs::remove_dir_all(&directory) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        fs::DirBuilder::new()
            .mode(0o755)
            .recursive(true)
            .create(&directory)?;
        // Whatever the umask: the unit may be another user.
        for dir in [directory.parent().unwrap_or(&directory), &directory] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    };
    let what = || directory.display().to_string();
    remade().with_context(what)?;
    trust(config)?.make(&directory).with_context(what)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_by_their_point() {
        let text =
            "36 35 98:0 /run/portcullis/units/x.service /run/portcullis ro master:1 - tmpfs tmpfs rw\n";
        assert!(is_mounted(text, Path::new("/run/portcullis")));
        assert!(!is_mounted(text, Path::new("/run")) && !is_mounted("", Path::new("/run")));
    }
}
