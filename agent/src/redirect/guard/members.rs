//! The processes of workloads, as the programs know them: who is in a cgroup already when it is tagged is listed here, and
//! from then on the kernel follows them itself.

use std::{collections::BTreeMap, fs, path::Path};

use aya::maps::MapError;
use portcullis_abi::Proc;

use super::Guard;
use crate::{
    model::CgroupId,
    redirect::{RedirectError, bpf::map_failed, cgroup, process},
};

const MAP: &str = "PROCESSES";

impl Guard {
    /// Remembers the processes at and below `directory`, each with its nearest tag of `tags`.
    ///
    /// To be called when the tag is in the kernel: whatever is started after that is remembered there, and what was
    /// started before is listed here.
    pub(in crate::redirect) fn enlist(
        &mut self,
        directory: &Path,
        tags: &BTreeMap<CgroupId, std::path::PathBuf>,
    ) -> Result<(), RedirectError> {
        for (_, inner) in cgroup::tree(directory) {
            let nearest = tags
                .iter()
                .filter(|(_, tagged)| inner.starts_with(tagged))
                .max_by_key(|(_, tagged)| tagged.components().count());
            let Some((id, _)) = nearest else { continue };
            for pid in processes(&inner) {
                self.remember(pid, *id)?;
            }
        }
        Ok(())
    }

    fn remember(&mut self, pid: u32, tagged: CgroupId) -> Result<(), RedirectError> {
        let known = self.members.get(&pid, 0).ok();
        let proc = Proc {
            tagged: tagged.0,
            execs: known.map_or(0, |known| known.execs),
            reserved: 0,
        };
        self.members.insert(pid, proc, 0).map_err(map_failed(MAP))?;
        // One that has ended meanwhile would be taken for whoever has its number next.
        if !Path::new(&format!("/proc/{pid}")).exists() {
            let _absent = self.members.remove(&pid);
        }
        Ok(())
    }

    /// Forgets the processes of a tag that is taken away.
    pub(super) fn dismiss(&mut self, id: CgroupId) {
        let of_it = |(pid, proc): (u32, Proc)| (proc.tagged == id.0).then_some(pid);
        let gone: Vec<u32> = self
            .members
            .iter()
            .filter_map(Result::ok)
            .filter_map(of_it)
            .collect();
        for pid in gone {
            match self.members.remove(&pid) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => tracing::warn!(%error, pid, "a process of a former workload is not forgotten"),
            }
        }
    }

    /// All of them, by thread group id.
    pub(in crate::redirect) fn members(&self) -> Result<BTreeMap<u32, Proc>, RedirectError> {
        self.members
            .iter()
            .collect::<Result<_, _>>()
            .map_err(map_failed(MAP))
    }
}

/// The processes of a cgroup, none where it has gone. A threaded one does not list processes, which are its domain's, but
/// their threads.
fn processes(cgroup: &Path) -> Vec<u32> {
    let numbers = |text: String| text.lines().filter_map(|line| line.parse().ok()).collect();
    match fs::read_to_string(cgroup.join("cgroup.procs")) {
        Ok(text) => numbers(text),
        Err(_) => {
            let threads = fs::read_to_string(cgroup.join("cgroup.threads")).unwrap_or_default();
            let threads: Vec<u32> = numbers(threads);
            let mut processes: Vec<u32> = threads
                .into_iter()
                .filter_map(|tid| Some(process::of_thread(tid)?.0))
                .collect();
            processes.dedup();
            processes
        }
    }
}
