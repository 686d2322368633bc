//! The demo: an unmodified `curl` is redirected in the kernel, identified, decided, masked and recorded.
//!
//! Every step checks what it claims, and the exit status is non-zero if any claim is false. Everything happens in
//! network, mount and cgroup namespaces of its own; nothing is left behind, whatever the way out.

mod acts;
mod show;

use std::{process::ExitCode, time::Instant};

use e2e::{
    site::{Options, Site},
    world::{NAME, UPSTREAM, World},
};
use show::Show;

fn main() -> ExitCode {
    // Ctrl-C ends the children by themselves (they die with this process); what it leaves is swept by the next run.
    let began = Instant::now();
    let show = Show::new();
    match World::enter(|world| play(&Show::new(), world, began)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            show.came(&format!("{error:#}"));
            eprintln!(
                "\nThe demo could not go on: {}",
                error.root_cause().to_string().lines().next().unwrap_or("")
            );
            ExitCode::FAILURE
        }
    }
}

fn play(show: &Show, world: &World, began: Instant) -> anyhow::Result<bool> {
    show.step("A host, an API, an issuer, and the gate");
    show.tell("Two network namespaces: this host, and the company's network behind a veth pair.");
    show.tell(&format!(
        "There, a real nginx with TLS serves {NAME} ({UPSTREAM}): customers, with personal data."
    ));
    show.tell("Here, an OIDC issuer, and `portcullis daemon`; a token file makes workload `deploy-bot`");
    show.tell("agent:deploy-bot of group `agents`. Its policy (tests/demo/policy.cedar) in one line: read and write,");
    show.tell("never DELETE, never see personal data.");
    let mut site = Site::start(world, "demo", &Options::default())?;
    acts::ready(show, &site)?;
    acts::outside(show, &site)?;
    acts::masked(show, &site)?;
    acts::refused(show, &site)?;
    acts::untouched(show, &site)?;
    acts::revoked(show, &site)?;
    acts::killed(show, &mut site)?;
    acts::rows(show, &site)?;
    acts::evidence(show, &mut site)?;
    site.daemon.stop()?;
    Ok(show.end(began.elapsed()))
}
