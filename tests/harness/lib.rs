//! What end-to-end tests, the demo and the benchmarks need of a host, and give back: namespaces, cgroups, servers, an
//! issuer, the real daemon, and commands that run as a workload.
//!
//! Everything here needs root. Being unable to run is an error, never a skip.

pub mod backend;
pub mod cgroup;
pub mod child;
pub mod container;
pub mod daemon;
pub mod haproxy;
pub mod issuer;
pub mod knot;
pub mod ledger;
pub mod manager;
pub mod nginx;
pub mod paths;
pub mod person;
pub mod pki;
pub mod postgres;
pub mod ship;
pub mod shop;
pub mod site;
pub mod wait;
pub mod workload;
pub mod world;
