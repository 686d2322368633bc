//! Tagging: what `tag` and `untag` do in the kernel, and what `status` asks of it.
//!
//! Invariants:
//! - Hooks are on the topmost tagged cgroup of a path and on no other: a descendant inherits them, and a second
//!   `connect4` would take the first one's redirect for the destination. Which tag a connection belongs to is the
//!   programs' question, answered by the `TAGGED` map.
//! - Nothing is detached before what replaces it is attached. A tag that fails half-way stays as far as it got, and
//!   denies.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, MapError, PerCpuHashMap, PerCpuValues},
};
use portcullis_abi as abi;
use tokio::sync::oneshot;

use super::{
    attach,
    exempt::Exemptions,
    load::{AGENT, WORKLOAD},
    namespaces::{Manage, Prepare},
    pin::{self, Pins},
    resolver::{Dropped, Unanswered},
    share::Watched,
};
use crate::{
    model::CgroupId,
    redirect::{
        Processes, RedirectError, cgroup,
        guard::{self, CALLS, Guard, GuardEvents, Loaded, TRACEPOINTS, Unavailable, UnixAddress},
    },
};

/// How long a tag waits for its network namespaces.
const PREPARE: Duration = Duration::from_secs(2);

/// The kernel side of every tag. Clones share it.
#[derive(Clone)]
pub struct Control(Arc<Mutex<State>>);

/// One program on one cgroup, as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedProgram {
    /// The tagged cgroup, or the agent's own; that, too, for programs that are on the host.
    pub cgroup: CgroupId,
    /// Its directory.
    pub path: PathBuf,
    /// The program's name.
    pub program: &'static str,
    /// The link's id; 0 when there is no link.
    pub link: u32,
    /// The id of the program behind the link; 0 when there is no link.
    pub program_id: u32,
    /// Whether this agent's program is on this cgroup, and the cgroup still exists.
    pub ok: bool,
    /// Whether the kernel may interrupt it, and skips its other runs meanwhile: it closes no door by itself.
    pub unsteady: bool,
}

pub(super) struct State {
    pub(super) ebpf: Ebpf,
    pub(super) pins: Pins,
    pub(super) mount: PathBuf,
    /// Where the agent listens.
    pub(super) port: u16,
    /// The agent's own cgroup.
    pub(super) agent: (CgroupId, PathBuf),
    pub(super) tagged: HashMap<MapData, u64, abi::Tag>,
    pub(super) counters: PerCpuHashMap<MapData, u64, abi::Counters>,
    pub(super) errors: Array<MapData, u64>,
    pub(super) dropped: Arc<Dropped>,
    pub(super) processes: Processes,
    pub(super) guard: Guard,
    pub(super) tags: BTreeMap<CgroupId, PathBuf>,
    pub(super) exempt: Exemptions,
    pub(super) manage: Manage,
}

pub(in crate::redirect) fn map_failed(map: &'static str) -> impl FnOnce(MapError) -> RedirectError {
    move |source| RedirectError::Map {
        map,
        source: Box::new(source),
    }
}

impl Control {
    pub(super) fn new(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    /// A panic elsewhere leaves nothing half-written here that the kernel does not know better.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tags a cgroup by its directory: from now on, the sockets of its processes and of its descendants' are redirected,
    /// denied or exempt. Tagging it again puts back what is missing.
    ///
    /// Blocks for some milliseconds.
    ///
    /// # Errors
    /// When it is the root, too deep, or has the agent within; when the kernel refuses. What was attached by then stays,
    /// and denies: call again, or [`Self::untag`].
    pub fn tag(&self, directory: &Path) -> Result<CgroupId, RedirectError> {
        self.tag_as(directory, abi::Tag::default())
    }

    /// As [`Self::tag`], with the workload's switches.
    ///
    /// # Errors
    /// As [`Self::tag`].
    pub fn tag_as(&self, directory: &Path, switches: abi::Tag) -> Result<CgroupId, RedirectError> {
        self.state().tag(directory, switches)
    }

    /// Listens in the network namespaces of a cgroup's processes, to be done before it is tagged: a connect in one in which
    /// nobody listens yet is denied.
    pub async fn prepare(&self, directory: &Path) {
        let (done, prepared) = oneshot::channel();
        let prepare = self.state().manage.prepare.clone();
        let asked = prepare.send(Prepare(vec![directory.to_path_buf()], done));
        // What ended meanwhile denies; what is slow is told of by the kernel again.
        let _late = tokio::time::timeout(PREPARE, async {
            if asked.await.is_ok() {
                let _ended = prepared.await;
            }
        })
        .await;
    }

    /// Cookies of the network namespaces, other than the agent's own, in which it listens now.
    #[must_use]
    pub fn namespaces(&self) -> Vec<u64> {
        self.state().manage.prepared.borrow().clone()
    }

    /// Tagged cgroups whose processes want more network namespaces than [`MAX_NAMESPACES_EACH`](super::MAX_NAMESPACES_EACH),
    /// and how many were refused at the last look around, some seconds ago at most, and since.
    #[must_use]
    pub fn namespaces_refused(&self) -> Vec<(CgroupId, u64)> {
        let state = self.state();
        let refused = state.manage.refused.borrow();
        let tags = state.tags.iter();
        tags.filter_map(|(id, directory)| Some((*id, *refused.get(directory)?)))
            .collect()
    }

    /// Says when [`Self::namespaces_refused`] has another answer.
    #[must_use]
    pub fn namespaces_watched(&self) -> Watched {
        Watched(self.state().manage.refused.clone())
    }

    /// Takes a tag away. Its cgroup may be gone already. Tagged descendants stay tagged.
    ///
    /// # Errors
    /// When it is not tagged, or the kernel refuses.
    pub fn untag(&self, id: CgroupId) -> Result<(), RedirectError> {
        self.state().untag(id)
    }

    /// Takes away every tag but these: those that an earlier agent left and that are no longer wanted.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn keep_only(&self, ids: &[CgroupId]) -> Result<(), RedirectError> {
        let mut state = self.state();
        let gone: Vec<CgroupId> = state
            .tags
            .keys()
            .filter(|id| !ids.contains(id))
            .copied()
            .collect();
        gone.into_iter().try_for_each(|id| state.untag(id))
    }

    /// The tagged cgroups.
    #[must_use]
    pub fn tagged(&self) -> Vec<(CgroupId, PathBuf)> {
        self.state()
            .tags
            .iter()
            .map(|(id, path)| (*id, path.clone()))
            .collect()
    }

    /// What happened in each tagged cgroup since it was tagged, summed over the CPUs.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn counters(&self) -> Result<Vec<(CgroupId, abi::Counters)>, RedirectError> {
        let state = self.state();
        let read = |id: &CgroupId| match state.counters.get(&id.0, 0) {
            Ok(values) => Ok((*id, sum(&values))),
            Err(source) => Err(map_failed("COUNTERS")(source)),
        };
        state.tags.keys().map(read).collect()
    }

    /// The processes of workloads: what they do, and what may run.
    #[must_use]
    pub fn processes(&self) -> Processes {
        self.state().processes.clone()
    }

    /// The processes of workloads that the programs know, by thread group id.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn members(&self) -> Result<BTreeMap<u32, abi::Proc>, RedirectError> {
        self.state().guard.members()
    }

    /// Takes off the host what only those wait for that must end, once they have: after the last tag has gone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn let_go(&self) -> Result<(), RedirectError> {
        self.state().let_calls()
    }

    /// How often programs on tracepoints did not run although they should have, by name; all zero on a healthy host.
    #[must_use]
    pub fn missed(&self) -> Vec<(&'static str, u64)> {
        let all = TRACEPOINTS.iter().chain([&CALLS]).chain(guard::HELD);
        let state = self.state();
        let loaded = all.map(|(program, _)| (*program, guard::loaded(&state.ebpf, program)));
        let loaded: Vec<_> = loaded.collect();
        // What has to be read is not read with the state in hand.
        drop(state);
        let missed =
            |(program, loaded): (_, Option<OwnedFd>)| (program, loaded.as_ref().map_or(0, guard::missed));
        loaded.into_iter().map(missed).collect()
    }

    /// Datagrams to the resolver that were not answered.
    #[must_use]
    pub fn unanswered(&self) -> Unanswered {
        self.state().dropped.so_far()
    }

    /// How often each program failed, by site; all zero on a healthy host.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn errors(&self) -> Result<Vec<(abi::Site, u64)>, RedirectError> {
        let state = self.state();
        let read = |site: abi::Site| match state.errors.get(&(site as u32), 0) {
            Ok(count) => Ok((site, count)),
            Err(source) => Err(map_failed("ERRORS")(source)),
        };
        abi::Site::ALL.iter().copied().map(read).collect()
    }

    /// What the guard tells of processes, to the first who asks. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the runtime refuses its descriptor.
    pub fn guard_events(&self) -> Result<Option<GuardEvents>, RedirectError> {
        self.state().guard.events()
    }

    /// Decides UNIX sockets of a tagged cgroup: these may be connected to, and no other. What is not listed any more is
    /// denied from now on; connections that there are go on.
    ///
    /// # Errors
    /// When the map takes no more.
    pub fn set_unix(&self, id: CgroupId, allowed: &[UnixAddress]) -> Result<(), RedirectError> {
        self.state().guard.set_unix(id, allowed)
    }

    /// Where cgroup2 is mounted.
    #[must_use]
    pub fn mount(&self) -> PathBuf {
        self.state().mount.clone()
    }

    /// The optional programs that this host does not load, and why.
    #[must_use]
    pub fn unavailable(&self) -> Vec<Unavailable> {
        self.state().guard.unavailable()
    }

    /// Every program that should be attached, and whether it is: asked of the kernel, not remembered.
    ///
    /// # Errors
    /// When a pin cannot be read.
    pub fn attached(&self) -> Result<Vec<AttachedProgram>, RedirectError> {
        self.state().attached()
    }
}

fn is_there(id: CgroupId, directory: &Path) -> bool {
    cgroup::id(directory).is_ok_and(|found| found == id)
}

fn sum(values: &PerCpuValues<abi::Counters>) -> abi::Counters {
    let mut total = abi::Counters::default();
    for value in values.iter() {
        for (total, one) in total.by_outcome.iter_mut().zip(value.by_outcome) {
            *total = total.wrapping_add(one);
        }
    }
    total
}

impl State {
    fn tag(&mut self, directory: &Path, switches: abi::Tag) -> Result<CgroupId, RedirectError> {
        let id = cgroup::id(directory)?;
        self.check(directory)?;
        self.watch_calls(switches.flags & abi::EXEC_ENFORCE != 0)?;
        self.enter(id, self.noted(id, self.covered(directory), switches))?;
        self.tags.insert(id, directory.to_path_buf());
        self.tell();
        self.let_calls()?;
        self.guard.enlist(directory, &self.tags)?;
        if self.covered(directory) {
            self.pins.remove_tag(id)?;
        } else {
            self.hook(id, directory)?;
        }
        for (below, _) in self.below(directory) {
            self.pins.remove_tag(below)?;
        }
        Ok(id)
    }

    /// Tells who follows the processes of tagged cgroups.
    fn tell(&self) {
        self.manage
            .tagged
            .send_replace(self.tags.values().cloned().collect());
    }

    fn check(&self, directory: &Path) -> Result<(), RedirectError> {
        let refuse = |why| {
            Err(RedirectError::NotTaggable {
                path: directory.to_path_buf(),
                why,
            })
        };
        let Ok(below) = directory.strip_prefix(&self.mount) else {
            return refuse("it is not below the cgroup2 mount");
        };
        match below.components().count() {
            0 => refuse("it is the root"),
            depth if depth >= abi::MAX_DEPTH as usize => refuse("it is too deep in the tree"),
            _ if self.agent.1.starts_with(directory) => refuse("the agent itself is within"),
            _ if directory.starts_with(&self.agent.1) => refuse("it is within the agent's own cgroup"),
            _ => Ok(()),
        }
    }

    /// Counters first: a tag without them would not be counted.
    fn enter(&mut self, id: CgroupId, switches: abi::Tag) -> Result<(), RedirectError> {
        if self.counters.get(&id.0, 0).is_err() {
            let cpus = aya::util::nr_cpus().map_err(|(path, source)| pin::failed(Path::new(path))(source))?;
            let zero = PerCpuValues::try_from(vec![abi::Counters::default(); cpus])
                .map_err(|error| map_failed("COUNTERS")(MapError::IoError(error)))?;
            self.counters
                .insert(id.0, zero, 0)
                .map_err(map_failed("COUNTERS"))?;
        }
        self.tagged
            .insert(id.0, switches, 0)
            .map_err(map_failed("TAGGED"))
    }

    fn leave(&mut self, id: CgroupId) {
        // Not there is what is wanted.
        let _absent = self.tagged.remove(&id.0);
        let _absent = self.counters.remove(&id.0);
        let _absent = self.exempt.of.remove(&id.0);
        self.guard.forget(id);
    }

    /// Whether an ancestor's hooks are this cgroup's already. A cgroup that has its path, but is another one, is none.
    fn covered(&self, directory: &Path) -> bool {
        self.tags
            .iter()
            .any(|(id, tagged)| tagged != directory && directory.starts_with(tagged) && is_there(*id, tagged))
    }

    fn below(&self, directory: &Path) -> Vec<(CgroupId, PathBuf)> {
        self.tags
            .iter()
            .filter(|(_, path)| *path != directory && path.starts_with(directory))
            .map(|(id, path)| (*id, path.clone()))
            .collect()
    }

    /// Before a cgroup is tagged: the guard of system calls, and where programs are to be held what ends those that run.
    fn watch_calls(&mut self, hold: bool) -> Result<(), RedirectError> {
        let held: &[_] = if hold { guard::HELD } else { &[] };
        for program in [CALLS].iter().chain(held) {
            let pin = self.pins.host_link(program.0);
            if !guard::describe(&self.ebpf, program.0, &pin)?.2 {
                guard::attach(&mut self.ebpf, *program, &pin)?;
            }
        }
        if hold { self.guard.hold(true) } else { Ok(()) }
    }

    /// Takes them off again where nothing is tagged and nobody must end any more: the whole host pays for them.
    fn let_calls(&mut self) -> Result<(), RedirectError> {
        if self.enforced() || self.processes.hold_any() {
            return Ok(());
        }
        self.guard.hold(false)?;
        for (program, _) in guard::HELD {
            self.let_go(program)?;
        }
        if self.guard.condemns_any() || self.tagged.keys().next().is_some() {
            return Ok(());
        }
        self.let_go(CALLS.0)
    }

    fn let_go(&self, program: &str) -> Result<(), RedirectError> {
        let pin = self.pins.host_link(program);
        match std::fs::remove_file(&pin) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(pin::failed(&pin)(error)),
            _ => Ok(()),
        }
    }

    /// Whether execs of any tagged cgroup are held. What cannot be read may be.
    fn enforced(&self) -> bool {
        self.tagged
            .iter()
            .any(|tag| tag.map_or(true, |(_, tag)| tag.flags & abi::EXEC_ENFORCE != 0))
    }

    fn hook(&mut self, id: CgroupId, directory: &Path) -> Result<(), RedirectError> {
        let pins = self.pins.tag(id);
        std::fs::create_dir_all(&pins).map_err(pin::failed(&pins))?;
        for &program in WORKLOAD {
            let pin = self.pins.link(id, program);
            attach::ensure(&mut self.ebpf, program, (id, directory), &pin)?;
        }
        for program in self.guard.on_cgroups() {
            program.ensure((id, directory), &self.pins.link(id, program.name()))?;
        }
        Ok(())
    }

    fn untag(&mut self, id: CgroupId) -> Result<(), RedirectError> {
        let directory = self.tags.remove(&id).ok_or(RedirectError::NotTagged(id))?;
        for (below, path) in self.below(&directory) {
            // A descendant that has gone meanwhile needs no hooks.
            if !self.covered(&path) && is_there(below, &path) {
                self.hook(below, &path)?;
            }
        }
        self.pins.remove_tag(id)?;
        self.leave(id);
        // What is still within another tag is that one's.
        self.guard.enlist(&directory, &self.tags)?;
        self.tell();
        self.let_calls()
    }

    /// Attaches what is the host's, and takes over what an earlier agent left.
    ///
    /// What followed processes goes on until this agent's programs know all that there are: an earlier layout's maps are
    /// not theirs. It is let go, with the pins of that layout, when nothing depends on it any more.
    pub(super) fn begin(&mut self) -> Result<(), RedirectError> {
        let pins = self.pins.clone();
        let mut before = Vec::new();
        // Before tags: what is started in between must be remembered.
        for program in TRACEPOINTS {
            before.push(guard::attach(
                &mut self.ebpf,
                *program,
                &pins.host_link(program.0),
            )?);
        }
        self.guard.attach(|program| pins.host_link(program))?;
        self.take_over()?;
        drop(before);
        let tracepoints = TRACEPOINTS.iter().chain([&CALLS]).chain(guard::HELD);
        let tracepoints = tracepoints.map(|(program, _)| *program);
        let own: Vec<_> = tracepoints.chain([AGENT]).chain(self.guard.on_host()).collect();
        pins.remove_old_links(&own)?;
        pins.remove_old_maps()
    }

    /// Puts this agent's programs behind the links that an earlier one left, and removes the links of cgroups that are
    /// gone. Parents come first, as `cgroup::tree` has it.
    fn take_over(&mut self) -> Result<(), RedirectError> {
        let pinned = self.pins.tagged()?;
        let marked: Vec<CgroupId> = self.tagged.keys().filter_map(Result::ok).map(CgroupId).collect();
        for (id, directory) in cgroup::tree(&self.mount.clone()) {
            if !pinned.contains(&id) && !marked.contains(&id) {
                continue;
            }
            // Also what that agent had only begun when it ended.
            let switches = self.tagged.get(&id.0, 0).unwrap_or_default();
            match self.tag(&directory, switches) {
                Err(error) if is_there(id, &directory) => return Err(error),
                // It went just now: below.
                Err(_) => drop(self.tags.remove(&id)),
                Ok(_) => {}
            }
        }
        for id in pinned.into_iter().chain(marked) {
            if !self.tags.contains_key(&id) {
                self.pins.remove_tag(id)?;
                self.leave(id);
            }
        }
        self.let_calls()
    }

    fn attached(&self) -> Result<Vec<AttachedProgram>, RedirectError> {
        let (agent, path) = &self.agent;
        let mut all = vec![self.describe(*agent, path, AGENT, &self.pins.agent_link())?];
        // These two are wanted where something is tagged or held, and may stay a little longer.
        let calls = (!self.tags.is_empty()).then_some(&CALLS);
        let held: &[_] = if self.enforced() { guard::HELD } else { &[] };
        let on_host = TRACEPOINTS.iter().chain(calls).chain(held);
        let on_host = on_host.map(|(program, _)| *program);
        for program in on_host.chain(self.guard.on_host()) {
            let pin = self.pins.host_link(program);
            let mut of_host = self.describe(*agent, path, program, &pin)?;
            of_host.ok = of_host.program_id != 0 && self.is_loaded(program, of_host.program_id);
            all.push(of_host);
        }
        for (id, path) in self.tags.iter().filter(|(_, path)| !self.covered(path)) {
            for &program in WORKLOAD {
                all.push(self.describe(*id, path, program, &self.pins.link(*id, program))?);
            }
            for program in self.guard.on_cgroups().map(Loaded::name) {
                all.push(self.describe(*id, path, program, &self.pins.link(*id, program))?);
            }
        }
        Ok(all)
    }

    fn describe(
        &self,
        cgroup: CgroupId,
        path: &Path,
        program: &'static str,
        pin: &Path,
    ) -> Result<AttachedProgram, RedirectError> {
        let info = attach::open(pin)?.map(|(_, info)| info);
        Ok(AttachedProgram {
            cgroup,
            path: path.to_path_buf(),
            program,
            link: info.map_or(0, |info| info.id),
            program_id: info.map_or(0, |info| info.program),
            // A link outlives its cgroup by a moment, in which it says what it was.
            ok: info.is_some_and(|info| info.cgroup == cgroup.0 && self.is_loaded(program, info.program))
                && is_there(cgroup, path),
            unsteady: self.guard.is_unsteady(program),
        })
    }

    /// Whether it is this agent's program that has the id.
    fn is_loaded(&self, program: &str, id: u32) -> bool {
        let loaded = self
            .ebpf
            .program(guard::in_object(program))
            .and_then(|program| program.info().ok());
        loaded.is_some_and(|info| info.id() == id) || self.guard.is_loaded(program, id)
    }
}
