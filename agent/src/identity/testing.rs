//! An identity that a test simply has.

use std::sync::Arc;

use super::{Actor, IdentityHandle, cell::Cell};
use crate::{
    clock::Clock,
    model::{Identity, WorkloadName},
};

/// A workload's identity, verified by nobody.
#[derive(Clone)]
pub struct Held(Arc<Cell>);

impl Held {
    /// `workload` is `subject`, in `groups`, until the end of time.
    #[must_use]
    pub fn new(workload: &WorkloadName, subject: &str, groups: &[&str]) -> Self {
        let cell = Arc::new(Cell::new(workload.clone(), Clock::System, Arc::new(|_| ()), None));
        let identity = Identity {
            issuer: "https://issuer.test".into(),
            issuer_name: "test".into(),
            subject: subject.into(),
            groups: groups.iter().map(|g| Arc::from(*g)).collect(),
            token_id: "token-1".into(),
            key_id: "key-1".into(),
            issued_at: None,
            expires_at: 4_102_444_800,
            on_behalf_of: None,
        };
        let token = super::source::Token::new(format!("{subject}-token"));
        cell.verified(cell.seat(), identity, i64::MAX, Some(Arc::new(token)));
        Self(cell)
    }

    /// What the gate is given.
    #[must_use]
    pub fn handle(&self) -> IdentityHandle {
        IdentityHandle(Arc::clone(&self.0))
    }

    /// Revokes it.
    pub fn revoke(&self) {
        let actor = Actor { pid: 1, uid: 0 };
        self.0.set_revoked(
            Some(super::Revocation {
                at_ns: Clock::System.now_ns(),
                actor,
            }),
            actor,
        );
    }
}
