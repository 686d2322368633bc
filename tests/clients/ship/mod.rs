//! What the ledger is shipped to: real receivers, and what they got.

mod collector;
mod http;
mod install;
mod jsonl;
mod ocsf;
mod real;
mod rig;
mod syslog;
