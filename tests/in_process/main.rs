//! The whole agent without the kernel side: no root needed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod approvals;
mod console;
mod gate;
mod inject;
mod people;
mod postgres;
mod postgres_login;
mod rig;
