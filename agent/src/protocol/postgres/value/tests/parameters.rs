use super::*;
use crate::{mask::Counts, protocol::postgres::frame::Fault};

fn scope(rules: &Arc<MaskRules>) -> Scope<'_> {
    Scope {
        rules,
        classes: rules.all(),
        types: &Extra,
    }
}

#[test]
fn parameters_by_type() {
    let rules = rules("");
    let card = 4_111_111_111_111_111i64.to_be_bytes();
    let list: &[(u32, Format, Option<&[u8]>)] = &[
        (0, Format::Text, Some(b"mail a@example.com")),
        (0, Format::Binary, Some(b"mail a@example.com")),
        (0, Format::Binary, Some(&card)),
        (20, Format::Binary, Some(&card)),
        (23, Format::Text, Some(b"7")),
        (25, Format::Text, None),
        (3802, Format::Binary, Some(b"\x01{\"password\": \"x\"}")),
    ];
    let list: Vec<_> = list
        .iter()
        .map(|(type_oid, format, value)| Parameter {
            type_oid: *type_oid,
            format: *format,
            value: *value,
        })
        .collect();
    let mut counts = Counts::default();
    let masked = parameters(scope(&rules), Treatment::Scan, &list, &mut counts);
    let texts: Vec<_> = masked.iter().map(|m| shown(m.as_deref())).collect();
    assert_eq!(
        texts,
        [
            "mail [masked:email]",
            "mail [masked:email]",
            "NULL",
            "\0\0\0\0\0\0\0\0",
            "7",
            "NULL",
            "\x01{\"password\": \"[masked:password]\"}"
        ]
    );
    assert_eq!(counts.total(), 5);
    let masked = parameters(scope(&rules), Treatment::Mask(ssn(&rules)), &list, &mut counts);
    let texts: Vec<_> = masked.iter().map(|m| shown(m.as_deref())).collect();
    assert_eq!(
        texts,
        [
            "NULL",
            "NULL",
            "NULL",
            "\0\0\0\0\0\0\0\0",
            "0",
            "NULL",
            "\x01\"[masked:us_ssn]\""
        ]
    );
}

fn bind_body(formats: &[i16], values: &[Option<&[u8]>], results: &[i16]) -> Vec<u8> {
    let mut out = b"portal\0statement\0".to_vec();
    let put = |out: &mut Vec<u8>, codes: &[i16]| {
        out.extend(i16::try_from(codes.len()).unwrap().to_be_bytes());
        out.extend(codes.iter().flat_map(|c| c.to_be_bytes()));
    };
    put(&mut out, formats);
    let values: Vec<_> = values.iter().map(|v| v.map(<[u8]>::to_vec)).collect();
    out.extend(body(&values));
    put(&mut out, results);
    out
}

#[test]
fn a_bind_keeps_all_but_its_values() {
    let rules = rules("");
    let values: &[Option<&[u8]>] = &[Some(b"a@example.com"), None, Some(b"x")];
    let masked: &[Option<&[u8]>] = &[Some(b"[masked:email]"), None, Some(b"x")];
    for formats in [&[][..], &[0], &[1], &[0, 1, 0]] {
        let mut out = BytesMut::new();
        let input = bind_body(formats, values, &[1, 0]);
        bind(
            scope(&rules),
            Treatment::Scan,
            &input,
            &[25],
            &mut Counts::default(),
            &mut out,
        )
        .unwrap();
        let message = frame::message(&out, usize::MAX).unwrap().unwrap();
        assert_eq!(message.tag, b'B');
        assert_eq!(message.body, bind_body(formats, masked, &[1, 0]));
        for n in 0..input.len() {
            let mut out = BytesMut::new();
            let cut = bind(
                scope(&rules),
                Treatment::Scan,
                &input[..n],
                &[],
                &mut Counts::default(),
                &mut out,
            );
            assert_eq!(cut, Err(Fault::Fields), "{n}");
            assert!(out.is_empty());
        }
    }
    for formats in [&[2][..], &[0, 1]] {
        let input = bind_body(formats, values, &[]);
        let bad = bind(
            scope(&rules),
            Treatment::Scan,
            &input,
            &[],
            &mut Counts::default(),
            &mut BytesMut::new(),
        );
        assert_eq!(bad, Err(Fault::Fields));
    }
}
