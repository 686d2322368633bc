//! What the ledger is shipped to: real receivers, and what they got.

mod http;
mod install;
mod ocsf;
mod rig;
