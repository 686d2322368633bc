//! The built-in data classes, and the names of fields that belong to them.
//!
//! `derived` is what no detector finds: a value computed from a column whose own class is masked (a count, a sum, a
//! function's result), or one of which nobody can tell what it was computed from.

/// A built-in data class. Its place is its priority where two matches start at the same byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Builtin {
    PrivateKey,
    Jwt,
    AwsSecretKey,
    AwsAccessKey,
    GithubToken,
    SlackToken,
    StripeKey,
    AnthropicKey,
    OpenaiKey,
    GcpKey,
    UrlPassword,
    ConnectionPassword,
    Password,
    Secret,
    CredentialHeader,
    Iban,
    CreditCard,
    UsSsn,
    Email,
    Phone,
    Ipv6,
    Ipv4,
    Derived,
}

impl Builtin {
    pub(super) const ALL: [Self; 23] = [
        Self::PrivateKey,
        Self::Jwt,
        Self::AwsSecretKey,
        Self::AwsAccessKey,
        Self::GithubToken,
        Self::SlackToken,
        Self::StripeKey,
        Self::AnthropicKey,
        Self::OpenaiKey,
        Self::GcpKey,
        Self::UrlPassword,
        Self::ConnectionPassword,
        Self::Password,
        Self::Secret,
        Self::CredentialHeader,
        Self::Iban,
        Self::CreditCard,
        Self::UsSsn,
        Self::Email,
        Self::Phone,
        Self::Ipv6,
        Self::Ipv4,
        Self::Derived,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::PrivateKey => "private_key",
            Self::Jwt => "jwt",
            Self::AwsSecretKey => "aws_secret_key",
            Self::AwsAccessKey => "aws_access_key",
            Self::GithubToken => "github_token",
            Self::SlackToken => "slack_token",
            Self::StripeKey => "stripe_key",
            Self::AnthropicKey => "anthropic_key",
            Self::OpenaiKey => "openai_key",
            Self::GcpKey => "gcp_key",
            Self::UrlPassword => "url_password",
            Self::ConnectionPassword => "connection_password",
            Self::Password => "password",
            Self::Secret => "secret",
            Self::CredentialHeader => "credential_header",
            Self::Iban => "iban",
            Self::CreditCard => "credit_card",
            Self::UsSsn => "us_ssn",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Ipv6 => "ipv6",
            Self::Ipv4 => "ipv4",
            Self::Derived => "derived",
        }
    }

    /// Addresses are everywhere in what an operator's tools answer: masking them is a choice.
    pub(super) fn off_by_default(self) -> bool {
        matches!(self, Self::Ipv4 | Self::Ipv6)
    }
}

/// JSON keys, form fields and database columns masked whatever their value. Compared without case, `_`, `-` and blanks.
///
/// Bias: `token` alone is not among them, because it mostly names a page or a lexeme.
pub(super) const FIELDS: &[(Builtin, &[&str])] = &[
    (
        Builtin::Password,
        &[
            "password",
            "passwd",
            "pwd",
            "passphrase",
            "user_password",
            "db_password",
            "new_password",
            "old_password",
            "current_password",
            "password_confirmation",
        ],
    ),
    (
        Builtin::Secret,
        &[
            "secret",
            "client_secret",
            "access_token",
            "refresh_token",
            "id_token",
            "api_key",
            "x_api_key",
            "api_secret",
            "api_token",
            "app_secret",
            "auth_token",
            "bearer_token",
            "session_token",
            "private_token",
            "secret_key",
            "consumer_secret",
            "signing_secret",
            "webhook_secret",
            "client_assertion",
            "authorization",
        ],
    ),
    (Builtin::UsSsn, &["ssn", "us_ssn", "social_security_number"]),
    (Builtin::PrivateKey, &["private_key"]),
    (
        Builtin::AwsSecretKey,
        &["secret_access_key", "aws_secret_access_key"],
    ),
    (
        Builtin::CreditCard,
        &["credit_card", "credit_card_number", "card_number", "cc_number"],
    ),
    (Builtin::Iban, &["iban"]),
];

/// Headers that carry credentials: masked in everything stored, whatever policy reveals.
pub(super) const CREDENTIAL_HEADERS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
    "api-key",
    "x-auth-token",
    "x-amz-security-token",
    "x-goog-api-key",
    "private-token",
    "x-vault-token",
    "x-csrf-token",
];
