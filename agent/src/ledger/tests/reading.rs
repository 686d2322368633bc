use uuid::Uuid;

use super::*;
use crate::{
    ledger::query::{Filter, Reader},
    model::SessionId,
};

#[tokio::test]
async fn sessions_operations_and_payload_are_read_back() {
    let dir = dir();
    let ledger = open(&dir, Durability::Process);
    sample(&ledger).await;
    let now = crate::clock::Clock::System.now_ns();
    let id = Uuid::now_v7().to_string();
    let mut opened = session("bot-c", &id, "open");
    opened.body = opened
        .body
        .replace(&Rfc3339(NOW).to_string(), &Rfc3339(now).to_string());
    ledger.append(opened).await.unwrap();
    let noise = vec![7; 3000];
    let ended = told(
        "bot-c",
        &id,
        now,
        &[(Direction::Down, noise.clone()), (Direction::Up, b"q".to_vec())],
    );
    tell(&ledger, &ended).await;
    let running = told("bot-c", &id, now, &[]);
    ledger.append(running.operation.clone()).await.unwrap();

    let whole = dir.path().join("whole.db");
    for reader in [Reader::open(&db(&dir)).unwrap(), {
        let options = ExportOptions {
            unsealed: true,
            ..Default::default()
        };
        export(&db(&dir), &whole, &options, &mut |_| {}).unwrap();
        Reader::open(&whole).unwrap()
    }] {
        let sessions = reader.sessions(&Filter::default()).unwrap();
        assert_eq!(sessions.len(), 3);
        assert_eq!(sessions[0].workload.as_deref(), Some("bot-a"));
        assert!(sessions[0].closed_at.is_some() && sessions[2].closed_at.is_none());
        let limited = reader
            .sessions(&Filter {
                limit: Some(1),
                ..Filter::default()
            })
            .unwrap();
        assert_eq!(limited[..], sessions[2..]);
        let of_b = reader
            .operations(&Filter {
                workload: Some("bot-b".into()),
                ..Filter::default()
            })
            .unwrap();
        assert_eq!(of_b.len(), 3);
        let recent = reader
            .operations(&Filter {
                since_ns: Some(now),
                ..Filter::default()
            })
            .unwrap();

        let shown = reader.session(SessionId(Uuid::parse_str(&id).unwrap())).unwrap();
        assert_eq!(shown.session, sessions[2]);
        assert_eq!(shown.list.len(), 2);
        assert_eq!(
            shown.list[..],
            recent
                .iter()
                .filter(|o| o.workload == "bot-c")
                .cloned()
                .collect::<Vec<_>>()[..]
        );
        assert_eq!(shown.list[0].status.as_deref(), Some("200"));
        assert_eq!(shown.list[0].policies, ["p1"]);
        assert_eq!(shown.list[0].masked.as_ref().unwrap()["email"], 3);
        assert_eq!(shown.list[1].outcome.as_deref(), Some("open"));
        let frames = reader.frames(ended.id).unwrap();
        assert_eq!(frames.len(), 2);
        assert_eq!(
            (frames[0].direction.as_str(), frames[0].bytes.as_slice()),
            ("up", &b"q"[..])
        );
        assert_eq!(frames[1].bytes, noise);
        assert!(matches!(
            reader.session(SessionId::new()),
            Err(LedgerError::NotFound { .. })
        ));
        assert!(serde_json::to_value(&shown).unwrap()["list"].is_array());
    }
    ledger.append(agent("stopped")).await.unwrap();
    ledger.close();
    let reader = Reader::open(&db(&dir)).unwrap();
    let shown = reader.session(SessionId(Uuid::parse_str(&id).unwrap())).unwrap();
    assert_eq!(shown.list[1].outcome.as_deref(), Some("interrupted"));
    let all = reader.operations(&Filter::default()).unwrap();
    assert_eq!(all.last().unwrap().outcome.as_deref(), Some("interrupted"));
    assert!(Reader::open(&dir.path().join("none.db")).is_err());
    assert!(Reader::open(&dir.path().join("ledger.pub")).is_err());
}
