//! `[[credential]]`: secrets by reference, and where they come from.

mod aws;
mod oauth;
mod vault;

use std::path::PathBuf;

use serde::Deserialize;

pub use aws::AwsRole;
pub use oauth::{Grant, OAuth, SubjectToken};
pub use vault::{AppRole, JwtLogin, Vault};

use super::upstream::is_name;
use crate::io::fetch::safe_url;

/// `[[credential]]`: a secret by reference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// How `[[upstream]]` refers to it, and how entries do.
    pub name: String,
    /// A file with a password, token or key; a line end after it does not count.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// The same as a systemd credential (`LoadCredential=`), by its name.
    #[serde(default)]
    pub systemd: Option<String>,
    /// A file with a certificate and those that lead to its root, PEM.
    #[serde(default)]
    pub certificate_file: Option<PathBuf>,
    /// A file with the certificate's private key, PEM.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// A file with AWS keys, in the form of `~/.aws/credentials`.
    #[serde(default)]
    pub aws_keys_file: Option<PathBuf>,
    /// Which part of that file; `default` unless set.
    #[serde(default)]
    pub profile: Option<String>,
    /// HashiCorp Vault or OpenBao.
    #[serde(default)]
    pub vault: Option<Vault>,
    /// Keys of an AWS role, had with the workload's own token.
    #[serde(default)]
    pub aws: Option<AwsRole>,
    /// An OAuth 2.0 token endpoint.
    #[serde(default)]
    pub oauth: Option<OAuth>,
}

/// What a credential is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    /// A password, token or key.
    Secret,
    /// A user with its password, made for the purpose.
    Login,
    /// AWS keys.
    AwsKeys,
    /// A client certificate.
    Certificate,
}

impl Gives {
    /// With an article, for messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "a password",
            Self::Login => "a user with its password",
            Self::AwsKeys => "AWS keys",
            Self::Certificate => "a client certificate",
        }
    }
}

impl Credential {
    /// What it is.
    #[must_use]
    pub fn gives(&self) -> Gives {
        if self.certificate_file.is_some() {
            Gives::Certificate
        } else if self.aws.is_some() || self.aws_keys_file.is_some() {
            Gives::AwsKeys
        } else if self.vault.as_ref().is_some_and(|v| v.database_role.is_some()) {
            Gives::Login
        } else {
            Gives::Secret
        }
    }

    /// Whether it is a client certificate.
    #[must_use]
    pub fn is_certificate(&self) -> bool {
        self.gives() == Gives::Certificate
    }

    /// Whether it is had with the workload's own token, so that each workload has its own.
    #[must_use]
    pub fn is_per_workload(&self) -> bool {
        self.aws.is_some()
            || self.vault.as_ref().is_some_and(|v| v.jwt.is_some())
            || self
                .oauth
                .as_ref()
                .is_some_and(|o| o.grant == Grant::TokenExchange)
    }

    /// The word for where it comes from.
    #[must_use]
    pub fn source(&self) -> &'static str {
        if self.vault.is_some() {
            "vault"
        } else if self.aws.is_some() {
            "aws"
        } else if self.oauth.is_some() {
            "oauth"
        } else if self.aws_keys_file.is_some() {
            "aws_keys_file"
        } else if self.systemd.is_some() {
            "systemd"
        } else {
            "file"
        }
    }
}

/// Whether a credential names exactly one source, and that one can be used.
pub(super) fn check_credential(credential: &Credential) -> Result<(), String> {
    if !is_name(&credential.name) {
        return Err("a name is 1 to 64 of A-Z a-z 0-9 . _ -".into());
    }
    if let Some(name) = &credential.systemd
        && (!is_name(name) || name.starts_with('.'))
    {
        return Err("systemd is the name of a credential, not a path".into());
    }
    let c = credential;
    let named: Vec<&str> = [
        ("file or systemd", c.file.is_some() || c.systemd.is_some()),
        ("aws_keys_file", c.aws_keys_file.is_some()),
        ("vault", c.vault.is_some()),
        ("aws", c.aws.is_some()),
        ("oauth", c.oauth.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, there)| there.then_some(name))
    .collect();
    if c.profile.is_some() && c.aws_keys_file.is_none() {
        return Err("profile is for aws_keys_file".into());
    }
    match (&c.file, &c.systemd, &c.certificate_file, &c.key_file) {
        _ if named.len() > 1 => {
            return Err(format!(
                "it comes from one place: keep one of {}",
                named.join(", ")
            ));
        }
        (Some(_), None, None, None)
        | (None, Some(_), None, None)
        | (None, Some(_), Some(_), None)
        | (None, None, Some(_), Some(_)) => {}
        (None, None, None, None) if named.len() == 1 => {}
        _ => {
            return Err("a secret needs one of file, systemd, aws_keys_file, [credential.vault], \
                        [credential.aws] and [credential.oauth] (a password either file or systemd); a client certificate \
                        needs certificate_file with either key_file or systemd"
                .into());
        }
    }
    if let Some(vault) = &c.vault {
        vault.check().map_err(|e| format!("vault: {e}"))?;
    }
    if let Some(aws) = &c.aws {
        aws.check().map_err(|e| format!("aws: {e}"))?;
    }
    if let Some(oauth) = &c.oauth {
        oauth.check().map_err(|e| format!("oauth: {e}"))?;
    }
    Ok(())
}

/// A URL that secrets may be sent to.
fn check_url(key: &str, url: &str) -> Result<(), String> {
    safe_url(url).map(drop).map_err(|e| format!("{key} '{url}' {e}"))
}

/// A text that goes into a request, as it is.
fn check_text(key: &str, text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > 1024 || text.chars().any(char::is_control) {
        return Err(format!(
            "{key} is 1 to 1024 bytes long, without control characters"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Credential, String> {
        let text = format!("[[credential]]\nname = \"c\"\n{text}");
        super::super::load::parse("test".as_ref(), &text)
            .map(|mut config| config.credential.remove(0))
            .map_err(|e| e.to_string())
    }

    const VAULT: &str =
        "[credential.vault]\naddress = \"https://v:8200\"\npath = \"apps/crm\"\njwt = { role = \"r\" }\n";
    const AWS: &str =
        "[credential.aws]\nrole_arn = \"arn:aws:iam::123456789012:role/x/y\"\nregion = \"eu-central-1\"\n";
    const OAUTH: &str =
        "[credential.oauth]\nissuer = \"https://i\"\nclient_id = \"c\"\nclient_secret_file = \"/s\"\n";

    #[test]
    fn sources_and_what_they_give() {
        for (text, source, gives, per_workload) in [
            ("file = \"/f\"\n", "file", Gives::Secret, false),
            ("systemd = \"f\"\n", "systemd", Gives::Secret, false),
            (
                "aws_keys_file = \"/f\"\nprofile = \"p\"\n",
                "aws_keys_file",
                Gives::AwsKeys,
                false,
            ),
            (
                "certificate_file = \"/c\"\nkey_file = \"/k\"\n",
                "file",
                Gives::Certificate,
                false,
            ),
            (VAULT, "vault", Gives::Secret, true),
            (
                &VAULT
                    .replace("path = \"apps/crm\"", "database_role = \"r\"")
                    .replace("jwt = { role = \"r\" }", "token_file = \"/t\""),
                "vault",
                Gives::Login,
                false,
            ),
            (AWS, "aws", Gives::AwsKeys, true),
            (OAUTH, "oauth", Gives::Secret, false),
            (
                &format!("{OAUTH}grant = \"token_exchange\"\n"),
                "oauth",
                Gives::Secret,
                true,
            ),
        ] {
            let c = parse(text).unwrap();
            assert_eq!(
                (c.source(), c.gives(), c.is_per_workload()),
                (source, gives, per_workload),
                "{text}"
            );
        }
        assert_eq!(
            parse(AWS).unwrap().aws.unwrap().endpoint(),
            "https://sts.eu-central-1.amazonaws.com"
        );
    }

    #[test]
    fn mistakes_are_told_with_what_to_write() {
        let swap = |text: &str, from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        };
        for (text, word) in [
            (String::new(), "a secret needs one of"),
            (
                format!("file = \"/f\"\n{VAULT}"),
                "keep one of file or systemd, vault",
            ),
            (format!("{VAULT}{AWS}"), "keep one of vault, aws"),
            (
                "file = \"/f\"\nprofile = \"p\"\n".into(),
                "profile is for aws_keys_file",
            ),
            (swap(VAULT, "https", "http"), "plain http is for loopback"),
            (swap(VAULT, "8200", "8200/?x"), "neither user, query"),
            (swap(VAULT, "address", "addres"), "nearest valid key is `address`"),
            (swap(VAULT, "apps/crm", "data/apps/crm"), "without data/"),
            (swap(VAULT, "apps/crm", "secret/apps/crm"), "without the mount"),
            (swap(VAULT, "apps/crm", "../x"), "names with / between them"),
            (swap(VAULT, "apps/crm", "/apps"), "names with / between them"),
            (swap(VAULT, "path = \"apps/crm\"\n", ""), "either path"),
            (format!("{VAULT}database_role = \"r\"\n"), "either path"),
            (format!("{VAULT}refresh = \"0s\"\n"), "between 1s and 1h"),
            (format!("{VAULT}token_file = \"/t\"\n"), "one way to log in"),
            (swap(VAULT, "jwt = { role = \"r\" }\n", ""), "one way to log in"),
            (
                swap(VAULT, "role = \"r\"", "rolle = \"r\""),
                "nearest valid key is `role`",
            ),
            (swap(AWS, ":role/", ":user/"), "arn:aws:iam::ACCOUNT:role/NAME"),
            (
                swap(AWS, "eu-central-1", "evil.example/"),
                "one such as eu-central-1",
            ),
            (format!("{AWS}duration = \"5m\"\n"), "between 15m and 12h"),
            (format!("{AWS}session_name = \"a b\"\n"), "session_name is"),
            (format!("{AWS}endpoint = \"http://sts.example\"\n"), "plain http"),
            (
                format!("{OAUTH}token_endpoint = \"https://t\"\n"),
                "either issuer or token_endpoint",
            ),
            (
                format!("{OAUTH}private_key_file = \"/k\"\n"),
                "either client_secret_file or",
            ),
            (
                format!("{OAUTH}private_key_id = \"k\"\n"),
                "is for private_key_file",
            ),
            (format!("{OAUTH}subject_token_type = \"jwt\"\n"), "is for grant"),
            (format!("{OAUTH}grant = \"password\"\n"), "client_credentials"),
            (swap(OAUTH, "https://i", "http://10.0.0.1"), "plain http"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(word), "{error}\n{text}");
        }
    }

    #[test]
    fn a_user_that_is_made_is_not_named() {
        let vault = "[[credential]]\nname = \"c\"\n[credential.vault]\naddress = \"https://v\"\ndatabase_role = \"r\"\n\
                     token_file = \"/t\"\n[[upstream]]\nname = \"db\"\nprotocol = \"postgres\"\nhost = \"h\"\nport = 1\n\
                     login = \"brokered\"\ncredential = \"c\"\n";
        let parse = |text: &str| super::super::load::parse("test".as_ref(), text).map_err(|e| e.to_string());
        parse(&format!("{vault}database = \"app\"\n")).unwrap();
        for (more, word) in [
            ("", "database is needed"),
            (
                "database = \"app\"\nuser = \"svc\"\n",
                "another one each time: leave it out",
            ),
        ] {
            let error = parse(&format!("{vault}{more}")).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
