//! `portcullis tag`, `portcullis untag`

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};

use super::{block_on, control::Control, unit};
use crate::{app::OlderStatus, config::Config, model::WorkloadName, redirect::cgroup};

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(super) struct TagArgs {
    /// The cgroup: a path below the cgroup2 mount (`/system.slice/x.service`) or the directory itself.
    #[arg(group = "what")]
    cgroup: Option<String>,
    /// A systemd service, by a drop-in: it is tagged before it starts, each time, and does not start if it cannot be.
    #[arg(long, group = "what", value_name = "X.service")]
    unit: Option<String>,
    /// The cgroup of the calling process; exit 255 when it is not enforced in the end. What the drop-in calls.
    #[arg(long, group = "what")]
    here: bool,
    /// The workload's name, as in `[[workload]]`.
    #[arg(long, value_name = "NAME", value_parser = WorkloadName::new)]
    workload: WorkloadName,
    #[command(flatten)]
    options: unit::Options,
    /// With --here: the unit whose CA bundles are to be made.
    #[arg(long, requires = "here", value_name = "UNIT", hide = true)]
    trust: Option<String>,
    /// With --unit: where drop-ins are.
    #[arg(long, value_name = "DIR", default_value = unit::DIRECTORY)]
    unit_dir: PathBuf,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(super) struct UntagArgs {
    /// The cgroup, as for `tag`.
    #[arg(group = "what")]
    cgroup: Option<String>,
    /// A systemd service that was tagged by `tag --unit`.
    #[arg(long, group = "what", value_name = "X.service")]
    unit: Option<String>,
    /// With --unit: where drop-ins are.
    #[arg(long, value_name = "DIR", default_value = unit::DIRECTORY)]
    unit_dir: PathBuf,
}

pub(super) fn tag(args: &TagArgs, path: &Path, config: anyhow::Result<Config>) -> anyhow::Result<ExitCode> {
    let workload = &args.workload;
    if args.here {
        return Ok(unit::here(workload, args.trust.as_deref(), config));
    }
    let config = config?;
    if !config.workload.iter().any(|w| w.name == *workload) {
        let known: Vec<_> = config.workload.iter().map(|w| w.name.as_str()).collect();
        bail!(
            "there is no [[workload]] '{workload}' in the configuration; there is: {}",
            known.join(", ")
        );
    }
    if let Some(name) = &args.unit {
        let path = std::path::absolute(path).context("--config")?;
        return unit::tag(name, workload, &args.options, &args.unit_dir, (&path, &config));
    }
    let cgroup = below_mount(args.cgroup.as_deref().unwrap_or_default())?;
    let body = serde_json::json!({ "cgroup": cgroup, "workload": workload });
    let answer: serde_json::Value = block_on(Control::new(&config.host.run_dir).post("/v1/tag", &body))??;
    println!(
        "{cgroup} is workload {workload} now (cgroup id {})",
        answer["cgroup_id"]
    );
    let older = serde_json::from_value::<OlderStatus>(answer["older"].clone()).unwrap_or_default();
    for line in super::status::older(&older) {
        println!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn untag(args: &UntagArgs, config: &Config) -> anyhow::Result<ExitCode> {
    if let Some(name) = &args.unit {
        return unit::untag(name, &args.unit_dir, config);
    }
    let cgroup = below_mount(args.cgroup.as_deref().unwrap_or_default())?;
    let control = Control::new(&config.host.run_dir);
    let body = serde_json::json!({ "cgroup": cgroup });
    let _: serde_json::Value = block_on(control.post("/v1/untag", &body))??;
    println!("{cgroup} is no workload any more");
    Ok(ExitCode::SUCCESS)
}

/// The path below the cgroup2 mount, from either form.
fn below_mount(given: &str) -> anyhow::Result<String> {
    let mount = cgroup::find_mount()?;
    let inside = Path::new(given).strip_prefix(&mount).unwrap_or(Path::new(given));
    let path = format!("/{}", inside.display().to_string().trim_matches('/'));
    let dir = mount.join(path.trim_start_matches('/'));
    if !dir.join("cgroup.procs").is_file() {
        bail!("{} is not a cgroup", dir.display());
    }
    if path == "/" {
        bail!("the root cgroup cannot be a workload: the agent and the host's own services are in it");
    }
    Ok(path)
}
