//! Questions of our own, put to the server through the workload's session.
//!
//! They are asked in the extended protocol with names of our own, when everything that went up has been answered. In a
//! batch of the workload's that is not synced yet they end with Flush, so that its implicit transaction goes on; else
//! with Sync. An error of theirs can only come from a server that is stopping or out of room; in a batch it has made the
//! server skip to the next Sync, and the workload is told so.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{
    super::{
        frame::{put_cstr, put_value, write},
        record::Field,
    },
    Session, Transaction,
    expect::{Expect, Own},
};
use crate::{model::Reason, protocol::ProtocolError};

/// The name of our statement and portal.
const NAME: &[u8] = b"portcullis";

/// What came of a question.
#[derive(Default)]
pub(super) struct Answers {
    /// The first column of the last row.
    pub(super) value: Option<Bytes>,
    /// Result columns.
    pub(super) columns: Option<Arc<[Field]>>,
    /// The server's error, as it came.
    pub(super) error: Option<Bytes>,
}

impl Session<'_> {
    /// Asks for one value; `None` when it cannot be had now.
    pub(super) async fn ask(
        &mut self,
        sql: &str,
        params: &[Option<Vec<u8>>],
    ) -> Result<Option<Bytes>, ProtocolError> {
        let asked = self.question(sql, run(params)).await?;
        Ok(asked.and_then(|a| a.value))
    }

    /// Asks what a statement's result columns would be, without running it; `None` when that cannot be had now.
    pub(super) async fn describe(&mut self, sql: &str) -> Result<Option<Arc<[Field]>>, ProtocolError> {
        let asked = self
            .question(sql, |out| {
                write(out, b'D', |out| {
                    out.put_u8(b'S');
                    put_cstr(out, NAME);
                });
                &[Own::Describe]
            })
            .await?;
        Ok(asked.and_then(|a| a.columns))
    }

    /// Takes the role again that the host's administrator chose for this connection.
    pub(super) async fn take_role(&mut self) -> Result<(), ProtocolError> {
        self.role_is_lost = false;
        let Some(role) = self.established.set_role.clone() else {
            return Ok(());
        };
        let sql = format!("SET ROLE \"{}\"", role.replace('"', "\"\""));
        match self.question(&sql, run(&[])).await? {
            Some(_) => Ok(()),
            None => Err(self.say_fatal(Reason::UpstreamProtocolError).await),
        }
    }

    async fn question(
        &mut self,
        sql: &str,
        body: impl FnOnce(&mut BytesMut) -> &'static [Own],
    ) -> Result<Option<Answers>, ProtocolError> {
        self.settle().await?;
        if self.discarding || self.transaction == Transaction::Failed {
            return Ok(None);
        }
        let in_batch = self.batch_open;
        let Some(up) = &mut self.wire.up else {
            return Ok(None);
        };
        let out = &mut up.output;
        write(out, b'P', |out| {
            put_cstr(out, NAME);
            put_cstr(out, sql.as_bytes());
            out.put_i16(0);
        });
        self.expected.push(Expect::Own(Own::Parse));
        for own in body(out) {
            self.expected.push(Expect::Own(*own));
        }
        write(out, b'C', |out| {
            out.put_u8(b'S');
            put_cstr(out, NAME);
        });
        self.expected.push(Expect::Own(Own::Close));
        if in_batch {
            write(out, b'H', |_| {});
        } else {
            write(out, b'S', |_| {});
            self.expected.push(Expect::Own(Own::Sync));
        }
        self.answers_to_own = Answers::default();
        while self.expected.has_own() {
            self.wait_for_server().await?;
        }
        let answers = std::mem::take(&mut self.answers_to_own);
        let Some(error) = answers.error else {
            return Ok(Some(answers));
        };
        tracing::warn!(
            "a question to the server failed: {}",
            super::notices::code(&error)
        );
        if in_batch {
            // The server skips what the workload sends until its Sync, so the workload has to know.
            self.wire
                .down
                .output
                .extend_from_slice(&super::notices::interrupted(&error));
            self.discarding = true;
        }
        Ok(None)
    }

    /// An answer to one of our own messages.
    pub(super) fn own_answer(&mut self, own: Own, tag: u8, bytes: &Bytes) -> Result<(), ProtocolError> {
        let body = bytes.slice(super::super::frame::HEADER..);
        match (own, tag) {
            (Own::Execute, b'D') => {
                let mut r = super::super::frame::Reader::new(&body);
                let first = r.count().and_then(|n| if n == 0 { Ok(None) } else { r.value() });
                self.answers_to_own.value = first
                    .map_err(|fault| self.upstream_broke(fault))?
                    .map(|value| body.slice_ref(value));
                return Ok(());
            }
            // Parameter types come first.
            (Own::Describe, b't') => return Ok(()),
            (Own::Describe, b'T') => {
                let fields =
                    super::super::record::fields(&body).map_err(|fault| self.upstream_broke(fault))?;
                self.answers_to_own.columns = Some(fields);
            }
            (Own::Parse, b'1')
            | (Own::Bind, b'2')
            | (Own::Close, b'3')
            | (Own::Execute, b'C')
            | (Own::Describe, b'n') => {}
            (Own::Sync, b'Z') => {
                self.set_transaction(&body)?;
            }
            _ => return Err(self.upstream_broke(super::super::frame::Fault::Unexpected(tag))),
        }
        self.expected.pop();
        Ok(())
    }
}

/// Binds, executes and closes what was parsed.
fn run(params: &[Option<Vec<u8>>]) -> impl FnOnce(&mut BytesMut) -> &'static [Own] + '_ {
    move |out| {
        write(out, b'B', |out| {
            put_cstr(out, NAME);
            put_cstr(out, NAME);
            out.put_i16(0);
            out.put_i16(i16::try_from(params.len()).unwrap_or(i16::MAX));
            for param in params {
                put_value(out, param.as_deref());
            }
            out.put_i16(0);
        });
        write(out, b'E', |out| {
            put_cstr(out, NAME);
            out.put_i32(0);
        });
        write(out, b'C', |out| {
            out.put_u8(b'P');
            put_cstr(out, NAME);
        });
        &[Own::Bind, Own::Execute, Own::Close]
    }
}
