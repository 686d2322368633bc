//! `[credential.aws]`

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{super::load, check_url};

/// `[credential.aws]`: keys of a role, by `AssumeRoleWithWebIdentity` with the workload's own token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsRole {
    /// `arn:aws:iam::ACCOUNT:role/NAME`; its trust policy names the workload's issuer.
    pub role_arn: String,
    /// The region whose STS is asked.
    pub region: String,
    /// Another STS than `https://sts.REGION.amazonaws.com`: a VPC endpoint for one.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// How long the keys are to live: 15m to 12h, as the role allows.
    #[serde(default = "default_duration", deserialize_with = "load::duration")]
    pub duration: Duration,
    /// What CloudTrail calls the session; the workload's name unless set.
    #[serde(default)]
    pub session_name: Option<String>,
    /// PEM roots for the endpoint's TLS, beside the host's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

fn default_duration() -> Duration {
    Duration::from_secs(3600)
}

impl AwsRole {
    /// The STS that is asked.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.endpoint.clone().unwrap_or_else(|| {
            // The partition in China has a domain of its own.
            let suffix = if self.region.starts_with("cn-") { ".cn" } else { "" };
            format!("https://sts.{}.amazonaws.com{suffix}", self.region)
        })
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let arn: Vec<&str> = self.role_arn.splitn(6, ':').collect();
        let is_role = matches!(arn[..], ["arn", _, "iam", "", account, role] if !account.is_empty() && role.starts_with("role/"));
        if !is_role || self.role_arn.len() > 2048 || self.role_arn.chars().any(char::is_control) {
            return Err(format!(
                "role_arn '{}' is to be arn:aws:iam::ACCOUNT:role/NAME",
                self.role_arn
            ));
        }
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if self.region.is_empty() || !self.region.bytes().all(plain) {
            return Err(format!(
                "region '{}' is to be one such as eu-central-1",
                self.region
            ));
        }
        check_url("endpoint", &self.endpoint())?;
        if !(Duration::from_secs(900)..=Duration::from_secs(12 * 3600)).contains(&self.duration) {
            return Err("duration is between 15m and 12h".into());
        }
        if let Some(name) = &self.session_name {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
            if !(2..=64).contains(&name.len()) || !name.bytes().all(plain) {
                return Err("session_name is 2 to 64 of A-Z a-z 0-9 _ + = , . @ -".into());
            }
        }
        Ok(())
    }
}
