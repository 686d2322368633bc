//! PostgreSQL (frontend/backend protocol 3.0 and 3.2).

mod catalog;
pub mod frame;
mod lineage;
mod login;
mod sql;
pub mod value;
