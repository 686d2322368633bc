//! `portcullis man`, `portcullis completions` (hidden): what the packages bring beside the program, from the arguments
//! themselves, so that neither can say anything else than `--help`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap_complete::Shell;

/// The configuration that the packages install, which explains itself.
const CONFIG: &str = include_str!("../../packaging/portcullis.toml");
const CONFIG_HEAD: &str = include_str!("../../packaging/man/portcullis.toml.5");
const SERVICE: &str = include_str!("../../packaging/man/portcullis.service.8");

#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// Where to; it is made when missing.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct CompletionArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn man(args: &ManArgs, command: clap::Command) -> anyhow::Result<ExitCode> {
    write_all(&args.directory, command).with_context(|| args.directory.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// One page per command, and the two that are about files.
fn write_all(directory: &Path, command: clap::Command) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    clap_mangen::generate_to(command, directory)?;
    fs::write(
        directory.join("portcullis.toml.5"),
        format!("{CONFIG_HEAD}{}", verbatim(CONFIG)),
    )?;
    fs::write(directory.join("portcullis.service.8"), SERVICE)
}

/// Text as man(7) shows it unchanged.
fn verbatim(text: &str) -> String {
    let mut page = String::from(".nf\n");
    for line in text.lines() {
        // A backslash and a control character at the beginning would be read as requests.
        if line.starts_with(['.', '\'']) {
            page.push_str("\\&");
        }
        page.push_str(&line.replace('\\', "\\e").replace('-', "\\-"));
        page.push('\n');
    }
    page.push_str(".fi\n");
    page
}

pub(super) fn completions(args: &CompletionArgs, command: &mut clap::Command) -> ExitCode {
    clap_complete::generate(args.shell, command, "portcullis", &mut io::stdout());
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::{cli::Cli, config};

    #[test]
    fn every_command_that_is_shown_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        write_all(dir.path(), Cli::command()).unwrap();
        for command in Cli::command().get_subcommands().filter(|c| !c.is_hide_set()) {
            let page = dir.path().join(format!("portcullis-{}.1", command.get_name()));
            assert!(page.is_file(), "{}", page.display());
        }
        let text = fs::read_to_string(dir.path().join("portcullis.toml.5")).unwrap();
        assert!(text.contains("[redirect]") && text.contains(".SH"), "{text}");
        assert!(!dir.path().join("portcullis-enter.1").exists());
    }

    #[test]
    fn lines_that_roff_would_read_are_shown() {
        assert_eq!(
            verbatim(".TH\na \\n b\n'x"),
            ".nf\n\\&.TH\na \\en b\n\\&'x\n.fi\n"
        );
    }

    /// As installed it is taken, and so is what it shows in comments once the marks are taken off.
    #[test]
    fn the_installed_configuration_is_taken() {
        let path = Path::new("portcullis.toml");
        let as_installed = config::parse(path, CONFIG).unwrap();
        assert!(as_installed.workload.is_empty() && as_installed.issuer.is_empty());
        let shown: String = CONFIG
            .lines()
            .map(|line| line.strip_prefix("#:").map(str::trim_start).unwrap_or(line))
            .fold(String::new(), |text, line| text + line + "\n");
        let shown = config::parse(path, &shown).unwrap();
        assert_eq!(shown.workload.len(), 1);
        assert_eq!(shown.issuer.len(), 1);
    }
}
