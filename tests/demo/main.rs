//! The demo: an unmodified `curl` is redirected in the kernel, identified, decided, masked and recorded.
//!
//! Every step checks what it claims, and the exit status is non-zero if any claim is false. Everything happens in
//! network, mount and cgroup namespaces of its own; nothing is left behind, whatever the way out.

mod acts;
mod human;
mod show;

use std::{
    process::{ExitCode, Stdio},
    time::Instant,
};

use clap::Parser;
use e2e::{
    paths,
    site::{Options, Site},
    world::{NAME, UPSTREAM, World},
};
use show::Show;

#[derive(Parser)]
struct Arguments {
    /// Starts the same site, and a shell in it instead of the steps; what the tour in README.md is typed into.
    #[arg(long)]
    shell: bool,
}

fn main() -> ExitCode {
    // However this process ends, its children die with it, and what else it leaves is swept by the next run.
    let began = Instant::now();
    let arguments = Arguments::parse();
    let show = Show::new();
    let outcome = World::enter(|world| {
        let show = Show::new();
        if arguments.shell {
            shell(&show, world)
        } else {
            play(&show, world, began)
        }
    });
    match outcome {
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
    show.tell("never DELETE, never see personal data; a new customer is approved by a human.");
    let mut site = Site::start(world, "demo", &Options::demo(world)?)?;
    acts::ready(show, &site)?;
    acts::outside(show, &site)?;
    acts::masked(show, &site)?;
    acts::refused(show, &site)?;
    human::approved(show, &site)?;
    human::injected(show, &site)?;
    acts::untouched(show, &site)?;
    acts::revoked(show, &site)?;
    acts::killed(show, &mut site)?;
    acts::rows(show, &site)?;
    acts::evidence(show, &mut site)?;
    site.daemon.stop()?;
    Ok(show.end(began.elapsed()))
}

/// A shell on the host of a site that runs.
fn shell(show: &Show, world: &World) -> anyhow::Result<bool> {
    let site = Site::start(world, "shell", &Options::demo(world)?)?;
    show.tell("The site runs: `portcullis` is in PATH, its configuration in $PORTCULLIS_CONFIG, the API at");
    show.tell(&format!(
        "https://{NAME}/customers, the workload is `deploy-bot`. Leave the shell, and all of it is gone."
    ));
    let status = site
        .shell(&paths::portcullis()?)?
        .stdin(Stdio::inherit())
        .status()?;
    Ok(status.success())
}
