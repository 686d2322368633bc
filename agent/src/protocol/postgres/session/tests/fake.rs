//! A made-up server.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{BufMut as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::super::super::frame::{self, HEADER, Reader, put_cstr, put_value, write};

/// One column: name, table, number, type.
pub(super) type Col = (&'static str, u32, i16, u32);

/// What the server answers to a statement.
#[derive(Clone, Default)]
pub(super) struct Canned {
    pub(super) columns: Vec<Col>,
    pub(super) rows: Vec<Vec<&'static str>>,
    pub(super) tag: &'static str,
    /// It fails so: SQLSTATE and message.
    pub(super) error: Option<(&'static str, &'static str)>,
    /// COPY: data to send, or data to take when there is none.
    pub(super) copy: Option<Vec<&'static str>>,
}

impl Canned {
    pub(super) fn rows(columns: &[Col], rows: &[&[&'static str]]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: rows.iter().map(|r| r.to_vec()).collect(),
            tag: "SELECT",
            ..Self::default()
        }
    }

    pub(super) fn tag(tag: &'static str) -> Self {
        Self {
            tag,
            ..Self::default()
        }
    }

    pub(super) fn fails(code: &'static str, message: &'static str) -> Self {
        Self {
            error: Some((code, message)),
            ..Self::default()
        }
    }
}

/// All that the server was sent, message by message.
pub(super) type Heard = Arc<Mutex<Vec<(u8, Vec<u8>)>>>;

#[derive(Default)]
pub(super) struct Fake {
    /// By statement text.
    pub(super) canned: HashMap<&'static str, Canned>,
    /// What a look-up finds.
    pub(super) catalog: String,
    pub(super) heard: Heard,
    /// A ParameterStatus that it sends first.
    pub(super) says_at_start: Option<(&'static str, &'static str)>,
    /// It goes away when it is sent this.
    pub(super) dies_at: Option<&'static str>,
    /// It sends rows without a RowDescription.
    pub(super) forgets_columns: bool,
    statements: HashMap<Vec<u8>, String>,
    portals: HashMap<Vec<u8>, String>,
    failed: bool,
    active: bool,
    skipping: bool,
    copying_in: bool,
    /// In a simple query.
    simple: bool,
}

impl Fake {
    pub(super) fn new(canned: &[(&'static str, Canned)]) -> Self {
        Self {
            canned: canned.iter().cloned().collect(),
            catalog: "{}".into(),
            ..Self::default()
        }
    }

    /// Serves until the other side ends.
    pub(super) async fn serve(mut self, mut stream: DuplexStream) {
        let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
        if let Some((name, value)) = self.says_at_start {
            write(&mut out, b'S', |out| {
                put_cstr(out, name.as_bytes());
                put_cstr(out, value.as_bytes());
            });
            let _ = stream.write_all(&out.split()).await;
        }
        loop {
            while let Ok(Some(message)) = frame::message(&input, 1 << 30) {
                let (tag, body) = (message.tag, message.body.to_vec());
                let _ = input.split_to(HEADER + body.len());
                self.heard
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push((tag, body.clone()));
                let dies = self
                    .dies_at
                    .is_some_and(|at| body.windows(at.len()).any(|w| w == at.as_bytes()));
                if tag == b'X' || dies {
                    return;
                }
                self.message(tag, &body, &mut out);
                // As the server does: answers leave with Sync, Flush, a simple query's end, or when COPY waits.
                let leave = matches!(tag, b'S' | b'H' | b'Q' | b'c' | b'f' | b'F')
                    || self.copying_in
                    || out.len() > 8192;
                if leave && stream.write_all(&out.split()).await.is_err() {
                    return;
                }
            }
            if stream.read_buf(&mut input).await.unwrap_or(0) == 0 {
                return;
            }
        }
    }

    fn message(&mut self, tag: u8, body: &[u8], out: &mut BytesMut) {
        let mut r = Reader::new(body);
        match tag {
            b'S' if self.copying_in => {}
            b'S' => {
                self.skipping = false;
                self.ready(out);
            }
            b'd' => {}
            b'c' | b'f' if self.copying_in => {
                self.copying_in = false;
                if tag == b'c' {
                    self.complete("COPY 1", out);
                } else {
                    self.error("57014", "COPY from stdin failed", out);
                }
                if self.simple {
                    self.simple = false;
                    self.ready(out);
                }
            }
            _ if self.skipping => {}
            b'Q' => self.query(r.text().unwrap(), out),
            b'P' => {
                let (name, text) = (r.cstr().unwrap(), r.text().unwrap());
                if self.refuses(text, out) {
                    return;
                }
                if !name.is_empty() && name != b"portcullis" && self.statements.contains_key(name) {
                    return self.error("42P05", "prepared statement already exists", out);
                }
                self.statements.insert(name.to_vec(), text.into());
                write(out, b'1', |_| {});
            }
            b'B' => {
                let (portal, name) = (r.cstr().unwrap(), r.cstr().unwrap());
                match self.statements.get(name) {
                    Some(text) => {
                        self.portals.insert(portal.to_vec(), text.clone());
                        write(out, b'2', |_| {});
                    }
                    None => self.error("26000", "prepared statement does not exist", out),
                }
            }
            b'D' => {
                let kind = r.u8().unwrap();
                let name = r.cstr().unwrap();
                let text = if kind == b'S' {
                    self.statements.get(name)
                } else {
                    self.portals.get(name)
                };
                let text = text.cloned().unwrap_or_default();
                if kind == b'S' {
                    write(out, b't', |out| out.put_i16(0));
                }
                self.describe(&text, out);
            }
            b'E' => {
                let text = self.portals.get(r.cstr().unwrap()).cloned().unwrap_or_default();
                self.run(&text, false, out);
            }
            b'C' => {
                let kind = r.u8().unwrap();
                let name = r.cstr().unwrap();
                if kind == b'S' {
                    self.statements.remove(name);
                } else {
                    self.portals.remove(name);
                }
                write(out, b'3', |_| {});
            }
            _ => {}
        }
    }

    fn query(&mut self, text: &str, out: &mut BytesMut) {
        let was = self.failed;
        for part in text.split(';').map(str::trim).filter(|p| !p.is_empty()) {
            self.run(part, true, out);
            if self.skipping || (self.failed && !was) {
                break;
            }
            if self.copying_in {
                self.simple = true;
                return;
            }
        }
        if text.trim().is_empty() {
            write(out, b'I', |_| {});
        }
        self.skipping = false;
        self.ready(out);
    }

    fn refuses(&mut self, text: &str, out: &mut BytesMut) -> bool {
        if text == "denied by portcullis" {
            self.error("42601", "syntax error at or near \"denied\"", out);
            return true;
        }
        if self.failed && !matches!(text, "ROLLBACK" | "COMMIT") {
            self.error("25P02", "current transaction is aborted", out);
            return true;
        }
        false
    }

    fn describe(&self, text: &str, out: &mut BytesMut) {
        if text.contains("pg_catalog") {
            return columns(&[("json", 0, 0, 25)], out);
        }
        match self.canned.get(text) {
            Some(canned) if !canned.columns.is_empty() && !self.forgets_columns => {
                columns(&canned.columns, out)
            }
            _ => write(out, b'n', |_| {}),
        }
    }

    fn run(&mut self, text: &str, describes: bool, out: &mut BytesMut) {
        if self.refuses(text, out) {
            return;
        }
        if text.contains("pg_catalog") {
            let catalog = self.catalog.clone();
            row(&[&catalog], out);
            return self.complete("SELECT 1", out);
        }
        match text {
            "BEGIN" => self.active = true,
            "COMMIT" | "ROLLBACK" => (self.active, self.failed) = (false, false),
            _ => {}
        }
        let canned = self
            .canned
            .get(text)
            .cloned()
            .unwrap_or_else(|| Canned::tag("OK"));
        if let Some((code, message)) = canned.error {
            return self.error(code, message, out);
        }
        if let Some(data) = &canned.copy {
            let tag = if data.is_empty() { b'G' } else { b'H' };
            write(out, tag, |out| {
                out.put_u8(0);
                out.put_i16(i16::try_from(canned.columns.len()).unwrap());
                for _ in &canned.columns {
                    out.put_i16(0);
                }
            });
            if data.is_empty() {
                self.copying_in = true;
                return;
            }
            for piece in data {
                write(out, b'd', |out| out.extend_from_slice(piece.as_bytes()));
            }
            write(out, b'c', |_| {});
            return self.complete("COPY", out);
        }
        if describes && !self.forgets_columns && !canned.columns.is_empty() {
            columns(&canned.columns, out);
        }
        for values in &canned.rows {
            row(values, out);
        }
        self.complete(canned.tag, out);
    }

    fn complete(&self, tag: &str, out: &mut BytesMut) {
        write(out, b'C', |out| put_cstr(out, tag.as_bytes()));
    }

    fn error(&mut self, code: &str, message: &str, out: &mut BytesMut) {
        write(out, b'E', |out| {
            for (kind, text) in [(b'S', "ERROR"), (b'C', code), (b'M', message)] {
                out.put_u8(kind);
                put_cstr(out, text.as_bytes());
            }
            out.put_u8(0);
        });
        self.skipping = true;
        self.failed |= self.active;
    }

    fn ready(&self, out: &mut BytesMut) {
        let state = match (self.active, self.failed) {
            (true, true) => b'E',
            (true, false) => b'T',
            _ => b'I',
        };
        write(out, b'Z', |out| out.put_u8(state));
    }
}

fn columns(columns: &[Col], out: &mut BytesMut) {
    write(out, b'T', |out| {
        out.put_i16(i16::try_from(columns.len()).unwrap());
        for (name, table, number, kind) in columns {
            put_cstr(out, name.as_bytes());
            out.put_u32(*table);
            out.put_i16(*number);
            out.put_u32(*kind);
            out.put_i16(-1);
            out.put_i32(-1);
            out.put_i16(0);
        }
    });
}

fn row(values: &[&str], out: &mut BytesMut) {
    write(out, b'D', |out| {
        out.put_i16(i16::try_from(values.len()).unwrap());
        for value in values {
            put_value(out, Some(value.as_bytes()));
        }
    });
}
