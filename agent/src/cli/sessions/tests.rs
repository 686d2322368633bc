use bytes::{BufMut as _, BytesMut};

use super::{
    plain, tables,
    transcript::{self, Received, Sent},
};
use crate::protocol::postgres::frame;

#[test]
fn nothing_drives_the_terminal() {
    assert_eq!(plain("/tmp/\x1b[2Ja\u{9b}1m\n\tb"), "/tmp/.[2Ja.1m.\tb");
}

fn message(out: &mut BytesMut, tag: u8, body: &[u8]) {
    frame::write(out, tag, |out| out.put_slice(body));
}

/// Columns of name, type and format.
fn description(columns: &[(&str, u32, i16)]) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_u16(columns.len() as u16);
    for (name, oid, format) in columns {
        frame::put_cstr(&mut body, name.as_bytes());
        body.put_slice(&[0; 6]);
        body.put_u32(*oid);
        body.put_slice(&[0; 6]);
        body.put_i16(*format);
    }
    body
}

fn row(values: &[Option<&[u8]>]) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_u16(values.len() as u16);
    for value in values {
        frame::put_value(&mut body, *value);
    }
    body
}

fn shown(up: &[u8], down: &[u8], rows: usize) -> String {
    let mut out = Vec::new();
    tables::print(&transcript::read(up, down, rows), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn simple() -> (BytesMut, BytesMut) {
    let (mut up, mut down) = (BytesMut::new(), BytesMut::new());
    message(&mut up, b'Q', b"SELECT id, email\nFROM people\0");
    message(&mut down, b'T', &description(&[("id", 23, 0), ("email", 25, 0)]));
    for n in 0..25 {
        message(
            &mut down,
            b'D',
            &row(&[Some(n.to_string().as_bytes()), Some(b"[masked:email]")]),
        );
    }
    message(&mut down, b'D', &row(&[Some(b"26"), None]));
    message(&mut down, b'C', b"SELECT 26\0");
    message(&mut down, b'Z', b"I");
    (up, down)
}

#[test]
fn a_query_and_its_table() {
    let (up, down) = simple();
    assert_eq!(
        shown(&up, &down, 2),
        "  > SELECT id, email\n  > FROM people\n\
         \x20 | id | email          |\n  |----|----------------|\n  | 0  | [masked:email] |\n  | 1  | [masked:email] |\n\
         \x20 ... and 24 more of 26 rows (--rows)\n  < SELECT 26\n"
    );
    let all = shown(&up, &down, 100);
    assert!(all.contains("| 26 | NULL           |") && !all.contains("more of"));
    let json = serde_json::to_value(transcript::read(&up, &down, 1)).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "sent": [{ "kind": "statement", "text": "SELECT id, email\nFROM people", "prepared_as": null }],
            "received": [
                {
                    "kind": "table",
                    "columns": [{ "name": "id", "type_oid": 23 }, { "name": "email", "type_oid": 25 }],
                    "rows": [["0", "[masked:email]"]],
                    "total": 26
                },
                { "kind": "done", "tag": "SELECT 26" }
            ],
            "cut": false
        })
    );
}

#[test]
fn a_record_that_ends_in_the_middle() {
    let (up, down) = simple();
    for n in 0..down.len() {
        let text = shown(&up, &down[..n], 100);
        let whole = transcript::read(&up, &down[..n], 100);
        assert_eq!(text.contains("ends here"), whole.cut);
        assert!(text.starts_with("  > SELECT id"));
    }
    assert!(shown(b"GET / HTTP/1.1", b"", 5).contains("ends here"));
    assert_eq!(shown(b"", b"", 5), "");
    // Rows whose description is not there.
    let mut down = BytesMut::new();
    message(&mut down, b'D', &row(&[Some(b"a"), Some(b"b")]));
    assert!(shown(b"", &down, 5).contains("| a | b |"));
}

#[test]
fn prepared_statements_in_binary() {
    let (mut up, mut down) = (BytesMut::new(), BytesMut::new());
    let mut parse = BytesMut::from(&b"s1\0SELECT * FROM t WHERE a = $1 AND b = $2\0"[..]);
    parse.put_slice(&[0, 2, 0, 0, 0, 23, 0, 0, 0, 25]);
    message(&mut up, b'P', &parse);
    let mut bind = BytesMut::from(&b"\0s1\0"[..]);
    bind.put_slice(&[0, 2, 0, 1, 0, 0]);
    bind.put_slice(&row(&[Some(&[0, 0, 0, 7]), Some(b"x\x1b")]));
    bind.put_slice(&[0, 1, 0, 1]);
    message(&mut up, b'B', &bind);
    message(&mut up, b'E', b"\0\0\0\0\0");
    message(&mut up, b'S', b"");
    // Described before the formats were known.
    message(&mut down, b'T', &description(&[("n", 23, 0), ("on", 1082, 0)]));
    message(&mut down, b'D', &row(&[Some(&[0, 0, 0, 9]), Some(&[0, 0, 0, 0])]));
    message(&mut down, b's', b"");
    message(&mut down, b'N', b"SNOTICE\0C00000\0Mhear \x1b[1m this\0\0");
    assert_eq!(
        shown(&up, &down, 20),
        "  > prepare s1:\n  > SELECT * FROM t WHERE a = $1 AND b = $2\n  > execute s1\n  > $1 = 7\n  > $2 = x.\n\
         \x20 | n | on         |\n  |---|------------|\n  | 9 | 2000-01-01 |\n  < more rows are there\n\
         \x20 < NOTICE 00000: hear .[1m this\n"
    );
}

#[test]
fn parameters_of_a_statement_whose_text_is_in_the_entry() {
    let mut up = BytesMut::new();
    message(&mut up, b'P', b"\0\0\0\x01\0\0\0\x17");
    message(&mut up, b'B', b"\0\0\0\x01\0\x01\0\x01\0\0\0\x04\0\0\0\x07\0\0");
    assert_eq!(shown(&up, b"", 20), "  > $1 = 7\n");
    assert_eq!(transcript::read(&up, b"", 20).sent.len(), 1);
}

#[test]
fn copies_and_long_cells() {
    let (mut up, mut down) = (BytesMut::new(), BytesMut::new());
    message(&mut up, b'Q', b"COPY t TO STDOUT\0");
    for line in ["1\ta\n", "2\tb\n", "3\tc\n"] {
        message(&mut down, b'd', line.as_bytes());
    }
    message(&mut down, b'c', b"");
    message(&mut down, b'C', b"COPY 3\0");
    assert_eq!(
        shown(&up, &down, 2),
        "  > COPY t TO STDOUT\n  < 1 a\n  < 2 b\n  < COPY data: 3 messages, 12 bytes\n  < COPY 3\n"
    );
    let mut binary = BytesMut::new();
    message(&mut binary, b'd', b"PGCOPY\n\xFF\r\n\0\0\0\0\0\0\0\0\0");
    message(&mut binary, b'd', b"\0\x01\0\0\0\x01a");
    let read = transcript::read(&binary, &binary, 20);
    assert!(matches!(&read.sent[..], [Sent::Copy(c)] if c.lines.is_empty() && c.messages == 2));
    assert!(matches!(&read.received[..], [Received::Copy(c)] if c.lines.is_empty() && c.bytes == 26));
    let mut down = BytesMut::new();
    message(&mut down, b'T', &description(&[("long", 25, 0)]));
    message(&mut down, b'D', &row(&[Some("é".repeat(500).as_bytes())]));
    let text = shown(b"", &down, 20);
    assert!(text.contains(&format!("| {}... |", "é".repeat(100))));
}
