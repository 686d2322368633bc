//! How sources that are asked over HTTP are asked.

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use reqwest::Url;

use super::error::Failure;
use crate::io::fetch::{Answer, Fetcher, Request, shown};

/// A client that is made when it is first needed, with further roots from a file.
pub(super) struct Web {
    ca_file: Option<PathBuf>,
    timeout: Duration,
    made: ArcSwapOption<Fetcher>,
}

impl Web {
    pub(super) fn new(ca_file: Option<PathBuf>, timeout: Duration) -> Self {
        Self {
            ca_file,
            timeout,
            made: ArcSwapOption::empty(),
        }
    }

    /// Makes it anew when it is next needed: the roots may have changed.
    pub(super) fn reset(&self) {
        self.made.store(None);
    }

    /// Asks; an answer may have any status.
    pub(super) async fn send(&self, url: &Url, request: Request) -> Result<Answer, Failure> {
        let fetcher = self.fetcher().await?;
        // The place is said apart.
        fetcher.send(url, request).await.map_err(|e| {
            let (place, text) = (shown(url), e.to_string());
            let message = text.strip_prefix(&format!("{place}: ")).unwrap_or(&text);
            Failure::new(place, message)
        })
    }

    async fn fetcher(&self) -> Result<Arc<Fetcher>, Failure> {
        if let Some(made) = self.made.load_full() {
            return Ok(made);
        }
        let (ca_file, timeout) = (self.ca_file.clone(), self.timeout);
        // The host's roots are some hundred files.
        let making = tokio::task::spawn_blocking(move || {
            let place = ca_file.as_ref().map_or_else(
                || "TLS with it".into(),
                |path| format!("ca_file {}", path.display()),
            );
            let pem = match &ca_file {
                Some(path) => {
                    Some(std::fs::read(path).map_err(|e| Failure::new(&*place, e.kind().to_string()))?)
                }
                None => None,
            };
            Fetcher::new(pem.as_deref(), timeout).map_err(|e| Failure::new(&*place, e.to_string()))
        });
        let made = making
            .await
            .map_err(|_| Failure::new("TLS with it", "setting it up was interrupted"))??;
        let made = Arc::new(made);
        self.made.store(Some(Arc::clone(&made)));
        Ok(made)
    }
}
