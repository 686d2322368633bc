//! What eBPF programs take by themselves, as the kernel counts it: time is not told from what it is spent beside.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result};
use aya::{
    programs::loaded_programs,
    sys::{Stats, enable_stats},
};

/// What one program did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ran {
    pub times: u64,
    pub took: Duration,
}

/// Does something, and tells what each program of the host did meanwhile, by its name. That it is counted takes time
/// of its own: some tens of nanoseconds each time.
pub fn counted<T>(act: impl FnOnce() -> Result<T>) -> Result<(T, BTreeMap<String, Ran>)> {
    let _counting = enable_stats(Stats::RunTime).context("statistics of programs")?;
    let before = all();
    let done = act()?;
    let mut by_name: BTreeMap<String, Ran> = BTreeMap::new();
    for (id, (name, now)) in all() {
        let was = before.get(&id).map(|(_, ran)| *ran).unwrap_or_default();
        let ran = by_name.entry(name).or_default();
        ran.times += now.times.saturating_sub(was.times);
        ran.took += now.took.saturating_sub(was.took);
    }
    by_name.retain(|_, ran| ran.times > 0);
    Ok((done, by_name))
}

fn all() -> BTreeMap<u32, (String, Ran)> {
    // One that is gone by now did nothing that is asked for.
    let programs = loaded_programs().filter_map(Result::ok);
    let told = programs.map(|program| {
        let name = program.name_as_str().unwrap_or_default().to_owned();
        let ran = Ran {
            times: program.run_count(),
            took: program.run_time(),
        };
        (program.id(), (name, ran))
    });
    told.collect()
}
