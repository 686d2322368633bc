//! What the ledger is shipped to: real receivers, and what they got.

mod install;
mod ocsf;
