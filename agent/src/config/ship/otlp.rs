//! `[[ship]] kind = "otlp"`

use std::path::PathBuf;

use serde::Deserialize;

use super::{Config, EventFormat, Gives, credential, web};

/// Events as OTLP logs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    /// The collector: `https://collector.example.com:4318` (over HTTP, `/v1/logs` is added where there is no path).
    pub url: String,
    /// gRPC, or protobuf over HTTP.
    #[serde(default)]
    pub protocol: OtlpProtocol,
    /// The header that carries `credential`.
    #[serde(default)]
    pub header: Option<String>,
    /// What stands before the secret in that header, such as `Bearer `.
    #[serde(default)]
    pub header_prefix: String,
    /// The `[[credential]]` with the secret for the header.
    #[serde(default)]
    pub credential: Option<String>,
    /// The `[[credential]]` with a client certificate.
    #[serde(default)]
    pub certificate: Option<String>,
    /// PEM roots for its TLS, beside the host's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Whether it may be plain http.
    #[serde(default)]
    pub allow_http: bool,
    /// Whether requests are compressed.
    #[serde(default)]
    pub gzip: bool,
}

/// How OTLP is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtlpProtocol {
    /// gRPC, usually port 4317.
    Grpc,
    /// Protobuf over HTTP, usually port 4318.
    #[default]
    Http,
}

impl Otlp {
    pub(super) fn check(&self, config: &Config, format: EventFormat) -> Result<(), String> {
        web("url", &self.url, self.allow_http)?;
        if format == EventFormat::Cef {
            return Err("format cef is for syslog: write ocsf or json".into());
        }
        match (&self.header, &self.credential) {
            (None, None) => {}
            (Some(header), Some(name)) => {
                reqwest::header::HeaderName::from_bytes(header.as_bytes())
                    .map_err(|_| format!("header '{header}' is not a name"))?;
                reqwest::header::HeaderValue::from_str(&self.header_prefix)
                    .map_err(|_| "header_prefix has only visible characters".to_owned())?;
                credential(config, "credential", name, Gives::Secret)?;
            }
            _ => return Err("header and credential go together".into()),
        }
        match &self.certificate {
            Some(name) => credential(config, "certificate", name, Gives::Certificate),
            None => Ok(()),
        }
    }
}
