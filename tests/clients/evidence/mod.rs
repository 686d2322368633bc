//! Reports for assessors, made from a real daemon's ledger by the command, and read by what others read them with: NIST's
//! OSCAL models and schema, Python's csv, a browser.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use e2e::{
    child::Said,
    ledger::Reader,
    site::Site,
    wait::{DEADLINE, wait_until},
};
use serde_json::Value;

use super::with_site;

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/evidence")
}

/// Python with NIST's models and schema, installed once below `target/` by a committed list of versions and hashes. To
/// be called outside of any world: there is no network inside.
fn python() -> Result<PathBuf> {
    static PLACE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let place = PLACE.get_or_init(|| install().map_err(|e| format!("{e:#}")));
    place
        .clone()
        .map(|p| p.join("bin/python"))
        .map_err(|e| anyhow!(e))
}

fn install() -> Result<PathBuf> {
    let list = source().join("requirements.txt");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("evidence-python");
    let (done, wanted) = (place.join("requirements.done"), fs::read(&list)?);
    if fs::read(&done).is_ok_and(|there| there == wanted) {
        return Ok(place);
    }
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    let mut venv = Command::new("/usr/bin/python3");
    Said::by(venv.args(["-m", "venv"]).arg(&place))?.ok()?;
    let mut pip = Command::new(place.join("bin/pip"));
    // The list is whole: what of their dependencies is not in it is not used.
    pip.args(["install", "--quiet", "--no-deps", "--require-hashes"]);
    Said::by(pip.args(["--only-binary", ":all:", "-r"]).arg(&list))?.ok()?;
    // Last: half an installation is none.
    fs::write(done, wanted)?;
    Ok(place)
}

/// A site where something happened: read and masked, denied by default, denied by policy.
fn with_records(
    name: &str,
    test: impl FnOnce(&Site<'_>, &dyn Fn(&[&str]) -> Result<String>) -> Result<()> + Send,
) {
    let python = python().unwrap();
    with_site(name, |site| {
        let url = "https://api.internal/customers";
        for words in [
            vec!["curl", "-sS", url],
            vec!["curl", "-sS", "-X", "DELETE", "https://api.internal/customers/1"],
            vec!["curl", "-sS", "http://[2001:db8::2]/customers"],
        ] {
            site.workload().run(&words)?.ok()?;
        }
        let ended = "SELECT count(*) FROM operations WHERE outcome = 'completed'";
        let ledger = Reader::open(&site.daemon.ledger())?;
        wait_until("the outcome is on record", DEADLINE, || {
            ledger.number(ended).is_ok_and(|n| n == 1)
        })?;
        let check = |words: &[&str]| {
            let mut command = Command::new(&python);
            Said::by(command.arg(source().join("check.py")).args(words))?.ok()
        };
        test(site, &check)
    });
}

/// Runs `portcullis evidence`.
fn evidence(site: &Site<'_>, words: &[&str]) -> Result<Said> {
    site.daemon.cli(&[&["evidence"], words].concat())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn each_format_is_read_by_others_and_each_report_is_on_record() {
    with_records("evidence", |site, check| {
        let out = |name: &str| text(&site.world.path(name));
        for format in ["html", "json", "csv", "oscal"] {
            let file = out(&format!("report.{format}"));
            let said = evidence(site, &["--format", format, "--out", &file])?.ok()?;
            ensure!(said.contains("20 controls\nTree root "), "{said}");
            let again = evidence(site, &["--format", format, "--out", &file])?;
            ensure!(
                again.code == 1 && again.err.contains("it exists already"),
                "{}",
                again.err
            );
        }
        let report: Value = serde_json::from_slice(&fs::read(out("report.json"))?)?;
        ensure!(report["verdict"]["verified"] == true, "{}", report["verdict"]);
        let rows = |control: &str, query: &str| {
            let control = report["controls"]
                .as_array()?
                .iter()
                .find(|c| c["id"] == control)?;
            let query = control["queries"]
                .as_array()?
                .iter()
                .find(|q| q["name"] == query)?;
            query["error"].is_null().then_some(query["rows"].as_u64()?)
        };
        let expected = [
            ("AC-3", "decisions", 3),
            ("AC-3", "denied", 2),
            ("AC-3", "allowed_by_none", 0),
            ("SC-7", "refused_by_default", 1),
            // With both sides, and with the workload alone where nothing went on.
            ("SC-8", "encrypted", 2),
            ("SC-8", "in_the_clear", 0),
            ("IA-9", "identified", 1),
            ("IA-9", "without_identity", 0),
            ("AU-12", "interrupted", 0),
            ("AU-3", "incomplete", 0),
            ("SI-7", "starts", 1),
            // The HTML report was made before this one.
            ("AU-6", "reviews", 1),
        ];
        for (control, query, count) in expected {
            let found = rows(control, query);
            ensure!(
                found == Some(count),
                "{control}/{query}: {found:?} and not {count}"
            );
        }
        for control in report["controls"].as_array().into_iter().flatten() {
            ensure!(control["status"] != "failed", "{control}");
        }
        check(&["oscal", &out("report.oscal")])?;
        let own = out("own.csv");
        // Of the same records as the table.
        let export = out("export.db");
        site.daemon.cli(&["export", "--out", &export])?.ok()?;
        for (format, file) in [("csv", &own), ("json", &out("own.json"))] {
            evidence(
                site,
                &[
                    "--file",
                    &export,
                    "--format",
                    format,
                    "--out",
                    file,
                    "--samples",
                    "50",
                ],
            )?
            .ok()?;
        }
        check(&["csv", &own, &out("own.json")])?;
        on_record(site, &out("report.html"))
    });
}

/// Custody: the last report of each format, by its hash.
fn on_record(site: &Site<'_>, file: &str) -> Result<()> {
    let ledger = Reader::open(&site.daemon.ledger())?;
    let told = ledger.rows(
        "SELECT json_extract(body, '$.detail.asked.format'), json_extract(body, '$.detail.file'),
           json_extract(body, '$.detail.sha256'), json_extract(body, '$.actor.uid') FROM entry
         WHERE json_extract(body, '$.event') = 'exported' AND json_extract(body, '$.detail.asked.report') = 'evidence' ORDER BY seq",
    )?;
    let formats: Vec<&str> = told.iter().map(|row| &*row[0]).collect();
    ensure!(formats == ["html", "json", "csv", "oscal"], "{told:?}");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &fs::read(file)?);
    ensure!(
        told[0][1..] == [file.to_owned(), hex::encode(digest), "0".into()],
        "{told:?}"
    );
    Ok(())
}

#[test]
fn the_page_stands_alone_in_a_browser_and_on_paper() {
    with_records("evidence-page", |site, _| {
        let page = text(&site.world.path("report.html"));
        evidence(site, &["--out", &page])?.ok()?;
        let (shot, paper) = (site.world.path("report.png"), site.world.path("report.pdf"));
        let chromium = |option: &str| {
            let mut chromium = Command::new("/usr/bin/chromium");
            chromium.args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--window-size=1280,2000",
            ]);
            chromium.args(["--no-first-run", "--no-pdf-header-footer"]);
            chromium.arg(format!(
                "--user-data-dir={}",
                site.world.path("chromium").display()
            ));
            Said::by(chromium.arg(option).arg(format!("file://{page}")))?.ok()
        };
        let dom = chromium("--dump-dom")?;
        for expected in [
            "The records were verified.",
            "What this does not show",
            "policy_default_deny",
            "us_ssn",
        ] {
            ensure!(dom.contains(expected), "no '{expected}' on the page");
        }
        ensure!(super::shown(&dom).is_empty(), "personal data on the page");
        chromium(&format!("--screenshot={}", shot.display()))?;
        chromium(&format!("--print-to-pdf={}", paper.display()))?;
        ensure!(fs::read(shot)?.starts_with(b"\x89PNG"), "no picture");
        ensure!(fs::read(paper)?.starts_with(b"%PDF-"), "no paper");
        Ok(())
    });
}

#[test]
fn an_auditor_reports_from_an_export_alone() {
    with_records("evidence-file", |site, check| {
        let out = |name: &str| text(&site.world.path(name));
        let (export, key) = (out("export.db"), text(&site.daemon.data_dir().join("ledger.pub")));
        site.daemon.cli(&["export", "--out", &export])?.ok()?;
        // No configuration of this host, no daemon asked.
        let auditor = |words: &[&str]| {
            let mut command = Command::new(e2e::paths::portcullis()?);
            command.args([
                "--config",
                "/nonexistent/portcullis.toml",
                "evidence",
                "--file",
                &export,
            ]);
            Said::by(command.args(["--key", &key]).args(words))
        };
        let first = auditor(&["--format", "oscal"])?.ok()?;
        let second = auditor(&["--format", "oscal"])?.ok()?;
        ensure!(first == second, "two runs over the same records differ");
        fs::write(out("first.json"), &first)?;
        check(&["oscal", &out("first.json")])?;
        fs::write(
            out("planned.json"),
            auditor(&["--format", "oscal", "--assessment-plan", "ap.json"])?.ok()?,
        )?;
        check(&["oscal", &out("planned.json")])?;

        let overlay = site.world.path("overlay");
        fs::create_dir(&overlay)?;
        fs::write(
            overlay.join("cc6.toml"),
            "id = 'CC6.1'\ntitle = 'Own'\nfamily = 'Own'\nclaim = 'Own'\nnot_shown = ['Much']\n[[query]]\nname = 'paths'\n\
             question = 'Which?'\nview = 'operations'\nsql = 'SELECT DISTINCT resource FROM operations'\n",
        )?;
        let own = [
            "--overlay",
            &text(&overlay),
            "--control",
            "cc6.1",
            "--format",
            "json",
        ];
        let report: Value = serde_json::from_str(&auditor(&own)?.ok()?)?;
        let paths = report["controls"][0]["queries"][0]["rows"]
            .as_u64()
            .context("no rows")?;
        ensure!(paths == 3 && report["head"]["key_given"] == true, "{report}");
        fs::write(overlay.join("bad.toml"), "id = 'X'\n")?;
        let bad = auditor(&own)?;
        ensure!(
            bad.code == 1 && bad.err.contains("bad.toml: ") && bad.err.contains("missing field"),
            "{}",
            bad.err
        );

        let change = rusqlite::Connection::open(&export)?;
        change.execute("UPDATE entry SET body = replace(body, 'deny', 'allo') WHERE seq = (SELECT max(entry) FROM operations)", [])?;
        drop(change);
        let tampered = auditor(&["--format", "json"])?;
        let report: Value = serde_json::from_str(&tampered.out)?;
        ensure!(
            tampered.code == 1 && tampered.err.contains("did not verify: entry "),
            "{}",
            tampered.err
        );
        ensure!(
            report["controls"][0]["status"] == "unverified",
            "{}",
            report["controls"][0]
        );
        Ok(())
    });
}
