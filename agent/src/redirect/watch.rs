//! Follows the cgroup tree by inotify.
//!
//! Every directory is watched: any cgroup may be given the attribute, and any may get a child that a pattern matches.
//! A directory is watched *before* it is read, so that what appears meanwhile is seen once or twice, never not at all.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor},
};
use tokio::{io::unix::AsyncFd, sync::mpsc};

use super::{
    RedirectError, cgroup, sys,
    tags::{Rules, Source, Tag, TagEvent},
};
use crate::model::{CgroupId, WorkloadName};

struct Descriptor(Inotify);

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

struct Known {
    id: CgroupId,
    workload: Option<(WorkloadName, Source)>,
}

/// The tree as it was last seen.
pub(super) struct Watcher {
    mount: PathBuf,
    rules: Rules,
    inotify: AsyncFd<Descriptor>,
    watches: HashMap<WatchDescriptor, PathBuf>,
    /// In the order of paths, so that what is below a directory follows it.
    known: BTreeMap<PathBuf, Known>,
    events: Vec<TagEvent>,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> RedirectError {
    let path = path.to_path_buf();
    move |source| RedirectError::Watch { path, source }
}

impl Watcher {
    /// Reads the tree: the watcher, and the tags there are.
    pub(super) fn new(mount: &Path, rules: Rules) -> Result<(Self, Vec<Tag>), RedirectError> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .map_err(|errno| failed(mount)(errno.into()))?;
        let mut watcher = Self {
            mount: mount.to_path_buf(),
            rules,
            inotify: sys::readable(Descriptor(inotify)).map_err(failed(mount))?,
            watches: HashMap::new(),
            known: BTreeMap::new(),
            events: Vec::new(),
        };
        watcher.visit(mount.to_path_buf())?;
        watcher.events.clear();
        let present = watcher.known.iter().filter_map(|(path, known)| tag(path, known));
        let present = present.collect();
        Ok((watcher, present))
    }

    /// Sends changes until the receiver is gone.
    pub(super) async fn run(mut self, send: mpsc::Sender<TagEvent>) {
        loop {
            let readable = tokio::select! {
                readable = self.inotify.readable() => readable.map(|mut guard| {
                    guard.try_io(|inotify| inotify.get_ref().0.read_events().map_err(Into::into))
                }),
                () = send.closed() => return,
            };
            match readable {
                Ok(Ok(Ok(events))) => self.handle(events),
                // Nothing to read after all.
                Ok(Err(_would_block)) => {}
                Ok(Ok(Err(error))) | Err(error) => {
                    tracing::error!(%error, "changes of the cgroup tree can no longer be followed");
                    return;
                }
            }
            for event in std::mem::take(&mut self.events) {
                if send.send(event).await.is_err() {
                    return;
                }
            }
        }
    }

    fn handle(&mut self, events: Vec<InotifyEvent>) {
        for event in events {
            if let Err(error) = self.handle_one(event) {
                tracing::error!(%error, "part of the cgroup tree is not followed");
            }
        }
    }

    fn handle_one(&mut self, event: InotifyEvent) -> Result<(), RedirectError> {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return self.rescan();
        }
        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            self.watches.remove(&event.wd);
            return Ok(());
        }
        let Some(path) = self.path(event.wd, event.name) else {
            return Ok(());
        };
        if !event.mask.contains(AddWatchFlags::IN_ISDIR) {
            return Ok(());
        }
        if event.mask.contains(AddWatchFlags::IN_CREATE) {
            return self.visit(path);
        }
        if event.mask.contains(AddWatchFlags::IN_DELETE) {
            // Another may have its name by now; its own event comes, too.
            self.forget(&path);
        } else {
            self.examine(&path);
        }
        Ok(())
    }

    fn path(&self, watch: WatchDescriptor, name: Option<OsString>) -> Option<PathBuf> {
        let directory = self.watches.get(&watch)?;
        Some(match name {
            Some(name) => directory.join(name),
            None => directory.clone(),
        })
    }

    /// Events were lost: compares everything.
    fn rescan(&mut self) -> Result<(), RedirectError> {
        let gone: Vec<PathBuf> = self.known.keys().filter(|path| !path.exists()).cloned().collect();
        for path in gone {
            self.forget(&path);
        }
        self.visit(self.mount.clone())
    }

    /// Watches and examines a directory and what is below. One that has gone meanwhile is no error.
    fn visit(&mut self, top: PathBuf) -> Result<(), RedirectError> {
        let mask = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_ONLYDIR;
        let mut waiting = vec![top];
        while let Some(path) = waiting.pop() {
            match self.inotify.get_ref().0.add_watch(&path, mask) {
                Ok(watch) => self.watches.insert(watch, path.clone()),
                Err(Errno::ENOENT | Errno::ENOTDIR) => {
                    self.forget(&path);
                    continue;
                }
                Err(errno) => return Err(failed(&path)(errno.into())),
            };
            self.examine(&path);
            let children = fs::read_dir(&path).into_iter().flatten().filter_map(Result::ok);
            waiting.extend(
                children
                    .filter(|child| child.file_type().is_ok_and(|kind| kind.is_dir()))
                    .map(|child| child.path()),
            );
        }
        Ok(())
    }

    /// Compares a directory with what is known of it.
    fn examine(&mut self, path: &Path) {
        let Ok(id) = cgroup::id(path) else {
            return self.forget(path);
        };
        // It has been removed and made again.
        if self.known.get(path).is_some_and(|known| known.id != id) {
            self.forget(path);
        }
        let below = path.strip_prefix(&self.mount).unwrap_or(path);
        let known = Known {
            id,
            workload: self.rules.workload(path, below),
        };
        let (before, now) = (
            self.known.get(path).and_then(|known| tag(path, known)),
            tag(path, &known),
        );
        self.known.insert(path.to_path_buf(), known);
        match (before, now) {
            (before, Some(now)) if before.as_ref() != Some(&now) => self.events.push(TagEvent::Added(now)),
            (Some(tag), None) => self.events.push(TagEvent::Removed { tag, gone: false }),
            _ => {}
        }
    }

    /// Drops a directory and what is below it, which has gone.
    fn forget(&mut self, top: &Path) {
        let gone: Vec<PathBuf> = self
            .known
            .range(top.to_path_buf()..)
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(top))
            .cloned()
            .collect();
        for path in gone {
            if let Some(tag) = self.known.remove(&path).and_then(|known| tag(&path, &known)) {
                self.events.push(TagEvent::Removed { tag, gone: true });
            }
        }
    }
}

fn tag(path: &Path, known: &Known) -> Option<Tag> {
    let (workload, source) = known.workload.clone()?;
    Some(Tag {
        path: path.to_path_buf(),
        id: known.id,
        workload,
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any tree will do: directories have inode numbers everywhere.
    #[tokio::test]
    async fn lost_events_are_made_up_for() {
        let top = tempfile::tempdir().unwrap();
        let (kept, gone, replaced) = (
            top.path().join("w-kept"),
            top.path().join("w-gone"),
            top.path().join("w-replaced"),
        );
        for path in [&kept, &gone, &replaced] {
            fs::create_dir(path).unwrap();
        }
        let rules = Rules::new(vec![(WorkloadName::new("w").unwrap(), "/w-*".into())]).unwrap();
        let (mut watcher, present) = Watcher::new(top.path(), rules).unwrap();
        assert_eq!(present.len(), 3);

        let before = cgroup::id(&replaced).unwrap();
        fs::remove_dir(&gone).unwrap();
        // Made before the old one goes, so that it cannot be given the same inode.
        fs::create_dir(top.path().join("other")).unwrap();
        fs::remove_dir(&replaced).unwrap();
        fs::rename(top.path().join("other"), &replaced).unwrap();
        let new = top.path().join("w-new");
        fs::create_dir(&new).unwrap();
        watcher.rescan().unwrap();

        let mut said: Vec<(bool, PathBuf)> = watcher
            .events
            .iter()
            .map(|event| match event {
                TagEvent::Added(tag) => (true, tag.path.clone()),
                TagEvent::Removed { tag, gone } => {
                    assert!(gone);
                    assert!(tag.path != replaced || tag.id == before);
                    (false, tag.path.clone())
                }
            })
            .collect();
        said.sort();
        let expected = [
            (false, gone),
            (false, replaced.clone()),
            (true, new),
            (true, replaced),
        ];
        assert_eq!(said, expected);
    }
}
