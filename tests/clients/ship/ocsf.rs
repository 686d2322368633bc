//! Events by the published schema of OCSF.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use portcullis::{
    ledger::Recorded,
    ship::{ocsf::ocsf, samples::samples, view::HostFacts},
};

use super::install;

/// Validates the events of entries; the classes met, with their counts.
pub fn validate(entries: &[Recorded], facts: &HostFacts) -> Result<String> {
    let events: String = entries.iter().map(|entry| ocsf(entry, facts) + "\n").collect();
    fed(&mut install::python("ocsf.py")?, events.as_bytes())
}

/// What a program says of its input; an error where it ends in failure.
pub fn fed(command: &mut Command, input: &[u8]) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()?;
    let mut stdin = child.stdin.take().context("a pipe")?;
    std::thread::scope(|s| {
        let writing = s.spawn(move || stdin.write_all(input));
        let output = child.wait_with_output()?;
        let said = String::from_utf8(output.stdout)?;
        // Who ends early has said why.
        let written = writing.join().is_ok_and(|w| w.is_ok());
        ensure!(output.status.success(), "{}: {said}", output.status);
        ensure!(written, "it did not read everything");
        Ok(said)
    })
}

#[test]
fn every_kind_of_entry_is_valid_by_the_published_schema() {
    let mut facts = HostFacts::new("host-1");
    let classes = validate(&samples(), &facts).unwrap();
    for class in [
        "API Activity",
        "Application Error",
        "Application Lifecycle",
        "Authentication",
        "Authorize Session",
        "Datastore Activity",
        "Detection Finding",
        "Entity Management",
        "Event Log Activity",
        "HTTP Activity",
        "Network Activity",
        "Process Activity",
    ] {
        assert!(classes.contains(class), "no {class} in {classes}");
    }
    facts.raw = true;
    validate(&samples(), &facts).unwrap();
}

#[test]
fn the_validator_finds_what_is_wrong() {
    let entry = &samples()[0];
    let event = ocsf(entry, &HostFacts::new("host-1"));
    let python = || install::python("ocsf.py").unwrap();
    assert!(fed(&mut python(), event.as_bytes()).is_ok());
    for (right, wrong) in [
        (r#""type_uid":400203"#, r#""type_uid":400204"#),
        (r#""activity_name":"Get""#, r#""activity_name":"Put""#),
        (r#""version":"1.6.0""#, r#""version":"1.99.0""#),
        (r#""severity_id":1"#, r#""severity_id":77"#),
        (r#""app_name":"#, r#""app_names":"#),
        (r#""host","security_control""#, r#""security_control""#),
        (r#""pid":4711"#, r#""pid":"4711""#),
    ] {
        assert!(event.contains(right), "{right} in {event}");
        assert!(
            fed(&mut python(), event.replacen(right, wrong, 1).as_bytes()).is_err(),
            "{wrong}"
        );
    }
}
