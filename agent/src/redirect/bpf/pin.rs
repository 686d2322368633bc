//! What is pinned, and where:
//!
//! ```text
//! PIN_DIR/maps-VERSION/MAP          shared by the programs of one agent and the next
//! PIN_DIR/link_agent_ops            the agent's own cgroup
//! PIN_DIR/link_sched_PROG           the host's tracepoints
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
/// What the names of links start with.
const LINK: &str = "link_";

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
        if is_bpffs(directory) {
            Ok(pins)
        } else {
            Err(RedirectError::NotBpffs(directory.to_path_buf()))
        }
    }

    fn maps(&self) -> PathBuf {
        self.0.join(format!("maps-{}", portcullis_abi::VERSION))
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

    /// Removes maps of other layouts, once no link uses them.
    pub(super) fn remove_old_maps(&self) -> Result<(), RedirectError> {
        let present = self.maps();
        let entries = fs::read_dir(&self.0).map_err(failed(&self.0))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let is_maps = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("maps-"));
            if is_maps && path != present {
                remove(&path)?;
            }
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
