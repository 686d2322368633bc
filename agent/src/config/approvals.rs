//! `[approvals]`, `[console]`, `[[notify]]`: who answers what is held, and where.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::Deserialize;

/// `[approvals]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Approvals {
    /// The `[[issuer]]` whose humans may answer. Without it nobody can: what would be held is denied.
    pub issuer: Option<String>,
    /// The OAuth 2.0 client that approvers sign in with; the audience of their ID tokens.
    pub client_id: Option<String>,
    /// Its secret, in a file, where the issuer wants one of the page's sign-in.
    pub client_secret_file: Option<PathBuf>,
    /// Scopes to ask for; `openid` is always among them.
    pub scope: String,
    /// How old a sign-in may be when it is used to answer.
    #[serde(deserialize_with = "super::load::duration")]
    pub sign_in_age: Duration,
    /// How long an operation is held where no policy says (`@hold`).
    #[serde(deserialize_with = "super::load::duration")]
    pub hold_time: Duration,
    /// How long a request can be answered.
    #[serde(deserialize_with = "super::load::duration")]
    pub request_time: Duration,
    /// How long a yes serves a retry.
    #[serde(deserialize_with = "super::load::duration")]
    pub retry_time: Duration,
    /// The longest time-boxed grant; zero allows none.
    #[serde(deserialize_with = "super::load::duration")]
    pub grant_time: Duration,
    /// The group whose members may, two together, break the glass; nobody without it.
    pub break_glass_group: Option<String>,
    /// The longest break-glass grant.
    #[serde(deserialize_with = "super::load::duration")]
    pub break_glass_time: Duration,
    /// Requests of one workload that can be open at once.
    pub open_per_workload: usize,
    /// Operations of one workload that can be held at once.
    pub held_per_workload: usize,
    /// Bytes that the held operations of one workload keep in memory.
    pub held_bytes_per_workload: usize,
    /// Bytes of one held operation's payload.
    pub payload_bytes: usize,
}

impl Default for Approvals {
    fn default() -> Self {
        Self {
            issuer: None,
            client_id: None,
            client_secret_file: None,
            scope: "openid profile email groups".into(),
            sign_in_age: Duration::from_secs(8 * 3600),
            hold_time: Duration::from_secs(300),
            request_time: Duration::from_secs(3600),
            retry_time: Duration::from_secs(900),
            grant_time: Duration::from_secs(8 * 3600),
            break_glass_group: None,
            break_glass_time: Duration::from_secs(3600),
            open_per_workload: 1_000,
            held_per_workload: 1_000,
            held_bytes_per_workload: 64 * 1024 * 1024,
            payload_bytes: 1024 * 1024,
        }
    }
}

/// `[console]`: the page for approvers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Console {
    /// Where it listens; nowhere unless set. Beyond loopback only with TLS.
    pub listen: Option<SocketAddr>,
    /// Its certificate and those that lead to the root, PEM.
    pub certificate_file: Option<PathBuf>,
    /// The certificate's private key, PEM, mode 0600.
    pub key_file: Option<PathBuf>,
    /// What approvers type: `https://approvals.example.com`. Links and the sign-in's redirect begin with it.
    pub url: Option<String>,
    /// The `[[credential]]` with Slack's signing secret; without it Slack cannot answer.
    pub slack_signing_credential: Option<String>,
    /// By Slack user id (`U024BE7LH`), the subject that this human has at the approvers' issuer.
    pub slack_users: std::collections::BTreeMap<String, String>,
}

/// `[[notify]]`: who is told of requests.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// How entries, logs and status call it.
    pub name: String,
    /// What it is.
    pub kind: NotifyKind,
    /// Where to; a URL that is not secret.
    #[serde(default)]
    pub url: Option<String>,
    /// The `[[credential]]` whose content is the URL.
    #[serde(default)]
    pub url_credential: Option<String>,
    /// The `[[credential]]` with the key of the signature (`webhook`).
    #[serde(default)]
    pub key_credential: Option<String>,
    /// PEM roots for its TLS, beside the host's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotifyKind {
    /// JSON, signed with HMAC-SHA256.
    Webhook,
    /// A Slack incoming webhook.
    Slack,
    /// A Microsoft Teams workflow's webhook.
    Teams,
}
