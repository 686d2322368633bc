//! The clients for one segment: they differ in what their requests carry beside what object_store knows of.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::{HeaderMap, header::HeaderValue};
use object_store::{
    BackoffConfig, ClientOptions, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, Checksum, S3ConditionalPut},
};

use super::{
    super::{Class, ShipError},
    http::Watched,
};
use crate::{
    config::ship::{S3, ServerSideEncryption},
    credential::AwsKeys,
    model::Rfc3339,
};

/// The clients for one segment.
pub(super) struct Stores {
    /// Begins objects: with lock, hold and encryption, only if there is none of that name.
    pub creating: AmazonS3,
    /// Sends parts, with their checksums, and gives up.
    pub parts: AmazonS3,
    /// Makes one of the parts, only if there is none of that name.
    pub completing: AmazonS3,
    /// Looks at what is there, with its checksum.
    pub looking: AmazonS3,
}

impl Stores {
    pub(super) fn new(config: &S3, keys: &AwsKeys, http: &Watched, now_ns: i64) -> Result<Self, ShipError> {
        let mut begin = begin(config, now_ns)?;
        begin.insert("x-amz-sdk-checksum-algorithm", HeaderValue::from_static("SHA256"));
        let part = one("x-amz-sdk-checksum-algorithm", "SHA256");
        let build = |headers: HeaderMap, checksum: bool| {
            let mut builder = builder(config, keys, http, headers)?;
            if checksum {
                builder = builder.with_checksum_algorithm(Checksum::SHA256);
            }
            builder
                .build()
                .map_err(|e| ShipError::temporary(Class::Local, e.to_string()))
        };
        Ok(Self {
            creating: build(begin, true)?,
            parts: build(part, true)?,
            completing: build(one("if-none-match", "*"), true)?,
            looking: build(one("x-amz-checksum-mode", "ENABLED"), false)?,
        })
    }
}

fn one(name: &'static str, value: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(name, HeaderValue::from_static(value));
    headers
}

/// What is said of an object when it is begun.
fn begin(config: &S3, now_ns: i64) -> Result<HeaderMap, ShipError> {
    let mut headers = HeaderMap::new();
    if let (Some(mode), Some(days)) = (config.object_lock, config.object_lock_days) {
        headers.insert("x-amz-object-lock-mode", HeaderValue::from_static(mode.as_str()));
        headers.insert("x-amz-object-lock-retain-until-date", text(&until(now_ns, days))?);
    }
    if config.legal_hold {
        headers.insert("x-amz-object-lock-legal-hold", HeaderValue::from_static("ON"));
    }
    match config.encryption {
        None => {}
        Some(ServerSideEncryption::S3) => {
            headers.insert("x-amz-server-side-encryption", HeaderValue::from_static("AES256"));
        }
        Some(ServerSideEncryption::Kms) => {
            headers.insert(
                "x-amz-server-side-encryption",
                HeaderValue::from_static("aws:kms"),
            );
            if let Some(key) = &config.kms_key {
                headers.insert("x-amz-server-side-encryption-aws-kms-key-id", text(key)?);
            }
        }
    }
    Ok(headers)
}

fn text(value: &str) -> Result<HeaderValue, ShipError> {
    let header = HeaderValue::from_str(value);
    header.map_err(|_| ShipError::temporary(Class::Local, "a value of the configuration is no header"))
}

/// So many days from now, RFC 3339 with whole seconds.
fn until(now_ns: i64, days: u32) -> String {
    let span = i64::from(days) * 86_400 * 1_000_000_000;
    let text = Rfc3339(now_ns.saturating_add(span)).to_string();
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text,
    }
}

fn builder(
    config: &S3,
    keys: &AwsKeys,
    http: &Watched,
    headers: HeaderMap,
) -> Result<AmazonS3Builder, ShipError> {
    let plain = |secret: &crate::credential::Secret| {
        let text = std::str::from_utf8(secret.expose()).map(str::to_owned);
        text.map_err(|_| ShipError::temporary(Class::Denied, "the AWS keys are not text"))
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&config.bucket)
        .with_region(&config.region)
        .with_access_key_id(&*keys.access_key_id)
        .with_secret_access_key(plain(&keys.secret_access_key)?)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_allow_http(config.allow_http)
        // The worker pauses and tries again; two of that would multiply.
        .with_retry(RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: 0,
            ..RetryConfig::default()
        })
        .with_client_options(
            ClientOptions::new()
                .with_default_headers(headers)
                .with_allow_http(config.allow_http),
        )
        .with_http_connector(http.clone());
    if let Some(token) = &keys.session_token {
        builder = builder.with_token(plain(token)?);
    }
    let (endpoint, virtual_hosted) = place(config);
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    Ok(builder.with_virtual_hosted_style_request(virtual_hosted))
}

/// The endpoint, with the bucket in its name where that is the style, and whether it is.
pub(super) fn place(config: &S3) -> (Option<String>, bool) {
    // AWS's own certificate does not cover a bucket with dots.
    let own_style = config.endpoint.is_none() && !config.bucket.contains('.');
    let virtual_hosted = !config.path_style.unwrap_or(!own_style);
    let endpoint = config.endpoint.as_deref().map(|endpoint| {
        let endpoint = endpoint.trim_end_matches('/');
        match endpoint.split_once("://") {
            Some((scheme, host)) if virtual_hosted => format!("{scheme}://{}.{host}", config.bucket),
            _ => endpoint.to_owned(),
        }
    });
    (endpoint, virtual_hosted)
}

/// A hash as S3 writes it.
pub(super) fn checksum(sha256: &[u8]) -> String {
    BASE64_STANDARD.encode(sha256)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(keys: &str) -> S3 {
        let text = format!("bucket = \"audit\"\ncredential = \"k\"\n{keys}");
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn where_it_goes() {
        for (keys, endpoint, virtual_hosted) in [
            ("", None, true),
            ("path_style = true", None, false),
            (
                "endpoint = \"https://s3.local:9000/\"",
                Some("https://s3.local:9000"),
                false,
            ),
            (
                "endpoint = \"https://s3.local\"\npath_style = false",
                Some("https://audit.s3.local"),
                true,
            ),
        ] {
            assert_eq!(
                place(&config(keys)),
                (endpoint.map(Into::into), virtual_hosted),
                "{keys}"
            );
        }
    }

    #[test]
    fn what_is_said_of_an_object() {
        let all = config(
            "object_lock = \"compliance\"\nobject_lock_days = 30\nlegal_hold = true\nencryption = \"kms\"\nkms_key = \"k1\"",
        );
        let headers = begin(&all, 1_795_651_200_000_000_000).unwrap();
        let said = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(said("x-amz-object-lock-mode"), "COMPLIANCE");
        assert_eq!(
            said("x-amz-object-lock-retain-until-date"),
            "2026-12-26T00:00:00Z"
        );
        assert_eq!(said("x-amz-object-lock-legal-hold"), "ON");
        assert_eq!(said("x-amz-server-side-encryption"), "aws:kms");
        assert_eq!(said("x-amz-server-side-encryption-aws-kms-key-id"), "k1");
        assert!(begin(&config(""), 0).unwrap().is_empty());
    }
}
