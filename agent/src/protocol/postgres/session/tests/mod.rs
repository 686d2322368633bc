//! Sessions over in-memory streams: real gate, policy, masking and ledger, and a server that is made up but keeps to the
//! protocol: it skips to Sync after an error, and follows transactions.

mod batches;
mod fake;
mod masked;
mod names;
mod refused;
mod secrets;

use std::{sync::PoisonError, time::Duration};

use bytes::{BufMut as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use self::fake::{Canned, Fake};
use super::{
    super::{
        frame::{self, HEADER, put_cstr, put_value, write},
        login::Established,
    },
    Understanding,
};
use crate::{
    gate::testing::Rig,
    protocol::{
        ProtocolError,
        conformance::DESTINATION,
        wire::{Leg, Wire},
    },
};

/// LISTEN is denied; everything else may go, and nothing is revealed.
const POLICY: &str = r#"
@id("all") permit (principal, action in [Action::"sql:connect", Action::"sql:statement"], resource);
@id("no-listen") @reason("no listening here") forbid (principal, action == Action::"sql:statement", resource)
when { context.sql.verbs.contains("listen") };
"#;

/// What came of an exchange.
struct Went {
    /// Messages that the workload received.
    down: Vec<(u8, Vec<u8>)>,
    /// Messages that the server received.
    up: Vec<(u8, Vec<u8>)>,
    result: Option<Result<(), ProtocolError>>,
    operations: u64,
}

impl Went {
    /// The types of what the workload received.
    fn tags(&self) -> String {
        self.down.iter().map(|(tag, _)| char::from(*tag)).collect()
    }

    fn up_tags(&self) -> String {
        self.up.iter().map(|(tag, _)| char::from(*tag)).collect()
    }

    /// The text of everything that the workload received.
    fn text(&self) -> String {
        let all: Vec<u8> = self.down.iter().flat_map(|(_, body)| body.clone()).collect();
        all.escape_ascii().to_string()
    }

    fn up_text(&self) -> String {
        let all: Vec<u8> = self.up.iter().flat_map(|(_, body)| body.clone()).collect();
        all.escape_ascii().to_string()
    }
}

fn messages(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(message) = frame::message(bytes, 1 << 30).unwrap() {
        all.push((message.tag, message.body.to_vec()));
        bytes = &bytes[HEADER + message.body.len()..];
    }
    assert!(bytes.is_empty(), "half a message: {}", bytes.escape_ascii());
    all
}

/// Sends pieces, waiting after each until nothing comes any more, and then ends.
async fn exchange(rig: &Rig, fake: Fake, pieces: &[&[u8]]) -> Went {
    let gate = rig.gate(DESTINATION, None);
    let heard = std::sync::Arc::clone(&fake.heard);
    let (up, server) = tokio::io::duplex(64 * 1024);
    let (down, workload) = tokio::io::duplex(64 * 1024);
    let server = tokio::spawn(fake.serve(server));
    let established = Established::for_tests(&gate).await;
    let mut wire = Wire::new(Box::new(down));
    wire.up = Some(Leg::new(Box::new(up)));
    let (mut from, mut to) = tokio::io::split(workload);
    let understanding = Understanding::default();
    let served = async {
        let carried = super::serve(established, &mut wire, &gate, &understanding);
        let result = tokio::time::timeout(Duration::from_secs(20), carried).await.ok();
        wire.close(Duration::from_secs(2)).await;
        result
    };
    let work = async move {
        let mut down = BytesMut::new();
        for piece in pieces {
            if to.write_all(piece).await.is_err() {
                break;
            }
            while let Ok(Ok(n)) =
                tokio::time::timeout(Duration::from_millis(60), from.read_buf(&mut down)).await
            {
                if n == 0 {
                    return down;
                }
            }
        }
        let _ = to.shutdown().await;
        while from.read_buf(&mut down).await.unwrap_or(0) > 0 {}
        down
    };
    let (down, result) = tokio::join!(work, served);
    server.abort();
    let up = heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Went {
        down: messages(&down),
        up,
        result,
        operations: gate.operations(),
    }
}

fn server(canned: &[(&'static str, Canned)]) -> Fake {
    Fake::new(canned)
}

fn query(text: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out, b'Q', |out| put_cstr(out, text.as_bytes()));
    out.to_vec()
}

fn parse(name: &str, text: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out, b'P', |out| {
        put_cstr(out, name.as_bytes());
        put_cstr(out, text.as_bytes());
        out.put_i16(0);
    });
    out.to_vec()
}

fn bind(portal: &str, statement: &str, values: &[&str]) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out, b'B', |out| {
        put_cstr(out, portal.as_bytes());
        put_cstr(out, statement.as_bytes());
        out.put_i16(0);
        out.put_i16(i16::try_from(values.len()).unwrap());
        for value in values {
            put_value(out, Some(value.as_bytes()));
        }
        out.put_i16(0);
    });
    out.to_vec()
}

fn describe(kind: u8, name: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out, b'D', |out| {
        out.put_u8(kind);
        put_cstr(out, name.as_bytes());
    });
    out.to_vec()
}

fn execute(portal: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out, b'E', |out| {
        put_cstr(out, portal.as_bytes());
        out.put_i32(0);
    });
    out.to_vec()
}

fn bare(tag: u8) -> Vec<u8> {
    vec![tag, 0, 0, 0, 4]
}

/// Parse, Bind, Describe, Execute, as most libraries send them.
fn run(name: &str, text: &str) -> Vec<u8> {
    [
        parse(name, text),
        bind("", name, &[]),
        describe(b'P', ""),
        execute(""),
    ]
    .concat()
}
