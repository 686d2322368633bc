//! Files that are right, copies of them to edit, and what both verifiers say of a copy.

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rusqlite::{Connection, OptionalExtension as _};
use zeroize::Zeroizing;

use super::super::{script::Script, *};
use crate::ledger::{
    note::HostKey,
    retention::{identity_line, tombstone::PayloadTombstone},
    tree::{CompactRange, leaf_hash, sha256},
    verify::{Checks, Finding, VerifyError, verify_files},
    witness::cosignature::{WitnessKey, testing::Signer},
};

/// What is edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// An export of everything.
    Full,
    /// An export of one workload: the other's entries are withheld.
    Filtered,
    /// A sealed segment.
    Segment,
    /// A ledger that is closed and not sealed, by itself.
    Live,
    /// Three segments, and the live part after them; what is edited is the second segment.
    Chain,
    /// An export of a ledger whose key was replaced, and the one before it.
    Rotated,
    /// A segment of which payload was purged, as its host declares.
    Purged,
    /// An export with a witness's cosignature, which is demanded.
    Witnessed,
}

/// Everything that is right.
pub(super) const ALL: [On; 8] = [
    On::Full,
    On::Filtered,
    On::Segment,
    On::Live,
    On::Chain,
    On::Rotated,
    On::Purged,
    On::Witnessed,
];

/// Everything that is one file.
pub(super) const FILES: &[On] = &[On::Full, On::Filtered, On::Segment, On::Live];
/// One file of each kind.
pub(super) const KINDS: &[On] = &[On::Full, On::Segment, On::Live];
/// What is signed to its end, and explained.
pub(super) const SEALED: &[On] = &[On::Full, On::Filtered, On::Segment];
pub(super) const EXPORTS: &[On] = &[On::Full, On::Filtered];
pub(super) const SEGMENT: &[On] = &[On::Segment];
pub(super) const SEGMENTS: &[On] = &[On::Segment, On::Chain];
pub(super) const LIVE: &[On] = &[On::Live];
pub(super) const CHAIN: &[On] = &[On::Chain];

/// One kind of edit.
pub(super) struct Edit {
    pub name: &'static str,
    pub on: &'static [On],
    /// What the verdict has to be about, alternatives apart by `|`.
    pub says: &'static str,
    pub edit: fn(&mut Case<'_>),
}

/// A list of edits: name, what is edited, what is said of it, how.
macro_rules! edits {
    ($list:ident: $($name:ident, $on:expr, $says:literal, $edit:expr;)*) => {
        pub(super) const $list: &[super::bench::Edit] = &[$(super::bench::Edit {
            name: stringify!($name), on: $on, says: $says, edit: $edit,
        }),*];
    };
}
pub(super) use edits;

/// Ledgers that are right, made once.
pub(super) struct Bench {
    dir: TempDir,
    /// The key of the ledger in parts, and that of the one by itself.
    pub key: HostKey,
    one: HostKey,
    /// Of the rotated ledger, the key before and the key after.
    pub rotated: [HostKey; 2],
}

/// Two workloads, each with operations and what there is besides; frames that a live file stores as they are.
async fn story(ledger: &Ledger) {
    let text = "permit(principal, action, resource);";
    let hash = hex::encode(sha256(&[text.as_bytes()]));
    ledger.policy_set(&hash, text).await.unwrap();
    for (n, workload) in ["bot-a", "bot-b"].into_iter().enumerate() {
        let id = uuid::Uuid::now_v7().to_string();
        ledger.append(session(workload, &id, "open")).await.unwrap();
        for i in 0..3 {
            let payload = [
                (Direction::Up, b"GET /a".to_vec()),
                (Direction::Down, b"{\"name\":\"[masked:name]\"},".repeat(8)),
                (Direction::Down, format!("end {n} {i}").into_bytes()),
            ];
            let mut told = told(workload, &id, NOW + i, &payload);
            let named = format!("\"policy_set\":\"{hash}\"");
            told.operation.body = told.operation.body.replace("\"policy_set\":\"\"", &named);
            tell(ledger, &told).await;
        }
        ledger.append(session(workload, &id, "close")).await.unwrap();
    }
    let change = json!({ "actor": {"uid": 0, "pid": 9}, "before": "x", "after": "y", "detail": {}, "subject": "policy" });
    ledger
        .append(entry(EntryKind::Change, NOW, change))
        .await
        .unwrap();
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        let kind = item.file_type().unwrap();
        if kind.is_dir() {
            copy_all(&item.path(), &target);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(item.path()).unwrap(), target).unwrap();
        } else {
            std::fs::copy(item.path(), target).unwrap();
        }
    }
}

impl Bench {
    pub(super) async fn new() -> Self {
        let dir = dir();
        let at = |name: &str| dir.path().join(name);
        let begin = |name: &str, host: &str| {
            let options = Options {
                host: host.into(),
                ..options(Durability::Process)
            };
            Ledger::open(&at(name), options).unwrap()
        };
        // By itself: two checkpoints, an export of each kind.
        for _ in 0..2 {
            let ledger = begin("one", "host-1");
            story(&ledger).await;
            ledger.close();
        }
        let one = at("one").join("ledger.db");
        let workload = Some("bot-a".to_owned());
        for (name, workload) in [("full.db", None), ("filtered.db", workload)] {
            let options = ExportOptions {
                now_ns: NOW,
                workload,
                ..Default::default()
            };
            export(&one, &at(name), &options, &mut |_| {}).unwrap();
        }
        // In parts; twice from the first segment on, with one key: a fork. And another host's.
        let chain = begin("chain", "host-1");
        story(&chain).await;
        chain.seal().await.unwrap().unwrap();
        chain.close();
        copy_all(&at("chain"), &at("fork"));
        copy_all(&at("chain"), &at("older"));
        for name in ["chain", "fork", "other"] {
            let ledger = begin(name, if name == "other" { "host-2" } else { "host-1" });
            for _ in 0..2 {
                story(&ledger).await;
                ledger.seal().await.unwrap().unwrap();
            }
            story(&ledger).await;
            ledger.close();
        }
        let secret = |name: &str| {
            let text = std::fs::read_to_string(at(name).join("ledger.key")).unwrap();
            HostKey::parse(&text).unwrap()
        };
        let ledger = begin("rotated", "host-1");
        story(&ledger).await;
        ledger.close();
        let old = secret("rotated");
        let ledger = begin("rotated", "host-1");
        // It waits for the writer, which a task of the runtime may not do.
        let rotate = || {
            ledger
                .rotate_key(&json!({"pid": 7, "uid": 0}))
                .map(|_| ())
                .unwrap()
        };
        std::thread::scope(|scope| scope.spawn(rotate).join().unwrap());
        story(&ledger).await;
        ledger.close();
        let options = ExportOptions {
            now_ns: NOW,
            ..Default::default()
        };
        export(&at("rotated/ledger.db"), &at("rotated.db"), &options, &mut |_| {}).unwrap();
        let (key, one, new) = (secret("chain"), secret("one"), secret("rotated"));
        Self {
            dir,
            key,
            one,
            rotated: [old, new],
        }
    }

    /// The files of one of its ledgers in parts.
    pub(super) fn parts(&self, name: &str) -> Vec<PathBuf> {
        let parts = parts(&self.dir.path().join(name)).unwrap();
        parts.into_iter().map(|part| part.path).collect()
    }

    /// A copy to edit.
    pub(super) fn case(&self, on: On) -> Case<'_> {
        let at = |name: &str| vec![self.dir.path().join(name)];
        let from = match on {
            On::Full | On::Witnessed => at("full.db"),
            On::Rotated => at("rotated.db"),
            On::Filtered => at("filtered.db"),
            On::Live => at("one/ledger.db"),
            On::Segment | On::Purged => self.parts("chain")[..1].to_vec(),
            On::Chain => self.parts("chain"),
        };
        let dir = dir();
        let copy = |(n, file): (usize, &PathBuf)| {
            let to = dir.path().join(format!("{n}.db"));
            std::fs::copy(file, &to).unwrap();
            to
        };
        let files: Vec<_> = from.iter().enumerate().map(copy).collect();
        let main = usize::from(on == On::Chain);
        let main = files[main].clone();
        let mut case = Case {
            bench: self,
            dir,
            on,
            files,
            main,
            key: None,
            against: None,
            witness: None,
        };
        match on {
            On::Purged => case.purge(),
            On::Witnessed => case.cosign(1_795_242_600, |text| text.into()),
            _ => {}
        }
        case
    }
}

/// A copy of a subject.
pub(super) struct Case<'b> {
    pub bench: &'b Bench,
    pub dir: TempDir,
    pub on: On,
    pub files: Vec<PathBuf>,
    /// The one that is edited.
    pub main: PathBuf,
    /// The key that is given to verify with.
    pub key: Option<String>,
    /// A checkpoint that was kept elsewhere, to verify against.
    pub against: Option<String>,
    /// A witness whose cosignature is demanded.
    pub witness: Option<String>,
}

/// The first operation, its outcome, and a frame of it.
pub(super) const OPERATION: &str = "(SELECT min(seq) FROM entry WHERE body LIKE '%\"kind\":\"operation\"%')";
pub(super) const OUTCOME: &str = "(SELECT min(seq) FROM entry WHERE body LIKE '%\"kind\":\"outcome\"%')";
pub(super) const FRAME: &str = "(SELECT min(place) FROM payload WHERE direction = 'down' AND number = 1)";

impl Case<'_> {
    pub(super) fn conn(&self) -> Connection {
        Connection::open(&self.main).unwrap()
    }

    /// Runs SQL; `OPERATION`, `OUTCOME`, `FRAME` and `LAST` stand for a row.
    pub(super) fn sql(&self, sql: &str) {
        let sql = sql
            .replace("OPERATION", OPERATION)
            .replace("OUTCOME", OUTCOME)
            .replace("FRAME", FRAME)
            .replace("LAST", "(SELECT max(seq) FROM entry)");
        self.conn()
            .execute_batch(&sql)
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    /// The same with the tables' types not enforced meanwhile.
    pub(super) fn loose(&self, table: &str, sql: &str) {
        let conn = self.conn();
        let declared: String = conn
            .query_row("SELECT sql FROM sqlite_master WHERE name = ?1", [table], |r| {
                r.get(0)
            })
            .unwrap();
        let write = |text: &str| {
            let conn = self.conn();
            conn.execute_batch("PRAGMA writable_schema=ON").unwrap();
            let sql = "UPDATE sqlite_master SET sql = ?1 WHERE name = ?2";
            conn.execute(sql, [text, table]).unwrap();
            let version: i64 = conn.query_row("PRAGMA schema_version", [], |r| r.get(0)).unwrap();
            conn.execute_batch(&format!("PRAGMA schema_version={}", version + 1))
                .unwrap();
        };
        let bare = declared
            .replace(" STRICT, WITHOUT", " WITHOUT")
            .replace(" STRICT", "");
        // A column without a type takes a value as it is.
        write(
            &bare
                .replace(" TEXT", "")
                .replace(" BLOB", "")
                .replace(" NOT NULL", ""),
        );
        drop(conn);
        self.sql(sql);
        write(&declared);
    }

    pub(super) fn one<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        self.conn().query_row(sql, [], |r| r.get(0)).unwrap()
    }

    /// Changes an entry's body, and its leaf hash to go with it.
    pub(super) fn body(&self, seq: &str, change: impl Fn(&str) -> String) {
        let conn = self.conn();
        let sql = format!("SELECT seq, body, salt FROM entry WHERE seq = {seq}")
            .replace("OPERATION", OPERATION)
            .replace("OUTCOME", OUTCOME);
        let (seq, body, salt): (i64, String, Vec<u8>) = conn
            .query_row(&sql, [], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
            .unwrap();
        let changed = change(&body);
        assert_ne!(body, changed);
        let leaf = leaf_hash(&salt, changed.as_bytes());
        conn.execute(
            "UPDATE entry SET body = ?1, leaf = ?2 WHERE seq = ?3",
            rusqlite::params![changed, leaf.as_slice(), seq],
        )
        .unwrap();
    }

    /// The tree over the entries as they are now.
    pub(super) fn tree(&self) -> CompactRange {
        let conn = self.conn();
        let sql = "SELECT size, nodes FROM frontier";
        let (size, nodes): (i64, Vec<u8>) = conn.query_row(sql, [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
        let mut tree = CompactRange::from_bytes(size.unsigned_abs(), &nodes).unwrap();
        let mut statement = conn.prepare("SELECT leaf FROM entry ORDER BY seq").unwrap();
        for leaf in statement.query_map([], |r| r.get(0)).unwrap() {
            tree.append(&leaf.unwrap());
        }
        tree
    }

    /// Makes `about` fit the entries as they are now, as a careful forger would.
    pub(super) fn about(&self) {
        let tree = self.tree();
        let conn = self.conn();
        let set = |topic: &str, text: String| {
            conn.execute(
                "UPDATE about SET text = ?1 WHERE topic = ?2",
                [text.as_str(), topic],
            )
            .unwrap();
        };
        set("entries", tree.size().to_string());
        set("root", hex::encode(tree.root()));
        let sql = "SELECT text FROM about WHERE topic = 'selected'";
        let selected: Option<String> = conn.query_row(sql, [], |r| r.get(0)).optional().unwrap();
        if let Some(text) = selected {
            let bodies: i64 = self.one("SELECT count(*) FROM entry WHERE body IS NOT NULL");
            let rest = text.split_once(" entries have").unwrap().1;
            set(
                "selected",
                format!(
                    "{bodies} of {} entries have{rest}",
                    tree.size() - self.one::<i64>("SELECT size FROM frontier").unsigned_abs()
                ),
            );
        }
    }

    /// The key of the host whose file it is.
    pub(super) fn host(&self) -> &HostKey {
        match self.on {
            On::Full | On::Filtered | On::Live | On::Witnessed => &self.bench.one,
            On::Segment | On::Chain | On::Purged => &self.bench.key,
            On::Rotated => &self.bench.rotated[1],
        }
    }

    /// Keeps the last checkpoint, as it is now, to verify against.
    pub(super) fn keep(&mut self) {
        self.against = Some(self.one("SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1"));
    }

    /// Purges the payload of an operation as retention does: the bytes go, and a tombstone says so.
    fn purge(&self) {
        let conn = self.conn();
        let sql = "SELECT place, operation, direction, number, sha256, size FROM payload
                   WHERE operation = (SELECT min(operation) FROM payload) ORDER BY place";
        let mut statement = conn.prepare(sql).unwrap();
        let rows = statement.query_map([], |r| {
            let (operation, direction): (String, String) = (r.get(1)?, r.get(2)?);
            let line = identity_line(&operation, &direction, r.get(3)?, &r.get::<_, Vec<u8>>(4)?);
            Ok((r.get::<_, i64>(0)?, line, r.get::<_, i64>(5)?))
        });
        let rows: Vec<_> = rows.unwrap().map(Result::unwrap).collect();
        let lines: String = rows.iter().map(|(_, line, _)| line.as_str()).collect();
        let text = PayloadTombstone {
            origin: self.bench.key.verifier().name().into(),
            segment: 0,
            entries: (0, self.tree().size()),
            cause: "[retention] payloads = 90days".into(),
            frames: rows.len() as u64,
            bytes: rows.iter().map(|(_, _, size)| size.unsigned_abs()).sum(),
            damaged: 0,
            places: rows.iter().map(|(place, _, _)| (*place, *place)).collect(),
            identities: sha256(&[lines.as_bytes()]),
            at: "2026-11-26T00:00:00.000000000Z".into(),
            entry: uuid::Uuid::now_v7(),
        }
        .text();
        let note = self.bench.key.sign(&text);
        conn.execute("INSERT INTO statement VALUES (?1)", [note]).unwrap();
        let sql = "UPDATE payload SET bytes = NULL WHERE operation = (SELECT min(operation) FROM payload)";
        conn.execute(sql, []).unwrap();
    }

    /// Has a witness cosign the last checkpoint, or what becomes of it.
    pub(super) fn cosign(&mut self, time: u64, change: impl Fn(&str) -> String) {
        let witness = Signer::new("witness.example/w", 7);
        let conn = self.conn();
        let sql = "SELECT size, note FROM checkpoint ORDER BY size DESC LIMIT 1";
        let (size, note): (i64, String) = conn.query_row(sql, [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
        let line = witness.sign(&change(&note[..=note.rfind("\n\n").unwrap()]), time);
        conn.execute("DELETE FROM witness", []).unwrap();
        conn.execute(
            "INSERT INTO witness VALUES (?1, ?2)",
            rusqlite::params![size, line],
        )
        .unwrap();
        self.witness = Some(witness.key.to_string());
    }

    /// Signs a note's text as the host would, or as somebody else would under its name.
    pub(super) fn sign(&self, text: &str, host: bool) -> String {
        let name = self.host().verifier().name();
        if host {
            self.host().sign(text)
        } else {
            stranger(name).sign(text)
        }
    }

    /// Signs every checkpoint again, over the entries as they are now, with this key.
    pub(super) fn sign_all(&self, key: &HostKey) {
        let conn = self.conn();
        let mut statement = conn.prepare("SELECT size FROM checkpoint").unwrap();
        let sizes: Vec<u64> = statement
            .query_map([], |r| r.get::<_, i64>(0))
            .unwrap()
            .map(|size| size.unwrap().unsigned_abs())
            .collect();
        let mut tree = CompactRange::default();
        let mut statement = conn.prepare("SELECT leaf FROM entry ORDER BY seq").unwrap();
        for leaf in statement.query_map([], |r| r.get(0)).unwrap() {
            tree.append(&leaf.unwrap());
            if sizes.contains(&tree.size()) {
                let note = checkpoint::Checkpoint::sign(key, tree.size(), &tree.root());
                let sql = "UPDATE checkpoint SET note = ?1 WHERE size = ?2";
                conn.execute(sql, rusqlite::params![note, tree.size().cast_signed()])
                    .unwrap();
            }
        }
        let sql = "SELECT count(*) FROM sqlite_master WHERE name = 'tree'";
        if self.one::<i64>(sql) > 0 {
            conn.execute("DELETE FROM tree", []).unwrap();
        }
    }

    pub(super) fn bytes(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(&self.main).unwrap();
        change(&mut bytes);
        std::fs::write(&self.main, bytes).unwrap();
    }

    /// Puts another file in the place of the one that is edited.
    pub(super) fn replace(&self, by: &Path) {
        std::fs::copy(by, &self.main).unwrap();
    }

    /// What both say: the subject, where something is bad, and of which file.
    pub(super) fn verdicts(&self, script: &mut Script) -> [Verdict; 2] {
        let checks = Checks {
            key: self.key.as_ref().map(|key| VerifierKey::parse(key).unwrap()),
            against: self.against.clone(),
            witnesses: self
                .witness
                .iter()
                .map(|key| WitnessKey::parse(key).unwrap())
                .collect(),
            ..Default::default()
        };
        let rust = match verify_files(&self.files, &checks, &mut |_| {}) {
            Ok(report) => Verdict::Right(report.root),
            Err(finding) => Verdict::bad_of(finding),
        };
        let said = script.verdict(
            &self.files,
            self.key.as_deref(),
            self.against.as_deref(),
            self.witness.as_deref(),
        );
        [rust, Verdict::read(&said, &self.files)]
    }
}

/// Somebody else's key under a host's name.
pub(super) fn stranger(name: &str) -> HostKey {
    HostKey::from_seed(name, Zeroizing::new([77; 32])).unwrap()
}

#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Right(String),
    Bad {
        about: String,
        file: Option<PathBuf>,
        #[expect(dead_code, reason = "it is shown where they differ")]
        what: String,
    },
}

impl Verdict {
    fn bad_of(finding: Finding) -> Self {
        let what = finding.error.to_string();
        let about = match &finding.error {
            VerifyError::Read(_) => "read".into(),
            _ => about(&what),
        };
        Self::Bad {
            about,
            file: finding.file,
            what,
        }
    }

    fn read(said: &str, files: &[PathBuf]) -> Self {
        if let Some(rest) = said.strip_prefix("OK: ") {
            return Self::Right(rest.rsplit(' ').next().unwrap().into());
        }
        let rest = said.strip_prefix("BAD: ").unwrap_or(said);
        let file = files.iter().find(|f| rest.starts_with(&*f.to_string_lossy()));
        let length = file.map_or(0, |f| f.to_string_lossy().len() + 2);
        let what = rest.get(length..).unwrap_or_default().to_owned();
        let read = ["it cannot be read", "it is no ledger", "there is no such file"];
        let about = if read.iter().any(|r| what.starts_with(r)) {
            "read".into()
        } else {
            about(&what)
        };
        Self::Bad {
            about,
            file: file.cloned(),
            what,
        }
    }
}

/// What a finding is about: the entry, frame, checkpoint, table or view that it names.
fn about(what: &str) -> String {
    if what.contains(": the table, view or index was") {
        return what.into();
    }
    let subject = what.split(": ").next().unwrap_or_default();
    let subject = subject
        .split(" (")
        .next()
        .filter(|_| subject.starts_with("entry "))
        .unwrap_or(subject);
    let subject = subject
        .split(',')
        .next()
        .filter(|_| subject.starts_with("table "))
        .unwrap_or(subject);
    subject.into()
}

/// A base64 text with one character changed, still base64.
pub(super) fn flipped(text: &str) -> String {
    let mut bytes = STANDARD.decode(text).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    STANDARD.encode(bytes)
}
