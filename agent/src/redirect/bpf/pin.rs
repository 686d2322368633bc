//! What is pinned, and where:
//!
//! ```text
//! PIN_DIR/maps-VERSION/MAP          shared by the programs of one agent and the next
//! PIN_DIR/link_agent_ops            the agent's own cgroup
//! PIN_DIR/link_task_PROG            the host's tracepoints
//! PIN_DIR/link_sys_enter            the same, while something is tagged
//! PIN_DIR/tags/CGROUP_ID/link_PROG  one tagged cgroup
//! ```

use std::{
    fs, io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::load::AGENT;
use crate::{
    model::CgroupId,
    redirect::{RedirectError, sys},
};

const BPFFS: &str = "/sys/fs/bpf";
/// What the names of directories of maps start with; their version follows.
const MAPS: &str = "maps-";
/// What the names of links start with.
const LINK: &str = "link_";

/// Maps whose layout is version 1's: a later version goes on with the same, so that what the programs of before wrote is
/// found by those that take their place one by one.
const SINCE_1: [&str; 4] = ["TAGGED", "ORIGINAL_DST", "INFLIGHT", "ACCEPTED"];

/// The directory of one agent's pins.
#[derive(Clone, Debug)]
pub(super) struct Pins(PathBuf);

pub(in crate::redirect) fn failed(path: &Path) -> impl FnOnce(io::Error) -> RedirectError {
    let path = path.to_path_buf();
    move |source| RedirectError::Pin { path, source }
}

impl Pins {
    /// Makes the directories; mounts the bpf file system where it belongs, if that has not been done.
    pub(super) fn make(directory: &Path) -> Result<Self, RedirectError> {
        if directory.starts_with(BPFFS) && !is_bpffs(Path::new(BPFFS)) {
            fs::create_dir_all(BPFFS).map_err(failed(Path::new(BPFFS)))?;
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(Some("bpf"), BPFFS, Some("bpf"), flags, Some("mode=0700"))
                .map_err(|errno| failed(Path::new(BPFFS))(errno.into()))?;
        }
        let pins = Self(directory.to_path_buf());
        for made in [pins.maps(), pins.tags()] {
            fs::create_dir_all(&made).map_err(failed(&made))?;
        }
        if !is_bpffs(directory) {
            return Err(RedirectError::NotBpffs(directory.to_path_buf()));
        }
        pins.refuse_newer()?;
        pins.adopt()?;
        Ok(pins)
    }

    /// The programs of a later version are behind links that this one does not know, and would be left as they are.
    fn refuse_newer(&self) -> Result<(), RedirectError> {
        let entries = fs::read_dir(&self.0).map_err(failed(&self.0))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let version = path
                .file_name()
                .and_then(|name| name.to_str()?.strip_prefix(MAPS)?.parse().ok());
            if version.is_some_and(|version: u32| version > portcullis_abi::VERSION) && path.is_dir() {
                return Err(RedirectError::Newer(self.0.clone()));
            }
        }
        Ok(())
    }

    /// Goes on with the maps of version 1, where it was the last to run.
    fn adopt(&self) -> Result<(), RedirectError> {
        let before = self.0.join(format!("{MAPS}1"));
        for map in SINCE_1 {
            let (from, to) = (before.join(map), self.map(map));
            if from.exists() && !to.exists() {
                fs::hard_link(&from, &to).map_err(failed(&to))?;
            }
        }
        Ok(())
    }

    fn maps(&self) -> PathBuf {
        self.0.join(format!("{MAPS}{}", portcullis_abi::VERSION))
    }

    fn tags(&self) -> PathBuf {
        self.0.join("tags")
    }

    /// A map's pin.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// The pin of the link on the agent's own cgroup.
    pub(super) fn agent_link(&self) -> PathBuf {
        self.0.join(format!("{LINK}{AGENT}"))
    }

    /// The pin of a link that is on the host and not on a cgroup.
    pub(super) fn host_link(&self, program: &str) -> PathBuf {
        self.0.join(format!("{LINK}{program}"))
    }

    /// The directory of one tag's links.
    pub(super) fn tag(&self, id: CgroupId) -> PathBuf {
        self.tags().join(id.0.to_string())
    }

    /// The pin of one tag's link.
    pub(super) fn link(&self, id: CgroupId, program: &str) -> PathBuf {
        self.tag(id).join(format!("{LINK}{program}"))
    }

    /// The tags that have links, whether or not their cgroups still are.
    pub(super) fn tagged(&self) -> Result<Vec<CgroupId>, RedirectError> {
        let tags = self.tags();
        let entries = fs::read_dir(&tags).map_err(failed(&tags))?;
        Ok(entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(CgroupId))
            .collect())
    }

    /// Removes one tag's links, and so detaches its programs.
    pub(super) fn remove_tag(&self, id: CgroupId) -> Result<(), RedirectError> {
        remove(&self.tag(id))
    }

    /// Removes links on the host that are none of `own` programs': those of another layout, once what takes their place is
    /// attached.
    pub(super) fn remove_old_links(&self, own: &[&str]) -> Result<(), RedirectError> {
        let entries = fs::read_dir(&self.0).map_err(failed(&self.0))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = path
                .file_name()
                .and_then(|name| name.to_str()?.strip_prefix(LINK));
            if name.is_some_and(|name| !own.contains(&name)) {
                fs::remove_file(&path).map_err(failed(&path))?;
            }
        }
        Ok(())
    }

    /// Removes maps of other layouts, once no link uses them. In the place of version 1's stays a pin that is no directory:
    /// that version cannot start beside it, and so not put its programs behind some of the links only.
    pub(super) fn remove_old_maps(&self) -> Result<(), RedirectError> {
        let present = self.maps();
        let entries = fs::read_dir(&self.0).map_err(failed(&self.0))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let is_maps = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(MAPS));
            if is_maps && path != present && path.is_dir() {
                remove(&path)?;
            }
        }
        let entries = fs::read_dir(&present).map_err(failed(&present))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let known = |name: &str| super::load::pinned().any(|map| map == name);
            if !path.file_name().and_then(|name| name.to_str()).is_some_and(known) {
                fs::remove_file(&path).map_err(failed(&path))?;
            }
        }
        let stop = self.0.join(format!("{MAPS}1"));
        if !stop.exists() {
            fs::hard_link(self.map("NETNS"), &stop).map_err(failed(&stop))?;
        }
        Ok(())
    }
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

/// Whether pins of `directory` are, or would be once it is made and the usual mount is there, on a bpf file system.
#[must_use]
pub fn can_pin(directory: &Path) -> bool {
    let made = directory.ancestors().find(|path| path.exists());
    made.is_some_and(is_bpffs) || directory.starts_with(BPFFS) && !is_bpffs(Path::new(BPFFS))
}

/// Unpins everything below `pin_dir`: all programs are detached, and workloads are no longer redirected nor guarded.
///
/// # Errors
/// When a pin cannot be removed. A directory that is not there is no error.
pub fn remove(pin_dir: &Path) -> Result<(), RedirectError> {
    for entry in walkdir::WalkDir::new(pin_dir).into_iter().filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with(LINK) {
            // What cannot be opened or detached is detached by its removal, a little later.
            let _later = sys::obj_get(entry.path()).and_then(|link| sys::link_detach(link.as_fd()));
        }
    }
    match fs::remove_dir_all(pin_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(pin_dir)(error)),
        _ => Ok(()),
    }
}
