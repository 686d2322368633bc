//! Credentials against files, and against small real servers that speak what the sources speak.

mod fake_vault;
mod files;
mod oauth;
mod rig;
mod sts;
mod vault;

use super::*;
