//! Humans who answer, as the agent knows them once their sign-in was verified.

use std::sync::Arc;

use anyhow::{Result, bail};
use portcullis::{
    approval::{Answer, Approvals, Scope, View},
    model::Approver,
};

/// What makes a rig's approvals answerable: the issuer of its workloads is that of its humans, too.
pub const APPROVALS: &str =
    "[approvals]\nissuer = \"test\"\nclient_id = \"approvers\"\nbreak_glass_group = \"breakers\"\n";

/// Where they answer; nobody listens there.
pub const PAGE: &str = "[console]\nlisten = \"127.0.0.1:8443\"\nurl = \"https://approvals.example\"\n";

/// A human in these groups.
pub fn human(subject: &str, groups: &[&str]) -> Approver {
    Approver {
        issuer: "https://people.example".into(),
        subject: subject.into(),
        name: subject.into(),
        groups: groups.iter().map(|g| (*g).into()).collect(),
        token_id: "t".into(),
        via: "cli",
        authenticated_at: 1_800_000_000,
        expires_at: 4_000_000_000,
    }
}

/// A yes, once.
pub fn yes() -> Answer {
    Answer {
        approve: true,
        reason: "checked with the owner".into(),
        scope: Scope::Once,
    }
}

/// A no.
pub fn no() -> Answer {
    Answer {
        approve: false,
        reason: "not in office hours".into(),
        scope: Scope::Once,
    }
}

/// Waits until a number of requests is open.
pub async fn open(approvals: &Approvals, count: usize) -> Result<Vec<Arc<View>>> {
    let mut changes = approvals.subscribe();
    let waiting = async {
        loop {
            let open = approvals.overview().open;
            if open.len() == count {
                return open;
            }
            let _ = changes.recv().await;
        }
    };
    match tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await {
        Ok(open) => Ok(open),
        Err(_) => bail!("not {count} requests, but {:?}", approvals.overview()),
    }
}

/// Waits until so many operations wait for a request.
pub async fn waiting(approvals: &Approvals, id: uuid::Uuid, count: usize) -> Result<()> {
    for _ in 0..2_000 {
        if approvals.get(id).is_some_and(|v| v.waiting == count) {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    bail!("not {count} waiting, but {:?}", approvals.get(id))
}
