//! Running other programs, and saying so.

use std::{
    io::IsTerminal as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

/// The workspace's directory.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A heading: what happens next, and why.
pub fn say(what: &str, why: &str) {
    // Build tools print to standard error; one stream keeps the order.
    if std::io::stderr().is_terminal() {
        eprintln!("\x1b[1;36m==> {what}\x1b[0m  {why}");
    } else {
        eprintln!("==> {what}  {why}");
    }
}

/// The `cargo` that runs this.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A command with arguments.
pub fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// The command as a line that can be pasted.
pub fn line(command: &Command) -> String {
    let mut words = vec![shown(command.get_program())];
    words.extend(command.get_args().map(shown));
    words.join(" ")
}

fn shown(word: &std::ffi::OsStr) -> String {
    let word = word.to_string_lossy();
    let word = if word.ends_with("/cargo") {
        "cargo".into()
    } else {
        word
    };
    if word.contains(' ') {
        format!("'{word}'")
    } else {
        word.into_owned()
    }
}

/// Runs a command with this terminal; an error when it fails. Returns the time it took.
pub fn run(command: &mut Command) -> anyhow::Result<Duration> {
    eprintln!("    $ {}", line(command));
    let began = Instant::now();
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot run {}", line(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", line(command));
    }
    Ok(began.elapsed())
}

/// Runs a command and returns what it printed on standard output.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", line(command)))?;
    if !output.status.success() {
        bail!("{} ended with {}", line(command), output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Whether a command can be run and succeeds; what it prints is dropped.
pub fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}
