//! `cargo xtask demo`.

use crate::{
    setup,
    step::{cargo, run, say},
};

pub fn demo(shell: bool) -> anyhow::Result<()> {
    setup::setup()?;
    say(
        "build",
        "the agent with its eBPF programs, and the demo; a cold build takes some minutes",
    );
    run(cargo().args(["build", "--package", "portcullis", "--package", "e2e", "--bins"]))?;
    let mut demo = cargo();
    demo.args(["run", "--quiet", "--package", "e2e", "--bin", "demo"]);
    if shell {
        say("shell", "the site of the demo, to try things out");
        // Somebody types into it.
        let status = demo.args(["--", "--shell"]).status()?;
        anyhow::ensure!(status.success(), "the shell ended with {status}");
        return Ok(());
    }
    say("demo", "every step checks what it claims");
    run(&mut demo)?;
    Ok(())
}
