//! PostgreSQL (frontend/backend protocol 3.0 and 3.2).

mod catalog;
mod deny;
mod frame;
mod lineage;
mod login;
mod sql;
mod value;
