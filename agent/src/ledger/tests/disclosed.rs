//! One entry, disclosed alone: what it proves, and to whom.

use verify::{Checks, Disclosed, DisclosureFlaw, verify_disclosure};

use super::*;
use crate::ledger::{
    disclose::{Disclosure, disclose},
    note::HostKey,
};

fn public(dir: &TempDir) -> VerifierKey {
    VerifierKey::parse(&std::fs::read_to_string(dir.path().join("ledger.pub")).unwrap()).unwrap()
}

fn check(disclosure: &Disclosure, key: Option<&VerifierKey>) -> Result<Disclosed, DisclosureFlaw> {
    let checks = Checks {
        key: key.cloned(),
        ..Checks::default()
    };
    verify_disclosure(&serde_json::to_string(disclosure).unwrap(), &checks)
}

/// A ledger of two segments and a live part.
async fn ledger() -> TempDir {
    let dir = dir();
    let ledger = open(&dir, Durability::Process);
    for round in 0..3 {
        sample(&ledger).await;
        if round < 2 {
            ledger.seal().await.unwrap().unwrap();
        }
    }
    ledger.close();
    dir
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_entry_can_be_disclosed_alone() {
    let dir = ledger().await;
    let key = public(&dir);
    let mut all = std::collections::BTreeMap::new();
    for part in parts(dir.path()).unwrap() {
        let conn = rusqlite::Connection::open(&part.path).unwrap();
        let mut statement = conn.prepare("SELECT seq, body FROM entry").unwrap();
        let rows = statement.query_map([], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, String>(1)?)));
        all.extend(rows.unwrap().map(Result::unwrap));
    }
    assert!(all.len() > 50);
    for (seq, body) in &all {
        let made = disclose(dir.path(), &seq.to_string()).unwrap();
        assert_eq!(made.entry.body, *body);
        let told = check(&made, Some(&key)).unwrap();
        assert_eq!(
            (told.seq, told.entry["v"].as_i64()),
            (u64::try_from(*seq).unwrap(), Some(1))
        );
        assert!(told.key_given && !told.replaced);
        // By its id it is the same, and nothing of any other entry is in it.
        let id = told.entry["id"].as_str().unwrap();
        assert_eq!(disclose(dir.path(), id).unwrap(), made);
        let text = serde_json::to_string(&made).unwrap();
        for other in all.iter().filter(|(n, _)| *n != seq).map(|(_, body)| body) {
            let other: Value = serde_json::from_str(other).unwrap();
            let other = other["id"].as_str().unwrap();
            assert!(
                !text.contains(other) || body.contains(other),
                "{other} in the disclosure of {seq}"
            );
        }
    }
    for missing in ["999", "nonsense", &uuid::Uuid::now_v7().to_string()] {
        assert!(
            matches!(disclose(dir.path(), missing), Err(LedgerError::NotFound { .. })),
            "{missing}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_changed_proves_nothing() {
    let dir = ledger().await;
    let key = public(&dir);
    let made = disclose(dir.path(), "30").unwrap();
    check(&made, Some(&key)).unwrap();
    let json = serde_json::to_value(&made).unwrap();
    let changed = |pointer: &str, to: Value| {
        let mut other = json.clone();
        *other.pointer_mut(pointer).unwrap() = to;
        let checks = Checks {
            key: Some(key.clone()),
            ..Checks::default()
        };
        verify_disclosure(&other.to_string(), &checks)
    };
    let flip = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[0] = if bytes[0] == b'0' { b'1' } else { b'0' };
        String::from_utf8(bytes).unwrap()
    };
    let body = made.entry.body.replace("\"v\":1", "\"v\":2");
    assert_ne!(body, made.entry.body);
    for (pointer, to) in [
        ("/entry/body", json!(body)),
        ("/entry/body", json!("not canonical")),
        ("/entry/seq", json!(made.entry.seq + 1)),
        ("/entry/seq", json!(u64::MAX)),
        ("/entry/salt", json!(flip(&made.entry.salt))),
        ("/entry/salt", json!("00")),
        ("/proof/0", json!(flip(&made.proof[0]))),
        ("/proof", json!([])),
        (
            "/checkpoint",
            json!(made.checkpoint.replace("portcullis/host-1", "portcullis/host-2")),
        ),
        ("/format", json!("portcullis-disclosure/v2")),
        ("/keys", json!([])),
        ("/timestamps", json!(["AAAA"])),
    ] {
        assert!(changed(pointer, to.clone()).is_err(), "{pointer} {to}");
    }
    let mut more = json.clone();
    more["more"] = json!(1);
    assert!(verify_disclosure(&more.to_string(), &Checks::default()).is_err());
    // Whole, but by another key.
    let other = HostKey::from_seed("portcullis/host-1", zeroize::Zeroizing::new([1; 32])).unwrap();
    assert!(matches!(
        check(&made, Some(other.verifier())),
        Err(DisclosureFlaw::Key { .. })
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_before_and_after_the_one_that_signed() {
    let dir = dir();
    let ledger = open(&dir, Durability::Process);
    let mut keys = vec![public(&dir)];
    for _ in 0..2 {
        ledger.append(agent("started")).await.unwrap();
        let rotating = ledger.clone();
        let rotated = tokio::task::spawn_blocking(move || rotating.rotate_key(&Value::Null)).await;
        rotated.unwrap().unwrap();
        keys.push(public(&dir));
        ledger.append(agent("started")).await.unwrap();
        ledger.seal().await.unwrap();
    }
    ledger.close();
    // The first segment ended under the second key.
    let made = disclose(dir.path(), "0").unwrap();
    for (n, replaced) in [(0, false), (1, false), (2, true)] {
        let told = check(&made, Some(&keys[n])).unwrap();
        assert_eq!(
            (told.replaced, told.signed_by),
            (replaced, keys[1].to_string()),
            "key {n}"
        );
    }
    let mut without = made.clone();
    without.successions.clear();
    assert!(matches!(
        check(&without, Some(&keys[0])),
        Err(DisclosureFlaw::Key { .. })
    ));
    check(&without, Some(&keys[1])).unwrap();
}
