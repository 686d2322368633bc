//! What every test of credentials needs.

use zeroize::Zeroizing;

use super::*;

/// An asker without a token.
pub(super) fn anyone() -> Asker {
    Asker {
        workload: WorkloadName::new("bot").unwrap(),
        token: None,
    }
}
