//! `[[ship]] kind = "splunk_hec"`

use std::path::PathBuf;

use serde::Deserialize;

use super::{Config, EventFormat, Gives, credential, web};

/// Events to Splunk's HTTP Event Collector.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplunkHec {
    /// The collector: `https://splunk.example.com:8088`.
    pub url: String,
    /// The `[[credential]]` with its token.
    pub credential: String,
    /// The index; the token's own unless set.
    #[serde(default)]
    pub index: Option<String>,
    /// The source type.
    #[serde(default = "default_sourcetype")]
    pub sourcetype: String,
    /// Whether events count as taken only when Splunk says that they are indexed (indexer acknowledgement).
    #[serde(default)]
    pub acknowledge: bool,
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

fn default_sourcetype() -> String {
    "portcullis".into()
}

impl SplunkHec {
    pub(super) fn check(&self, config: &Config, format: EventFormat) -> Result<(), String> {
        web("url", &self.url, self.allow_http)?;
        if format == EventFormat::Cef {
            return Err("format cef is for syslog: write ocsf or json".into());
        }
        let plain =
            |text: &str| !text.is_empty() && text.len() <= 255 && text.bytes().all(|b| b.is_ascii_graphic());
        if !plain(&self.sourcetype) || self.index.as_deref().is_some_and(|index| !plain(index)) {
            return Err("index and sourcetype are 1 to 255 visible ASCII characters".into());
        }
        credential(config, "credential", &self.credential, Gives::Secret)
    }
}
