//! Detection: what was recognised stays recognised when more bytes come.

use anyhow::{Result, ensure};
use portcullis::{
    detect,
    protocol::{Detection, Hint, Registry},
};

use super::{Target, cut};

pub struct Detect;

impl Target for Detect {
    fn name(&self) -> &'static str {
        "detect"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        vec![
            b"GET / HTTP/1.1\r\nHost: api.internal\r\n\r\n".to_vec(),
            b"\r\nPOST /x HTTP/1.0\r\n\r\n".to_vec(),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03".to_vec(),
            b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f".to_vec(),
            b"*1\r\n$4\r\nPING\r\n".to_vec(),
        ]
    }

    fn check(&mut self, input: &[u8], random: u64) -> Result<()> {
        let (start, _) = cut(input, random);
        let tls = (detect::is_client_hello(start), detect::is_client_hello(input));
        ensure!(tls.0 == Detection::NeedMore || tls.0 == tls.1, "TLS: {tls:?}");
        let original_dst = ([192, 0, 2, 1], 443).into();
        for protocol in Registry::default().iter() {
            let look = |first_bytes| {
                protocol.detect(&Hint {
                    first_bytes,
                    original_dst,
                    tls: random & 1 == 1,
                    alpn: None,
                    declared: None,
                })
            };
            let (early, late) = (look(start), look(input));
            let settled = matches!(early, Detection::Yes | Detection::No);
            ensure!(
                !settled || early == late,
                "{}: {early:?}, then {late:?}",
                protocol.name()
            );
        }
        Ok(())
    }
}
