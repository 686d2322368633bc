//! `[evidence]`: what reports for assessors are made by.

use std::path::PathBuf;

use serde::Deserialize;

/// `[evidence]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Evidence {
    /// A directory with controls of one's own, one file `*.toml` for each, added to those built in or in their place.
    pub controls_dir: Option<PathBuf>,
}
