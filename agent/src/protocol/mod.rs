//! Protocols.
mod http;
