//! What an auditor takes away, read with Python's own SQLite; and one session as other programs read it.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use e2e::{child::Said, ledger::Reader, wait};
use serde_json::Value;

use super::{shown, with_site};

/// Runs every view, every query of every control, and the searches that `about` gives as examples.
const AUDITOR: &str = r"
import hashlib, json, sqlite3, sys
file = sqlite3.connect('file:%s?mode=ro' % sys.argv[1], uri=True)
rows = {}
for (view,) in file.execute('SELECT name FROM sqlite_master WHERE type = ?', ('view',)).fetchall():
    rows[view] = len(file.execute('SELECT * FROM ' + view).fetchall())
for (sql,) in file.execute('SELECT sql FROM control_queries').fetchall():
    file.execute(sql).fetchall()
found = file.execute('SELECT e.seq FROM entry_search AS s JOIN entry AS e ON e.seq = s.rowid'
    ' WHERE entry_search MATCH ?', ('customers',)).fetchall()
paid = file.execute('SELECT p.operation, snippet(payload_search, 0, ?, ?, ?, 8) FROM payload_search AS s'
    ' JOIN payload AS p ON p.place = s.rowid WHERE payload_search MATCH ?', ('<', '>', '', 'lovelace')).fetchall()
print(json.dumps({'rows': rows, 'found': len(found), 'paid': paid,
    'sha256': hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest(),
    'exports': file.execute('SELECT sha256, actor_uid, actor_login, tree_size FROM exports').fetchall()}))
";

fn auditor(file: &std::path::Path) -> Result<Value> {
    let mut command = Command::new("/usr/bin/python3");
    let said = Said::by(command.args(["-c", AUDITOR]).arg(file))?.ok()?;
    Ok(serde_json::from_str(&said)?)
}

#[test]
fn an_auditor_reads_an_export_and_a_session() {
    with_site("auditor", |site| {
        let said = site.workload().python(
            "import requests\n\
             s = requests.Session()\n\
             print(s.get('https://api.internal/customers').status_code)\n\
             print(s.delete('https://api.internal/customers/1').status_code)\n",
        )?;
        ensure!(said.clone().ok()?.contains("200\n403\n"), "{said:?}");
        let ledger = Reader::open(&site.daemon.ledger())?;
        let closed = "SELECT session FROM sessions WHERE closed_at IS NOT NULL";
        wait::wait_until("the session's end", wait::DEADLINE, || {
            ledger.column(closed).is_ok_and(|ids| ids.len() == 1)
        })?;
        let id = ledger.column(closed)?.remove(0);
        let path = |name: &str| site.world.path(name);
        let cli = |args: &[&str]| site.daemon.cli(args)?.ok();

        let replay = cli(&["sessions", "replay", &id, "--speed", "max"])?;
        for part in [
            "> GET /customers HTTP/1.1",
            "< HTTP/1.1 200 ",
            "Ada Lovelace",
            " deny http:request",
            "closed: ",
        ] {
            ensure!(replay.contains(part), "no '{part}' in\n{replay}");
        }
        ensure!(shown(&replay).is_empty(), "{replay}");
        let har = path("session.har").display().to_string();
        cli(&["sessions", "export", &id, "--format", "har", "--out", &har])?;
        let log: Value = serde_json::from_slice(&std::fs::read(&har)?)?;
        let entries = log["log"]["entries"].as_array().context("no entries")?;
        ensure!(
            entries.len() == 2 && entries[0]["response"]["status"] == 200,
            "{log}"
        );
        let content = entries[0]["response"]["content"]["text"]
            .as_str()
            .unwrap_or_default();
        ensure!(
            content.contains("Ada Lovelace") && shown(content).is_empty(),
            "{content}"
        );
        ensure!(
            entries[1]["request"]["method"] == "DELETE" && entries[1]["response"]["status"] == 0,
            "{log}"
        );

        let first = path("first.db");
        cli(&["export", "--out", &first.display().to_string()])?;
        let read = auditor(&first)?;
        for view in [
            "what_was_done",
            "what_was_denied",
            "tls_state",
            "sensitive_data",
            "who_may_do_what",
        ] {
            ensure!(read["rows"][view].as_u64() > Some(0), "{view}: {read}");
        }
        ensure!(
            read["found"].as_u64() >= Some(2)
                && read["paid"][0][1]
                    .as_str()
                    .is_some_and(|s| s.contains("<Lovelace>")),
            "{read}"
        );
        // Custody: this export knows of the session taken before, and the next one of this export.
        ensure!(read["exports"].as_array().is_some_and(|e| e.len() == 1), "{read}");
        let second = path("second.db");
        cli(&[
            "export",
            "--out",
            &second.display().to_string(),
            "--control",
            "AU-9",
            "--search",
            "yes",
        ])?;
        let again = auditor(&second)?;
        let custody = again["exports"].as_array().context("no exports")?;
        ensure!(custody.len() == 2 && custody[1][0] == read["sha256"], "{again}");
        ensure!(
            custody[1][1] == 0 && custody[1][2].is_string() && custody[1][3].as_i64() > Some(0),
            "{again}"
        );
        for file in [&first, &second] {
            cli(&["verify", &file.display().to_string()])?;
        }
        Ok(())
    });
}
