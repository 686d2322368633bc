//! Exemptions in the kernel.

use aya::maps::{Array, HashMap, MapData};
use portcullis_abi::{Exempt, MAX_EXEMPT};

use super::control::{Control, map_failed};
use crate::{model::CgroupId, redirect::RedirectError};

/// The maps.
pub(super) struct Exemptions {
    pub(super) rules: Array<MapData, Exempt>,
    pub(super) used: Array<MapData, u64>,
    /// By tagged cgroup: a bit for each rule.
    pub(super) of: HashMap<MapData, u64, u64>,
}

impl Control {
    /// Puts these rules in force, in this order, and no others: at most [`MAX_EXEMPT`]. Which cgroups they are for is said
    /// by [`Self::exempt`]; until that is said again, for none. Their counts start over.
    ///
    /// # Errors
    /// When a map cannot be written: what was done by then stays, and exempts no more than was meant.
    pub fn set_exemptions(&self, rules: &[Exempt]) -> Result<(), RedirectError> {
        let mut state = self.state();
        let maps = &mut state.exempt;
        // No cgroup's bits may mean another rule than they did, not for a moment.
        let cgroups: Vec<u64> = maps.of.keys().filter_map(Result::ok).collect();
        for cgroup in cgroups {
            maps.of.remove(&cgroup).map_err(map_failed("EXEMPT_OF"))?;
        }
        for i in 0..MAX_EXEMPT {
            let rule = rules.get(i).copied().unwrap_or_default();
            let i = u32::try_from(i).unwrap_or(u32::MAX);
            maps.rules.set(i, rule, 0).map_err(map_failed("EXEMPT"))?;
            maps.used.set(i, 0, 0).map_err(map_failed("EXEMPT_USED"))?;
        }
        Ok(())
    }

    /// Says which rules are for a tagged cgroup: bit `i` for the `i`th of [`Self::set_exemptions`].
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn exempt(&self, id: CgroupId, rules: u64) -> Result<(), RedirectError> {
        let mut state = self.state();
        let done = state.exempt.of.insert(id.0, rules, 0);
        done.map_err(map_failed("EXEMPT_OF"))
    }

    /// Ends the `i`th rule, whatever its time.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn end_exemption(&self, i: usize) -> Result<(), RedirectError> {
        let mut state = self.state();
        let rules = &mut state.exempt.rules;
        let i = u32::try_from(i).unwrap_or(u32::MAX);
        let rule = rules.get(&i, 0).map_err(map_failed("EXEMPT"))?;
        let ended = Exempt { until_ns: 0, ..rule };
        rules.set(i, ended, 0).map_err(map_failed("EXEMPT"))
    }

    /// How often each of the first `count` rules was used: connects, sends and packets.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn exemptions_used(&self, count: usize) -> Result<Vec<u64>, RedirectError> {
        let state = self.state();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        (0..count)
            .map(|i| state.exempt.used.get(&i, 0).map_err(map_failed("EXEMPT_USED")))
            .collect()
    }
}
