//! Which cgroups are workloads: by the configuration's patterns, and by an extended attribute that the CLI sets.
//!
//! The attribute is in the `trusted` name space, which only root can read and write, so that a workload that its cgroup
//! was delegated to can neither take its tag away nor give itself another. Where both name a workload, the attribute,
//! being the more specific, wins. A cgroup's descendants belong to it without being tagged themselves.

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::sync::mpsc;

use super::{RedirectError, cgroup, watch::Watcher};
use crate::model::{CgroupId, WorkloadName};

/// The attribute: its value is the workload's name.
pub const ATTRIBUTE: &str = "trusted.portcullis.workload";

/// Events that may wait for the receiver; the watcher then waits, and the kernel's own queue holds the rest.
const WAITING: usize = 256;

/// What tags a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A `[[workload]]` pattern.
    Config,
    /// The attribute.
    Attribute,
}

/// A tagged cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Its directory.
    pub path: PathBuf,
    /// Its id.
    pub id: CgroupId,
    /// The workload it is.
    pub workload: WorkloadName,
    /// Why.
    pub source: Source,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagEvent {
    /// A cgroup is tagged. When it was already, it is another workload's from now on: it must not be untagged between.
    Added(Tag),
    /// A cgroup is tagged no more.
    Removed {
        /// What it was.
        tag: Tag,
        /// Whether the cgroup itself is gone.
        gone: bool,
    },
}

/// Follows the cgroup tree.
pub struct Tags;

impl Tags {
    /// Reads the whole tree, and follows it from then on, without a gap and without polling: the tags found, and the
    /// changes to come. Dropping the receiver ends it. `patterns` are in order of precedence; an empty one is none.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When a pattern cannot match anything, or the tree cannot be watched.
    pub fn start(
        mount: &Path,
        patterns: Vec<(WorkloadName, String)>,
    ) -> Result<(Vec<Tag>, mpsc::Receiver<TagEvent>), RedirectError> {
        let rules = Rules::new(patterns)?;
        let (watcher, present) = Watcher::new(mount, rules)?;
        let (send, receive) = mpsc::channel(WAITING);
        tokio::spawn(watcher.run(send));
        Ok((present, receive))
    }
}

/// Tags a cgroup for good: the attribute lasts as long as the cgroup.
///
/// # Errors
/// When the caller is not root, or the cgroup is not there.
pub fn set(directory: &Path, workload: &WorkloadName) -> Result<(), RedirectError> {
    xattr::set(directory, ATTRIBUTE, workload.as_str().as_bytes()).map_err(failed(directory))
}

/// Takes the attribute away; one that is not there is no error.
///
/// # Errors
/// As [`set`].
pub fn remove(directory: &Path) -> Result<(), RedirectError> {
    match xattr::remove(directory, ATTRIBUTE) {
        Err(error) if error.raw_os_error() != Some(libc::ENODATA) => Err(failed(directory)(error)),
        _ => Ok(()),
    }
}

/// The workload that the attribute names.
///
/// # Errors
/// When the cgroup is not there, or the attribute holds no workload's name.
pub fn get(directory: &Path) -> Result<Option<WorkloadName>, RedirectError> {
    let Some(value) = xattr::get(directory, ATTRIBUTE).map_err(failed(directory))? else {
        return Ok(None);
    };
    let name = String::from_utf8_lossy(&value);
    WorkloadName::new(&name)
        .map(Some)
        .map_err(|error| failed(directory)(io::Error::new(io::ErrorKind::InvalidData, error)))
}

/// Every cgroup that has the attribute.
#[must_use]
pub fn list(mount: &Path) -> Vec<(PathBuf, WorkloadName)> {
    cgroup::tree(mount)
        .filter_map(|(_, path)| {
            let workload = get(&path).ok()??;
            Some((path, workload))
        })
        .collect()
}

fn failed(directory: &Path) -> impl FnOnce(io::Error) -> RedirectError {
    let path = directory.to_path_buf();
    move |source| RedirectError::Cgroup { path, source }
}

/// What decides of one cgroup.
pub(super) struct Rules(Vec<(WorkloadName, String)>);

impl Rules {
    pub(super) fn new(patterns: Vec<(WorkloadName, String)>) -> Result<Self, RedirectError> {
        let mut rules = Vec::new();
        for (workload, pattern) in patterns {
            let trimmed = pattern.trim_matches('/');
            if pattern.is_empty() {
                continue;
            }
            // It would be accepted, and do nothing.
            if trimmed.is_empty() || trimmed.contains("**") || trimmed.contains("//") {
                return Err(RedirectError::Pattern { pattern });
            }
            rules.push((workload, trimmed.to_owned()));
        }
        Ok(Self(rules))
    }

    /// The workload that `directory`, at `below` the mount, is tagged as.
    pub(super) fn workload(&self, directory: &Path, below: &Path) -> Option<(WorkloadName, Source)> {
        match get(directory) {
            Ok(Some(workload)) => return Some((workload, Source::Attribute)),
            Ok(None) => {}
            Err(RedirectError::Cgroup { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::error!(%error, "the attribute {ATTRIBUTE} cannot be used"),
        }
        let below = below.to_str()?;
        self.0
            .iter()
            .find(|(_, pattern)| matches(pattern, below))
            .map(|(workload, _)| (workload.clone(), Source::Config))
    }
}

/// Level by level; within a level `*` is any characters and `?` is one.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut levels) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), levels.next()) {
            (Some(pattern), Some(level)) if wildcard(pattern.as_bytes(), level.as_bytes()) => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// Linear but for the last star: no pattern can make it run away.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted == byte => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after, from)) = star else { return false };
                star = Some((after, from + 1));
                p = after;
                t = from + 1;
            }
        }
    }
    pattern
        .get(p..)
        .is_some_and(|rest| rest.iter().all(|b| *b == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_level_by_level() {
        for (pattern, path, expected) in [
            (
                "system.slice/deploy-*.service",
                "system.slice/deploy-7.service",
                true,
            ),
            (
                "system.slice/deploy-*.service",
                "system.slice/deploy-.service",
                true,
            ),
            (
                "system.slice/deploy-*.service",
                "system.slice/other.service",
                false,
            ),
            ("system.slice/*", "system.slice/a/b", false),
            ("system.slice/*/b", "system.slice/a/b", true),
            ("a", "a/b", false),
            ("a/b", "a", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxbxxaxx", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("**", "a", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn patterns_that_do_nothing_are_refused() {
        let rules = |pattern: &str| Rules::new(vec![(WorkloadName::new("w").unwrap(), pattern.into())]);
        for bad in ["/", "a/**", "a//b"] {
            assert!(rules(bad).is_err(), "{bad}");
        }
        assert!(rules("").unwrap().0.is_empty());
        assert_eq!(rules("/a/*").unwrap().0[0].1, "a/*");
    }
}
