//! The tour in README.md, line by line as it stands there.

use std::{io::Write as _, process::Stdio};

use anyhow::{Context as _, ensure};
use e2e::paths;

use super::with_site;

#[test]
fn the_tour_in_the_readme_runs() {
    with_site("tour", |site| {
        let readme = std::fs::read_to_string(paths::repository().join("README.md"))?;
        let tour = readme.split("```sh\n").nth(1).context("README.md has no tour")?;
        let tour = tour.split("```").next().unwrap_or_default();
        let mut shell = site.shell(&paths::portcullis()?)?;
        shell
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut running = shell.spawn()?;
        running
            .stdin
            .take()
            .context("no stdin")?
            .write_all(tour.as_bytes())?;
        let output = running.wait_with_output()?;
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        ensure!(
            output.status.success(),
            "{}\nstdout: {out}\nstderr: {err}",
            output.status
        );
        for expected in [
            "Everything is enforced",
            "[masked:us_ssn]",
            "\"policies\":[\"no-deletes\"]",
            "identity_revoked",
            "OK: ",
            "BAD: entry ",
            "so it does",
        ] {
            ensure!(
                out.contains(expected),
                "no '{expected}' in what the tour printed:\n{out}\n{err}"
            );
        }
        Ok(())
    });
}
