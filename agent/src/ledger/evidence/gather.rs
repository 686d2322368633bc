//! From records to a report.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Assessed, Evidence, Head, Range, Verdict, ask::Asker};
use crate::{
    ledger::{
        ExportOptions, LedgerError, Progress, VerifyError,
        controls::{Control, Query},
        export,
        note::VerifierKey,
        verify::{FileKind, verify},
    },
    model::Rfc3339,
};

/// Begins the name of the private directory.
const PRIVATE: &str = "portcullis-evidence-";
/// Where it is, unless TMPDIR says otherwise: an export can be larger than what a machine keeps in memory for `/tmp`.
const PLACE: &str = "/var/tmp";

/// What is read.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// The host's ledger, by its data directory.
    Ledger(&'a Path),
    /// An export or a sealed segment. The range is the file's own.
    File(&'a Path),
}

/// How a report is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// From this time on, nanoseconds since 1970 UTC.
    pub since_ns: Option<i64>,
    /// Before this time.
    pub until_ns: Option<i64>,
    /// Of this workload.
    pub workload: Option<String>,
    /// What it is about, in this order.
    pub controls: Vec<Control>,
    /// How many rows of each answer it shows.
    pub samples: usize,
    /// How long one question may take.
    pub limit: Duration,
    /// The host's key, had from another place than the records.
    pub key: Option<VerifierKey>,
    /// Now, nanoseconds since 1970 UTC.
    pub now_ns: i64,
}

/// Makes a report. Records that do not verify make one, too, that says so and asks nothing.
///
/// # Errors
/// When the records cannot be read, or there is no room for a private copy of them.
pub fn evidence(
    source: Source<'_>,
    options: &Options,
    progress: &mut dyn FnMut(&'static str, Progress),
) -> Result<Evidence, LedgerError> {
    match source {
        Source::File(path) => assess(path, path.display().to_string(), options, progress),
        Source::Ledger(ledger) => {
            let place = Private::new()?;
            let copy = place.dir.path().join("records.db");
            let range = ExportOptions {
                since_ns: options.since_ns,
                until_ns: options.until_ns,
                workload: options.workload.clone(),
                without_search: true,
                now_ns: options.now_ns,
                ..ExportOptions::default()
            };
            export(ledger, &copy, &range, &mut |p| progress("reading", p))?;
            assess(&copy, "ledger".into(), options, progress)
        }
    }
}

fn assess(
    path: &Path,
    source: String,
    options: &Options,
    progress: &mut dyn FnMut(&'static str, Progress),
) -> Result<Evidence, LedgerError> {
    let verdict = match verify(path, options.key.as_ref(), &mut |p| progress("verifying", p)) {
        Ok(report) => Ok(report),
        // What is no ledger at all, or cannot be read, is no finding about records.
        Err(VerifyError::Read(error)) => return Err(error),
        Err(error) => Err(error),
    };
    let questions: Vec<&Query> = options.controls.iter().flat_map(|c| &c.queries).collect();
    let asked = if verdict.is_ok() { &*questions } else { &[] };
    let asker = Asker::open(path, asked, options.limit, options.samples)?;
    if verdict
        .as_ref()
        .is_ok_and(|report| report.file == FileKind::Ledger)
    {
        return Err(LedgerError::File {
            path: path.into(),
            why: "it is a ledger that may be written to, not an export or a sealed segment".into(),
        });
    }
    let total = questions.len() as u64;
    let mut done = 0;
    let mut controls = Vec::new();
    for control in &options.controls {
        let answers = verdict.is_ok().then(|| {
            let one = |query| {
                done += 1;
                progress(
                    "asking",
                    Progress {
                        done,
                        total,
                        bytes: 0,
                    },
                );
                asker.ask(query)
            };
            control.queries.iter().map(one).collect()
        });
        controls.push(Assessed::of(control, answers));
    }
    let range = range(&asker, options);
    let newest = asker.text("SELECT max(json_extract(body, '$.at')) FROM entry WHERE body IS NOT NULL");
    let made =
        || asker.text("SELECT text FROM about WHERE topic IN ('exported_at', 'sealed_at') ORDER BY topic");
    Ok(Evidence {
        tool: concat!("portcullis ", env!("CARGO_PKG_VERSION")).into(),
        made_at: Rfc3339(options.now_ns).to_string(),
        // Of records that are all withheld, or of none, the file's own time is all that there is.
        as_of: newest
            .or_else(|| range.until.clone())
            .or_else(made)
            .unwrap_or_else(|| Rfc3339(options.now_ns).to_string()),
        source,
        range,
        head: head(&asker, verdict.as_ref().ok(), options.key.as_ref()),
        verdict: Verdict {
            verified: verdict.is_ok(),
            error: verdict.as_ref().err().map(ToString::to_string),
            report: verdict.ok(),
        },
        controls,
    })
}

fn range(asker: &Asker, options: &Options) -> Range {
    let time = |ns: Option<i64>| ns.map(|ns| Rfc3339(ns).to_string());
    let records = asker.text("SELECT CAST(count(*) AS TEXT) FROM entry WHERE body IS NOT NULL");
    Range {
        since: time(options.since_ns),
        until: time(options.until_ns),
        workload: options.workload.clone(),
        oldest: asker.text("SELECT min(json_extract(body, '$.at')) FROM entry WHERE body IS NOT NULL"),
        records: records.and_then(|n| n.parse().ok()).unwrap_or_default(),
    }
}

fn head(asker: &Asker, report: Option<&crate::ledger::Report>, key: Option<&VerifierKey>) -> Head {
    let size = asker.text("SELECT CAST(max(size) AS TEXT) FROM checkpoint");
    let checkpoint = asker
        .text("SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1")
        .unwrap_or_default();
    let keys = asker
        .text("SELECT group_concat(vkey, char(10)) FROM key")
        .unwrap_or_default();
    Head {
        origin: report.map(|r| r.origin.clone()).unwrap_or_default(),
        entries: report.map(|r| r.entries).unwrap_or_default(),
        root: report.map(|r| r.root.clone()).unwrap_or_default(),
        checkpoint_entries: size.and_then(|n| n.parse().ok()).unwrap_or_default(),
        key: signer(&checkpoint, &keys)
            .or(key.map(ToString::to_string))
            .unwrap_or_default(),
        checkpoint,
        key_given: key.is_some(),
    }
}

/// The one of these keys that a note is signed with: its id is what the signature begins with (C2SP signed-note).
fn signer(note: &str, keys: &str) -> Option<String> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let signatures = note.lines().filter_map(|line| line.strip_prefix("\u{2014} "));
    let ids: Vec<String> = signatures
        .filter_map(|line| STANDARD.decode(line.rsplit(' ').next()?).ok())
        .filter_map(|bytes| Some(format!("+{}+", hex::encode(bytes.get(..4)?))))
        .collect();
    let mut found = keys
        .lines()
        .filter(|key| ids.iter().any(|id| key.contains(&**id)));
    found.next().map(String::from)
}

/// A directory that only this process's user can look into, and that goes away with it. While it is used it is locked:
/// what a killed process left behind is not, and is removed by the next.
struct Private {
    dir: tempfile::TempDir,
    _lock: std::fs::File,
}

impl Private {
    fn new() -> Result<Self, LedgerError> {
        let place = match std::env::var_os("TMPDIR") {
            Some(dir) => PathBuf::from(dir),
            None if Path::new(PLACE).is_dir() => PLACE.into(),
            None => std::env::temp_dir(),
        };
        Self::sweep(&place);
        let error = |e: &std::io::Error| LedgerError::file(&place, e);
        let dir = tempfile::Builder::new()
            .prefix(PRIVATE)
            .tempdir_in(&place)
            .map_err(|e| error(&e))?;
        let lock = std::fs::File::open(dir.path()).map_err(|e| error(&e))?;
        lock.lock().map_err(|e| error(&e))?;
        Ok(Self { dir, _lock: lock })
    }

    /// Nothing depends on it, so what cannot be looked at or removed stays.
    fn sweep(place: &Path) {
        use std::os::unix::fs::MetadataExt as _;
        let mine = nix::unistd::geteuid().as_raw();
        for left in std::fs::read_dir(place).into_iter().flatten().flatten() {
            let path = left.path();
            let ours = left.file_name().to_string_lossy().starts_with(PRIVATE)
                && std::fs::symlink_metadata(&path).is_ok_and(|m| {
                    // One that another process is just making is not locked yet.
                    let old = m.modified().ok().and_then(|t| t.elapsed().ok());
                    m.is_dir() && m.uid() == mine && old.is_some_and(|age| age > Duration::from_secs(60))
                });
            if ours && std::fs::File::open(&path).is_ok_and(|dir| dir.try_lock().is_ok()) {
                let _ = std::fs::remove_dir_all(&path);
            }
        }
    }
}
