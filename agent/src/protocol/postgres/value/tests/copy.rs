use proptest::prelude::*;

use super::*;
use crate::protocol::postgres::frame::Fault;

const LIMIT: usize = 1 << 20;

fn options(syntax: CopySyntax) -> CopyOptions {
    CopyOptions::new(syntax)
}

fn masker(rules: &Arc<MaskRules>, options: CopyOptions, columns: Vec<Column>) -> CopyMasker {
    CopyMasker::new(rules.clone(), rules.all(), options, columns, &Extra, LIMIT)
}

fn run(masker: &mut CopyMasker, pieces: &[&[u8]]) -> Result<Vec<u8>, Fault> {
    let mut all = Vec::new();
    for piece in pieces {
        let mut out = BytesMut::new();
        if masker.push(piece, &mut out)? {
            assert!(out.is_empty());
            all.extend_from_slice(piece);
        }
        all.extend_from_slice(&out);
    }
    let mut out = BytesMut::new();
    masker.finish(&mut out)?;
    all.extend_from_slice(&out);
    Ok(all)
}

fn encode_text(value: &[u8], out: &mut Vec<u8>) {
    for b in value {
        match b {
            b'\\' => out.extend(b"\\\\"),
            b'\t' => out.extend(b"\\t"),
            b'\n' => out.extend(b"\\n"),
            b => out.push(*b),
        }
    }
}

fn encode_csv(value: &[u8], out: &mut Vec<u8>) {
    if !value.is_empty()
        && !value
            .iter()
            .any(|b| matches!(b, b'"' | b',' | b'\n' | b'\r' | b'\\'))
    {
        return out.extend(value);
    }
    out.push(b'"');
    for b in value {
        if *b == b'"' {
            out.push(b'"');
        }
        out.push(*b);
    }
    out.push(b'"');
}

fn encode(syntax: CopySyntax, rows: &[Vec<Option<Vec<u8>>>]) -> Vec<u8> {
    let mut out = Vec::new();
    if syntax == CopySyntax::Binary {
        out.extend(b"PGCOPY\n\xFF\r\n\0\0\0\0\0\0\0\0\0");
        out.extend(rows.iter().flat_map(|row| body(row)));
        out.extend([0xFF, 0xFF]);
        return out;
    }
    for row in rows {
        for (n, value) in row.iter().enumerate() {
            if n > 0 {
                out.push(if syntax == CopySyntax::Csv { b',' } else { b'\t' });
            }
            match (value, syntax) {
                (None, CopySyntax::Csv) => {}
                (None, _) => out.extend(b"\\N"),
                (Some(value), CopySyntax::Csv) => encode_csv(value, &mut out),
                (Some(value), _) => encode_text(value, &mut out),
            }
        }
        out.push(b'\n');
    }
    out
}

/// Rows of all the fixture's values, and what they become.
type Rows = Vec<Vec<Option<Vec<u8>>>>;
fn fixture(syntax: CopySyntax) -> (Rows, Rows) {
    let format = if syntax == CopySyntax::Binary {
        Format::Binary
    } else {
        Format::Text
    };
    let values: Vec<_> = cases().iter().map(|c| Some(c.value(format))).collect();
    let masked: Vec<_> = cases().iter().map(|c| c.expected(format)).collect();
    let nulls = vec![None; values.len()];
    (
        vec![values.clone(), nulls.clone(), values],
        vec![masked.clone(), nulls, masked],
    )
}

const ALL: [CopySyntax; 3] = [CopySyntax::Text, CopySyntax::Csv, CopySyntax::Binary];

#[test]
fn every_type_however_it_is_cut() {
    let rules = rules("");
    let columns: Vec<_> = cases().iter().map(|c| c.column(Format::Text, &rules)).collect();
    for syntax in ALL {
        let (rows, masked) = fixture(syntax);
        let (input, expected) = (encode(syntax, &rows), encode(syntax, &masked));
        let whole = run(&mut masker(&rules, options(syntax), columns.clone()), &[&input]).unwrap();
        // Empty fields and such may be in quotes without need.
        if syntax == CopySyntax::Csv {
            let plain = |b: &[u8]| String::from_utf8_lossy(b).replace('"', "");
            assert_eq!(plain(&whole), plain(&expected));
        } else {
            assert_eq!(shown(Some(&whole)), shown(Some(&expected)), "{syntax:?}");
            assert_eq!(whole, expected);
        }
        for size in [1, 2, 3, 7, 64, 1000] {
            let pieces: Vec<&[u8]> = input.chunks(size).collect();
            let masked = run(&mut masker(&rules, options(syntax), columns.clone()), &pieces).unwrap();
            assert_eq!(masked, whole, "{syntax:?} {size}");
        }
        let (rows, _) = fixture(syntax);
        let input = encode(syntax, &rows[..1]);
        let whole = run(&mut masker(&rules, options(syntax), columns.clone()), &[&input]).unwrap();
        for cut in 0..input.len() {
            let (a, b) = input.split_at(cut);
            let masked = run(&mut masker(&rules, options(syntax), columns.clone()), &[a, b]).unwrap();
            assert!(masked == whole, "{syntax:?} cut at {cut}");
        }
    }
}

fn texts(n: usize) -> Vec<Column> {
    let column = Column {
        type_oid: 25,
        type_mod: -1,
        format: Format::Text,
        treatment: Treatment::Scan,
    };
    vec![column; n]
}

#[test]
fn clean_rows_go_on_as_they_are() {
    let rules = rules("");
    for (syntax, input) in [
        (CopySyntax::Text, "a\tb \\t c\\\\\nd\t\\N\n"),
        (CopySyntax::Csv, "a,\"b \"\"x\"\", y\nz\"\n,\"\"\n"),
    ] {
        let mut m = masker(&rules, options(syntax), texts(2));
        assert_eq!(m.push(input.as_bytes(), &mut BytesMut::new()), Ok(true));
        assert_eq!(m.held(), 0);
    }
}

#[test]
fn options_of_text() {
    let rules = rules("");
    let mut o = options(CopySyntax::Text);
    (o.delimiter, o.null, o.header) = (b'|', b"-".to_vec(), true);
    let input = b"a@example.com|h\nx a@example.com|-\na\\|\\x61@example.com|y\\nz\n\\141@example.com|4111\\x311111\\061111111\n\\.\n";
    let masked = run(&mut masker(&rules, o, texts(2)), &[input]).unwrap();
    assert_eq!(
        shown(Some(&masked)),
        "a@example.com|h\nx [masked:email]|-\na\\|[masked:email]|y\\nz\n[masked:email]|[masked:credit_card]\n\\.\n"
    );
}

#[test]
fn options_of_csv() {
    let rules = rules("");
    let mut o = options(CopySyntax::Csv);
    (o.delimiter, o.null, o.header) = (b';', b"NULL".to_vec(), true);
    (o.quote, o.escape) = (b'\'', b'\\');
    let input = "h;'h\n2'\n'a\\'b;\n a@example.com';NULL\n'NULL';'\\\\'\na@example.com;'4111111111111111'\n";
    let masked = run(&mut masker(&rules, o.clone(), texts(2)), &[input.as_bytes()]).unwrap();
    assert_eq!(
        shown(Some(&masked)),
        "h;'h\n2'\n'a\\'b;\n [masked:email]';NULL\n'NULL';'\\\\'\n[masked:email];'[masked:credit_card]'\n"
    );
    // A replacement that would be taken for NULL, or has what needs quotes.
    let nulled = super::rules("strategy = 'null'");
    let mut columns = texts(2);
    o.null = Vec::new();
    o.header = false;
    let masked = run(
        &mut masker(&nulled, o.clone(), columns.clone()),
        &[b"a@example.com;x\n"],
    )
    .unwrap();
    assert_eq!(shown(Some(&masked)), "'';x\n");
    columns[0].treatment = Treatment::Mask(ssn(&rules));
    o.delimiter = b':';
    let masked = run(&mut masker(&rules, o, columns), &[b"secret:x\n:y\n"]).unwrap();
    assert_eq!(shown(Some(&masked)), "'[masked:us_ssn]':x\n:y\n");
}

#[test]
fn a_delimiter_of_digits_hides_nothing() {
    let rules = rules("");
    let mut o = options(CopySyntax::Csv);
    o.delimiter = b'5';
    let masked = run(&mut masker(&rules, o, texts(2)), &[b"x54111111111111111\n"]).unwrap();
    assert_eq!(shown(Some(&masked)), "x5[masked:credit_card]\n");
}

#[test]
fn columns_without_anything() {
    let rules = rules("");
    let mut int4 = texts(1);
    int4[0].type_oid = 23;
    let mut m = masker(&rules, options(CopySyntax::Text), int4);
    assert!(m.passes());
    assert_eq!(m.push(b"anything", &mut BytesMut::new()), Ok(true));
    assert_eq!(m.finish(&mut BytesMut::new()), Ok(()));
}

#[test]
fn rows_of_other_columns_are_refused() {
    let rules = rules("");
    let mut columns = texts(2);
    columns[0].treatment = Treatment::Mask(ssn(&rules));
    for (syntax, bad) in [
        (CopySyntax::Text, &b"one\n"[..]),
        (CopySyntax::Text, b"one\ttwo\tthree\n"),
        (CopySyntax::Csv, b"one\n"),
        (CopySyntax::Csv, b"one,\"two\nthree\",x\n"),
        (CopySyntax::Binary, b"PGCOPY\r\n"),
        (CopySyntax::Binary, b"PGCOPY\n\xFF\r\n\0\0\x01\0\0\0\0\0\0"),
        (
            CopySyntax::Binary,
            b"PGCOPY\n\xFF\r\n\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0",
        ),
        (
            CopySyntax::Binary,
            b"PGCOPY\n\xFF\r\n\0\0\0\0\0\0\0\0\0\xFF\xFFmore",
        ),
        (
            CopySyntax::Binary,
            b"PGCOPY\n\xFF\r\n\0\0\0\0\0\0\0\0\0\0\x02\xFF\xFF\xFF\xF0",
        ),
    ] {
        let mut m = masker(&rules, options(syntax), columns.clone());
        assert_eq!(run(&mut m, &[bad]), Err(Fault::Fields), "{syntax:?} {bad:?}");
    }
    for (syntax, cut) in [
        (CopySyntax::Csv, &b"one,\"two"[..]),
        (
            CopySyntax::Binary,
            b"PGCOPY\n\xFF\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x05ab",
        ),
        (CopySyntax::Binary, b""),
    ] {
        let mut m = masker(&rules, options(syntax), columns.clone());
        assert_eq!(run(&mut m, &[cut]), Err(Fault::Truncated), "{syntax:?}");
    }
}

#[test]
fn no_row_is_held_above_the_limit() {
    let rules = rules("");
    for syntax in ALL {
        let start: &[u8] = match syntax {
            CopySyntax::Text => b"",
            CopySyntax::Csv => b"\"",
            CopySyntax::Binary => b"PGCOPY\n\xFF\r\n\0\0\0\0\0\0\0\0\0\0\x01\x7F\xFF\xFF\xFF",
        };
        let mut m = masker(&rules, options(syntax), texts(1));
        let mut out = BytesMut::new();
        let mut result = m.push(start, &mut out);
        let mut sent = 0;
        while result.is_ok() && sent < 3 * LIMIT {
            result = m.push(&[b'x'; 4096], &mut out);
            sent += 4096;
            assert!(m.held() <= LIMIT + 4096);
        }
        assert_eq!(result, Err(Fault::TooLarge { limit: LIMIT }), "{syntax:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_cut_anywhere(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "a", "a@example.com", "4111111111111111", "\t", ",", "\n", "\"", "\\", "\\N", "\\.", "{\"password\":\"x\"}", "\\\\", "\\t", " ", "1", ".", "\r", "'",
        ]), 0..30),
        cuts in prop::collection::vec(0usize..200, 0..6),
        escape in prop::sample::select(vec![b'"', b'\\', b'\'']),
        syntax in prop::sample::select(ALL.to_vec()),
        width in 1usize..4,
        raw in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let rules = rules("");
        let mut input = pieces.concat().into_bytes();
        if syntax == CopySyntax::Binary {
            input = [b"PGCOPY\n\xFF\r\n\0\0\0\0\0\0\0\0\0\0", &[width as u8][..], &raw].concat();
        }
        let mut o = options(syntax);
        o.escape = escape;
        let whole = run(&mut masker(&rules, o.clone(), texts(width)), &[&input]);
        let mut at: Vec<_> = cuts.iter().map(|c| c % (input.len() + 1)).collect();
        at.sort_unstable();
        let mut parts: Vec<&[u8]> = Vec::new();
        let mut from = 0;
        for cut in at {
            parts.push(&input[from..cut]);
            from = cut;
        }
        parts.push(&input[from..]);
        let cut = run(&mut masker(&rules, o, texts(width)), &parts);
        prop_assert_eq!(whole, cut);
    }
}
