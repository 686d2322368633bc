//! Tests of typed values. What stands in `fixtures/values.tsv` was made by PostgreSQL, also what is expected: the
//! masked value was given to it as a literal, so that it is one that the type takes.

mod copy;
mod display;
mod parameters;
mod rows;

use std::sync::Arc;

use bytes::BytesMut;

use super::*;
use crate::{
    config,
    mask::MaskRules,
    protocol::postgres::frame::{self, Reader},
};

/// A line of the fixture.
struct Case {
    whole: bool,
    name: &'static str,
    type_oid: u32,
    type_mod: i32,
    text: &'static str,
    binary: Vec<u8>,
    masked_text: Option<&'static str>,
    masked_binary: Option<Vec<u8>>,
}

impl Case {
    fn value(&self, format: Format) -> Vec<u8> {
        match format {
            Format::Text => self.text.into(),
            Format::Binary => self.binary.clone(),
        }
    }
    fn expected(&self, format: Format) -> Option<Vec<u8>> {
        match format {
            Format::Text => self.masked_text.map(Into::into),
            Format::Binary => self.masked_binary.clone(),
        }
    }
    fn column(&self, format: Format, rules: &MaskRules) -> Column {
        Column {
            type_oid: self.type_oid,
            type_mod: self.type_mod,
            format,
            treatment: if self.whole {
                Treatment::Mask(ssn(rules))
            } else {
                Treatment::Scan
            },
        }
    }
}

fn cases() -> Vec<Case> {
    let hex = |text: &str| hex::decode(text).unwrap();
    include_str!("../fixtures/values.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let parts: Vec<&str> = line.split('\t').collect();
            let [
                treatment,
                name,
                oid,
                modifier,
                text,
                binary,
                masked_text,
                masked_binary,
            ] = parts[..]
            else {
                panic!("{line}");
            };
            Case {
                whole: treatment == "mask",
                name,
                type_oid: oid.parse().unwrap(),
                type_mod: modifier.parse().unwrap(),
                text,
                binary: hex(binary),
                masked_text: Some(masked_text).filter(|t| *t != "NULL"),
                masked_binary: Some(masked_binary).filter(|t| *t != "NULL").map(hex),
            }
        })
        .collect()
}

/// The types of the fixture's database.
struct Extra;

impl Types for Extra {
    fn get(&self, oid: u32) -> Option<Type> {
        let array = |element| Type::Array {
            element,
            delimiter: b',',
        };
        Some(match oid {
            16385 => Type::Hstore,
            16513 => Type::Text,
            16624 => Type::Enum,
            16623 => array(16624),
            16631 => Type::Composite {
                fields: vec![(25, -1), (23, -1), (1009, -1)],
            },
            16630 => array(16631),
            16634 => Type::Composite {
                fields: vec![(25, -1), (16631, -1), (20, -1)],
            },
            16636 => Type::Domain {
                base: 20,
                modifier: -1,
            },
            16638 => Type::Domain {
                base: 1043,
                modifier: 24,
            },
            16642 => Type::Range { subtype: 25 },
            16640 => Type::Multirange { range: 16642 },
            _ => return None,
        })
    }
}

fn rules(toml: &str) -> Arc<MaskRules> {
    let config = config::parse(std::path::Path::new("x"), &format!("[mask]\n{toml}")).unwrap();
    Arc::new(MaskRules::new(&config.mask, &[7; 32]).unwrap())
}

fn ssn(rules: &MaskRules) -> ClassId {
    rules.classes().id("us_ssn").unwrap()
}

fn body(values: &[Option<Vec<u8>>]) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.extend_from_slice(&i16::try_from(values.len()).unwrap().to_be_bytes());
    for value in values {
        frame::put_value(&mut out, value.as_deref());
    }
    out.to_vec()
}

/// The values of a DataRow message.
fn values(message: &[u8]) -> Vec<Option<Vec<u8>>> {
    let message = frame::message(message, usize::MAX).unwrap().unwrap();
    assert_eq!(message.tag, b'D');
    let mut reader = Reader::new(message.body);
    let values = (0..reader.count().unwrap())
        .map(|_| reader.value().unwrap().map(<[u8]>::to_vec))
        .collect();
    reader.end().unwrap();
    values
}

/// What a row's values become.
fn masked_row(masker: &mut RowMasker, row: &[Option<Vec<u8>>]) -> Vec<Option<Vec<u8>>> {
    let body = body(row);
    let mut out = BytesMut::from(&b"before"[..]);
    if masker.row(&body, &mut out).unwrap() {
        assert!(out.starts_with(b"before"));
        let message = &out[6..];
        assert_eq!(
            frame::message(message, usize::MAX).unwrap().unwrap().len(),
            message.len()
        );
        values(message)
    } else {
        assert_eq!(&out[..], b"before");
        row.to_vec()
    }
}

fn one(rules: &Arc<MaskRules>, column: Column, value: &[u8]) -> Option<Vec<u8>> {
    let mut masker = RowMasker::new(rules.clone(), rules.all(), vec![column], &Extra);
    masked_row(&mut masker, &[Some(value.to_vec())]).remove(0)
}

fn shown(bytes: Option<&[u8]>) -> String {
    bytes.map_or("NULL".into(), |b| String::from_utf8_lossy(b).into_owned())
}
