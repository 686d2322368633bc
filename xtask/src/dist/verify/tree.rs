//! Whether a tree is the one that was laid out.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::bail;

/// What a package has otherwise than the tree that was laid out; all below the root.
#[derive(Default)]
pub struct Known {
    /// In the tree, and not in the package.
    pub absent: &'static [&'static str],
    /// In the package alone, or there as something else.
    pub more: &'static [&'static str],
}

/// Everything below a directory, itself not included.
pub fn list(root: &Path) -> anyhow::Result<BTreeMap<PathBuf, fs::Metadata>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let is = fs::symlink_metadata(&path)?;
            if is.is_dir() {
                directories.push(path.clone());
            }
            found.insert(path.strip_prefix(root)?.to_owned(), is);
        }
    }
    Ok(found)
}

/// The same files with the same bytes; all of root, with the modes that were laid out and the time of the commit.
pub fn compare(laid_out: &Path, made: &Path, epoch: u64, known: &Known) -> anyhow::Result<()> {
    let (expected, found) = (list(laid_out)?, list(made)?);
    let mut wrong = Vec::new();
    let more = |path: &Path| known.more.iter().any(|more| path == Path::new(more));
    for (path, is) in expected.iter().filter(|(path, _)| !more(path)) {
        let Some(there) = found.get(path) else {
            // A directory of which nothing was packed is no loss.
            if !is.is_dir() && !known.absent.iter().any(|absent| path == Path::new(absent)) {
                wrong.push(format!("{} is missing", path.display()));
            }
            continue;
        };
        if (is.mode(), 0, 0) != (there.mode(), there.uid(), there.gid()) {
            let (mode, uid, gid) = (there.mode(), there.uid(), there.gid());
            wrong.push(format!(
                "{}: mode {mode:o} of {uid}:{gid}, not {:o} of root",
                path.display(),
                is.mode()
            ));
        }
        if is.is_file() && fs::read(laid_out.join(path))? != fs::read(made.join(path))? {
            wrong.push(format!("{}: other bytes", path.display()));
        }
    }
    for (path, is) in &found {
        if !expected.contains_key(path) && !more(path) && !is.is_dir() {
            wrong.push(format!("{} was never laid out", path.display()));
        }
        if is.is_file() && u64::try_from(is.mtime()).ok() != Some(epoch) {
            wrong.push(format!(
                "{}: changed at {}, not at {epoch}",
                path.display(),
                is.mtime()
            ));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("\n      {}", wrong.join("\n      "));
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{File, Permissions},
        os::unix::fs::PermissionsExt as _,
        time::{Duration, SystemTime},
    };

    use super::*;

    /// Two trees of one file, `usr/a`, each changed at second 7.
    fn trees(name: &str) -> anyhow::Result<(super::super::Scratch, PathBuf, PathBuf)> {
        let scratch = std::env::temp_dir().join(format!("xtask-tree-{}-{name}", std::process::id()));
        let (one, two) = (scratch.join("one"), scratch.join("two"));
        for tree in [&one, &two] {
            fs::create_dir_all(tree.join("usr"))?;
            put(tree, "usr/a", "text")?;
        }
        Ok((super::super::Scratch(scratch), one, two))
    }

    fn put(tree: &Path, name: &str, text: &str) -> anyhow::Result<()> {
        let path = tree.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))?;
        Ok(File::open(path)?.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(7))?)
    }

    #[test]
    fn every_difference_is_named() -> anyhow::Result<()> {
        let (_scratch, one, two) = trees("differences")?;
        let compared = |known: &Known| compare(&one, &two, 7, known).map_err(|e| e.to_string());
        assert_eq!(compared(&Known::default()), Ok(()));
        assert!(compare(&one, &two, 8, &Known::default()).is_err_and(|e| e.to_string().contains("at 7")));
        put(&two, "usr/a", "Text")?;
        assert!(compared(&Known::default()).is_err_and(|e| e.contains("usr/a: other bytes")));
        put(&two, "usr/a", "text")?;
        fs::set_permissions(two.join("usr/a"), Permissions::from_mode(0o664))?;
        assert!(compared(&Known::default()).is_err_and(|e| e.contains("mode 100664")));
        put(&two, "usr/a", "text")?;
        put(&two, "usr/b", "more")?;
        let more = Known {
            absent: &[],
            more: &["usr/b"],
        };
        assert!(compared(&Known::default()).is_err_and(|e| e.contains("usr/b was never laid out")));
        assert_eq!(compared(&more), Ok(()));
        fs::remove_file(two.join("usr/a"))?;
        assert!(compared(&more).is_err_and(|e| e.contains("usr/a is missing")));
        let absent = Known {
            absent: &["usr/a"],
            more: &["usr/b"],
        };
        assert_eq!(compared(&absent), Ok(()));
        Ok(())
    }
}
