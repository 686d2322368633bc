//! What the ledger is shipped to: real receivers, and what they got.

mod collector;
mod http;
mod install;
mod ocsf;
mod rig;
mod syslog;
