//! `verify.py`: what it has to know of the files, and that it says the same of them as this program.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use rusqlite::Connection;

use super::*;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ledger/verify.py");
const MAKE: &str = "PORTCULLIS_MAKE";

/// Asks the script, in one process, about one file after the other.
pub(super) struct Script {
    _dir: TempDir,
    child: Child,
    ask: ChildStdin,
    said: BufReader<ChildStdout>,
}

/// Loads the script as a module, so that starting Python is paid once; its own words are on standard output.
const DRIVER: &str = "
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location('verify', sys.argv[1])
verify = importlib.util.module_from_spec(spec)
spec.loader.exec_module(verify)
for line in sys.stdin:
    asked = json.loads(line)
    given = asked['with']
    if asked['call'] == 'ed25519':
        given = [bytes.fromhex(text) for text in given]
    print(json.dumps(getattr(verify, asked['call'])(*given)), flush=True)
";

impl Script {
    pub(super) fn start() -> Self {
        // As it is in the files that this program makes.
        let dir = dir();
        let path = dir.path().join("verify.py");
        std::fs::write(&path, include_str!("../../verify.py")).unwrap();
        let mut child = Command::new("python3")
            .args(["-c", DRIVER, path.to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the tests of the script need python3");
        let (ask, said) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self {
            _dir: dir,
            child,
            ask,
            said: BufReader::new(said),
        }
    }

    fn call(&mut self, name: &str, arguments: &Value) -> Value {
        let asked = json!({ "call": name, "with": arguments });
        writeln!(self.ask, "{asked}").unwrap();
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{name}: the script ended"))
    }

    /// What it says of files.
    pub(super) fn verdict(
        &mut self,
        files: &[PathBuf],
        key: Option<&str>,
        against: Option<&str>,
        witness: Option<&str>,
    ) -> String {
        let witnesses: Vec<&str> = witness.into_iter().collect();
        let said = self.call("verdict", &json!([files, key, against, witnesses]));
        said.as_str().unwrap().to_owned()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn short(text: &str) -> String {
    URL_SAFE.encode(&tree::sha256(&[text.as_bytes()])[..12])
}

/// What sqlite_master has, and the rows that explain a file: as the script knows it.
fn made(path: &Path) -> BTreeMap<String, String> {
    let conn = Connection::open(path).unwrap();
    let sql = "SELECT name, type || ' ' || tbl_name || ' ' || coalesce(sql, '') FROM sqlite_master
               WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let mut statement = conn.prepare(sql).unwrap();
    let objects = statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
    let mut all: BTreeMap<String, String> = objects
        .map(|row| {
            row.map(|(name, text): (String, String)| (name, short(&text)))
                .unwrap()
        })
        .collect();
    for (table, rows) in [
        ("columns", "SELECT * FROM columns ORDER BY 1, 2"),
        ("controls", "SELECT * FROM controls ORDER BY 1, 2"),
        ("control_queries", "SELECT * FROM control_queries ORDER BY 1, 2"),
        ("about", "SELECT topic FROM about ORDER BY 1"),
    ] {
        if !all.contains_key(table) {
            continue;
        }
        let mut statement = conn.prepare(rows).unwrap();
        let width = statement.column_count();
        let rows = statement.query_map([], |r| {
            (0..width).map(|i| r.get(i)).collect::<Result<Vec<String>, _>>()
        });
        let rows: Vec<Vec<String>> = rows.unwrap().map(Result::unwrap).collect();
        all.insert(format!("#{table}"), short(&serde_json::to_string(&rows).unwrap()));
    }
    all
}

/// A ledger with everything, and one file of each kind.
async fn files(dir: &TempDir) -> [PathBuf; 4] {
    let ledger = open(dir, Durability::Process);
    sample(&ledger).await;
    let segment = ledger.seal().await.unwrap().unwrap().path;
    sample(&ledger).await;
    ledger.close();
    let other = super::dir();
    let ledger = open(&other, Durability::Process);
    sample(&ledger).await;
    ledger.close();
    let exports = [("plain.db", true), ("search.db", false)].map(|(name, without_search)| {
        let out = dir.path().join(name);
        let options = ExportOptions {
            now_ns: NOW,
            without_search,
            ..Default::default()
        };
        export(&db(&other), &out, &options, &mut |_| {}).unwrap();
        out
    });
    let [plain, search] = exports;
    [db(dir), segment, plain, search]
}

/// With `PORTCULLIS_MAKE=1` in the environment it writes what it wants to see there.
#[tokio::test(flavor = "multi_thread")]
async fn the_script_knows_the_schema() {
    let dir = dir();
    let [live, segment, export, search] = files(&dir).await.map(|path| made(&path));
    let mut lines = String::new();
    let common: BTreeMap<_, _> = live
        .iter()
        .filter(|(name, hash)| segment.get(*name) == Some(hash))
        .collect();
    let without = |all: &BTreeMap<String, String>, known: &[&BTreeMap<String, String>]| -> String {
        let mut words = Vec::new();
        for (name, hash) in all {
            if !known.iter().any(|k| k.get(name) == Some(hash)) {
                words.push(format!("{name}={hash}"));
            }
        }
        words.join(" ")
    };
    let all: Vec<String> = common
        .iter()
        .map(|(name, hash)| format!("{name}={hash}"))
        .collect();
    for (group, words) in [
        ("all", all.join(" ")),
        ("ledger", without(&live, &[&segment])),
        ("segment", without(&segment, &[&live])),
        ("export", without(&export, &[&segment])),
        ("search", without(&search, &[&export])),
    ] {
        lines.push_str(&format!("    \"{group}\": \"{words}\",\n"));
    }
    let expected = format!("MADE = {{\n{lines}}}\n");
    let text = std::fs::read_to_string(SCRIPT).unwrap();
    let from = text.find("MADE = {").unwrap();
    let to = from + text[from..].find("}\n").unwrap() + 2;
    if text[from..to] == expected {
        return;
    }
    if std::env::var_os(MAKE).is_some() {
        std::fs::write(SCRIPT, format!("{}{expected}{}", &text[..from], &text[to..])).unwrap();
        return;
    }
    panic!(
        "verify.py does not know the tables and views as they are now. Run this test with {MAKE}=1, and look at \
         what changed. It has to be:\n{expected}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn both_say_the_same_of_what_is_right() {
    let dir = dir();
    let files = files(&dir).await;
    let mut script = Script::start();
    for file in files.iter().map(std::slice::from_ref) {
        let report = verify::verify(&file[0], None, &mut |_| {}).unwrap();
        let said = script.verdict(file, None, None, None);
        let same = format!("{} entries, root {}", report.entries, report.root);
        assert!(
            said == format!("OK: {same}") || said.starts_with(&format!("CANNOT: {same}")),
            "{said} of {file:?}"
        );
    }
}

/// RFC 8032, section 7.1, and what differs from it by a bit.
#[test]
fn the_script_reads_signatures_as_the_rfc_says() {
    let mut script = Script::start();
    let vectors = [
        (
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ];
    let check = |script: &mut Script, public: &str, message: &str, signature: &str| {
        script.call("ed25519", &json!([public, message, signature]))
    };
    for (public, message, signature) in vectors {
        assert_eq!(check(&mut script, public, message, signature), true);
        assert_eq!(
            check(&mut script, public, &format!("{message}00"), signature),
            false
        );
        for at in [0, 31, 32, 63] {
            let mut bytes = hex::decode(signature).unwrap();
            bytes[at] ^= 1;
            assert_eq!(
                check(&mut script, public, message, &hex::encode(bytes)),
                false,
                "{at}"
            );
        }
        // S + L, which a lenient verifier takes as well.
        let l = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
        let mut bytes = hex::decode(signature).unwrap();
        let mut carry = 0u16;
        for (s, l) in bytes[32..].iter_mut().zip(l) {
            carry += u16::from(*s) + u16::from(l);
            *s = (carry & 0xff) as u8;
            carry >>= 8;
        }
        assert_eq!(check(&mut script, public, message, &hex::encode(bytes)), false);
    }
}
