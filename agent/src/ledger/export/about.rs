//! What an export says of itself.

use super::{super::store::FORMAT, ExportOptions, Exported, questions};
use crate::model::Rfc3339;

const WHAT: &str = "What AI agents (workloads) did through Portcullis on one host: every operation with the decision on \
    it and how it ended, masked. Start with the views: `views` here lists what each answers, and the table columns explains \
    every column. The tables controls and control_queries say what these records show for a control of NIST SP 800-53, and \
    what they do not.";

const VERIFY: &str = "Each entry.leaf is SHA-256(0x00, salt, body). The leaves in the order of seq form the hash tree of RFC \
    6962 (inner node: SHA-256(0x01, left, right)), which begins with the subtrees in frontier.nodes where frontier.size is \
    not 0; each checkpoint.note signs, with Ed25519, the root over the first checkpoint.size leaves. Compare the key with the \
    one that the host's owner gave you. Each payload.sha256 is the SHA-256 of payload.bytes; an outcome's payload.up.sha256 is \
    the SHA-256 over the joined hashes of its frames. The views are plain SQL over entry.body. The command 'portcullis verify \
    FILE --key KEY' checks all of it; so does the script in this file, with Python's standard library alone and but for the index \
    for searching: sqlite3 FILE \"SELECT text FROM verifier\" > verify.py; python3 verify.py FILE --key ledger.pub";

const SEARCH: &str = "SELECT e.seq, e.body FROM entry_search AS s JOIN entry AS e ON e.seq = s.rowid WHERE entry_search MATCH \
    '\"drop table\"'; finds records by words, and SELECT p.* FROM payload_search AS s JOIN payload AS p ON p.place = s.rowid WHERE \
    payload_search MATCH 'invoice*'; pieces of payload (SQLite's FTS5; snippet() and rank work, too). The index is made from the \
    records and is no evidence itself: what is found counts by the record that it leads to. `portcullis verify` checks that the \
    index is whole, not that it has every word: to be sure of what is not found, make it anew in a copy with INSERT INTO \
    entry_search (entry_search) VALUES ('rebuild'); and the same for payload_search.";

/// The rows of `about`.
pub(super) fn rows(options: &ExportOptions, done: &Exported, key: &str) -> Vec<(&'static str, String)> {
    let time = |ns: Option<i64>| ns.map_or_else(|| "no limit".into(), |ns| Rfc3339(ns).to_string());
    let all = |text: &Option<String>| text.clone().unwrap_or_else(|| "all".into());
    let controls = if options.controls.is_empty() {
        "all".into()
    } else {
        options.control_ids().join(", ")
    };
    let range = format!(
        "since: {}; until: {}; workload: {}; session: {}; controls: {controls}",
        time(options.since_ns),
        time(options.until_ns),
        all(&options.workload),
        all(&options.session),
    );
    let selected = format!(
        "{} of {} entries have their body here; of the others there is only the hash. With an operation come its outcome and \
         its payload. Gaps in the records within the range, and rotations of the host's key, are here whatever was asked for.",
        done.selected,
        done.entries - done.first
    );
    let search = if options.without_search {
        "This export was made without an index for full-text search."
    } else {
        SEARCH
    };
    vec![
        ("search", search.into()),
        ("what", WHAT.into()),
        ("file", "export".into()),
        ("format", FORMAT.to_string()),
        ("exported_at", Rfc3339(options.now_ns).to_string()),
        ("version", env!("CARGO_PKG_VERSION").into()),
        ("key", key.into()),
        ("first", done.first.to_string()),
        ("entries", done.entries.to_string()),
        ("selected", selected),
        ("range", range),
        ("root", done.root.clone()),
        ("views", questions::lines()),
        ("verify", VERIFY.into()),
    ]
}
