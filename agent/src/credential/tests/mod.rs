//! Credentials against files, and against small real servers that speak what the sources speak.

mod files;
mod rig;

use super::*;
