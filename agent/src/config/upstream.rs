//! `[[upstream]]`: destinations that are known by name, and how they are logged in to.

use serde::Deserialize;

use super::{
    credential::{Credential, Gives, check_credential},
    http_upstream::{self, Inject},
};
use crate::model::WorkloadName;

/// The longest name that PostgreSQL keeps whole (NAMEDATALEN - 1).
const NAME_BYTES: usize = 63;

/// `[[upstream]]`: a destination that is known by name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// What policy and entries call it; 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// What it speaks. A connection to it is carried by that protocol whatever its first bytes are.
    pub protocol: UpstreamProtocol,
    /// Its name, as this host's resolver knows it, or its address. For HTTP the name in the request, which has to be
    /// verified; `*.` in front stands for any names before the rest.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The name that its certificate must be for; `host` unless set.
    #[serde(default)]
    pub server_name: Option<String>,
    /// TLS with it; unless set, as the workload asks for.
    #[serde(default)]
    pub tls: Option<UpstreamTlsMode>,
    /// How TLS with it begins; unless set, as the workload begins it.
    #[serde(default)]
    pub tls_negotiation: Option<TlsNegotiation>,
    /// Who logs in.
    #[serde(default)]
    pub login: Login,
    /// The user of a brokered login; a credential that makes users gives it itself.
    #[serde(default)]
    pub user: Option<String>,
    /// The `[[credential]]` with its password.
    #[serde(default)]
    pub credential: Option<String>,
    /// The `[[credential]]` with its client certificate.
    #[serde(default)]
    pub certificate: Option<String>,
    /// HTTP: requests whose path is this or below it; all unless set.
    #[serde(default)]
    pub path_prefix: Option<String>,
    /// HTTP: what is put into requests.
    #[serde(default)]
    pub inject: Option<Inject>,
    /// HTTP: whether requests without TLS get it, too.
    #[serde(default)]
    pub plaintext: bool,
    /// The database of a brokered login that names none.
    #[serde(default)]
    pub database: Option<String>,
    /// The role taken after a brokered login: the first rule that fits. With rules and none that fits, no login.
    #[serde(default)]
    pub roles: Vec<RoleRule>,
    /// Whom it is for; everyone when empty. For others it is as if it were not there.
    #[serde(default)]
    pub workloads: Vec<WorkloadName>,
}

/// A protocol that a destination can be declared to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamProtocol {
    /// PostgreSQL.
    Postgres,
    /// HTTP/1.1 and 1.0.
    Http,
}

impl UpstreamProtocol {
    /// The protocol's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Http => "http",
        }
    }
}

/// TLS with a destination. Its certificate is verified whenever there is TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamTlsMode {
    /// Nothing goes without.
    Require,
    /// Where the destination has it.
    Prefer,
    /// Never.
    Disable,
}

/// How TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsNegotiation {
    /// With the protocol's own request (SSLRequest).
    Postgres,
    /// With the first byte.
    Direct,
}

/// Who logs in to a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Login {
    /// The workload, with what it has.
    #[default]
    PassThrough,
    /// The agent, with a credential that the workload never sees.
    Brokered,
}

/// Which role an identity takes; without `workload` and `group`, any.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleRule {
    /// The workload it is for.
    #[serde(default)]
    pub workload: Option<WorkloadName>,
    /// The group of the token that it is for.
    #[serde(default)]
    pub group: Option<String>,
    /// The role, as in `SET ROLE`.
    pub role: String,
}

/// Whether a text can be a name in entries and in policy.
pub(super) fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// Whether credentials and upstreams go together.
pub(super) fn check(
    credentials: &[Credential],
    upstreams: &[Upstream],
    workloads: &std::collections::BTreeSet<&WorkloadName>,
) -> Result<(), String> {
    let mut known = std::collections::BTreeMap::new();
    for credential in credentials {
        check_credential(credential).map_err(|e| format!("[[credential]] '{}': {e}", credential.name))?;
        if known.insert(credential.name.as_str(), credential).is_some() {
            return Err(format!("[[credential]] '{}' is there twice", credential.name));
        }
    }
    for (at, upstream) in upstreams.iter().enumerate() {
        let before = &upstreams[..at];
        check_upstream(upstream, &known, before)
            .map_err(|e| format!("[[upstream]] '{}': {e}", upstream.name))?;
        let named = upstream
            .workloads
            .iter()
            .chain(upstream.roles.iter().filter_map(|r| r.workload.as_ref()));
        for workload in named {
            if !workloads.contains(workload) {
                return Err(format!(
                    "[[upstream]] '{}' names workload '{workload}', and there is no [[workload]] of that name",
                    upstream.name
                ));
            }
        }
    }
    Ok(())
}

fn check_upstream(
    upstream: &Upstream,
    credentials: &std::collections::BTreeMap<&str, &Credential>,
    before: &[Upstream],
) -> Result<(), String> {
    if !is_name(&upstream.name) {
        return Err("a name is 1 to 64 of A-Z a-z 0-9 . _ -".into());
    }
    if upstream.host.is_empty() || upstream.port == 0 {
        return Err("host and port are needed".into());
    }
    for other in before {
        if other.name == upstream.name {
            return Err("it is there twice".into());
        }
        let same = other.port == upstream.port
            && other.host.eq_ignore_ascii_case(&upstream.host)
            && other.protocol == UpstreamProtocol::Postgres
            && upstream.protocol == UpstreamProtocol::Postgres;
        if (same && other.workloads.is_empty()) || http_upstream::shadows(other, upstream) {
            return Err(format!(
                "it is never used: '{}' before it has the same host and port, and is for every workload",
                other.name
            ));
        }
    }
    if upstream.protocol == UpstreamProtocol::Http && upstream.credential.is_some() {
        return Err("credential is for protocol = \"postgres\"; what goes into requests is in inject".into());
    }
    for (key, reference, wants) in [
        ("credential", &upstream.credential, "a password"),
        ("certificate", &upstream.certificate, "a client certificate"),
    ] {
        let Some(reference) = reference else { continue };
        let Some(credential) = credentials.get(reference.as_str()) else {
            return Err(format!(
                "{key} is '{reference}', and there is no [[credential]] of that name"
            ));
        };
        let gives = credential.gives();
        let fits = match gives {
            Gives::Secret | Gives::Login => key == "credential",
            Gives::Certificate => key == "certificate",
            Gives::AwsKeys => false,
        };
        if !fits {
            let is = gives.as_str();
            return Err(format!("{key} is '{reference}', which is {is}, not {wants}"));
        }
    }
    let makes_user = upstream
        .credential
        .as_deref()
        .and_then(|reference| credentials.get(reference))
        .is_some_and(|credential| credential.gives() == Gives::Login);
    match upstream.protocol {
        UpstreamProtocol::Http => http_upstream::check(upstream, credentials),
        UpstreamProtocol::Postgres => {
            http_upstream::check_absent(upstream)?;
            check_login(upstream, makes_user)
        }
    }
}

fn check_login(upstream: &Upstream, makes_user: bool) -> Result<(), String> {
    if upstream.login == Login::PassThrough {
        let brokered = [
            ("user", upstream.user.is_some()),
            ("credential", upstream.credential.is_some()),
            ("certificate", upstream.certificate.is_some()),
            ("database", upstream.database.is_some()),
            ("roles", !upstream.roles.is_empty()),
        ];
        return match brokered.into_iter().find(|(_, set)| *set) {
            Some((key, _)) => Err(format!("{key} is for login = \"brokered\"")),
            None => Ok(()),
        };
    }
    match (&upstream.user, makes_user) {
        (None, false) => return Err("login = \"brokered\" needs user".into()),
        (Some(_), true) => {
            return Err("user comes with its credential, another one each time: leave it out".into());
        }
        (None, true) if upstream.database.is_none() => {
            return Err("database is needed: a user that its credential makes has none of its own".into());
        }
        _ => {}
    }
    if upstream.certificate.is_some() && upstream.tls == Some(UpstreamTlsMode::Disable) {
        return Err("a client certificate needs TLS".into());
    }
    let names = (upstream.user.iter().map(|u| ("user", u)))
        .chain(upstream.database.iter().map(|d| ("database", d)))
        .chain(upstream.roles.iter().map(|r| ("role", &r.role)));
    for (key, name) in names {
        if name.is_empty() || name.len() > NAME_BYTES || name.contains('\0') {
            return Err(format!("{key} is 1 to {NAME_BYTES} bytes long"));
        }
    }
    // To the server it means no role at all, quoted or not.
    if upstream.roles.iter().any(|r| r.role.eq_ignore_ascii_case("none")) {
        return Err("'none' is no role: leave the rule out".into());
    }
    Ok(())
}
