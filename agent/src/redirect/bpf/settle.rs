//! What the kernel has counted of redirected connections, and what is between a SYN and the accept queue now.

use std::collections::BTreeMap;

use aya::maps::{HashMap, Map, MapData};
use portcullis_abi as abi;

use super::control::{Control, map_failed};
use crate::{model::CgroupId, redirect::RedirectError};

/// One tagged cgroup's counters, and how many of its connections are in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Since it was tagged.
    pub counters: abi::Counters,
    /// Sent, and neither accepted nor abandoned yet.
    pub in_flight: u64,
}

impl Control {
    /// Every tagged cgroup's counters and connections in flight. The two are read one after the other: what is on its
    /// way meanwhile may be in both or in neither.
    ///
    /// Blocks for some microseconds, and some milliseconds where thousands are in flight.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn counted(&self) -> Result<BTreeMap<CgroupId, Counted>, RedirectError> {
        let mut all: BTreeMap<CgroupId, Counted> = self
            .counters()?
            .into_iter()
            .map(|(id, counters)| {
                (
                    id,
                    Counted {
                        counters,
                        in_flight: 0,
                    },
                )
            })
            .collect();
        for record in self.in_flight()? {
            if let Some(counted) = all.get_mut(&CgroupId(record.tagged)) {
                counted.in_flight += 1;
            }
        }
        Ok(all)
    }

    fn in_flight(&self) -> Result<Vec<abi::Record>, RedirectError> {
        let failed = || map_failed("INFLIGHT");
        let pin = self.state().pins.map("INFLIGHT");
        let data = MapData::from_pin(pin).map_err(failed())?;
        let map = HashMap::<_, abi::Flow, abi::Record>::try_from(Map::LruHashMap(data)).map_err(failed())?;
        let values = map.iter().filter_map(Result::ok);
        // A map that changes while it is walked can be walked in circles: no more than it can hold.
        Ok(values.take(abi::MAX_INFLIGHT).map(|(_, record)| record).collect())
    }
}
