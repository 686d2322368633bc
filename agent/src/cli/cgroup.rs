//! A fresh cgroup for one command: made and tagged, emptied and removed.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Component, Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::model::{CgroupId, WorkloadName};

/// The extended attribute that tags a cgroup; the daemon reads it when it starts, too.
pub const TAG: &str = "trusted.portcullis.workload";
/// Where cgroups are made unless told otherwise, below the cgroup2 mount.
pub const PARENT: &str = "/portcullis-run";

/// A cgroup that this process made.
#[derive(Debug)]
pub struct FreshCgroup {
    /// Its directory.
    pub dir: PathBuf,
    /// Its path below the cgroup2 mount, from `/`.
    pub path: String,
    /// Its id, as the kernel knows it.
    pub id: CgroupId,
}

/// The cgroup2 mount: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on a hybrid layout.
///
/// # Errors
/// When there is none.
pub fn mount_point() -> io::Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    find_mount(&text).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "no cgroup2 file system is mounted (see cgroups(7))",
        )
    })
}

/// The first mount of a whole cgroup2 hierarchy in a mountinfo text (proc_pid_mountinfo(5)).
fn find_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let mut fields = front.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (back.split(' ').next()? == "cgroup2" && root == "/").then(|| PathBuf::from(point))
    })
}

impl FreshCgroup {
    /// Makes `PARENT/NAME-RANDOM` and tags it.
    ///
    /// # Errors
    /// When `parent` is not an absolute path without `..`, or the cgroup cannot be made or tagged (needs root).
    pub fn create(mount: &Path, parent: &str, name: &WorkloadName) -> io::Result<Self> {
        let relative = parent
            .strip_prefix('/')
            .map(Path::new)
            .filter(|p| p.components().all(|c| matches!(c, Component::Normal(_))));
        let Some(relative) = relative else {
            let message = format!(
                "'{parent}' is no cgroup: give an absolute path below {}",
                mount.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        };
        let inside = relative.join(format!("{name}-{}", hex::encode(rand::random::<[u8; 4]>())));
        let dir = mount.join(&inside);
        // The parent may go between the two, with another run's last cgroup in it.
        let mut tries = 0;
        while let Err(e) = fs::create_dir_all(mount.join(relative)).and_then(|()| fs::create_dir(&dir)) {
            tries += 1;
            if e.kind() != io::ErrorKind::NotFound || tries == 10 {
                return Err(e);
            }
        }
        let tagged = xattr::set(&dir, TAG, name.as_str().as_bytes()).and_then(|()| fs::metadata(&dir));
        match tagged {
            Ok(meta) => {
                let path = format!("/{}", inside.display());
                Ok(Self {
                    dir,
                    path,
                    id: CgroupId(meta.ino()),
                })
            }
            Err(e) => {
                let _ = fs::remove_dir(&dir);
                Err(io::Error::new(
                    e.kind(),
                    format!("cannot tag {}: {e}", dir.display()),
                ))
            }
        }
    }

    /// One that an earlier process made, by its `cgroup.procs`; `None` when it is gone.
    #[must_use]
    pub fn left_behind(procs: &Path, path: String) -> Option<Self> {
        let dir = procs.parent()?.to_path_buf();
        let id = CgroupId(fs::metadata(&dir).ok()?.ino());
        Some(Self { dir, path, id })
    }

    /// The file that moves a process in.
    #[must_use]
    pub fn procs(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }

    /// How many processes are in it or below.
    #[must_use]
    pub fn count(&self) -> usize {
        self.walk().iter().map(|dir| pids(dir).len()).sum()
    }

    /// Kills what is left and waits until nothing is, at most `limit`. Says whether it is empty.
    #[must_use]
    pub fn kill_all(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            if self.is_empty() {
                return true;
            }
            // Since Linux 5.14; before, one by one, again and again, for what forks meanwhile.
            if fs::write(self.dir.join("cgroup.kill"), "1").is_err() {
                for pid in self.walk().iter().flat_map(|dir| pids(dir)) {
                    let _ = kill(pid, Signal::SIGKILL);
                }
            }
            if Instant::now() >= end {
                return self.is_empty();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Removes it and what is below, and the parent if that is ours and empty.
    ///
    /// # Errors
    /// When something is still in it.
    pub fn remove(&self) -> io::Result<()> {
        for dir in self.walk().iter().rev() {
            remove_patiently(dir)?;
        }
        if let Some(parent) = self
            .dir
            .parent()
            .filter(|p| p.ends_with(PARENT.trim_start_matches('/')))
        {
            let _ = fs::remove_dir(parent);
        }
        Ok(())
    }

    /// Whether no process is in it or below.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match fs::read_to_string(self.dir.join("cgroup.events")) {
            Ok(events) => events.lines().any(|line| line == "populated 0"),
            Err(e) => e.kind() == io::ErrorKind::NotFound,
        }
    }

    /// It and every cgroup below, parents first.
    fn walk(&self) -> Vec<PathBuf> {
        walkdir::WalkDir::new(&self.dir)
            .into_iter()
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_dir())
            .map(walkdir::DirEntry::into_path)
            .collect()
    }
}

/// Removes a cgroup's directory; the kernel says busy for a moment after the last process has gone.
fn remove_patiently(dir: &Path) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match fs::remove_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy && tries < 100 => tries += 1,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => return other,
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn pids(dir: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.parse().ok())
        .filter(|pid| *pid > 1)
        .map(Pid::from_raw)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_are_found() {
        let unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(find_mount(unified), Some("/sys/fs/cgroup".into()));
        let hybrid = "31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      30 23 0:26 /some/part /mnt rw - cgroup2 none rw\n\
                      32 30 0:26 / /sys/fs/cgroup/unified rw master:1 - cgroup2 cgroup2 rw";
        assert_eq!(find_mount(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(find_mount("31 30 0:27 / /x rw - cgroup cgroup rw"), None);
    }

    #[test]
    fn parents_stay_below_the_mount() {
        let dir = tempfile::tempdir().unwrap();
        let name = WorkloadName::new("bot").unwrap();
        for bad in ["relative", "/../etc", "/a/../../b", ""] {
            let error = FreshCgroup::create(dir.path(), bad, &name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{bad}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
