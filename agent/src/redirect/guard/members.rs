//! The processes that are in a cgroup when it is tagged: from then on the kernel follows them itself.

use std::{collections::BTreeMap, fs, path::Path};

use super::Guard;
use crate::{
    model::CgroupId,
    redirect::{RedirectError, bpf::map_failed, cgroup},
};

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
            // One that cannot be read is a threaded one, whose processes its domain lists, or has gone.
            let Ok(processes) = fs::read_to_string(inner.join("cgroup.procs")) else {
                continue;
            };
            for pid in processes.lines().filter_map(|line| line.parse::<u32>().ok()) {
                self.members.insert(pid, id.0, 0).map_err(map_failed("MEMBERS"))?;
                // One that has ended meanwhile would be taken for whoever has its number next.
                if !Path::new(&format!("/proc/{pid}")).exists() {
                    let _absent = self.members.remove(&pid);
                }
            }
        }
        Ok(())
    }
}
