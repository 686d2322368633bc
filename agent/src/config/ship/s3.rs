//! `[[ship]] kind = "s3"`

use std::path::PathBuf;

use serde::Deserialize;

use super::{Config, Gives, credential, web};

/// Sealed segments to S3, or to what speaks like it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// The bucket.
    pub bucket: String,
    /// Its region.
    #[serde(default = "default_region")]
    pub region: String,
    /// Another place than AWS's own: `https://s3.example.com`.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// What object names begin with, without a slash at either end.
    #[serde(default)]
    pub prefix: String,
    /// The `[[credential]]` with AWS keys (`aws_keys_file`).
    pub credential: String,
    /// PEM roots for its TLS, beside the host's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Whether the endpoint may be plain http.
    #[serde(default)]
    pub allow_http: bool,
    /// `https://endpoint/bucket/object`, not `https://bucket.endpoint/object`; so unless the endpoint is AWS's own.
    #[serde(default)]
    pub path_style: Option<bool>,
    /// Object Lock, on every object.
    #[serde(default)]
    pub object_lock: Option<ObjectLock>,
    /// Days from the upload that Object Lock keeps an object.
    #[serde(default)]
    pub object_lock_days: Option<u32>,
    /// A legal hold on every object.
    #[serde(default)]
    pub legal_hold: bool,
    /// Encryption by the storage.
    #[serde(default)]
    pub encryption: Option<ServerSideEncryption>,
    /// The key for `encryption = "kms"`; the bucket's own unless set.
    #[serde(default)]
    pub kms_key: Option<String>,
    /// Objects larger than this go up in parts of this size (5 MiB to 1 GiB).
    #[serde(default = "default_part", deserialize_with = "super::load::bytes")]
    pub part_bytes: u64,
}

/// Who may shorten a retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectLock {
    /// Those with the permission to bypass it.
    Governance,
    /// Nobody.
    Compliance,
}

impl ObjectLock {
    /// The word in the header.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }
}

/// Who has the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerSideEncryption {
    /// The storage (SSE-S3).
    S3,
    /// A key management service (SSE-KMS).
    Kms,
}

fn default_region() -> String {
    "us-east-1".into()
}

fn default_part() -> u64 {
    16 << 20
}

impl S3 {
    pub(super) fn check(&self, config: &Config) -> Result<(), String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if !(3..=63).contains(&self.bucket.len()) || !self.bucket.bytes().all(plain) {
            return Err(format!("bucket '{}' is no name of a bucket", self.bucket));
        }
        if self.region.is_empty() || !self.region.bytes().all(plain) {
            return Err(format!(
                "region '{}' is to be one such as eu-central-1",
                self.region
            ));
        }
        if let Some(endpoint) = &self.endpoint {
            web("endpoint", endpoint, self.allow_http)?;
        }
        let parts = |b: u8| plain(b) || b == b'/';
        let prefix = &self.prefix;
        if prefix.len() > 512
            || !prefix.bytes().all(parts)
            || (!prefix.is_empty() && prefix.split('/').any(|part| matches!(part, "" | "." | "..")))
        {
            return Err("prefix is names of A-Z a-z 0-9 . _ - with / between them".into());
        }
        credential(config, "credential", &self.credential, Gives::AwsKeys)?;
        match (self.object_lock, self.object_lock_days) {
            (None, None) | (Some(_), Some(1..=36_500)) => {}
            _ => {
                return Err(
                    "object_lock and object_lock_days (1 to 36500) go together; without both the bucket's own default counts"
                        .into(),
                );
            }
        }
        if self.kms_key.is_some() && self.encryption != Some(ServerSideEncryption::Kms) {
            return Err("kms_key is for encryption = \"kms\"".into());
        }
        if self
            .kms_key
            .as_ref()
            .is_some_and(|key| key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()))
        {
            return Err("kms_key is a key's id or ARN".into());
        }
        if !(5 << 20..=1 << 30).contains(&self.part_bytes) {
            return Err("part_bytes is from 5 MiB to 1 GiB".into());
        }
        Ok(())
    }
}
