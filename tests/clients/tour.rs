//! The tour in README.md, line by line as it stands there.

use std::{io::Write as _, process::Stdio};

use anyhow::{Context as _, ensure};
use e2e::{
    paths,
    site::{KEY, Options},
};

use super::with_options;

#[test]
fn the_tour_in_the_readme_runs() {
    with_options("tour", Options::demo, |site| {
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
            "POST https://api.internal/customers",
            "{\"shown\":\"Bearer ****",
            "api-key",
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
        ensure!(!out.contains(KEY), "the tour printed the API's key:\n{out}");
        Ok(())
    });
}
