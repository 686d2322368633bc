//! The cgroup v2 tree: where it is mounted, who is where, and what a directory's id is.
//!
//! On a hybrid layout cgroup2 is mounted beside the v1 hierarchies; everything here is about cgroup2 only.

use std::{
    ffi::OsString,
    fs,
    os::unix::{ffi::OsStringExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use super::RedirectError;
use crate::model::CgroupId;

/// The agent's own cgroup where none is configured and it was started in the root, which cannot be told from others.
const DEFAULT_AGENT: &str = "portcullis-agent";
/// The slice that the packages' service is in. A service's own cgroup is another after each start.
const SLICE: &str = "portcullis.slice";

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> RedirectError {
    let path = path.to_path_buf();
    move |source| RedirectError::Cgroup { path, source }
}

/// Where cgroup2 is mounted: the first such mount of /proc/mounts.
///
/// # Errors
/// When there is none.
pub fn find_mount() -> Result<PathBuf, RedirectError> {
    let mounts = fs::read("/proc/mounts").map_err(failed(Path::new("/proc/mounts")))?;
    cgroup2_of(&mounts).ok_or(RedirectError::NoCgroup2)
}

/// fstab(5): device, directory, type, ...; blanks in the directory are octal escapes.
fn cgroup2_of(mounts: &[u8]) -> Option<PathBuf> {
    mounts.split(|b| *b == b'\n').find_map(|line| {
        let mut fields = line.split(|b| *b == b' ').skip(1);
        let (directory, kind) = (fields.next()?, fields.next()?);
        (kind == b"cgroup2").then(|| PathBuf::from(OsString::from_vec(unescape(directory))))
    })
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| byte == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        out.push(octal.unwrap_or(byte));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    out
}

/// The id of the cgroup whose directory this is: its inode number.
///
/// # Errors
/// When it is not there.
pub fn id(directory: &Path) -> Result<CgroupId, RedirectError> {
    let metadata = fs::metadata(directory).map_err(failed(directory))?;
    Ok(CgroupId(metadata.ino()))
}

/// A process's cgroup, below the cgroup2 mount, starting with `/`. `process` is a pid or `self`.
///
/// # Errors
/// When the process is gone, or has no cgroup v2.
pub fn of_process(process: &str) -> Result<String, RedirectError> {
    let path = PathBuf::from(format!("/proc/{process}/cgroup"));
    let text = fs::read_to_string(&path).map_err(failed(&path))?;
    text.lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(str::to_owned)
        .ok_or(RedirectError::NoCgroup2)
}

/// Every cgroup's directory below (and with) `mount`, parents first. Those that vanish meanwhile are left out.
pub fn tree(mount: &Path) -> impl Iterator<Item = (CgroupId, PathBuf)> {
    walkdir::WalkDir::new(mount)
        .follow_links(false)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_dir())
        .filter_map(|entry| Some((id(entry.path()).ok()?, entry.into_path())))
}

/// Moves this process to its own cgroup, made when missing, and returns its directory. A process that is in it or below
/// it already stays where it is.
///
/// To be called before any listener is made: a socket keeps the cgroup of its making. `name` is below `mount`; empty
/// means the cgroup it is in already (`portcullis.slice` rather than a service in it), or one of its own when that is the
/// root.
///
/// # Errors
/// When the cgroup cannot be made or joined.
pub fn join(mount: &Path, name: &str) -> Result<PathBuf, RedirectError> {
    let present = of_process("self")?;
    let name = match (name.trim_matches('/'), present.trim_matches('/')) {
        ("", "") => DEFAULT_AGENT.to_owned(),
        ("", present) => lasting(present).to_owned(),
        (name, _) => name.to_owned(),
    };
    let directory = mount.join(&name);
    if Path::new(present.trim_matches('/')).starts_with(&name) {
        return Ok(directory);
    }
    fs::create_dir_all(&directory).map_err(failed(&directory))?;
    fs::write(directory.join("cgroup.procs"), "0").map_err(failed(&directory))?;
    Ok(directory)
}

/// The slice, where this is a cgroup in it; the cgroup itself otherwise.
fn lasting(present: &str) -> &str {
    let within = present.split('/').scan(0, |end, part| {
        *end += part.len() + 1;
        Some((part, *end - 1))
    });
    let slice = within.into_iter().find(|(part, _)| *part == SLICE);
    slice.map_or(present, |(_, end)| present.get(..end).unwrap_or(present))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slice_outlives_its_services() {
        assert_eq!(lasting("portcullis.slice/portcullis.service"), "portcullis.slice");
        assert_eq!(lasting("a/portcullis.slice/b/c"), "a/portcullis.slice");
        assert_eq!(
            lasting("system.slice/portcullis.service"),
            "system.slice/portcullis.service"
        );
        assert_eq!(lasting("portcullis.slice"), "portcullis.slice");
    }

    #[test]
    fn finds_the_mount_on_hybrid_and_unified_layouts() {
        let hybrid =
            b"tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(cgroup2_of(hybrid), Some("/sys/fs/cgroup/unified".into()));
        let unified = b"cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        assert_eq!(cgroup2_of(unified), Some("/sys/fs/cgroup".into()));
        assert_eq!(
            cgroup2_of(b"none /my\\040cg cgroup2 rw 0 0"),
            Some("/my cg".into())
        );
        for none in [
            &b""[..],
            b"\n\n",
            b"cgroup2",
            b"cgroup2 /x",
            b"cgroup /x cgroup rw 0 0",
        ] {
            assert_eq!(cgroup2_of(none), None);
        }
    }
}
