//! RFC 5424 over TLS to Debian's rsyslog: killed, stopped, with the wrong certificates; every event is in its file in
//! the end.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    child::Process,
    wait::{DEADLINE, wait_until},
};
use nix::sys::signal::Signal;
use portcullis::{
    ledger::Recorded,
    ship::{ocsf::ocsf, view::HostFacts},
};
use serde_json::Value;

use super::{
    install,
    ocsf::fed,
    rig::{self, Files, Got, Rig},
};

/// rsyslog with TLS that asks for a certificate of `agent.internal`, and a file of what it got.
struct Rsyslog {
    dir: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Rsyslog {
    fn new(dir: &Path) -> Result<Self> {
        Ok(Self {
            dir: dir.into(),
            port: rig::free_port()?,
            process: None,
        })
    }

    fn start(&mut self, files: &Files, cert: &Path, key: &Path) -> Result<()> {
        let dir = self.dir.display();
        let config = format!(
            r#"
global(
  workDirectory="{dir}" maxMessageSize="256k" parser.escapeControlCharactersOnReceive="off"
  defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="{ca}"
  defaultNetstreamDriverCertFile="{cert}" defaultNetstreamDriverKeyFile="{key}"
)
main_queue(queue.type="LinkedList" queue.size="100000")
module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="x509/name"
  PermittedPeer=["agent.internal"])
template(name="all" type="string" string="%pri% %timestamp:::date-rfc3339% %hostname% %app-name% %msgid% %structured-data%|%msg%\n")
input(type="imtcp" port="{port}" address="127.0.0.1")
action(type="omfile" file="{dir}/got" template="all" fileCreateMode="0600")
"#,
            ca = files.ca.display(),
            cert = cert.display(),
            key = key.display(),
            port = self.port,
        );
        let path = self.dir.join("rsyslog.conf");
        fs::write(&path, config)?;
        let pid = self.dir.join("rsyslog.pid");
        let _of_the_former = fs::remove_file(&pid);
        let mut command = Command::new("/usr/sbin/rsyslogd");
        command.arg("-n").arg("-f").arg(&path).arg("-i").arg(&pid);
        let mut process = Process::start("rsyslog", &self.dir, &mut command)?;
        let port = self.port;
        let up = wait_until("rsyslog to listen", DEADLINE, || {
            process.ended().is_some() || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        up.with_context(|| process.log())?;
        ensure!(process.ended().is_none(), "rsyslog ended:\n{}", process.log());
        self.process = Some(process);
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.process.as_ref().context("it does not run")?.signal(signal)
    }

    fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join("got")).unwrap_or_default();
        // A killed writer leaves half a line, and the next one goes on behind it.
        text.lines().map(str::to_owned).collect()
    }

    fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }
}

/// A parameter of the structured data.
fn parameter(line: &str, name: &str) -> Option<String> {
    let rest = line.split(&format!(" {name}=\"")).nth(1)?;
    Some(rest.split('"').next()?.to_owned())
}

/// What a line says; nothing where it is half a line that a killed receiver left.
fn read(line: &str) -> Option<Got> {
    let (head, body) = line.split_once("]|")?;
    let body = body.trim_start_matches('\u{feff}');
    Some(Got {
        seq: parameter(head, "seq")?.parse().ok()?,
        id: parameter(head, "id")?,
        body: serde_json::from_str(body).ok()?,
    })
}

struct Setup {
    rig: Rig,
    rsyslog: Rsyslog,
    files: Files,
}

fn setup(more: &str) -> Result<Setup> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().to_owned();
    let files = rig::certificates(&path)?;
    let rsyslog = Rsyslog::new(&path)?;
    let config = format!(
        "[[ship]]\nname = 'siem'\nkind = 'syslog'\nhost = '127.0.0.1'\nport = {}\nserver_name = 'localhost'\n\
         ca_file = '{}'\ntimeout = '2s'\nretry_max = '1s'\nbatch_events = 40\nmax_message = '64 KiB'\n{more}\n\
         [[credential]]\nname = 'agent'\ncertificate_file = '{}'\nkey_file = '{}'\n\
         [[credential]]\nname = 'stranger'\ncertificate_file = '{}'\nkey_file = '{}'\n",
        rsyslog.port,
        files.ca.display(),
        files.client_cert.display(),
        files.client_key.display(),
        files.other_cert.display(),
        files.other_key.display(),
    );
    Ok(Setup {
        rig: Rig::new(dir, &config)?,
        rsyslog,
        files,
    })
}

/// Waits until the file has an event of every entry, in order, the same each time.
fn all_there(s: &Setup, read: fn(&str) -> Option<Got>, body: fn(&Recorded) -> Value) -> Result<()> {
    let mut last = None;
    let there = wait_until("every event in rsyslog's file", DEADLINE, || {
        let got: Vec<Got> = s.rsyslog.lines().iter().filter_map(|l| read(l)).collect();
        let held = s.rig.holds(&got, &[], body);
        let is_held = held.is_ok();
        last = held.err();
        is_held
    });
    there.with_context(|| format!("{last:?}; rsyslog's log:\n{}", s.rsyslog.log()))
}

fn trouble(s: &mut Setup) -> Result<()> {
    let (cert, key) = (s.files.cert.clone(), s.files.key.clone());
    let (other_cert, other_key) = (s.files.other_cert.clone(), s.files.other_key.clone());
    s.rig.record(1)?;
    s.rig.start()?;
    s.rig.fails("unreachable")?;
    s.rsyslog.start(&s.files, &cert, &key)?;
    s.rig.all_taken()?;
    all_there(s, read, rig::event)?;
    // In the order of the ledger, and none twice, where nothing went wrong.
    let places: Vec<u64> = s
        .rsyslog
        .lines()
        .iter()
        .filter_map(|l| read(l))
        .map(|g| g.seq)
        .collect();
    ensure!(places.is_sorted_by(|a, b| a < b), "{places:?}");
    let line = s.rsyslog.lines().into_iter().next().unwrap_or_default();
    ensure!(
        line.contains(" host-1 portcullis ") && line.contains("[origin software=\"portcullis\""),
        "{line}"
    );
    // Stopped: its kernel takes some, and then nothing.
    s.rsyslog.signal(Signal::SIGSTOP)?;
    s.rig.record(60)?;
    s.rig.fails("timeout")?;
    s.rsyslog.signal(Signal::SIGCONT)?;
    s.rig.all_taken()?;
    all_there(s, read, rig::event)?;
    // Killed, while entries come: what its kernel or its memory had is sent again.
    for _ in 0..3 {
        s.rig.record(1)?;
        s.rsyslog.kill9();
        s.rig.record(1)?;
        s.rig.fails_somehow()?;
        s.rsyslog.start(&s.files, &cert, &key)?;
        s.rig.all_taken()?;
        all_there(s, read, rig::event)?;
    }
    // Another authority's certificate.
    s.rsyslog.kill9();
    s.rsyslog.start(&s.files, &other_cert, &other_key)?;
    s.rig.record(1)?;
    let why = s.rig.fails("unreachable")?;
    ensure!(why.contains("not trusted"), "{why}");
    s.rsyslog.kill9();
    s.rsyslog.start(&s.files, &cert, &key)?;
    s.rig.all_taken()?;
    // A restart goes on where it was.
    s.rig.stop();
    s.rig.record(1)?;
    s.rig.start()?;
    s.rig.all_taken()?;
    all_there(s, read, rig::event)
}

#[test]
fn rsyslog_through_every_trouble() {
    let mut s = setup("certificate = 'agent'").unwrap();
    trouble(&mut s).unwrap();
}

#[test]
fn without_the_right_certificate_nothing_counts_as_taken() {
    for certificate in ["", "certificate = 'stranger'"] {
        let mut s = setup(certificate).unwrap();
        let (cert, key) = (s.files.cert.clone(), s.files.key.clone());
        s.rsyslog.start(&s.files, &cert, &key).unwrap();
        s.rig.record(1).unwrap();
        s.rig.start().unwrap();
        let why = s.rig.fails("denied").unwrap();
        assert_eq!(s.rig.status().unwrap().taken, 0, "{why}");
        assert!(s.rsyslog.lines().iter().all(|l| read(l).is_none()));
    }
}

#[test]
fn a_message_that_is_too_long_says_so() {
    let mut s = setup("certificate = 'agent'\nraw_data = true").unwrap();
    s.rig.reconfigure(|ship| {
        if let portcullis::config::ShipTo::Syslog(to) = &mut ship.to {
            to.max_message = 2048;
        }
    });
    let (cert, key) = (s.files.cert.clone(), s.files.key.clone());
    s.rsyslog.start(&s.files, &cert, &key).unwrap();
    s.rig.record(1).unwrap();
    s.rig.start().unwrap();
    s.rig.all_taken().unwrap();
    let expected = s.rig.expected().unwrap();
    let mut cut = 0;
    wait_until("every event", DEADLINE, || {
        s.rsyslog.lines().len() >= expected.len()
    })
    .unwrap();
    let facts = HostFacts {
        raw: true,
        ..HostFacts::new("host-1")
    };
    for entry in &expected {
        let lines = s.rsyslog.lines();
        let seq = format!(" seq=\"{}\"", entry.seq.0);
        let line = lines.iter().find(|l| l.contains(&seq)).unwrap();
        let (head, body) = line.split_once("]|").unwrap();
        let (body, whole) = (body.trim_start_matches('\u{feff}'), ocsf(entry, &facts));
        assert!(whole.starts_with(body), "{body} is not the beginning of {whole}");
        if body.len() < whole.len() {
            cut += 1;
            assert_eq!(parameter(head, "truncated").unwrap(), "1");
            assert_eq!(parameter(head, "bodyBytes").unwrap(), whole.len().to_string());
        }
    }
    assert!(cut > 10);
}

/// CEF as an independent parser reads it (pycef).
#[test]
fn cef_by_a_parser_of_others() {
    let mut s = setup("certificate = 'agent'\nformat = 'cef'").unwrap();
    let (cert, key) = (s.files.cert.clone(), s.files.key.clone());
    s.rsyslog.start(&s.files, &cert, &key).unwrap();
    s.rig.record(1).unwrap();
    s.rig.start().unwrap();
    s.rig.all_taken().unwrap();
    let expected = s.rig.expected().unwrap();
    wait_until("every event", DEADLINE, || {
        s.rsyslog.lines().len() >= expected.len()
    })
    .unwrap();
    let lines: Vec<String> = s
        .rsyslog
        .lines()
        .iter()
        .filter_map(|l| {
            l.split_once("]|")
                .map(|(_, body)| body.trim_start_matches('\u{feff}').to_owned())
        })
        .collect();
    let entries: Vec<&str> = expected.iter().map(|e| e.body.as_str()).collect();
    let input = format!("{}\n--\n{}\n", entries.join("\n"), lines.join("\n"));
    let said = fed(&mut install::python("cef.py").unwrap(), input.as_bytes()).unwrap();
    assert!(said.contains("checked"), "{said}");
}
