//! What a disk may have after the power was cut.
//!
//! What was synced is there. Of the rest, each sector of 512 bytes is as it was after any of the writes to it since, or
//! before all of them; a file's size likewise; a name is there or not, whatever became of the names beside it. A sync of
//! a file is none of its name: that takes a sync of the directory.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use rand::{Rng as _, rngs::StdRng};

use super::{
    log::Act,
    sectors::{Change, Fate, File},
};

/// What a name stands for.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    File(usize),
    Link(String),
    Dir,
}

/// Names that change in one step.
type Names = Vec<(String, Option<Node>)>;

#[derive(Clone, Default)]
struct Dir {
    durable: BTreeMap<String, Node>,
    pending: Vec<(u64, Names)>,
}

/// Everything below one directory, and what of it is durable.
#[derive(Clone, Default)]
pub struct Disk {
    files: Vec<File>,
    /// By path; the top one's is empty.
    dirs: BTreeMap<String, Dir>,
    /// What the process that writes calls its files.
    inodes: HashMap<u64, usize>,
    now: u64,
}

/// How the unsynced things fare at one cut.
#[derive(Clone, Debug)]
pub enum Plan {
    /// All the same.
    Same(Fate),
    /// Each file and directory has a fate of its own.
    Mixed,
}

impl Plan {
    /// Nothing is lost: the power was not cut.
    pub fn everything() -> Self {
        Self::Same(Fate::All)
    }

    /// Any of them.
    pub fn any(random: &mut StdRng, disk: &Disk) -> Self {
        match random.random_range(0..6) {
            0 => Self::Same(Fate::Nothing),
            1 => Self::Same(Fate::All),
            2..4 => Self::Same(Fate::any(random, disk.oldest()..disk.now + 1)),
            _ => Self::Mixed,
        }
    }

    fn fate(&self, random: &mut StdRng, disk: &Disk) -> Fate {
        match self {
            Self::Same(fate) => fate.clone(),
            Self::Mixed => Fate::any(random, disk.oldest()..disk.now + 1),
        }
    }
}

impl Disk {
    /// A directory, all of it durable.
    pub fn load(top: &Path) -> Result<Self> {
        let mut disk = Self::default();
        disk.load_dir(top, String::new())?;
        Ok(disk)
    }

    fn load_dir(&mut self, top: &Path, at: String) -> Result<()> {
        let mut dir = Dir::default();
        for item in fs::read_dir(top.join(&at))? {
            let item = item?;
            let name = item.file_name().to_string_lossy().into_owned();
            let path = join(&at, &name);
            let kind = item.file_type()?;
            let node = if kind.is_dir() {
                self.load_dir(top, path)?;
                Node::Dir
            } else if kind.is_symlink() {
                Node::Link(fs::read_link(item.path())?.to_string_lossy().into())
            } else {
                self.inodes.insert(item.metadata()?.ino(), self.files.len());
                self.files.push(File::durable(fs::read(item.path())?));
                Node::File(self.files.len() - 1)
            };
            dir.durable.insert(name, node);
        }
        self.dirs.insert(at, dir);
        Ok(())
    }

    /// The time of the first thing that is not durable.
    fn oldest(&self) -> u64 {
        let names = self.dirs.values().filter_map(|d| d.pending.first()).map(|p| p.0);
        let bytes = self.files.iter().filter_map(File::oldest);
        names.chain(bytes).min().unwrap_or(self.now)
    }

    /// From now on the process finds its files here, under other inodes.
    pub fn found_at(&mut self, inodes: &HashMap<u64, usize>) {
        self.inodes.clone_from(inodes);
    }

    /// Does what the process did.
    pub fn act(&mut self, act: &Act) -> Result<()> {
        self.now += 1;
        match act {
            Act::Create { name, inode } => {
                self.inodes.insert(*inode, self.files.len());
                let node = Node::File(self.files.len());
                self.files.push(File::default());
                self.rename(&[(name, Some(node))])
            }
            Act::MakeDir { name } => {
                self.dirs.insert(name.clone(), Dir::default());
                self.rename(&[(name, Some(Node::Dir))])
            }
            Act::Link { name, target } => self.rename(&[(name, Some(Node::Link(target.clone())))]),
            Act::Unlink { name } => self.rename(&[(name, None)]),
            Act::Rename { from, to } => {
                let node = self.lookup(from).with_context(|| format!("{from} is renamed"))?;
                self.rename(&[(from, None), (to, Some(node))])
            }
            Act::Write { inode, at, bytes } => {
                let change = Change::Write(*at, Arc::clone(bytes));
                self.change(*inode, change)
            }
            Act::Truncate { inode, size } => self.change(*inode, Change::Size(*size)),
            Act::Sync { inode } => {
                let file = self.inodes.get(inode).context("an unknown file is synced")?;
                self.files[*file].sync();
                Ok(())
            }
            Act::SyncDir { name } => {
                let dir = self
                    .dirs
                    .get_mut(name)
                    .context("an unknown directory is synced")?;
                for (_, names) in std::mem::take(&mut dir.pending) {
                    set(&mut dir.durable, names);
                }
                Ok(())
            }
            Act::Said { .. } => Ok(()),
        }
    }

    fn change(&mut self, inode: u64, change: Change) -> Result<()> {
        let file = self.inodes.get(&inode).context("an unknown file is written")?;
        self.files[*file].change(self.now, change);
        Ok(())
    }

    fn rename(&mut self, names: &[(&str, Option<Node>)]) -> Result<()> {
        let dir = names.first().map_or("", |n| split(n.0).0);
        ensure!(
            names.iter().all(|n| split(n.0).0 == dir),
            "a name changes its directory"
        );
        let names = names
            .iter()
            .map(|(n, node)| (split(n).1.to_owned(), node.clone()));
        let pending = (self.now, names.collect());
        self.dirs
            .get_mut(dir)
            .with_context(|| format!("directory '{dir}' is unknown"))?
            .pending
            .push(pending);
        Ok(())
    }

    fn lookup(&self, name: &str) -> Option<Node> {
        let (dir, name) = split(name);
        let dir = self.dirs.get(dir)?;
        dir.names(|_| true).remove(name)
    }

    /// Makes the directory as it could be after a cut; tells where its files are then.
    pub fn make(&self, top: &Path, plan: &Plan, random: &mut StdRng) -> Result<HashMap<u64, usize>> {
        let mut inodes = HashMap::new();
        self.make_dir(top, "", plan, random, &mut inodes)?;
        Ok(inodes)
    }

    fn make_dir(
        &self,
        top: &Path,
        at: &str,
        plan: &Plan,
        random: &mut StdRng,
        inodes: &mut HashMap<u64, usize>,
    ) -> Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(top.join(at))?;
        let dir = self
            .dirs
            .get(at)
            .with_context(|| format!("directory '{at}' is unknown"))?;
        let fate = plan.fate(random, self);
        for (name, node) in dir.names(|time| fate.keeps(time, random)) {
            let path = join(at, &name);
            match node {
                Node::Dir => self.make_dir(top, &path, plan, random, inodes)?,
                Node::Link(target) => std::os::unix::fs::symlink(target, top.join(path))?,
                Node::File(file) => {
                    let bytes = if name.ends_with("-shm") {
                        garbage(random)
                    } else {
                        let fate = plan.fate(random, self);
                        self.files[file].contents(&fate, random)
                    };
                    let mut options = fs::OpenOptions::new();
                    let mut made = options
                        .write(true)
                        .create_new(true)
                        .mode(0o600)
                        .open(top.join(path))?;
                    made.write_all(&bytes)?;
                    inodes.insert(made.metadata()?.ino(), file);
                }
            }
        }
        Ok(())
    }
}

impl Dir {
    fn names(&self, mut keep: impl FnMut(u64) -> bool) -> BTreeMap<String, Node> {
        let mut names = self.durable.clone();
        for (time, change) in &self.pending {
            if keep(*time) {
                set(&mut names, change.clone());
            }
        }
        names
    }
}

fn set(names: &mut BTreeMap<String, Node>, change: Names) {
    for (name, node) in change {
        match node {
            Some(node) => names.insert(name, node),
            None => names.remove(&name),
        };
    }
}

/// What is left of a file that nobody syncs, and nobody may rely on.
fn garbage(random: &mut StdRng) -> Vec<u8> {
    let mut bytes = vec![0; random.random_range(0..3) * 32_768];
    if random.random() {
        random.fill(bytes.as_mut_slice());
    }
    bytes
}

fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() {
        name.into()
    } else {
        format!("{dir}/{name}")
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}
