//! Whom a network namespace counts for: no workload has more of them than its share, so that none is without for what
//! another makes.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use tokio::sync::watch;

use super::namespaces::MAX;
use crate::redirect::cgroup;

/// Network namespaces that the processes of one tagged cgroup may have prepared, beside those that are mounted on the host.
pub const SHARE: usize = MAX / 4;

/// How many more than their share tagged cgroups wanted at the last look around and since, by their directories.
pub(super) type Refused = BTreeMap<PathBuf, u64>;

/// Says when more or fewer are refused.
pub struct Watched(pub(super) watch::Receiver<Refused>);

impl Watched {
    /// Waits for a change; false when the redirector has ended. Cancel-safe.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

/// The nearest tagged cgroup that a thread is in; an empty path, which is one more to have a share, where there is none any
/// more.
pub(super) fn of_thread(thread: u32, mount: &Path, tagged: &[PathBuf]) -> PathBuf {
    let path = cgroup::of_process(&thread.to_string()).unwrap_or_default();
    nearest(&mount.join(path.trim_start_matches('/')), tagged)
}

fn nearest(directory: &Path, tagged: &[PathBuf]) -> PathBuf {
    let above = tagged.iter().filter(|tagged| directory.starts_with(tagged));
    let nearest = above.max_by_key(|tagged| tagged.components().count());
    nearest.cloned().unwrap_or_default()
}

/// Tagged cgroups, with those that are below others before these.
pub(super) fn nearest_first(mut tagged: Vec<PathBuf>) -> Vec<PathBuf> {
    tagged.sort_by_key(|directory| Reverse(directory.components().count()));
    tagged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_tag_is_who_pays() {
        let tagged: Vec<PathBuf> = ["/c/a", "/c/a/b", "/c/ab"].map(PathBuf::from).into();
        let of = |directory: &str| nearest(Path::new(directory), &tagged);
        assert_eq!(of("/c/a/x"), Path::new("/c/a"));
        assert_eq!(of("/c/a/b"), Path::new("/c/a/b"));
        assert_eq!(of("/c/ab/b/c"), Path::new("/c/ab"));
        assert_eq!(of("/c"), Path::new(""));
        assert_eq!(nearest_first(tagged)[0], Path::new("/c/a/b"));
    }
}
