//! The parts of HTTP without IO, each alone: thousands of times faster than through the whole agent.

use anyhow::Result;
use portcullis::protocol::http::fuzzing;

use super::{
    Target,
    http::{REQUESTS, RESPONSES, seeds},
};

/// An entry point that panics when a property does not hold.
pub struct Part {
    name: &'static str,
    seeds: &'static [&'static str],
    check: fn(&[u8]),
}

pub const REQUEST: Part = Part {
    name: "http-req",
    seeds: &REQUESTS,
    check: fuzzing::fuzz_http_request,
};
pub const RESPONSE: Part = Part {
    name: "http-resp",
    seeds: &RESPONSES,
    check: fuzzing::fuzz_http_response,
};
pub const TARGET: Part = Part {
    name: "http-url",
    seeds: &[
        "/customers/7?a=b&c",
        "/a/./b/../c;d//e%2ff%20",
        "http://api.internal:8080/x",
        "*",
        "api.internal:443",
    ],
    check: fuzzing::fuzz_http_target,
};
pub const GZIP: Part = Part {
    name: "http-gzip",
    seeds: &[],
    check: fuzzing::fuzz_http_gzip,
};

impl Target for Part {
    fn name(&self) -> &'static str {
        self.name
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        if self.name == GZIP.name {
            return gzip_seeds();
        }
        seeds(self.seeds)
    }

    fn check(&mut self, input: &[u8], _random: u64) -> Result<()> {
        (self.check)(input);
        Ok(())
    }
}

/// `printf 'aa' | gzip -n`, alone and twice.
fn gzip_seeds() -> Vec<Vec<u8>> {
    let one = [
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b, 0x4c, 4, 0, 0xd7, 0x19, 0x8a, 0x07, 2, 0, 0, 0,
    ];
    vec![one.to_vec(), [one, one].concat()]
}
