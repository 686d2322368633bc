use proptest::prelude::*;

use super::*;
use crate::protocol::postgres::frame::Fault;

const CARD: &str = "4111111111111111";

#[test]
fn every_type_in_both_formats() {
    let rules = rules("");
    for case in cases() {
        for format in [Format::Text, Format::Binary] {
            let masked = one(&rules, case.column(format, &rules), &case.value(format));
            assert_eq!(
                shown(masked.as_deref()),
                shown(case.expected(format).as_deref()),
                "{} {:?} {}",
                case.name,
                format,
                case.text
            );
            assert_eq!(masked, case.expected(format), "{} {}", case.name, case.text);
        }
    }
}

#[test]
fn all_types_in_one_row_with_formats_mixed() {
    let rules = rules("");
    let cases = cases();
    for shift in 0..2 {
        let format = |n: usize| {
            if n % 2 == shift {
                Format::Text
            } else {
                Format::Binary
            }
        };
        let columns = cases
            .iter()
            .enumerate()
            .map(|(n, c)| c.column(format(n), &rules))
            .collect();
        let mut masker = RowMasker::new(rules.clone(), rules.all(), columns, &Extra);
        assert!(!masker.passes());
        let row: Vec<_> = cases
            .iter()
            .enumerate()
            .map(|(n, c)| Some(c.value(format(n))))
            .collect();
        let masked = masked_row(&mut masker, &row);
        for (n, (case, masked)) in cases.iter().zip(masked).enumerate() {
            assert_eq!(masked, case.expected(format(n)), "{} {}", case.name, case.text);
        }
        // NULL stays NULL under every treatment.
        let nulls = vec![None; cases.len()];
        assert_eq!(masked_row(&mut masker, &nulls), nulls);
        assert!(masker.counts().get(ssn(&rules)) > 50);
    }
}

#[test]
fn null_is_null_but_for_json() {
    let rules = rules("strategy = 'null'");
    for case in cases().iter().filter(|c| c.whole) {
        for format in [Format::Text, Format::Binary] {
            let masked = one(&rules, case.column(format, &rules), &case.value(format));
            let expected: Option<&[u8]> = match (case.name, format) {
                ("json", _) | ("jsonb", Format::Text) => Some(b"null"),
                ("jsonb", Format::Binary) => Some(b"\x01null"),
                _ => None,
            };
            assert_eq!(masked.as_deref(), expected, "{} {}", case.name, case.text);
        }
    }
    let column = |type_oid, format| Column {
        type_oid,
        type_mod: -1,
        format,
        treatment: Treatment::Scan,
    };
    let text = one(&rules, column(25, Format::Text), b"mail a@example.com ok");
    assert_eq!(shown(text.as_deref()), "mail  ok");
    assert_eq!(one(&rules, column(20, Format::Text), CARD.as_bytes()), None);
    let array = one(&rules, column(1016, Format::Text), b"{1,4111111111111111}");
    assert_eq!(shown(array.as_deref()), "{1,NULL}");
    let json = one(&rules, column(114, Format::Text), br#"{"e": "a@example.com"}"#);
    assert_eq!(shown(json.as_deref()), r#"{"e": null}"#);
}

#[test]
fn hashes_are_the_same_in_both_formats_and_in_range() {
    let rules = rules("strategy = 'hash'");
    for case in cases().iter().filter(|c| c.whole) {
        let [text, binary] = [Format::Text, Format::Binary]
            .map(|format| one(&rules, case.column(format, &rules), &case.value(format)));
        let skipped = ["public.hstore", "regclass"].contains(&case.name);
        if skipped || case.type_oid > 16_000 {
            continue;
        }
        assert_eq!(text.is_none(), binary.is_none(), "{}", case.name);
        let (Some(text), Some(binary)) = (text, binary) else {
            continue;
        };
        assert_ne!(
            Some(&*text),
            case.masked_text
                .map(str::as_bytes)
                .filter(|_| case.type_oid == 25)
        );
        let text = shown(Some(&text)).replace(['$', ','], "");
        let again = show::text(case.type_oid, Format::Binary, &binary).replace(',', "");
        // Those without a text of their own here.
        if !["tsvector", "tsquery", "bytea", "bytea[]"].contains(&case.name) {
            assert_eq!(text.trim_end(), again.trim_end(), "{}", case.name);
        }
    }
    let number = |oid: u32, modifier: i32, value: &str| -> String {
        let column = Column {
            type_oid: oid,
            type_mod: modifier,
            format: Format::Text,
            treatment: Treatment::Mask(ssn(&rules)),
        };
        shown(one(&rules, column, value.as_bytes()).as_deref())
    };
    // numeric(4,2): two digits before the point.
    let modifier = (4 << 16 | 2) + 4;
    for n in 0..200 {
        let value = n.to_string();
        assert!(number(21, -1, &value).parse::<i16>().unwrap() >= 0);
        assert!(number(23, -1, &value).parse::<i32>().unwrap() >= 0);
        assert!(number(20, -1, &value).len() <= 12);
        assert!(number(1700, modifier, &value).parse::<f64>().unwrap() < 100.0);
        assert!(number(1700, modifier, &value).ends_with(".00"));
    }
    assert_eq!(number(20, -1, "7"), number(20, -1, "7"));
    assert_ne!(number(20, -1, "7"), number(20, -1, "8"));
    let id = number(2950, -1, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
    assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 8);
}

#[test]
fn what_partial_keeps_is_ascii_and_fits() {
    let rules = rules("strategy = 'partial'");
    let mask = |type_oid, type_mod, value: &str| {
        let column = Column {
            type_oid,
            type_mod,
            format: Format::Text,
            treatment: Treatment::Mask(ssn(&rules)),
        };
        shown(one(&rules, column, value.as_bytes()).as_deref())
    };
    assert_eq!(mask(25, -1, "123-45-6789"), "****6789");
    assert_eq!(mask(25, -1, "Übergröße"), "****r**e");
    assert_eq!(mask(1043, 4 + 5, "abcdefghi"), "****f");
    assert_eq!(mask(142, -1, "<a>secret</a>"), "*****/a*");
    assert_eq!(mask(114, -1, r#""abcdefg\"""#), r#""****g\\\"\"""#);
    assert_eq!(mask(23, -1, "123456789"), "0");
    assert_eq!(mask(16385, -1, r#""k"=>"secret value""#), r#""****"=>NULL"#);
}

#[test]
fn columns_that_can_hold_nothing_pass() {
    let rules = rules("");
    let passes = |rules: &Arc<MaskRules>, oids: &[u32], format| {
        let columns = oids
            .iter()
            .map(|oid| Column {
                type_oid: *oid,
                type_mod: -1,
                format,
                treatment: Treatment::Scan,
            })
            .collect();
        RowMasker::new(rules.clone(), rules.all(), columns, &Extra).passes()
    };
    let plain = [
        16, 21, 23, 26, 700, 790, 869, 1007, 1082, 1114, 1184, 1186, 1560, 2950, 3904, 600,
    ];
    for format in [Format::Text, Format::Binary] {
        assert!(passes(&rules, &[], format));
        assert!(passes(&rules, &plain, format));
        for oid in [25, 20, 701, 1700, 17, 114, 3802, 1009, 2249, 16385, 16624, 99_999] {
            assert!(!passes(&rules, &[23, oid], format), "{oid}");
        }
    }
    // With the operator's patterns everything is read, and addresses where they are looked for.
    let custom = super::rules("[[mask.class]]\nname = 'badge'\npattern = '\\b77[0-9]{3}\\b'");
    assert!(!passes(&custom, &[23], Format::Text));
    let addresses = super::rules("enable = ['ipv4']");
    assert!(passes(&addresses, &[23], Format::Text));
    assert!(!passes(&addresses, &[869], Format::Text));
    // Nothing to mask at all.
    let none = RowMasker::new(
        rules.clone(),
        crate::model::ClassSet::EMPTY,
        vec![Column {
            type_oid: 25,
            type_mod: -1,
            format: Format::Text,
            treatment: Treatment::Scan,
        }],
        &Extra,
    );
    assert!(none.passes());
}

#[test]
fn patterns_and_addresses_in_every_type() {
    let rules = rules("enable = ['ipv4']\n[[mask.class]]\nname = 'badge'\npattern = '\\b77[0-9]{3}\\b'");
    let scan = |type_oid, format, value: &[u8]| {
        let column = Column {
            type_oid,
            type_mod: -1,
            format,
            treatment: Treatment::Scan,
        };
        one(&rules, column, value)
    };
    assert_eq!(scan(23, Format::Text, b"77123").as_deref(), Some(&b"0"[..]));
    assert_eq!(scan(23, Format::Text, b"78123").as_deref(), Some(&b"78123"[..]));
    assert_eq!(
        scan(23, Format::Binary, &77123i32.to_be_bytes()),
        Some(vec![0; 4])
    );
    assert_eq!(
        scan(20, Format::Binary, &77123i64.to_be_bytes()),
        Some(vec![0; 8])
    );
    assert_eq!(
        scan(869, Format::Text, b"10.1.2.3").as_deref(),
        Some(&b"0.0.0.0"[..])
    );
    assert_eq!(
        scan(869, Format::Binary, &[2, 32, 0, 4, 10, 1, 2, 3]),
        Some(vec![2, 32, 0, 4, 0, 0, 0, 0])
    );
}

#[test]
fn unknown_types() {
    let rules = rules("");
    let mail = "mail a@example.com";
    let mask = |treatment, format, value: &[u8]| {
        let column = Column {
            type_oid: 99_999,
            type_mod: -1,
            format,
            treatment,
        };
        one(&rules, column, value)
    };
    for format in [Format::Text, Format::Binary] {
        assert_eq!(mask(Treatment::Mask(ssn(&rules)), format, b"x"), None);
        let masked = mask(Treatment::Scan, format, mail.as_bytes());
        assert_eq!(shown(masked.as_deref()), "mail [masked:email]");
    }
    let versioned = [b"\x01", mail.as_bytes()].concat();
    assert_eq!(mask(Treatment::Scan, Format::Binary, &versioned), None);
    let number = CARD.parse::<i64>().unwrap().to_be_bytes();
    assert_eq!(mask(Treatment::Scan, Format::Binary, &number), None);
    let other = 1_234_567_890_123i64.to_be_bytes();
    assert_eq!(
        mask(Treatment::Scan, Format::Binary, &other),
        Some(other.to_vec())
    );
}

#[test]
fn values_that_are_not_what_their_type_says_are_read_as_bytes() {
    let rules = rules("");
    let mail = b"{mail a@example.com";
    for oid in [
        17, 20, 1700, 1009, 16631, 16642, 16385, 3614, 3615, 3802, 2950, 4536, 1016,
    ] {
        for format in [Format::Text, Format::Binary] {
            let column = |treatment| Column {
                type_oid: oid,
                type_mod: -1,
                format,
                treatment,
            };
            let masked = one(&rules, column(Treatment::Mask(ssn(&rules))), mail);
            assert!(!shown(masked.as_deref()).contains("example"), "{oid}");
            if oid != 2950 && oid != 20 && oid != 1700 {
                let masked = one(&rules, column(Treatment::Scan), mail);
                assert!(!shown(masked.as_deref()).contains("example"), "{oid} {format:?}");
            }
        }
    }
}

#[test]
fn a_records_fields_are_known_by_what_it_says() {
    let rules = rules("");
    let mut record = 2i32.to_be_bytes().to_vec();
    for (oid, value) in [
        (20u32, CARD.parse::<i64>().unwrap().to_be_bytes().to_vec()),
        (25, b"a@example.com".to_vec()),
    ] {
        record.extend(oid.to_be_bytes());
        record.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
        record.extend(value);
    }
    let column = |format| Column {
        type_oid: 2249,
        type_mod: -1,
        format,
        treatment: Treatment::Scan,
    };
    let masked = one(&rules, column(Format::Binary), &record).unwrap();
    assert_eq!(show::text(2249, Format::Binary, &masked), "(0,[masked:email])");
    let masked = one(
        &rules,
        column(Format::Text),
        b"(4111111111111111,\"a b\",\"x \"\"a@example.com\"\"\")",
    );
    assert_eq!(
        shown(masked.as_deref()),
        "([masked:credit_card],\"a b\",\"x \"\"[masked:email]\"\"\")"
    );
}

#[test]
fn a_length_is_no_part_of_the_number_after_it() {
    let rules = rules("");
    let column = Column {
        type_oid: 25,
        type_mod: -1,
        format: Format::Text,
        treatment: Treatment::Scan,
    };
    let mut masker = RowMasker::new(rules.clone(), rules.all(), vec![column; 2], &Extra);
    // Lengths whose bytes are digits, or a dot after a digit.
    for len in (16..80).chain(0x302E - 2..0x303A) {
        for start in ["", "."] {
            let value = format!("{start}{CARD}{}", " ".repeat(len - 16));
            let masked = masked_row(&mut masker, &[Some(b"1".to_vec()), Some(value.into_bytes())]);
            assert!(
                shown(masked[1].as_deref()).contains("[masked:credit_card]"),
                "{len}"
            );
        }
    }
}

#[test]
fn long_values_are_read_in_pieces() {
    let rules = rules("");
    for oid in [25, 114, 17] {
        let column = Column {
            type_oid: oid,
            type_mod: -1,
            format: Format::Binary,
            treatment: Treatment::Scan,
        };
        let filler = "@".repeat(engine::PIECE * 3 - 10);
        let long = format!("[\"{filler} a@example.com\"]");
        let masked = shown(one(&rules, column, long.as_bytes()).as_deref());
        assert_eq!(masked, format!("[\"{filler} [masked:email]\"]"), "{oid}");
        let clean = vec![b'x'; engine::PIECE * 2 + 1];
        assert_eq!(one(&rules, column, &clean), Some(clean));
    }
}

#[test]
fn rows_of_other_columns_are_refused() {
    let rules = rules("");
    let column = Column {
        type_oid: 25,
        type_mod: -1,
        format: Format::Text,
        treatment: Treatment::Scan,
    };
    let mut masker = RowMasker::new(rules.clone(), rules.all(), vec![column; 2], &BuiltIn);
    let mail = Some(b"a@example.com".to_vec());
    let whole = body(&[mail.clone(), mail.clone()]);
    let mut out = BytesMut::new();
    for n in 0..whole.len() {
        assert_eq!(masker.row(&whole[..n], &mut out), Err(Fault::Fields), "{n}");
        assert!(out.is_empty());
    }
    let longer = [&whole[..], b"x"].concat();
    assert_eq!(masker.row(&longer, &mut out), Err(Fault::Fields));
    for n in [1, 3] {
        assert_eq!(
            masker.row(&body(&vec![mail.clone(); n]), &mut out),
            Err(Fault::Fields)
        );
    }
    assert!(out.is_empty());
    assert_eq!(masker.row(&whole, &mut out), Ok(true));
}

fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        CARD,
        "a@example.com",
        "123-45-6789",
        ".",
        "-",
        "1",
        "4",
        " ",
        ",",
        "\"",
        "\\",
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        "NULL",
        "\"password\": \"x\"",
        ":",
        "é",
        "xx",
        "\n",
        "\t",
        "=>",
        "password=hunter22",
        "DE89370400440532013000",
        "\\u0040",
        "e+15",
        "postgres://u:secret1@h/",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|p| p.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// What the search over a row's bytes leaves out is what reading each value finds nothing in.
    #[test]
    fn the_fast_way_finds_what_the_slow_way_does(
        texts in prop::collection::vec((pieces(), prop::sample::select(vec![25u32, 1043, 114, 1009, 1016, 1700, 20, 701, 16631, 3926, 16642, 3614, 16624, 99_999])), 1..6),
        pad in 0usize..60,
    ) {
        let rules = rules("");
        let columns: Vec<_> = texts.iter().map(|(_, oid)| Column {
            type_oid: *oid, type_mod: -1, format: Format::Text, treatment: Treatment::Scan,
        }).collect();
        let row: Vec<_> = texts.iter().map(|(t, _)| Some(format!("{t}{}", " ".repeat(pad)).into_bytes())).collect();
        let mut masker = RowMasker::new(rules.clone(), rules.all(), columns.clone(), &Extra);
        let fast = masked_row(&mut masker, &row);
        for ((column, value), fast) in columns.iter().zip(&row).zip(fast) {
            let value = value.clone().unwrap();
            let node = kind::Node::resolve(column.type_oid, -1, &Extra);
            let mut engine = engine::Engine::new(rules.clone(), rules.all());
            let mut out = Vec::new();
            let slow = match engine.value(&node, Format::Text, Treatment::Scan, &value, &mut out) {
                engine::Outcome::Same => Some(value.clone()),
                engine::Outcome::Changed => Some(out),
                engine::Outcome::Null => None,
            };
            prop_assert_eq!(shown(fast.as_deref()), shown(slow.as_deref()), "{}: {:?}", column.type_oid, shown(Some(&value)));
        }
    }

    /// No bytes make it panic, and what it says of them is a fault or a row.
    #[test]
    fn any_bytes(
        body in prop::collection::vec(any::<u8>(), 0..200),
        value in prop::collection::vec(prop::sample::select(vec![0u8, 0, 0, 1, 2, 4, 8, 16, 25, 255, b'a', b'@', b'.', b'"', b'\\', b'{', b'(']), 0..64),
        text in pieces(),
        oid in prop::sample::select(cases().iter().map(|c| c.type_oid).chain([2249, 2277, 99_999]).collect::<Vec<_>>()),
        format in prop::sample::select(vec![Format::Text, Format::Binary]),
        whole in any::<bool>(),
        strategy in prop::sample::select(vec!["redact", "hash", "partial", "null"]),
    ) {
        let rules = rules(&format!("enable = ['ipv4']\nstrategy = '{strategy}'"));
        let treatment = if whole { Treatment::Mask(ssn(&rules)) } else { Treatment::Scan };
        let column = Column { type_oid: oid, type_mod: 9, format, treatment };
        let mut masker = RowMasker::new(rules.clone(), rules.all(), vec![column], &Extra);
        let mut out = BytesMut::new();
        let _ = masker.row(&body, &mut out);
        one(&rules, column, &value);
        one(&rules, column, text.as_bytes());
        let _ = show::text(oid, format, &value);
    }
}
