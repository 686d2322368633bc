//! Typed values of any bytes: masked, refused or left alone, however they are cut.

use std::sync::{Arc, OnceLock};

use bytes::BytesMut;

use super::{
    super::{
        frame::{self, Fault, Reader},
        value::{self, Column, CopyMasker, CopyOptions, CopySyntax, Format, RowMasker, Scope, Treatment},
    },
    chosen,
    types::{Made, OIDS},
};
use crate::{
    config,
    mask::{Counts, MaskRules},
};

/// The most of a COPY row, bytes.
const ROW: usize = 4096;

fn rules() -> Option<&'static Arc<MaskRules>> {
    static RULES: OnceLock<Option<Arc<MaskRules>>> = OnceLock::new();
    RULES
        .get_or_init(|| {
            MaskRules::new(&config::Mask::default(), &[7; 32])
                .ok()
                .map(Arc::new)
        })
        .as_ref()
}

/// One byte says how many columns there are, one each what they are; the rest is a row, COPY data, a Bind.
pub fn fuzz_postgres_value(data: &[u8]) {
    let Some((rules, (kind, rest))) = rules().zip(data.split_first()) else {
        return;
    };
    let (columns, rest) = rest.split_at(usize::from(kind % 4).min(rest.len()));
    let columns: Vec<Column> = columns.iter().map(|byte| column(rules, *byte)).collect();
    row(rules, &columns, rest);
    let syntax = [CopySyntax::Text, CopySyntax::Csv, CopySyntax::Binary][usize::from(kind / 4 % 3)];
    copy(rules, &columns, syntax, rest);
    bind(rules, &columns, rest);
}

fn column(rules: &MaskRules, byte: u8) -> Column {
    let whole = ["us_ssn", "email", "derived"][usize::from(byte % 3)];
    let whole = rules.classes().id(whole).filter(|_| byte & 128 != 0);
    Column {
        type_oid: OIDS[usize::from(byte) % OIDS.len()],
        type_mod: [-1, 12][usize::from(byte / 64 % 2)],
        format: [Format::Text, Format::Binary][usize::from(byte / 32 % 2)],
        treatment: whole.map_or(Treatment::Scan, Treatment::Mask),
    }
}

/// What a masked row becomes is a row of as many columns, and the same each time.
fn row(rules: &Arc<MaskRules>, columns: &[Column], body: &[u8]) {
    let masked = || {
        let mut masker = RowMasker::new(Arc::clone(rules), rules.all(), columns.to_vec(), &Made);
        let mut out = BytesMut::new();
        (masker.row(body, &mut out), out)
    };
    let (changed, out) = masked();
    assert_eq!((changed, &out), (masked().0, &masked().1));
    if changed != Ok(true) {
        assert!(out.is_empty(), "appended without saying so");
        return;
    }
    let read = || -> Result<usize, Fault> {
        let message = frame::message(&out, usize::MAX)?.ok_or(Fault::Truncated)?;
        assert_eq!(message.len(), out.len());
        let mut r = Reader::new(message.body);
        let count = r.count()?;
        for _ in 0..count {
            r.value()?;
        }
        r.end()?;
        Ok(count)
    };
    assert_eq!(read(), Ok(columns.len()), "{}", out.escape_ascii());
}

/// COPY data is the same however it is cut.
fn copy(rules: &Arc<MaskRules>, columns: &[Column], syntax: CopySyntax, data: &[u8]) {
    let masked = |pieces: &[&[u8]]| -> Result<Vec<u8>, Fault> {
        let mut masker = CopyMasker::new(
            Arc::clone(rules),
            rules.all(),
            CopyOptions::new(syntax),
            columns.to_vec(),
            &Made,
            ROW,
        );
        let mut all = BytesMut::new();
        for piece in pieces {
            if masker.push(piece, &mut all)? {
                all.extend_from_slice(piece);
            }
            assert!(
                masker.held() <= ROW + piece.len(),
                "{} bytes are held",
                masker.held()
            );
        }
        masker.finish(&mut all)?;
        Ok(all.to_vec())
    };
    let (head, tail) = data.split_at(chosen(data, data.len()));
    assert_eq!(masked(&[data]), masked(&[head, tail]));
}

/// Parameters, for the record: a Bind stays one.
fn bind(rules: &Arc<MaskRules>, columns: &[Column], body: &[u8]) {
    let types: Vec<u32> = columns.iter().map(|c| c.type_oid).collect();
    let scope = Scope {
        rules,
        classes: rules.all(),
        types: &Made,
    };
    let treatment = columns.first().map_or(Treatment::Scan, |c| c.treatment);
    let mut out = BytesMut::new();
    if value::bind(scope, treatment, body, &types, &mut Counts::default(), &mut out).is_err() {
        assert!(out.is_empty(), "appended what is no Bind");
    } else {
        let message = frame::message(&out, usize::MAX).ok().flatten();
        assert_eq!(message.map(|m| m.len()), Some(out.len()));
        if super::super::session::bound(body).is_ok() {
            assert!(message.is_some_and(|m| super::super::session::bound(m.body).is_ok()));
        }
    }
}
