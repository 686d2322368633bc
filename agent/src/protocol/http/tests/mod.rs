//! Whole connections over in-memory streams: real gate, policy, masking and ledger, a made-up destination.

mod fuzzed;
mod held;
mod injected;
mod masked;
mod refused;
mod relayed;

use super::Http;
use crate::{
    gate::testing::Rig,
    protocol::conformance::{Turn, Upstream, Went, exchange},
};

const END: &[u8] = b"\r\n\r\n";

async fn run(policy: &str, turns: &[Turn], sent: &[&[u8]]) -> Went {
    let rig = Rig::new(policy);
    exchange(&rig, &Http, None, &Upstream::new(turns), sent).await
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
