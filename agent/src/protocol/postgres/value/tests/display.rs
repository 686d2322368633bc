use super::*;

#[test]
fn as_postgresql_writes_it() {
    let own = ["tsvector", "tsquery", "regclass", "money"];
    let mut seen = 0;
    for case in cases()
        .iter()
        .filter(|c| c.type_oid < 16_000 && !own.contains(&c.name))
    {
        assert_eq!(
            show::text(case.type_oid, Format::Binary, &case.binary),
            case.text,
            "{}",
            case.name
        );
        assert_eq!(
            show::text(case.type_oid, Format::Text, case.text.as_bytes()),
            case.text
        );
        seen += 1;
    }
    assert!(seen > 90);
}

#[test]
fn what_is_not_known_is_hex_or_text() {
    assert_eq!(show::text(99_999, Format::Binary, &[0, 1, 0xFF]), "\\x0001ff");
    assert_eq!(show::text(99_999, Format::Binary, b"label"), "label");
    assert_eq!(show::text(23, Format::Binary, &[1]), "\\x01");
    assert_eq!(show::text(25, Format::Text, b"a\xFF"), "a\u{FFFD}");
    // Lengths alone do not keep it busy.
    let mut array = Vec::new();
    for n in [
        6i32,
        0,
        23,
        i32::MAX,
        1,
        i32::MAX,
        1,
        i32::MAX,
        1,
        0,
        1,
        0,
        1,
        0,
        1,
        0,
    ] {
        array.extend(n.to_be_bytes());
    }
    assert!(show::text(1007, Format::Binary, &array).starts_with("\\x"));
}

#[test]
fn dates_times_and_floats() {
    for (oid, hex, text) in [
        (1082, "80000000", "-infinity"),
        (1082, "7fffffff", "infinity"),
        (1082, "00000000", "2000-01-01"),
        (1082, "ffda97a7", "4714-11-24 BC"),
        (1082, "fff4dbf8", "0001-12-31 BC"),
        (1082, "fff4dbf9", "0001-01-01"),
        (1082, "0000003b", "2000-02-29"),
        (1082, "ffff718f", "1900-03-01"),
        (1082, "7fda970c", "5874897-12-31"),
        (1114, "7fffffffffffffff", "infinity"),
        (1184, "8000000000000000", "-infinity"),
        (1114, "ffffffffffffffff", "1999-12-31 23:59:59.999999"),
        (1184, "0000000000000000", "2000-01-01 00:00:00+00"),
        (1184, "ff1af9e74e1f8800", "0044-03-15 10:00:00+00 BC"),
        (
            1186,
            "fffffffffff85ee0ffffffffffffffff",
            "-1 mons -1 days -00:00:00.5",
        ),
        (
            1186,
            "00000053d1ac1000000000010000000e",
            "1 year 2 mons 1 day 100:00:00",
        ),
        (1186, "00000000000f4240ffffffff00000000", "-1 days +00:00:01"),
        (1186, "0000000000000000ffffffff00000001", "1 mon -1 days"),
        (1186, "00000000000000000000000000000000", "00:00:00"),
        (1266, "0000000000000000ffffb1d8", "00:00:00+05:33:28"),
        (701, "430c6bf526340000", "1e+15"),
        (701, "42d6bcc41e900000", "100000000000000"),
        (701, "42dc12218377de66", "123456789012345.6"),
        (701, "3f1a36e2eb1c432d", "0.0001"),
        (701, "3ee4f8b588e368f1", "1e-05"),
        (701, "4340000000000000", "9.007199254740992e+15"),
        (701, "8000000000000000", "-0"),
        (700, "49742400", "1e+06"),
        (700, "47c35000", "100000"),
        (700, "3dcccccd", "0.1"),
        (700, "4b800000", "1.6777216e+07"),
    ] {
        let bytes = hex::decode(hex).unwrap();
        assert_eq!(show::text(oid, Format::Binary, &bytes), text);
    }
}
