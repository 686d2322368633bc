//! `portcullis tag`, `portcullis untag`

use std::process::ExitCode;

use anyhow::bail;

use super::{block_on, control::Control};
use crate::{config::Config, model::WorkloadName, redirect::cgroup};

#[derive(Debug, clap::Args)]
pub(super) struct TagArgs {
    /// The cgroup: a path below the cgroup2 mount (`/system.slice/x.service`) or the directory itself.
    cgroup: String,
    /// The workload's name, as in `[[workload]]`.
    #[arg(long, value_name = "NAME")]
    workload: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct UntagArgs {
    /// The cgroup, as for `tag`.
    cgroup: String,
}

pub(super) fn tag(args: &TagArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let workload = WorkloadName::new(&args.workload)?;
    if !config.workload.iter().any(|w| w.name == workload) {
        let known: Vec<_> = config.workload.iter().map(|w| w.name.as_str()).collect();
        bail!(
            "there is no [[workload]] '{workload}' in the configuration; there is: {}",
            known.join(", ")
        );
    }
    let cgroup = below_mount(&args.cgroup)?;
    let body = serde_json::json!({ "cgroup": cgroup, "workload": workload });
    let answer: serde_json::Value = block_on(Control::new(&config.host.run_dir).post("/v1/tag", &body))??;
    println!(
        "{cgroup} is workload {workload} now (cgroup id {})",
        answer["cgroup_id"]
    );
    println!(
        "Sockets that its processes opened before keep their connections: restart them to have all redirected."
    );
    Ok(ExitCode::SUCCESS)
}

pub(super) fn untag(args: &UntagArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let cgroup = below_mount(&args.cgroup)?;
    let control = Control::new(&config.host.run_dir);
    let body = serde_json::json!({ "cgroup": cgroup });
    let _: serde_json::Value = block_on(control.post("/v1/untag", &body))??;
    println!("{cgroup} is no workload any more");
    Ok(ExitCode::SUCCESS)
}

/// The path below the cgroup2 mount, from either form.
fn below_mount(given: &str) -> anyhow::Result<String> {
    let mount = cgroup::find_mount()?;
    let inside = std::path::Path::new(given)
        .strip_prefix(&mount)
        .unwrap_or(std::path::Path::new(given));
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
