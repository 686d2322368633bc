//! The agent's side of the programs: reads what they tell, answers who a process is, and says what may run.

use std::{
    collections::VecDeque,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aya::maps::{Array, HashMap, MapData, RingBuf};
use nix::{sys::signal::Signal, unistd::Pid};
use portcullis_abi as abi;
use tokio::io::unix::AsyncFd;

use super::{
    event::{self, Executed, Happened},
    file::{self, Program},
    files::{Files, Found},
    readers::{Readers, Unread},
    table::Table,
};
use crate::{
    model::{Origin, Process},
    redirect::{RedirectError, bpf::map_failed, process, sys},
};

/// Ancestors that are told of a process.
const ANCESTORS: usize = 8;
/// Events that are read and not taken yet; beyond them they stay where they are, and then the programs count the loss.
const WAITING: usize = 16_384;
/// How long anything is read for.
const READING: Duration = Duration::from_secs(10);
/// Bytes of an executed file that may take a second more.
const SLOW: u64 = 64 << 20;

/// The maps of the programs.
pub(in crate::redirect) struct Maps {
    pub ring: RingBuf<MapData>,
    pub verdicts: HashMap<MapData, abi::FileKey, abi::ExecVerdict>,
    pub held: HashMap<MapData, u32, u64>,
    pub generation: Array<MapData, u32>,
}

/// The processes of workloads. Clones share them; without programs, as in tests, nothing is known but /proc.
#[derive(Clone, Default)]
pub struct Processes(Option<Arc<Shared>>);

struct Shared {
    ready: AsyncFd<OwnedFd>,
    state: Mutex<State>,
    files: Arc<Files>,
    readers: Readers,
}

struct State {
    maps: Maps,
    table: Table,
    waiting: VecDeque<Happened>,
    generation: u32,
}

impl Processes {
    /// Begins a new generation of verdicts: those of an agent before are no longer in force.
    pub(in crate::redirect) fn new(maps: Maps) -> Result<Self, RedirectError> {
        let ready = maps.ring.as_fd().try_clone_to_owned().and_then(sys::readable);
        let generation = maps.generation.get(&0, 0).map_err(map_failed("GENERATION"))?;
        let processes = Self(Some(Arc::new(Shared {
            ready: ready.map_err(RedirectError::Accept)?,
            state: Mutex::new(State {
                maps,
                table: Table::default(),
                waiting: VecDeque::new(),
                generation,
            }),
            files: Arc::default(),
            readers: Readers::new().map_err(RedirectError::Accept)?,
        })));
        processes.forget_verdicts();
        Ok(processes)
    }

    /// The next thing that happened, in order; never, without programs. Cancel-safe.
    pub async fn next(&self) -> Happened {
        let Some(shared) = &self.0 else {
            return std::future::pending().await;
        };
        loop {
            if let Some(happened) = shared.state().next() {
                return happened;
            }
            match shared.ready.readable().await {
                Ok(mut ready) => {
                    // Before the look, so that what comes after it wakes again.
                    ready.clear_ready();
                    if let Some(happened) = shared.state().next() {
                        return happened;
                    }
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Who connected, and what it comes from: known of a process that has gone, too, as far as the programs told. What of
    /// it has not been read yet and cannot be read in time is left out.
    pub async fn resolve(&self, origin: &Origin) -> Process {
        let mut found = process::resolve(origin);
        let Some(shared) = &self.0 else { return found };
        let id = (origin.pid, origin.start_ns);
        let (all, size) = {
            let mut state = shared.state();
            // Whatever happened before the connect was told before it.
            state.pump();
            let own = state.table.get(id).cloned().unwrap_or_default();
            let size = own.file.as_ref().map_or(0, |(file, _)| file.read_bytes());
            let mut all = vec![(id, own)];
            all.extend(state.table.ancestors(id, ANCESTORS));
            (all, size)
        };
        let mut described = if let Some(known) = shared.files.all_known(&all) {
            known
        } else {
            let (files, known) = (Arc::clone(&shared.files), all.clone());
            let read = move || files.describe(all);
            let described = shared.readers.read(origin.tagged, within(size), || {}, read);
            described.await.unwrap_or_else(|Unread| {
                tracing::warn!(
                    pid = origin.pid,
                    "what the process of a connection runs was not read in time"
                );
                shared.files.describe_known(known)
            })
        };
        let own = described.remove(0);
        found.exe = found.exe.or(own.exe);
        found.sha256 = own.sha256;
        found.parents = described;
        found
    }

    /// What an exec runs, what that was given to run, and where. Takes no time where all of it was read before, else as long
    /// as hashing does; `late` is called when that is more than a moment. What takes too long is given up: nothing is known of it then.
    pub async fn identify(&self, executed: &Executed, late: impl FnOnce()) -> Found {
        let Some(shared) = &self.0 else {
            return Files::default().unread(executed, Vec::new());
        };
        let ancestors = shared.state().table.ancestors(executed.process, ANCESTORS);
        if let Some(found) = shared.files.at_once(executed, &ancestors) {
            return found;
        }
        let files = Arc::clone(&shared.files);
        let (looked, from) = (executed.clone(), ancestors.clone());
        let read = move || files.look(&looked, from);
        let within = within(executed.file.read_bytes());
        let found = shared.readers.read(executed.tagged, within, late, read).await;
        found.unwrap_or_else(|Unread| shared.files.unread(executed, ancestors))
    }

    /// Remembers in the kernel what was decided on a file, where that is the whole question. Not of files that have just
    /// changed, that can be written while they run, that are made up, or that could not be read.
    /// `under` is the generation in which it was asked, and how long the answer holds.
    pub fn remember(&self, executed: &Executed, program: &Program, allow: bool, under: (u32, Duration)) {
        let Some(shared) = &self.0 else { return };
        let lasts = !executed.writers && !executed.file.made_up && file::settled(executed.file);
        if !lasts || program.memfd || program.sha256.is_none() {
            return;
        }
        let (generation, holds) = under;
        let mut state = shared.state();
        if state.generation != generation {
            return;
        }
        let key = abi::FileKey {
            tagged: executed.tagged.0,
            ino: executed.file.ino,
            ctime_s: executed.file.changed.as_secs(),
            ctime_ns: executed.file.changed.subsec_nanos(),
            dev: executed.file.dev,
        };
        let until = boot_ns().saturating_add(u64::try_from(holds.as_nanos()).unwrap_or(u64::MAX));
        let verdict = abi::ExecVerdict {
            until_ns: until,
            generation,
            effect: if allow { 1 } else { 2 },
        };
        // Not remembered, it is asked again.
        let _asked_again = state.maps.verdicts.insert(key, verdict, 0);
    }

    /// The generation that verdicts are given under now.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.0.as_ref().map_or(0, |shared| shared.state().generation)
    }

    /// Ends all verdicts: policy or an identity has changed.
    pub fn forget_verdicts(&self) {
        let Some(shared) = &self.0 else { return };
        let mut state = shared.state();
        state.generation = state.generation.wrapping_add(1);
        let generation = state.generation;
        if let Err(error) = state.maps.generation.set(0, generation, 0) {
            tracing::error!(%error, "verdicts on programs cannot be ended; they are removed one by one");
            let keys: Vec<_> = state.maps.verdicts.keys().filter_map(Result::ok).collect();
            for key in keys {
                let _absent = state.maps.verdicts.remove(&key);
            }
        }
    }

    /// Lets a held process run. False where it is held no longer.
    pub fn release(&self, executed: &Executed) -> bool {
        let Some(shared) = &self.0 else { return false };
        let mut state = shared.state();
        let (pid, start) = executed.process;
        if state.maps.held.get(&pid, 0).ok() != Some(start) {
            return false;
        }
        let _ended_meanwhile = state.maps.held.remove(&pid);
        signal(pid, Signal::SIGCONT)
    }

    /// Whether any process is held. What cannot be read may be.
    pub(in crate::redirect) fn hold_any(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|shared| shared.state().maps.held.keys().next().is_some())
    }

    /// Ends a process, if it still is the one that executed.
    pub fn kill(&self, executed: &Executed) -> bool {
        let (pid, start) = executed.process;
        let same = process::of_thread(pid).is_some_and(|(_, ticks)| process::same_tick(start, ticks));
        same && signal(pid, Signal::SIGKILL)
    }

    /// Processes that an agent before held and nobody will decide on: they are ended.
    pub fn end_orphans(&self) -> usize {
        let Some(shared) = &self.0 else { return 0 };
        let mut state = shared.state();
        // Those that this agent is yet to hear of are told again through the ring.
        state.pump();
        let told: Vec<u32> = state
            .waiting
            .iter()
            .filter_map(|happened| match happened {
                Happened::Executed(executed) if executed.held => Some(executed.process.0),
                _ => None,
            })
            .collect();
        let held: Vec<(u32, u64)> = state.maps.held.iter().filter_map(Result::ok).collect();
        let orphans: Vec<u32> = held
            .into_iter()
            .filter(|(pid, start)| {
                !told.contains(pid)
                    && process::of_thread(*pid).is_some_and(|(_, ticks)| process::same_tick(*start, ticks))
            })
            .map(|(pid, _)| pid)
            .collect();
        orphans
            .iter()
            .filter(|pid| signal(**pid, Signal::SIGKILL))
            .count()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&mut self) -> Option<Happened> {
        if self.waiting.is_empty() {
            self.pump();
        }
        self.waiting.pop_front()
    }

    /// Reads what has been told.
    fn pump(&mut self) {
        while self.waiting.len() < WAITING {
            let Some(item) = self.maps.ring.next() else { return };
            let happened = event::parse(&item);
            drop(item);
            let Some(happened) = happened else {
                tracing::error!("an event of the programs cannot be read");
                continue;
            };
            if self.table.take(&happened) && !matches!(happened, Happened::Forked { .. }) {
                self.waiting.push_back(happened);
            }
        }
    }
}

/// How long may be waited for a file of so many bytes to be read, and for what else comes with it.
fn within(bytes: u64) -> Duration {
    READING
        .saturating_add(Duration::from_secs(bytes / SLOW))
        .min(READING * 10)
}

fn signal(pid: u32, signal: Signal) -> bool {
    i32::try_from(pid).is_ok_and(|pid| nix::sys::signal::kill(Pid::from_raw(pid), signal).is_ok())
}

fn boot_ns() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map_or(0, |now| {
        let duration = Duration::from(now);
        u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
    })
}
