//! Several files as one ledger: each begins where the one before it ends.

use std::path::PathBuf;

use super::{
    super::{
        LedgerError,
        parts::{Part, parts},
        read, schema,
        store::{int, uint},
    },
    ChainFlaw, Checks, Finding, Progress, Report, VerifyError, indexes_fit,
    keys::KeyRing,
    pass::{self, Carry},
};

/// A file, and which entries it has.
struct Found {
    part: Part,
    first: u64,
    end: u64,
}

pub(super) fn run(
    files: &[PathBuf],
    checks: &Checks,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, Finding> {
    let found = find_all(files)?;
    let several = found.len() > 1;
    let total = found.last().map_or(0, |f| f.end);
    let unnamed = |error| Finding { file: None, error };
    let mut carry = Carry::new(keys(&found, checks), checks).map_err(unnamed)?;
    for file in found {
        let named = |error| Finding {
            file: several.then(|| file.part.path.clone()),
            error,
        };
        carry = one(&file.part, carry, total, progress).map_err(named)?;
    }
    carry.report().map_err(unnamed)
}

/// The keys of all files: the one given may be that of the last alone. What is wrong with a file's keys is said when its
/// turn comes.
fn keys(files: &[Found], checks: &Checks) -> KeyRing {
    let mut keys = KeyRing::new(checks.key.as_ref());
    for file in files {
        if let Ok(conn) = file.part.open() {
            let _ = keys.add_file(&conn);
        }
    }
    keys
}

/// Looks into the files and puts them in their order.
fn find_all(files: &[PathBuf]) -> Result<Vec<Found>, Finding> {
    let mut found = Vec::new();
    for path in files {
        let named = |error: LedgerError| Finding {
            file: (files.len() > 1).then(|| path.clone()),
            error: error.into(),
        };
        if path.is_dir() {
            for part in parts(path).map_err(named)? {
                found.extend(look(part).map_err(named)?);
            }
            if found.is_empty() {
                return Err(named(LedgerError::File {
                    path: path.clone(),
                    why: "there is no ledger in it".into(),
                }));
            }
        } else {
            found.extend(look(Part::alone(path)).map_err(named)?);
        }
    }
    found.sort_by_key(|f| (f.first, f.end));
    Ok(found)
}

/// Nothing for a part of a running ledger that has not begun.
fn look(part: Part) -> Result<Option<Found>, LedgerError> {
    let conn = part.open()?;
    // A file whose tables are not ours is refused where its schema is looked at.
    let first = match read::first(&conn) {
        Ok(None) if !part.sealed => return Ok(None),
        first => first.ok().flatten().unwrap_or(0),
    };
    let sql = "SELECT coalesce(max(seq) + 1, ?1) FROM entry";
    let end = conn
        .query_row(sql, [int(first)], |r| r.get(0))
        .map_or(first, uint);
    let end = read::stub_end(&conn).ok().flatten().unwrap_or(end);
    Ok(Some(Found { part, first, end }))
}

fn one<'a>(
    part: &Part,
    before: Carry<'a>,
    total: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Carry<'a>, VerifyError> {
    let conn = part.open()?;
    let kind = schema::check(&conn)?;
    // A tree of pages or an index that does not fit its rows would make queries lie about rows that are right. On a thread
    // of its own, because it takes as long as all the rest.
    std::thread::scope(|scope| {
        let indexes = scope.spawn(|| indexes_fit(part));
        let carry = pass::run(&conn, kind, before, total, progress)?;
        // A panic there would be one of SQLite's binding; the file is then not verified.
        let panicked = |_| {
            Err(VerifyError::Damaged {
                what: "the check of the indexes did not end".into(),
            })
        };
        indexes.join().unwrap_or_else(panicked)?;
        Ok(carry)
    })
}

impl ChainFlaw {
    /// What is wrong between a file that ends at `end` and one that begins at `first`, if their sizes say so.
    pub(super) fn between(end: u64, first: u64) -> Option<Self> {
        match first.cmp(&end) {
            std::cmp::Ordering::Greater => Some(Self::Missing { from: end, to: first }),
            std::cmp::Ordering::Less => Some(Self::Overlap { from: first, to: end }),
            std::cmp::Ordering::Equal => None,
        }
    }
}
