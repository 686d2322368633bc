//! Names, as a protocol asks for them and as a connection is known by them.

use std::sync::Arc;

use hickory_resolver::proto::rr::{Name, RecordType};

use super::{Answered, Gate, LookUpError, Permit, is_literal};
use crate::{config::Dns, model::Effect, policy::Lookup};

impl Gate {
    /// Asks the host's resolvers on the workload's behalf, and whether the name counts from now on for connections to
    /// the addresses in the answer. Like everything that leaves, it takes a permit.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn look_up(
        &self,
        _permit: &Permit,
        name: &Name,
        kind: RecordType,
    ) -> Result<(Answered, bool), LookUpError> {
        let names = &self.inner.shared.names;
        names.look_up(self.workload(), name, kind).await
    }

    /// The names that this workload was told the original destination for, the one that it asked for last first. They
    /// are proved: the host's resolvers said so.
    #[must_use]
    pub fn told_names(&self) -> Vec<Arc<str>> {
        let names = &self.inner.shared.names;
        names.told(self.workload(), self.original_dst().0.ip())
    }

    /// Whether `host`, which the workload wrote, is where this connection goes: as the host's resolvers told the
    /// workload, as the host's admin wrote it into the hosts file, or by the host's own look-up. A name that is looked up
    /// leaves the host, and could carry data out, so that one is for names only that the workload may look up itself.
    pub(super) async fn is_here(&self, host: &str) -> bool {
        let address = self.original_dst().0.ip();
        let names = &self.inner.shared.names;
        is_literal(host, address)
            || names.is_told(self.workload(), host, address)
            || (self.may_look_up(host) && names.is_found(self.workload(), host, address).await)
    }

    fn may_look_up(&self, host: &str) -> bool {
        let Ok(operation) = Lookup::of(host).operation() else {
            return false;
        };
        let Ok(known) = self.who() else {
            return false;
        };
        let set = self.inner.shared.policy.current();
        self.decide(&set, &known, &operation, None).effect == Effect::Allow
    }

    /// `[dns]`
    #[must_use]
    pub fn dns(&self) -> Arc<Dns> {
        self.inner.shared.names.settings()
    }
}
