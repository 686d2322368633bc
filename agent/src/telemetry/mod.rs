//! Log lines and metrics. An entry in the ledger is the record; these are for people who look at the agent itself.

mod log;
mod metrics;

pub use log::{LogError, init};
pub use metrics::{Held, Metrics};
