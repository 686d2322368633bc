//! Bytes as what a workload sends: one byte a message, those after it what is in it. Whatever is done to the bytes, most
//! of it stays messages, so that a fuzzer gets at how they follow each other.

use bytes::{BufMut as _, BytesMut};

use super::super::frame::{put_cstr, put_value, write};

/// What a workload does.
#[derive(Debug)]
pub(super) enum Step {
    /// It sends bytes.
    Send(Vec<u8>),
    /// It waits for what is answered.
    Wait,
}

/// Names of statements and portals. The last one is that of the agent's own questions.
const NAMES: [&str; 4] = ["", "a", "b", "portcullis"];

/// Statements, denied ones among them.
pub(super) const TEXTS: [&str; 44] = [
    "SELECT 1",
    "LISTEN evil",
    "DELETE FROM t",
    "DELETE FROM t RETURNING a",
    "SELECT a FROM t",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "SELECT no_parse",
    "SELECT no_bind",
    "SELECT no_run",
    "EXECUTE a",
    "EXECUTE b",
    "DEALLOCATE a",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "PREPARE a AS SELECT 1",
    "PREPARE b AS DELETE FROM t",
    "DECLARE a CURSOR FOR SELECT 1",
    "DECLARE b CURSOR WITH HOLD FOR SELECT 1",
    "FETCH a",
    "FETCH ALL FROM b",
    "CLOSE a",
    "CLOSE ALL",
    "COPY t FROM STDIN",
    "COPY (SELECT 1) TO STDOUT",
    "SELECT 1; LISTEN evil; SELECT 1",
    "BEGIN; SELECT no_run",
    "COMMIT; DELETE FROM t",
    "",
    "SELEC evil",
    "SET standard_conforming_strings = off",
    "RESET standard_conforming_strings",
    r"SELECT '\'; LISTEN evil; --'",
    r"SELECT E'\''",
    "SET client_encoding = 'SJIS'",
    "EXECUTE portcullis",
    "DO $$BEGIN EXECUTE 'x'; END$$",
    "BEGIN; PREPARE a AS SELECT 1; EXECUTE a",
    "COMMIT AND CHAIN",
    "CREATE TABLE u (a int)",
    "SELECT 1; SELECT no_run; SELECT 1",
];

/// The steps that bytes stand for.
pub(super) fn steps(mut data: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some(op) = data.split_off_first() {
        let mut next = || data.split_off_first().copied().unwrap_or(0);
        let message = match op % 19 {
            11 => {
                steps.push(Step::Wait);
                continue;
            }
            12 => {
                let n = usize::from(next() % 32).min(data.len());
                data.split_off(..n).unwrap_or_default().to_vec()
            }
            13 => {
                let (at, with) = (usize::from(next()), next());
                if let Some(Step::Send(last)) = steps.last_mut() {
                    let length = last.len().max(1);
                    if let Some(byte) = last.get_mut(at % length) {
                        *byte ^= with;
                    }
                }
                continue;
            }
            14 => {
                let of = text(next());
                [parse("", of), bind("", ""), describe(b'P', ""), execute("")].concat()
            }
            15 => call(next()),
            op => message(op, &mut next),
        };
        steps.push(Step::Send(message));
    }
    steps
}

fn message(op: u8, next: &mut impl FnMut() -> u8) -> Vec<u8> {
    match op {
        0 | 16 => query(text(next())),
        1 | 17 => {
            let of = name(next());
            parse(of, text(next()))
        }
        2 | 18 => {
            let portal = name(next());
            bind(portal, name(next()))
        }
        3 => execute(name(next())),
        4 => {
            let kind = next();
            describe(if kind & 1 == 0 { b'S' } else { b'P' }, name(kind / 2))
        }
        5 => {
            let kind = next();
            let mut out = BytesMut::new();
            write(&mut out, b'C', |out| {
                out.put_u8(if kind & 1 == 0 { b'S' } else { b'P' });
                put_cstr(out, name(kind / 2).as_bytes());
            });
            out.to_vec()
        }
        6 => bare(b'S'),
        7 => bare(b'H'),
        8 => vec![b'd', 0, 0, 0, 6, b'1', b'\n'],
        9 => bare(b'c'),
        _ => vec![b'f', 0, 0, 0, 6, b'x', 0],
    }
}

fn name(byte: u8) -> &'static str {
    NAMES[usize::from(byte) % NAMES.len()]
}

fn text(byte: u8) -> &'static str {
    TEXTS[usize::from(byte) % TEXTS.len()]
}

fn bare(tag: u8) -> Vec<u8> {
    vec![tag, 0, 0, 0, 4]
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

fn bind(portal: &str, statement: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out, b'B', |out| {
        put_cstr(out, portal.as_bytes());
        put_cstr(out, statement.as_bytes());
        out.put_i16(0);
        out.put_i16(1);
        put_value(out, Some(b"x"));
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

fn call(byte: u8) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out, b'F', |out| {
        out.put_u32(u32::from(byte));
        out.put_i16(0);
        out.put_i16(0);
        out.put_i16(0);
    });
    out.to_vec()
}
