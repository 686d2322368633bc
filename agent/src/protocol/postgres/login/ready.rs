//! From the server's consent to its first ReadyForQuery.

use std::{collections::BTreeMap, sync::Arc};

use bytes::BufMut as _;

use super::{
    super::{
        frame::{Fault, Reader, put_cstr, write},
        startup::{KEY_LIMIT, Version},
    },
    cancel::{Cancels, Registered},
    encoding,
    refusal::Refusal,
    route::Route,
    talk::{Failed, Talk, confused, error_code},
    target::Target,
};
use crate::{gate::Gate, model::Reason};

/// The most settings that a server reports, and bytes of them.
const PARAMETERS: usize = 256;

/// What the server said by then.
#[derive(Debug, Default)]
pub struct Ready {
    /// Its settings (ParameterStatus), by the name that it gave.
    pub parameters: BTreeMap<Box<str>, Box<str>>,
    /// The connection's place among those that can be cancelled.
    pub cancel: Option<Registered>,
}

/// What is needed to give the workload a key of its own.
pub struct Keys<'a> {
    /// Those that can be cancelled.
    pub cancels: &'a Arc<Cancels>,
    /// The connection's gate.
    pub gate: &'a Gate,
    /// The way to the server.
    pub route: &'a Route,
    /// The database.
    pub target: &'a Target,
    /// The version that both sides speak.
    pub version: Version,
}

impl Ready {
    /// Passes on what the server says until it is ready; ReadyForQuery itself stays in its input.
    pub async fn wait(&mut self, talk: &mut Talk<'_>, keys: &Keys<'_>) -> Result<usize, Failed> {
        loop {
            let (tag, length) = talk.next().await?;
            match tag {
                b'S' => {
                    self.learn(talk.body(length)?)?;
                    talk.relay(length)?;
                }
                b'K' if self.cancel.is_none() => self.key(talk, length, keys)?,
                b'N' => talk.relay_words(tag, length)?,
                b'E' => return Err(talk.error(length)?),
                b'Z' => {
                    let mut r = Reader::new(talk.body(length)?);
                    let state = r.u8()?;
                    r.end()?;
                    if state != b'I' {
                        return Err(confused("it is in a transaction before the first statement"));
                    }
                    return Ok(length);
                }
                other => return Err(confused(Fault::Unexpected(other))),
            }
        }
    }

    /// Takes a role, and makes sure that it was taken. ReadyForQuery is in the server's input before and after.
    pub async fn set_role(
        &mut self,
        talk: &mut Talk<'_>,
        length: usize,
        role: &str,
    ) -> Result<usize, Failed> {
        talk.skip(length)?;
        let statement = format!("SET ROLE \"{}\"", role.replace('"', "\"\""));
        write(&mut talk.up()?.output, b'Q', |out| {
            put_cstr(out, statement.as_bytes())
        });
        let mut taken = false;
        loop {
            let (tag, length) = talk.next().await?;
            match tag {
                b'C' if talk.body(length)? == b"SET\0" => {
                    taken = true;
                    talk.skip(length)?;
                }
                b'E' => {
                    let code = error_code(talk.body(length)?)?;
                    return Err(Failed::Refused(Refusal {
                        hint: Some("Do not retry. Tell the host's administrator."),
                        ..Refusal::new(
                            Reason::PolicyForbid,
                            format!("Portcullis could not take the role \"{role}\" (SQLSTATE {code})"),
                        )
                    }));
                }
                b'S' => {
                    self.learn(talk.body(length)?)?;
                    talk.relay(length)?;
                }
                b'N' => talk.relay_words(tag, length)?,
                b'Z' if taken && talk.body(length)? == b"I" => return Ok(length),
                b'Z' => return Err(confused("it did not take a role, and did not say why")),
                other => return Err(confused(Fault::Unexpected(other))),
            }
        }
    }

    fn learn(&mut self, body: &[u8]) -> Result<(), Failed> {
        let mut r = Reader::new(body);
        let (name, value) = (r.text()?, r.text()?);
        r.end()?;
        if name == "client_encoding" && !encoding::is_ascii_safe(value) {
            return Err(Failed::Refused(encoding_refused(value)));
        }
        if self.parameters.len() >= PARAMETERS && !self.parameters.contains_key(name) {
            return Err(confused("it has too many settings"));
        }
        self.parameters.insert(name.into(), value.into());
        Ok(())
    }

    /// Puts a key made here in place of the server's.
    fn key(&mut self, talk: &mut Talk<'_>, length: usize, keys: &Keys<'_>) -> Result<(), Failed> {
        let long = keys.version >= Version::V3_2;
        let mut r = Reader::new(talk.body(length)?);
        let process = r.u32()?;
        let key = r.rest();
        let fits = if long {
            (4..=KEY_LIMIT).contains(&key.len())
        } else {
            key.len() == 4
        };
        if !fits {
            return Err(confused(Fault::Fields));
        }
        let registered = keys
            .cancels
            .register(keys.gate, (process, key), (keys.route, keys.target), long);
        talk.skip(length)?;
        write(&mut talk.wire.down.output, b'K', |out| {
            out.put_u32(process);
            out.put_slice(registered.key());
        });
        self.cancel = Some(registered);
        Ok(())
    }
}

/// Text in an encoding that cannot be read here.
#[must_use]
pub fn encoding_refused(name: &str) -> Refusal {
    let shown: String = name.chars().filter(char::is_ascii_graphic).take(40).collect();
    Refusal {
        hint: Some("Set client_encoding to UTF8."),
        ..Refusal::new(
            Reason::EncodingUnreadable,
            format!(
                "client_encoding \"{shown}\" is not carried: bytes of its characters can be taken for quotes"
            ),
        )
    }
}
