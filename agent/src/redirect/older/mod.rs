//! Sockets that are older than the tag: made in the cgroup before it was tagged, or brought along by a process that came
//! in later; and what else is older than it and gets around the hooks (`beside.rs`), for which its holder is ended just so.
//!
//! A socket keeps the cgroup of its making. One that was made *inside* meets every hook of the workload from the tag on,
//! but no hook asks about a connection that it has already: the connection is destroyed, and the next one is decided. One
//! that was made *outside* meets no hook, ever. To destroy its connection is not enough, for it can be connected anew
//! (tried: connect(2) to AF_UNSPEC, then to anywhere): so who has one is ended, unless the configuration says otherwise.
//!
//! Bounds, stated in what is reported: a socket that a process outside has too is not destroyed, since it is that
//! process's as well; and where every descriptor of it is closed by an exec, as between the fork and the exec of whoever
//! starts a service, it is looked at again before anybody is ended.

mod beside;
mod decide;
mod diag;
mod held;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    io,
    net::UdpSocket,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

use portcullis_abi::guard::flag;

use self::{
    beside::{Thing, Unless},
    diag::{Diag, LISTEN, Listed, Protocol},
    held::{Held, Kind, Made, Namespaces, Process, Wanted},
};
use super::cgroup;
use crate::config::Brought;

/// Sockets of one process that are named; beyond them there is a number.
pub const NAMED: usize = 32;
/// Looks until one finds nothing to do: what is being made during one is there in the next.
const LOOKS: usize = 4;

/// Whose sockets, and what is to become of them.
pub(super) struct Ask<'a> {
    /// The tagged cgroup's directory.
    pub(super) directory: &'a Path,
    /// Whether the tag is new: then what was made inside is looked at, too.
    pub(super) first: bool,
    /// The agent's port, as connected to by what was redirected.
    pub(super) port: u16,
    /// What the workload's guard allows ([`flag`]).
    pub(super) flags: u64,
    /// What becomes of sockets made outside, and of who has them.
    pub(super) brought: Brought,
}

/// Processes of a workload that matter more than others at a look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// Those that came in since the look before, and that were [`Looked::passing`] at it: they may have been sent
    /// descriptors that nobody has received yet.
    pub came: BTreeSet<u32>,
    /// Those that have been passing for long enough.
    pub late: BTreeSet<u32>,
}

/// A socket, or another thing that gets around the hooks, as it is told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OlderSocket {
    /// `tcp`, `udp`, `raw`, `packet` and the like; for what is no socket `io_uring`, `perf_event`, `userfaultfd`,
    /// `seccomp notify`, `mem`, `ptrace`, `bpf`, `tun`, `vhost or tap`, `in flight`.
    pub kind: String,
    /// Where it was made: `inside` the tagged cgroup, or `outside`; `unknown` where nothing says so.
    pub made: String,
    /// Its own address; nothing where it is neither bound nor connected.
    pub local: Option<String>,
    /// Whom it was connected to, if to anybody.
    pub remote: Option<String>,
    /// Why it was not destroyed, if it was not.
    pub left: Option<String>,
}

/// Whom a process comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its number.
    pub pid: u32,
    /// When it started, nanoseconds since boot, to a clock tick.
    pub start_ns: u64,
    /// What it runs.
    pub exe: Option<String>,
}

/// What became of one process's older sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The process; 0 for sockets that no process of the workload has open (any more).
    pub pid: u32,
    /// When it started, nanoseconds since boot, to a clock tick.
    pub start_ns: u64,
    /// Its name, as the kernel has it (15 bytes).
    pub command: String,
    /// What it runs.
    pub exe: Option<String>,
    /// Whom it comes from, the nearest first, as far as they live: eight at most.
    pub parents: Vec<Parent>,
    /// How many were destroyed.
    pub destroyed: u64,
    /// How many were not.
    pub left: u64,
    /// The first [`NAMED`] of both.
    pub sockets: Vec<OlderSocket>,
    /// Whether the process was ended.
    pub ended: bool,
    /// What could not be found out or done, if anything.
    pub error: Option<String>,
}

/// What came of looking.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// The processes that had any, in order of their numbers.
    pub processes: Vec<Settled>,
    /// Processes to be looked at once more: they may be between a fork and an exec, or receive what they were sent.
    pub passing: BTreeSet<u32>,
    /// What could not be found out, if anything: then there may be more.
    pub error: Option<String>,
}

/// Looks, destroys and ends.
pub(super) fn settle(ask: &Ask<'_>, who: &Who) -> Looked {
    let mut account = Account::default();
    let mut passing = BTreeSet::new();
    for _ in 0..LOOKS {
        let mut look = Look::new(ask, &who.came);
        let done = look.settle(&who.late, &mut account);
        let all = look.processes.iter().filter(|process| look.passes(process));
        passing = all.map(|process| process.pid).collect();
        if !done {
            break;
        }
    }
    Looked {
        processes: account.processes.into_values().collect(),
        passing,
        error: account.error,
    }
}

/// What was done in all looks.
#[derive(Default)]
struct Account {
    processes: BTreeMap<u32, Settled>,
    /// Inodes of sockets that are counted already.
    counted: BTreeSet<u64>,
    /// What is no socket, by its process.
    told: BTreeSet<(u32, &'static str, u64)>,
    error: Option<String>,
}

impl Account {
    fn of(&mut self, process: &Process) -> &mut Settled {
        self.processes.entry(process.pid).or_insert_with(|| Settled {
            pid: process.pid,
            start_ns: process.start_ns,
            command: process.command.clone(),
            exe: held::exe(process.pid),
            parents: held::parents(process.pid),
            ..Settled::default()
        })
    }
}

/// One look at a cgroup's processes.
struct Look<'a> {
    ask: &'a Ask<'a>,
    /// The cgroups at and below the tag.
    cgroups: BTreeSet<u64>,
    processes: Vec<Process>,
    /// Where in `processes` a socket is: the process, and its socket.
    by_cookie: HashMap<u64, (usize, usize)>,
    /// The same for those that could not be had.
    by_inode: HashMap<u64, (usize, usize)>,
    namespaces: Namespaces,
    /// Inodes of sockets made outside that a process outside has, too.
    shared: BTreeSet<u64>,
}

impl<'a> Look<'a> {
    fn new(ask: &'a Ask<'a>, came: &BTreeSet<u32>) -> Self {
        let (mut cgroups, mut processes, mut namespaces) = (BTreeSet::new(), Vec::new(), Namespaces::new());
        for (id, directory) in cgroup::tree(ask.directory) {
            cgroups.insert(id.0);
            // One that cannot be read is a threaded one, whose processes its domain lists, or has gone.
            let pids = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            for pid in pids.lines().filter_map(|line| line.parse().ok()) {
                let wanted = Wanted {
                    flags: ask.flags,
                    in_flight: ask.first || came.contains(&pid),
                };
                processes.extend(Process::look(pid, wanted, &mut namespaces));
                if ask.first
                    && let Ok(file) = File::open(format!("/proc/{pid}/ns/net"))
                {
                    held::keep(&mut namespaces, file.into());
                }
            }
        }
        if ask.first
            && let Ok(file) = File::open("/proc/thread-self/ns/net")
        {
            held::keep(&mut namespaces, file.into());
        }
        beside_own(&mut processes);
        if ask.flags & flag::TRACE == 0 {
            find_traced(&mut processes);
        }
        let (mut by_cookie, mut by_inode) = (HashMap::new(), HashMap::new());
        for (n, process) in processes.iter().enumerate() {
            // Without a number it is nobody's in the list.
            for (at, held) in process
                .sockets
                .iter()
                .enumerate()
                .filter(|(_, held)| held.inode != 0)
            {
                match held.cookie {
                    0 => by_inode.entry(held.inode).or_insert((n, at)),
                    cookie => by_cookie.entry(cookie).or_insert((n, at)),
                };
            }
        }
        Self {
            ask,
            cgroups,
            processes,
            by_cookie,
            by_inode,
            namespaces,
            shared: BTreeSet::new(),
        }
    }

    /// Whether anything was done. What the kernel does not list was made outside, for all that is known.
    fn settle(&mut self, late: &BTreeSet<u32>, account: &mut Account) -> bool {
        let mut listed = Vec::new();
        for (inode, namespace) in &self.namespaces {
            match self.list(namespace) {
                Ok(found) => listed.extend(found.into_iter().map(|one| (*inode, one))),
                Err(error) => account.error = Some(format!("sockets cannot be listed: {error}")),
            }
        }
        self.resolve(&listed);
        self.find_shared();
        // What is destroyed wakes whoever waits for it, who must not use another in the time that is left.
        let stopped = self
            .processes
            .iter()
            .filter(|process| self.is_to_be_ended(process, late));
        for process in stopped {
            // Gone, it does nothing either.
            let _gone = process.stop();
        }
        let mut done = false;
        match self.destroy(listed, account) {
            Ok(destroyed) => done |= destroyed,
            Err(error) => account.error = Some(format!("sockets cannot be destroyed: {error}")),
        }
        for process in &self.processes {
            done |= self.end(process, late, account);
        }
        done
    }

    fn list(&self, namespace: &OwnedFd) -> io::Result<Vec<Listed>> {
        diag::within(namespace.try_clone()?, |diag| {
            diag.list(|listed| self.concerns(listed))
        })
    }

    /// Whether a listed socket is one to know of.
    fn concerns(&self, listed: &Listed) -> bool {
        self.ask.first && listed.cgroup.is_some_and(|id| self.cgroups.contains(&id))
            || self
                .holder(listed)
                .is_some_and(|(_, held)| held.made != Made::Inside)
    }

    /// The first process that has it.
    fn holder(&self, listed: &Listed) -> Option<(&Process, &Held)> {
        let by_cookie = self.by_cookie.get(&listed.cookie);
        let (process, held) = by_cookie.or_else(|| self.by_inode.get(&u64::from(listed.inode)))?;
        let process = self.processes.get(*process)?;
        Some((process, process.sockets.get(*held)?))
    }

    /// Where no hook could be asked, the kernel's list says where a socket was made; what it does not have was made
    /// outside, for all that is known.
    fn resolve(&mut self, listed: &[(u64, Listed)]) {
        let inside: BTreeSet<u64> = listed
            .iter()
            .filter(|(_, one)| one.cgroup.is_some_and(|id| self.cgroups.contains(&id)))
            .map(|(_, one)| u64::from(one.inode))
            .collect();
        let sockets = self.processes.iter_mut().flat_map(|process| &mut process.sockets);
        for held in sockets.filter(|held| held.made == Made::Unknown && matches!(held.kind, Kind::Inet(_))) {
            held.made = if inside.contains(&held.inode) {
                Made::Inside
            } else {
                Made::Outside
            };
        }
    }

    /// Looks who else has them: only where there are any, for it is a look at every process of the host.
    fn find_shared(&mut self) {
        let sockets = self.processes.iter().flat_map(|process| &process.sockets);
        let outside: BTreeSet<u64> = sockets
            .filter(|held| self.is_brought(held))
            .map(|held| held.inode)
            .collect();
        if outside.is_empty() {
            return;
        }
        let own: BTreeSet<u32> = self.processes.iter().map(|process| process.pid).collect();
        let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
        for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
            if own.contains(&pid) {
                continue;
            }
            let theirs = held::sockets(&Path::new("/proc").join(pid.to_string()));
            self.shared.extend(theirs.filter(|inode| outside.contains(inode)));
        }
    }

    fn destroy(&self, listed: Vec<(u64, Listed)>, account: &mut Account) -> io::Result<bool> {
        let mut by_namespace: BTreeMap<u64, Vec<Listed>> = BTreeMap::new();
        for (namespace, one) in listed.into_iter().filter(|(_, one)| self.is_to_end(one)) {
            by_namespace.entry(namespace).or_default().push(one);
        }
        let mut done = false;
        for (inode, sockets) in by_namespace {
            let Some(namespace) = self.namespaces.get(&inode) else {
                continue;
            };
            let results = diag::within(namespace.try_clone()?, |diag| {
                Ok(sockets.iter().map(|one| diag.destroy(one)).collect::<Vec<_>>())
            })?;
            for (one, result) in sockets.iter().zip(results) {
                let holder = self.holder(one);
                let new = account.counted.insert(u64::from(one.inode)) || one.inode == 0;
                let settled = match holder {
                    Some((process, _)) => account.of(process),
                    None => account.processes.entry(0).or_default(),
                };
                let outside = holder.is_some_and(|(_, held)| brought(held));
                let left = match result {
                    Ok(false) => continue,
                    Ok(true) => {
                        done = true;
                        settled.destroyed += 1;
                        None
                    }
                    Err(error) => {
                        settled.left += u64::from(new);
                        settled.error = Some(format!("a socket cannot be destroyed: {error}"));
                        settled.error.clone()
                    }
                };
                if new {
                    name(settled, told(one, outside, left));
                }
            }
        }
        Ok(done)
    }

    fn is_to_end(&self, listed: &Listed) -> bool {
        match self.holder(listed) {
            Some((_, held)) if brought(held) => {
                listed.protocol != Protocol::Raw
                    && self.ask.brought != Brought::Allow
                    && !self.shared.contains(&held.inode)
            }
            _ => self.ask.first && !decide::stays(listed, self.ask.port),
        }
    }

    /// Ends a process for what it has brought. Whether it did.
    fn end(&self, process: &Process, late: &BTreeSet<u32>, account: &mut Account) -> bool {
        let unread = process
            .unread
            .as_ref()
            .filter(|_| self.ask.brought != Brought::Allow);
        let has: Vec<&Held> = process
            .sockets
            .iter()
            .filter(|held| self.is_brought(held))
            .collect();
        let nothing = has.is_empty() && process.beside.is_empty();
        if nothing && unread.is_none() || self.is_waited_for(process, late) {
            return false;
        }
        let left: Vec<&Held> = has
            .iter()
            .copied()
            .filter(|held| account.counted.insert(held.inode))
            .collect();
        let beside: Vec<&Thing> = process
            .beside
            .iter()
            .filter(|thing| {
                let (kind, number) = thing.id();
                account.told.insert((process.pid, kind, number))
            })
            .collect();
        let settled = account.of(process);
        if let Some(why) = unread {
            settled.error = Some(format!("its sockets cannot be looked at: {why}"));
        }
        settled.left += (left.len() + beside.len()) as u64;
        let sockets = left.into_iter().map(|held| self.kept(held));
        for one in sockets.chain(beside.into_iter().map(not_a_socket)) {
            name(settled, one);
        }
        if settled.ended || !self.is_to_be_ended(process, late) {
            return false;
        }
        match process.kill() {
            Ok(()) => settled.ended = true,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => settled.ended = true,
            Err(error) => settled.error = Some(format!("it cannot be ended: {error}")),
        }
        settled.ended
    }

    fn is_waited_for(&self, process: &Process, late: &BTreeSet<u32>) -> bool {
        self.passes(process) && !late.contains(&process.pid)
    }

    fn is_to_be_ended(&self, process: &Process, late: &BTreeSet<u32>) -> bool {
        self.ask.brought == Brought::End
            && (!process.beside.is_empty() || process.sockets.iter().any(|held| self.is_brought(held)))
            && !self.is_waited_for(process, late)
    }

    fn is_brought(&self, held: &Held) -> bool {
        brought(held) || matches!(held.kind, Kind::Unseen(_)) && self.ask.flags & flag::FAMILIES == 0
    }

    /// Whether all that it has brought is somebody else's and closed by the exec that is to come, or yet to be received.
    fn passes(&self, process: &Process) -> bool {
        let beside = process.beside.iter().map(|thing| thing.passing);
        let sockets = process.sockets.iter().filter(|held| self.is_brought(held));
        let mut has = sockets
            .map(|held| held.passing && self.shared.contains(&held.inode))
            .chain(beside)
            .peekable();
        has.peek().is_some() && has.all(|passing| passing)
    }

    fn kept(&self, held: &Held) -> OlderSocket {
        let (kind, made, why) = match &held.kind {
            Kind::Unseen(family) => (family.as_str(), "unknown", "no hook sees sockets of its family"),
            Kind::Inet(kind) if self.shared.contains(&held.inode) => {
                (*kind, "outside", "a process outside has it, too")
            }
            Kind::Inet(kind) => (*kind, "outside", "no list has it, and it can be used yet"),
            Kind::Local => ("local", "unknown", ""),
        };
        OlderSocket {
            kind: kind.into(),
            made: made.into(),
            local: None,
            remote: None,
            left: Some(why.into()),
        }
    }
}

/// Leaves out what is of the workload itself.
fn beside_own(processes: &mut [Process]) {
    let mut beside = processes.iter().flat_map(|process| &process.beside);
    if beside.all(|thing| thing.unless == Unless::Never) {
        return;
    }
    let memory = |process: &Process| fs::metadata(format!("/proc/{}/mem", process.pid)).ok();
    let memories: BTreeSet<u64> = processes
        .iter()
        .filter_map(memory)
        .map(|found| found.ino())
        .collect();
    let threads: BTreeSet<u32> = processes
        .iter()
        .flat_map(|process| &process.threads)
        .copied()
        .collect();
    for process in processes {
        process.beside.retain(|thing| match thing.unless {
            Unless::Never => true,
            Unless::Memory(inode) => !memories.contains(&inode),
            Unless::Thread(thread) => !threads.contains(&thread),
        });
    }
}

/// Finds those that trace a process outside.
fn find_traced(processes: &mut [Process]) {
    if processes.is_empty() {
        return;
    }
    let pids: BTreeSet<u32> = processes.iter().map(|process| process.pid).collect();
    let threads: BTreeSet<u32> = processes
        .iter()
        .flat_map(|process| &process.threads)
        .copied()
        .collect();
    for (tracer, traced) in beside::traced(&pids, &threads) {
        let process = processes
            .iter_mut()
            .find(|process| process.threads.contains(&tracer));
        if let Some(process) = process {
            process.beside.push(Thing::traced(traced));
        }
    }
}

fn not_a_socket(thing: &Thing) -> OlderSocket {
    OlderSocket {
        kind: thing.kind.into(),
        made: "unknown".into(),
        local: None,
        remote: None,
        left: Some(thing.why.into()),
    }
}

/// Whether a socket was made outside, of those that hooks are for.
fn brought(held: &Held) -> bool {
    held.made == Made::Outside && matches!(held.kind, Kind::Inet(_))
}

fn name(settled: &mut Settled, socket: OlderSocket) {
    if settled.sockets.len() < NAMED {
        settled.sockets.push(socket);
    }
}

fn told(listed: &Listed, outside: bool, left: Option<String>) -> OlderSocket {
    let listens = listed.protocol == Protocol::Tcp && listed.state == LISTEN;
    OlderSocket {
        kind: listed.protocol.as_str().into(),
        made: if outside { "outside" } else { "inside" }.into(),
        local: Some(listed.local.to_string()),
        remote: listed
            .remote
            .filter(|_| !listens)
            .map(|remote| remote.to_string()),
        left,
    }
}

/// Whether this kernel destroys sockets: tried on two of this process's own, on loopback.
#[must_use]
pub(super) fn destroys() -> bool {
    let tried = || -> io::Result<bool> {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0")?;
        let udp = UdpSocket::bind("127.0.0.1:0")?;
        udp.connect("127.0.0.1:9")?;
        let own = [
            socket2::SockRef::from(&tcp).cookie()?,
            socket2::SockRef::from(&udp).cookie()?,
        ];
        let diag = Diag::open()?;
        let found = diag.list(|listed| own.contains(&listed.cookie))?;
        let mut gone = found.iter().map(|listed| diag.destroy(listed));
        Ok(found.len() == 2 && gone.all(|done| done.is_ok_and(|done| done)))
    };
    tried().unwrap_or(false)
}
