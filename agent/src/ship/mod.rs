//! Shipping: forms of events.
pub mod ocsf;
#[cfg(any(test, feature = "testing"))]
pub mod samples;
pub mod view;
