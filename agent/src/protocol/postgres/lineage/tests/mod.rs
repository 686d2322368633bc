//! Lineage over a made-up database: what is masked, what is not, and what is looked up.

mod clean;
mod facts;
mod server;
mod tainted;
