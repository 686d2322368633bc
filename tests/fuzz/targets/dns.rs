//! DNS: messages, and streams of them.

use anyhow::Result;
use portcullis::protocol::dns::fuzzing::{fuzz_dns_frames, fuzz_dns_message};

use super::{Target, cut};

/// One message, and the same bytes as a stream.
pub struct Dns;

impl Target for Dns {
    fn name(&self) -> &'static str {
        "dns"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        let seeds: [&[u8]; 5] = [
            b"\xbe\xef\x01\0\0\x01\0\0\0\0\0\0\x02db\x08internal\0\0\x01\0\x01",
            b"\xbe\xef\x01\x20\0\x01\0\0\0\0\0\x01\x02db\x08internal\0\0\x1c\0\x01\0\0\x29\x04\xd0\0\0\x80\0\0\x0c\0\x0a\0\x0812345678",
            b"\0\x1d\xbe\xef\x01\0\0\x01\0\0\0\0\0\0\x02db\x08internal\0\0\x01\0\x01\0\0",
            b"\xbe\xef\x28\0\0\x01\0\0\0\x01\0\0\x01a\0\0\x06\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x04\x7f\0\0\x01",
            b"\xbe\xef\x01\0\0\x01\0\0\0\0\0\0\xc0\x0c\0\x01\0\x01",
        ];
        seeds.map(<[u8]>::to_vec).into()
    }

    fn check(&mut self, input: &[u8], random: u64) -> Result<()> {
        fuzz_dns_message(input);
        let (head, tail) = cut(input, random);
        fuzz_dns_frames(head, tail);
        Ok(())
    }
}
