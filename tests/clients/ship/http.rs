//! OTLP over both transports and Splunk's HEC: a receiver that is killed, slow, busy, small and wrong in turn, and has
//! everything in the end.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::rig::{self, Files, Receiver, Rig, TOKEN};

/// What differs between the protocols.
struct Case {
    protocol: &'static str,
    /// More arguments of the receiver.
    receiver: &'static [&'static str],
    /// The `[[ship]]`, without url, credential and roots.
    ship: &'static str,
    /// How the sink calls the receiver's garbage.
    garbage: &'static str,
}

const OTLP_HTTP: Case = Case {
    protocol: "otlp-http",
    receiver: &[],
    ship: "kind = 'otlp'\nheader = 'Authorization'\nheader_prefix = 'Bearer '\ngzip = true\n",
    garbage: "broken",
};
const OTLP_GRPC: Case = Case {
    protocol: "otlp-grpc",
    receiver: &[],
    ship: "kind = 'otlp'\nprotocol = 'grpc'\nheader = 'authorization'\nheader_prefix = 'Bearer '\n\
           certificate = 'agent'\ngzip = true\n",
    garbage: "broken",
};
const HEC: Case = Case {
    protocol: "hec",
    receiver: &["--ack"],
    ship: "kind = 'splunk_hec'\nsourcetype = 'portcullis:ocsf'\nacknowledge = true\ngzip = true\n",
    garbage: "broken",
};

struct Setup {
    rig: Rig,
    receiver: Receiver,
    files: Files,
    token: std::path::PathBuf,
    /// Arguments of the receiver with its right certificate.
    right: Vec<String>,
}

fn setup(case: &Case) -> Result<Setup> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().to_owned();
    let files = rig::certificates(&path)?;
    let mut right: Vec<String> = case.receiver.iter().map(|t| (*t).to_owned()).collect();
    let shown = |p: &std::path::Path| p.display().to_string();
    right.extend([
        "--cert".into(),
        shown(&files.cert),
        "--key".into(),
        shown(&files.key),
    ]);
    if case.ship.contains("certificate") {
        right.extend(["--client-ca".into(), shown(&files.ca)]);
    }
    let arguments: Vec<&str> = right.iter().map(String::as_str).collect();
    let receiver = Receiver::new(&path, case.protocol, &arguments)?;
    let token = path.join("token");
    fs::write(&token, TOKEN)?;
    secret(&token)?;
    let config = format!(
        "[[ship]]\nname = 'siem'\nurl = 'https://localhost:{}'\ncredential = 'token'\nca_file = '{}'\n\
         timeout = '2s'\nretry_max = '1s'\nbatch_events = 40\n{}\n\
         [[credential]]\nname = 'token'\nfile = '{}'\n\
         [[credential]]\nname = 'agent'\ncertificate_file = '{}'\nkey_file = '{}'\n",
        receiver.port,
        files.ca.display(),
        case.ship,
        token.display(),
        files.client_cert.display(),
        files.client_key.display(),
    );
    Ok(Setup {
        rig: Rig::new(dir, &config)?,
        receiver,
        files,
        token,
        right,
    })
}

fn secret(path: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}

fn matrix(case: &Case) -> Result<()> {
    let mut s = setup(case)?;
    let done = trouble(case, &mut s);
    done.with_context(|| format!("the receiver's log:\n{}", s.receiver.log()))
}

fn trouble(case: &Case, s: &mut Setup) -> Result<()> {
    let (rig, receiver) = (&mut s.rig, &mut s.receiver);
    // Nobody there yet: what is recorded waits.
    rig.record(1)?;
    rig.start()?;
    rig.fails("unreachable")?;
    receiver.start()?;
    rig.all_taken()?;
    // Busy, and it says for how long.
    receiver.mode("busy")?;
    rig.record(1)?;
    rig.fails("busy")?;
    // Then it hangs.
    receiver.mode("slow")?;
    rig.fails("timeout")?;
    // Then something answers that is no collector.
    receiver.mode("garbage")?;
    rig.fails(case.garbage)?;
    // It takes only little at once.
    receiver.mode("small")?;
    rig.all_taken()?;
    receiver.mode("ok")?;
    // Killed, while entries come.
    for _ in 0..3 {
        rig.record(1)?;
        receiver.kill9();
        rig.record(1)?;
        rig.fails("unreachable")?;
        receiver.start()?;
        rig.all_taken()?;
    }
    // A wrong token, until the right one is there again: its file is looked at again within seconds.
    fs::write(&s.token, "wrong")?;
    rig.fails_while_recording("denied")?;
    fs::write(&s.token, TOKEN)?;
    rig.all_taken()?;
    // Somebody else's certificate.
    receiver.kill9();
    let (cert, key) = (
        s.files.other_cert.display().to_string(),
        s.files.other_key.display().to_string(),
    );
    receiver.with(&["--cert", &cert, "--key", &key]);
    receiver.start()?;
    rig.record(1)?;
    let why = rig.fails("unreachable")?;
    ensure!(
        why.contains("not trusted") || why.contains("Connection refused"),
        "{why}"
    );
    receiver.kill9();
    let right: Vec<&str> = s.right.iter().map(String::as_str).collect();
    receiver.with(&right);
    receiver.start()?;
    rig.all_taken()?;
    rig.holds(&receiver.got()?, &[], rig::event)?;
    ensure!(
        rig.dead()?.is_empty(),
        "something was put away: {:?}",
        rig.dead()?
    );
    // A restart goes on where it was.
    rig.stop();
    let before = receiver.got()?.len();
    rig.record(1)?;
    rig.start()?;
    rig.all_taken()?;
    let got = receiver.got()?;
    rig.holds(&got, &[], rig::event)?;
    let again = got[before..]
        .iter()
        .filter(|one| got[..before].iter().any(|b| b.seq == one.seq))
        .count();
    ensure!(again == 0, "{again} events came again after an orderly restart");
    Ok(())
}

#[test]
fn otlp_over_http_through_every_trouble() {
    matrix(&OTLP_HTTP).unwrap();
}

#[test]
fn otlp_over_grpc_through_every_trouble() {
    matrix(&OTLP_GRPC).unwrap();
}

#[test]
fn splunk_through_every_trouble() {
    matrix(&HEC).unwrap();
}

fn rejected(case: &Case, check: impl FnOnce(&Rig, &Receiver) -> Result<()>) -> Result<()> {
    let mut s = setup(case)?;
    s.receiver.mode("partial")?;
    s.receiver.start()?;
    s.rig.record(1)?;
    s.rig.start()?;
    s.rig.all_taken()?;
    check(&s.rig, &s.receiver).with_context(|| s.receiver.log())
}

/// A collector says how many it rejects, not which: all that came with them are put away, and none comes twice.
fn partial(rig: &Rig, receiver: &Receiver) -> Result<()> {
    let (dead, got) = (rig.dead()?, receiver.got()?);
    let expected = rig.expected()?;
    ensure!(
        expected.iter().all(|e| dead.contains(&e.seq.0)),
        "not put away: {dead:?}"
    );
    let missing: Vec<u64> = expected
        .iter()
        .map(|e| e.seq.0)
        .filter(|seq| !got.iter().any(|g| g.seq == *seq))
        .collect();
    ensure!(!missing.is_empty(), "nothing was rejected");
    rig.holds(&got, &missing, rig::event)
}

#[test]
fn a_partial_success_of_otlp_loses_nothing() {
    rejected(&OTLP_HTTP, partial).unwrap();
    rejected(&OTLP_GRPC, partial).unwrap();
}

#[test]
fn an_event_that_splunk_rejects_is_put_away_alone() {
    rejected(&HEC, |rig, receiver| {
        let is_gap = |e: &&portcullis::ledger::Recorded| {
            let body: Value = serde_json::from_str(&e.body).unwrap_or_default();
            body["kind"] == "gap"
        };
        let gaps: Vec<u64> = rig.expected()?.iter().filter(is_gap).map(|e| e.seq.0).collect();
        ensure!(
            !gaps.is_empty() && rig.dead()? == gaps,
            "{:?} is not {gaps:?}",
            rig.dead()?
        );
        rig.holds(&receiver.got()?, &gaps, rig::event)
    })
    .unwrap();
}
