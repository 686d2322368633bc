//! `portcullis unload`

use std::{os::unix::net::UnixStream, process::ExitCode};

use anyhow::bail;

use crate::{app::control, config::Config, redirect};

/// Takes all links and maps away. With the daemon running they would only come back, and until then a workload's
/// connections would go out unseen.
pub(super) fn run(config: &Config) -> anyhow::Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("only root can take programs off");
    }
    let pins = &config.redirect.pin_dir;
    let socket = control::socket(&config.host.run_dir);
    if UnixStream::connect(&socket).is_ok() {
        bail!(
            "{} answers: stop the daemon and its socket first (systemctl stop portcullis.socket portcullis.service)",
            socket.display()
        );
    }
    redirect::remove(pins)?;
    if let Ok(mount) = redirect::cgroup::find_mount() {
        // Otherwise the next daemon would find and enforce them.
        for (cgroup, _) in redirect::tags::list(&mount) {
            redirect::tags::remove(&cgroup)?;
        }
    }
    println!("all programs are taken off: workloads on this host are neither redirected nor guarded now");
    println!(
        "The ledger and the keys stay in {}.",
        config.host.data_dir.display()
    );
    Ok(ExitCode::SUCCESS)
}
