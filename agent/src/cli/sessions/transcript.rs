//! What went over a PostgreSQL connection for one operation, from its recorded messages: statements and their
//! parameters, result tables, what COPY carried, notices and errors.
//!
//! Bounded: of each result only so many rows are kept, all are counted.

use serde::Serialize;

use crate::protocol::postgres::{
    frame::{self, Fault, Reader},
    value::{Format, show},
};

/// One operation's messages.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Transcript {
    /// From the workload.
    pub(super) sent: Vec<Sent>,
    /// From the destination.
    pub(super) received: Vec<Received>,
    /// The record ends in the middle, or what follows is no message.
    pub(super) cut: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Sent {
    /// A query string, or one that was prepared.
    Statement {
        text: String,
        prepared_as: Option<String>,
    },
    /// Values for a prepared statement.
    Parameters {
        statement: String,
        values: Vec<Option<String>>,
    },
    /// Rows for COPY ... FROM STDIN.
    Copy(Copy),
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Received {
    /// A result.
    Table(Table),
    /// Rows of COPY ... TO STDOUT.
    Copy(Copy),
    /// How a statement ended: `SELECT 3`.
    Done { tag: String },
    /// A notice or an error.
    Message {
        severity: String,
        code: String,
        text: String,
    },
    /// The limit of rows that the workload asked for was reached.
    Suspended,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    /// The first rows, `null` for NULL.
    pub(super) rows: Vec<Vec<Option<String>>>,
    /// How many there were.
    pub(super) total: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) type_oid: u32,
    #[serde(skip)]
    pub(super) format: Option<Format>,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Copy {
    /// The first lines; none of the binary format.
    pub(super) lines: Vec<String>,
    /// How many CopyData messages there were; servers send one for each row.
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// Reads both directions of an operation; keeps `rows` rows of each result.
pub(super) fn read(up: &[u8], down: &[u8], rows: usize) -> Transcript {
    let mut reading = Reading {
        rows,
        ..Reading::default()
    };
    let whole = reading.all(up, Reading::up);
    let whole = reading.all(down, Reading::down) && whole;
    Transcript {
        sent: reading.sent,
        received: reading.received,
        cut: !whole,
    }
}

#[derive(Default)]
struct Reading {
    rows: usize,
    sent: Vec<Sent>,
    received: Vec<Received>,
    /// Types of parameters, by the statement's name.
    types: Vec<(String, Vec<u32>)>,
    /// The formats that each Bind asked for.
    formats: Vec<Vec<i16>>,
}

impl Reading {
    fn all(&mut self, bytes: &[u8], one: fn(&mut Self, u8, &[u8]) -> Result<(), Fault>) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Ok(Some(message)) = frame::message(rest, usize::MAX) else {
                return false;
            };
            if one(self, message.tag, message.body).is_err() {
                return false;
            }
            rest = &rest[message.len()..];
        }
        true
    }

    fn up(&mut self, tag: u8, body: &[u8]) -> Result<(), Fault> {
        let mut reader = Reader::new(body);
        match tag {
            b'Q' => self.sent.push(Sent::Statement {
                text: text(reader.cstr()?),
                prepared_as: None,
            }),
            b'P' => {
                let name = text(reader.cstr()?);
                let statement = text(reader.cstr()?);
                let types = (0..reader.count()?).map(|_| reader.u32());
                let types = types.collect::<Result<_, _>>()?;
                self.types.push((name.clone(), types));
                // The agent records one without text for its types; the entry has the text.
                if !statement.is_empty() {
                    self.sent.push(Sent::Statement {
                        text: statement,
                        prepared_as: Some(name),
                    });
                }
            }
            b'B' => self.bind(&mut reader)?,
            b'd' => {
                if !matches!(self.sent.last(), Some(Sent::Copy(_))) {
                    self.sent.push(Sent::Copy(Copy::default()));
                }
                if let Some(Sent::Copy(copy)) = self.sent.last_mut() {
                    copy.add(body, self.rows);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn bind(&mut self, reader: &mut Reader<'_>) -> Result<(), Fault> {
        reader.cstr()?;
        let statement = text(reader.cstr()?);
        let formats = codes(reader)?;
        let types = self.types.iter().rev().find(|(name, _)| *name == statement);
        let types = types.map_or(&[][..], |(_, types)| types);
        let mut values = Vec::new();
        for n in 0..reader.count()? {
            let oid = types.get(n).copied().unwrap_or(0);
            let format = format(&formats, n);
            values.push(reader.value()?.map(|value| show::text(oid, format, value)));
        }
        self.formats.push(codes(reader)?);
        self.sent.push(Sent::Parameters { statement, values });
        Ok(())
    }

    fn down(&mut self, tag: u8, body: &[u8]) -> Result<(), Fault> {
        let mut reader = Reader::new(body);
        match tag {
            b'T' => {
                let columns = self.columns(&mut reader)?;
                self.received.push(Received::Table(Table {
                    columns,
                    ..Table::default()
                }));
            }
            b'D' => self.row(&mut reader)?,
            b'C' => self.received.push(Received::Done {
                tag: text(reader.cstr()?),
            }),
            b's' => self.received.push(Received::Suspended),
            b'd' => {
                if !matches!(self.received.last(), Some(Received::Copy(_))) {
                    self.received.push(Received::Copy(Copy::default()));
                }
                if let Some(Received::Copy(copy)) = self.received.last_mut() {
                    copy.add(body, self.rows);
                }
            }
            b'N' | b'E' => {
                let mut fields = [String::new(), String::new(), String::new()];
                loop {
                    match reader.u8()? {
                        0 => break,
                        b'S' => fields[0] = text(reader.cstr()?),
                        b'C' => fields[1] = text(reader.cstr()?),
                        b'M' => fields[2] = text(reader.cstr()?),
                        _ => {
                            reader.cstr()?;
                        }
                    }
                }
                let [severity, code, text] = fields;
                self.received.push(Received::Message { severity, code, text });
            }
            _ => {}
        }
        Ok(())
    }

    fn columns(&self, reader: &mut Reader<'_>) -> Result<Vec<Column>, Fault> {
        // The description of a statement does not know the formats that a Bind asks for.
        let asked = match &self.formats[..] {
            [formats] => Some(formats),
            _ => None,
        };
        let mut columns = Vec::new();
        for n in 0..reader.count()? {
            let name = text(reader.cstr()?);
            // Table and attribute.
            reader.take(6)?;
            let type_oid = reader.u32()?;
            // Length and modifier.
            reader.take(6)?;
            let own = Format::from_code(reader.i16()?);
            columns.push(Column {
                name,
                type_oid,
                format: asked.map_or(own, |f| Some(format(f, n))),
            });
        }
        Ok(columns)
    }

    fn row(&mut self, reader: &mut Reader<'_>) -> Result<(), Fault> {
        let count = reader.count()?;
        if !matches!(self.received.last(), Some(Received::Table(_))) {
            self.received.push(Received::Table(Table::default()));
        }
        let Some(Received::Table(table)) = self.received.last_mut() else {
            return Ok(());
        };
        table.total += 1;
        if table.rows.len() >= self.rows {
            return Ok(());
        }
        let mut row = Vec::new();
        for n in 0..count {
            let column = table.columns.get(n);
            let oid = column.map_or(0, |c| c.type_oid);
            let format = column.and_then(|c| c.format).unwrap_or(Format::Text);
            row.push(reader.value()?.map(|value| show::text(oid, format, value)));
        }
        table.rows.push(row);
        Ok(())
    }
}

impl Copy {
    fn add(&mut self, payload: &[u8], rows: usize) {
        const SIGNATURE: &[u8] = b"PGCOPY\n\xFF\r\n\0";
        self.messages += 1;
        let binary = payload.starts_with(SIGNATURE) || self.bytes > 0 && self.lines.is_empty() && rows > 0;
        self.bytes += payload.len() as u64;
        if !binary && self.lines.len() < rows {
            let line = payload.strip_suffix(b"\n").unwrap_or(payload);
            self.lines.push(text(line));
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn codes(reader: &mut Reader<'_>) -> Result<Vec<i16>, Fault> {
    (0..reader.count()?).map(|_| reader.i16()).collect()
}

/// None for all text, one for all, or one for each.
fn format(codes: &[i16], n: usize) -> Format {
    let code = if codes.len() == 1 {
        codes.first()
    } else {
        codes.get(n)
    };
    code.and_then(|c| Format::from_code(*c)).unwrap_or(Format::Text)
}
