//! Names, as a protocol asks for them and as a connection is known by them.

use std::sync::Arc;

use hickory_resolver::proto::rr::{Name, RecordType};

use super::{Answered, Gate, LookUpError, Permit};
use crate::config::Dns;

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

    /// `[dns]`
    #[must_use]
    pub fn dns(&self) -> Arc<Dns> {
        self.inner.shared.names.settings()
    }
}
