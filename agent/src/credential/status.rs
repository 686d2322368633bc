//! What credentials there are, and how they are; never what they are.

/// One credential, for one workload where each has its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialStatus {
    /// The `[[credential]]`.
    pub reference: String,
    /// The word for where it comes from.
    pub source: &'static str,
    /// Whose it is, where each workload has its own.
    pub workload: Option<String>,
    /// Which one is at hand, if any.
    pub version: Option<String>,
    /// The user that was made for it.
    pub user: Option<String>,
    /// When that ends, nanoseconds since 1970 UTC.
    pub expires_at: Option<i64>,
    /// When it was last used, nanoseconds since 1970 UTC.
    pub used_at: Option<i64>,
    /// What went wrong last, and when, if it has not been made good since.
    pub last_error: Option<(i64, String)>,
}
