//! Threads that are in a cgroup already when it is tagged, and what is left of them when it no longer is.

use std::{fs, path::Path};

use aya::maps::{HashMap, MapData, MapError};
use portcullis_abi as abi;

use crate::{
    model::CgroupId,
    redirect::{RedirectError, bpf::map_failed, cgroup, process},
};

/// The map of threads.
type Procs = HashMap<MapData, u32, abi::Proc>;

/// Writes every thread of a tagged cgroup and of its descendants that is not there yet. A descendant with a tag of its
/// own comes later, with its own id.
///
/// The programs see what is forked from the moment the tag is in `TAGGED`, which must be before this.
pub(in crate::redirect) fn scan(
    procs: &mut Procs,
    id: CgroupId,
    directory: &Path,
) -> Result<(), RedirectError> {
    for (_, below) in cgroup::tree(directory) {
        // A cgroup that has gone has no threads.
        let threads = fs::read_to_string(below.join("cgroup.threads")).unwrap_or_default();
        for tid in threads.lines().filter_map(|line| line.parse().ok()) {
            add(procs, id, tid)?;
        }
    }
    Ok(())
}

fn add(procs: &mut Procs, id: CgroupId, tid: u32) -> Result<(), RedirectError> {
    let Some((tgid, start_ns)) = process::of_thread(tid) else {
        return Ok(());
    };
    let known = procs.get(&tid, 0).ok();
    let start_ns = known.map_or(start_ns, |known| known.start_ns);
    let proc = abi::Proc {
        tagged: id.0,
        start_ns,
        tgid,
        execs: known.map_or(0, |known| known.execs),
    };
    procs.insert(tid, proc, 0).map_err(map_failed("PROCS"))?;
    // One that ended meanwhile has been forgotten by the programs already.
    if process::of_thread(tid).is_none() {
        let _absent = procs.remove(&tid);
    }
    Ok(())
}

/// Forgets the threads of a tag that is taken away.
pub(in crate::redirect) fn forget(procs: &mut Procs, id: CgroupId) {
    let gone: Vec<u32> = procs
        .iter()
        .filter_map(Result::ok)
        .filter(|(_, proc)| proc.tagged == id.0)
        .map(|(tid, _)| tid)
        .collect();
    for tid in gone {
        match procs.remove(&tid) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) => tracing::warn!(%error, tid, "a thread of a former workload is not forgotten"),
        }
    }
}
