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
        control::{Control, chain},
        trust::{Sources, TrustPlan},
    },
    config::Config,
    model::WorkloadName,
    redirect::cgroup,
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
    match leave_namespace().and_then(|()| tag(workload, unit, &config?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("portcullis tag --here: {}\nNothing may run here.", chain(&why));
            ExitCode::from(FAILED)
        }
    }
}

/// Looks at the host's files. What a unit has mounted over them may be in the way already: the bundles of its last start,
/// to which the host CA was added, and the directory that hides the control socket.
fn leave_namespace() -> anyhow::Result<()> {
    let same = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt"));
    if same("self")? != same("1")? {
        let host = fs::File::open("/proc/1/ns/mnt")?;
        setns(host, CloneFlags::CLONE_NEWNS).context("cannot enter the host's mount namespace")?;
    }
    Ok(())
}

fn tag(workload: &WorkloadName, unit: Option<&str>, config: &Config) -> anyhow::Result<()> {
    let control = Control::new(&config.host.run_dir);
    let present: Caller = block_on(control.get("/v1/self"))??;
    match present.workload {
        // Processes of an earlier run have kept the cgroup, and with it the tag.
        Some(present) if present == *workload => {}
        Some(present) => bail!("this cgroup belongs to workload {present} already"),
        None => {
            let own = cgroup::of_process("self")?;
            let own = own.strip_suffix(CONTROL).unwrap_or(&own);
            if own.trim_matches('/').is_empty() {
                bail!("this is the root cgroup, which cannot be a workload");
            }
            let dir = cgroup::find_mount()?.join(own.trim_start_matches('/'));
            let body = serde_json::json!({ "cgroup": own, "workload": workload });
            let tagged: Tagged = block_on(control.post("/v1/tag", &body))??;
            let id = cgroup::id(&dir)?;
            if tagged.cgroup_id != id.0 {
                bail!(
                    "the daemon enforces cgroup {}, not {} ({own})",
                    tagged.cgroup_id,
                    id.0
                );
            }
        }
    }
    // Asked again: now it is about this very process, whose programs the kernel is asked for.
    let now: Caller = block_on(control.get("/v1/self"))??;
    if now.workload.as_ref() != Some(workload) || !now.enforced {
        bail!("not every program is attached: portcullis status says which");
    }
    match unit {
        Some(unit) => lay_out(unit, config),
        None => Ok(()),
    }
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
