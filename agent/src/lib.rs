//! Portcullis: a host agent that gates everything an AI agent's processes do on a host.
//!
//! `ARCHITECTURE.md` beside this crate has the life of a connection and the direction of imports.

pub mod app;
pub mod approval;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connection;
pub mod console;
pub mod credential;
pub mod detect;
pub mod doctor;
pub mod drain;
pub mod gate;
pub mod identity;
pub mod io;
pub mod ledger;
pub mod mask;
pub mod model;
pub mod policy;
pub mod protocol;
pub mod reconcile;
pub mod redirect;
pub mod selftest;
pub mod ship;
pub mod telemetry;
pub mod tls;
