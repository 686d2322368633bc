//! PostgreSQL (frontend/backend protocol 3.0 and 3.2).

mod catalog;
mod deny;
pub mod frame;
mod lineage;
mod login;
mod operation;
pub mod record;
mod session;
mod sql;
pub mod value;
