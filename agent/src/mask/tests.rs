//! Tests of the masker as a whole.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::config::{self, Strategy as How};

fn rules_of(toml: &str) -> Arc<MaskRules> {
    let text = format!("[mask]\n{toml}");
    let config = config::parse(std::path::Path::new("x"), &text).unwrap();
    Arc::new(MaskRules::new(&config.mask, &[7; 32]).unwrap())
}

fn all_on() -> Arc<MaskRules> {
    rules_of(
        "enable = ['ipv4', 'ipv6']\n[[mask.field]]\nclass = 'us_ssn'\njson = ['customer.tax', 'people.*.id']\nform = ['tax']\n\
         [[mask.class]]\nname = 'employee'\npattern = '\\bEMP-[0-9]{4,8}\\b'\n\
         [[mask.class]]\nname = 'loose'\npattern = 'zz[^\"a]{1,9}q'",
    )
}

fn whole(rules: &Arc<MaskRules>, format: Format, input: &str) -> String {
    let mut masker = Masker::new(rules.clone(), rules.all(), format);
    let masked = masker.scan_whole(input.as_bytes());
    assert_eq!(masked.is_none(), masker.counts().is_empty(), "{input}");
    masked.map_or(input.into(), |m| String::from_utf8(m).unwrap())
}

fn in_pieces(rules: &Arc<MaskRules>, format: Format, input: &[u8], cuts: &[usize]) -> (Vec<u8>, Counts) {
    let mut masker = Masker::new(rules.clone(), rules.all(), format);
    let mut out = Vec::new();
    let mut from = 0;
    for cut in cuts {
        let cut = (*cut).clamp(from, input.len());
        masker.push(&input[from..cut], &mut out);
        assert!(masker.held() <= HOLD_MAX, "held {}", masker.held());
        from = cut;
    }
    masker.push(&input[from..], &mut out);
    masker.finish(&mut out);
    (out, masker.counts().clone())
}

const PEM: &str =
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA7bq\nabc+/==\n-----END RSA PRIVATE KEY-----";
const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

/// Text, the class that it is masked as, and what is masked.
#[allow(clippy::too_many_lines)] // A table.
fn positives() -> Vec<(String, &'static str, String)> {
    let table: &[(&str, &str, &str)] = &[
        (
            "mail alice.b+x@example.co.uk now",
            "email",
            "alice.b+x@example.co.uk",
        ),
        ("<alice@example.com>", "email", "alice@example.com"),
        ("josé@example.com.", "email", "josé@example.com"),
        ("a@xn--bcher-kva.xn--p1ai", "email", "a@xn--bcher-kva.xn--p1ai"),
        ("ssn 123-45-6789.", "us_ssn", "123-45-6789"),
        ("ssn 123 45 6789,", "us_ssn", "123 45 6789"),
        ("card 4111111111111111", "credit_card", "4111111111111111"),
        (
            "card 4111 1111 1111 1111 exp 12/29",
            "credit_card",
            "4111 1111 1111 1111",
        ),
        ("card 5500-0055-5555-5559", "credit_card", "5500-0055-5555-5559"),
        ("amex 3782 822463 10005", "credit_card", "3782 822463 10005"),
        ("amex 378282246310005;", "credit_card", "378282246310005"),
        ("iban DE89370400440532013000 ok", "iban", "DE89370400440532013000"),
        (
            "iban GB82 WEST 1234 5698 7654 32",
            "iban",
            "GB82 WEST 1234 5698 7654 32",
        ),
        (
            "MT84MALT011000012345MTLCAST001S",
            "iban",
            "MT84MALT011000012345MTLCAST001S",
        ),
        ("call +442079460958 now", "phone", "+442079460958"),
        ("call +1 (415) 555-2671", "phone", "+1 (415) 555-2671"),
        ("call +33 1 23 45 67 89", "phone", "+33 1 23 45 67 89"),
        ("call (415) 555-2671", "phone", "(415) 555-2671"),
        ("call 415-555-2671 x", "phone", "415-555-2671"),
        ("call 1-415-555-2671 x", "phone", "1-415-555-2671"),
        ("call 415.555.2671", "phone", "415.555.2671"),
        ("from 192.168.1.20:80", "ipv4", "192.168.1.20"),
        ("host:10.0.0.1", "ipv4", "10.0.0.1"),
        ("from 2001:db8::ff00:42:8329 to", "ipv6", "2001:db8::ff00:42:8329"),
        (
            "id AKIAIOSFODNN7EXAMPLE",
            "aws_access_key",
            "AKIAIOSFODNN7EXAMPLE",
        ),
        (
            "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "aws_secret_key",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        ),
        (
            "<SecretAccessKey>wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY</SecretAccessKey>",
            "aws_secret_key",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        ),
        (
            "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
            "github_token",
            "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        ),
        (
            "xoxb-123456789012-abcdefABCDEF",
            "slack_token",
            "xoxb-123456789012-abcdefABCDEF",
        ),
        (
            "https://hooks.slack.com/services/T00/B00/XXXXYYYY x",
            "slack_token",
            "",
        ),
        (
            "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
            "stripe_key",
            "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
        ),
        (
            "sk-proj-abcDEF123456_7890-xyzXYZ",
            "openai_key",
            "sk-proj-abcDEF123456_7890-xyzXYZ",
        ),
        (
            "k sk-abcdefghijklmnopqrstT3BlbkFJuvwxyz0123456789ABCD",
            "openai_key",
            "sk-abcdefghijklmnopqrstT3BlbkFJuvwxyz0123456789ABCD",
        ),
        (
            "sk-ant-api03-abcDEF123456_7890-xyzXYZ",
            "anthropic_key",
            "sk-ant-api03-abcDEF123456_7890-xyzXYZ",
        ),
        (
            "AIzaSyA1234567890abcdefghijklmnopqrstuv",
            "gcp_key",
            "AIzaSyA1234567890abcdefghijklmnopqrstuv",
        ),
        (
            "postgres://bob:s3cr:et@x@db.example.com/x",
            "url_password",
            "s3cr:et@x",
        ),
        (
            "Server=db;User=sa;Password=s3cret!;",
            "connection_password",
            "s3cret!",
        ),
        ("host=db pwd='a b' user=x", "connection_password", "a b"),
        ("PGPASSWORD=hunter2 psql", "connection_password", "hunter2"),
        ("data: {\"password\": \"hunter2\"}", "password", "hunter2"),
        ("badge EMP-12345.", "employee", "EMP-12345"),
    ];
    let mut all: Vec<_> = table
        .iter()
        .map(|(t, c, v)| ((*t).into(), *c, (*v).into()))
        .collect();
    all.push((format!("x {PEM} y"), "private_key", PEM.into()));
    all.push((format!("Bearer {JWT},"), "jwt", JWT.into()));
    all
}

#[test]
fn every_class_is_found() {
    let rules = all_on();
    for (text, class, value) in positives() {
        let masked = whole(&rules, Format::Text, &text);
        assert!(
            masked.contains(&format!("[masked:{class}]")),
            "{text} -> {masked}"
        );
        if !value.is_empty() {
            assert_eq!(
                masked,
                text.replace(&value, &format!("[masked:{class}]")),
                "{text}"
            );
        }
        let json = serde_json::json!({"k": [text, 1]}).to_string();
        let masked = whole(&rules, Format::Json, &json);
        let read: serde_json::Value = serde_json::from_str(&masked).unwrap();
        if class != "password" {
            let read = read["k"][0].as_str().unwrap();
            assert!(read.contains(&format!("[masked:{class}]")), "{json} -> {masked}");
            if !value.is_empty() {
                assert_eq!(read, text.replace(&value, &format!("[masked:{class}]")), "{json}");
            }
        }
    }
}

#[test]
fn what_looks_like_it_is_left_alone() {
    let rules = rules_of("");
    for text in [
        "0.41111111111111111",
        "12.4111111111111111",
        "4111111111111111.5",
        "1700000000000",
        "1700000000000000000",
        "1.2.3.4567",
        "v10.200.3000.4000",
        "550e8400-e29b-41d4-a716-446655440000",
        "12345678-1234-1234-1234-123456789012",
        "2024-01-02T03:04:05.678901Z",
        "2024-01-02 2024-01-03",
        "d41d8cd98f00b204e9800998ecf8427e",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "order 20240102123456",
        "4111111111111112",
        "9999999999999995",
        "000-12-3456",
        "666-12-3456",
        "900-12-3456",
        "123-45-67890",
        "1123-45-6789",
        "123-00-4567",
        "git@github.com:a/b",
        "left-pad@1.3.0",
        "@types/node",
        "a@b",
        "icon@2x.png",
        "415-555-26712",
        "155-555-2671",
        "+12",
        "a+4420794609581",
        "DE89370400440532013001",
        "task-sk-abc",
        "sk-circle-fade-dot-large-and-more-words",
        "AKIASHORT",
        "ASIAN",
        "password = get_password",
        "if password == stored:",
        "the password: it must be long",
        "eyJ is how they begin",
        "PWD=/root/x",
        "https://example.com:8080/a@b",
        "-----BEGIN CERTIFICATE-----\nMIIC\n",
        "1234567890",
        "123456789",
        "0x4111111111111111",
        "price 1,234.5678",
        "2147483647",
        "18446744073709551615",
        "10.0.0.1",
        "::1",
        "password=${DB_PASSWORD}",
        "password=None",
        "ts=1700000000.123456",
        "3.141592653589793",
        "2.718281828459045",
        "1e-16",
        "6011000990139424000123",
    ] {
        let expected = if text == "password = get_password" {
            "password = [masked:connection_password]"
        } else {
            text
        };
        assert_eq!(whole(&rules, Format::Text, text), expected);
        let json = serde_json::json!([text, {"a": text}]).to_string();
        if expected == text {
            assert_eq!(whole(&rules, Format::Json, &json), json);
        }
    }
}

#[test]
fn json_by_name() {
    let rules = all_on();
    for (input, expected) in [
        (r#"{"ssn":123}"#, r#"{"ssn":"[masked:us_ssn]"}"#),
        (r#"{"s\u0073n" : "x y"}"#, r#"{"s\u0073n" : "[masked:us_ssn]"}"#),
        (
            r#"{"SSN":"1","ssn":"2"}"#,
            r#"{"SSN":"[masked:us_ssn]","ssn":"[masked:us_ssn]"}"#,
        ),
        (
            r#"{"apiKey":true,"b":1}"#,
            r#"{"apiKey":"[masked:secret]","b":1}"#,
        ),
        (r#"{"password":null,"pwd":""}"#, r#"{"password":null,"pwd":""}"#),
        (
            r#"{"secret":{"a":1,"b":["x",{"c":"y"}]},"d":"z"}"#,
            r#"{"secret":{"a":"[masked:secret]","b":["[masked:secret]",{"c":"[masked:secret]"}]},"d":"z"}"#,
        ),
        (
            r#"{"customer":{"tax":"9"},"tax":"9"}"#,
            r#"{"customer":{"tax":"[masked:us_ssn]"},"tax":"9"}"#,
        ),
        (
            r#"{"customer":[{"tax":"9"}]}"#,
            r#"{"customer":[{"tax":"[masked:us_ssn]"}]}"#,
        ),
        (
            r#"{"people":[{"id":1},{"id":2}],"id":3}"#,
            r#"{"people":[{"id":"[masked:us_ssn]"},{"id":"[masked:us_ssn]"}],"id":3}"#,
        ),
        (
            r#"{"people":{"x":{"id":1}}}"#,
            r#"{"people":{"x":{"id":"[masked:us_ssn]"}}}"#,
        ),
        (r#"{"n":4111111111111111}"#, r#"{"n":"[masked:credit_card]"}"#),
        (
            r#"["\u00a04111111111111111"]"#,
            r#"["\u00a0[masked:credit_card]"]"#,
        ),
        (r#"["alice\u0040example.com\n"]"#, r#"["[masked:email]\n"]"#),
        (r#"{"alice@example.com":1}"#, r#"{"[masked:email]":1}"#),
        (
            r#"{"a":"x"} {"password":"x"}"#,
            r#"{"a":"x"} {"password":"[masked:password]"}"#,
        ),
        (
            r#"{"a":"{\"mail\":\"alice@example.com\",\"password\":\"x1\"}"}"#,
            r#"{"a":"{\"mail\":\"[masked:email]\",\"password\":\"[masked:password]\"}"}"#,
        ),
        (
            r#"{"a":1, oops alice@example.com}"#,
            r#"{"a":1, oops [masked:email]}"#,
        ),
        (
            r#"{"secret":[1, oops alice"#,
            r#"{"secret":["[masked:secret]", [masked:secret]"#,
        ),
        (r#"{"a":"bob@example.com"#, r#"{"a":"[masked:email]"#),
    ] {
        assert_eq!(whole(&rules, Format::Json, input), expected, "{input}");
    }
}

#[test]
fn strategies() {
    let rules = rules_of(
        "strategy = 'partial'\n[mask.strategies]\nemail = 'hash'\npassword = 'null'\nphone = 'null'\nus_ssn = 'redact'",
    );
    let masked = whole(
        &rules,
        Format::Text,
        "4111 1111 1111 1111 a@b.de a@b.de b@b.de (415) 555-2671",
    );
    let words: Vec<&str> = masked.split(' ').collect();
    assert_eq!(words[0], "****1111");
    assert!(words[1].starts_with("email:") && words[1].len() == 22, "{masked}");
    assert_eq!(words[1], words[2]);
    assert_ne!(words[1], words[3]);
    assert_eq!(words[4], "");
    for (input, expected) in [
        (
            r#"{"password":"x","p":"+442079460958","q":"t +442079460958"}"#,
            r#"{"password":null,"p":null,"q":"t "}"#,
        ),
        (
            r#"{"password":12,"+442079460958":[]}"#,
            r#"{"password":null,"":[]}"#,
        ),
        (
            r#"{"secret":"äöüßäöüß","api_key":"abc"}"#,
            r#"{"secret":"****äöüß","api_key":"****"}"#,
        ),
    ] {
        assert_eq!(whole(&rules, Format::Json, input), expected);
    }
}

#[test]
fn forms_queries_paths_and_headers() {
    let rules = all_on();
    let all = rules.all();
    let mut counts = Counts::default();
    let q = rules.mask_query(
        all,
        "a=1&mail=alice%40example.com&password=x%20y&tax=9&b+c=+442079460958&d",
        &mut counts,
    );
    assert_eq!(
        q,
        "a=1&mail=%5Bmasked%3Aemail%5D&password=%5Bmasked%3Apassword%5D&tax=%5Bmasked%3Aus_ssn%5D&b+c=+442079460958&d"
    );
    assert_eq!(counts.total(), 3);
    assert_eq!(
        rules.mask_path(all, "/u/alice%40example.com/x%2Fy", &mut counts),
        "/u/%5Bmasked%3Aemail%5D/x%2Fy"
    );
    assert_eq!(
        rules.mask_text(all, "to bob@example.com", &mut counts),
        "to [masked:email]"
    );
    assert_eq!(
        rules.record_header("Authorization", b"Bearer abc").unwrap(),
        b"Bearer [masked:credential_header]"
    );
    assert_eq!(
        rules.record_header("Cookie", b"a=b; c=d").unwrap(),
        b"[masked:credential_header]"
    );
    assert!(rules.record_header("Accept", b"*/*").is_none());
    assert!(
        rules
            .mask_header_value(all, "authorization", b"Bearer abc", &mut counts)
            .is_none()
    );
    assert_eq!(
        rules
            .mask_header_value(all, "Location", b"https://u:pw@h/", &mut counts)
            .unwrap(),
        b"https://u:[masked:url_password]@h/"
    );
    let off = rules_of("disable = ['credential_header']");
    assert_eq!(
        off.record_header("Cookie", b"a=b").unwrap(),
        b"[masked:credential_header]"
    );
}

#[test]
fn only_the_classes_asked_for() {
    let rules = rules_of("");
    let email = rules.classes().id("email").unwrap();
    let mut masker = Masker::new(rules.clone(), [email].into_iter().collect(), Format::Json);
    let masked = masker
        .scan_whole(br#"{"ssn":"123-45-6789","m":"a@b.de"}"#)
        .unwrap();
    assert_eq!(masked, br#"{"ssn":"123-45-6789","m":"[masked:email]"}"#);
    assert_eq!(masker.counts().iter().collect::<Vec<_>>(), [(email, 1)]);
    masker.reset(ClassSet::EMPTY, Format::Text);
    assert!(masker.scan_whole(b"a@b.de").is_none());
    masker.reset(rules.all(), Format::Text);
    assert!(masker.scan_whole(b"123-45-6789").is_some());
    assert_eq!(masker.counts().total(), 1);
}

#[test]
fn configuration_is_checked() {
    let refused = |toml: &str| {
        let config = config::parse(std::path::Path::new("x"), &format!("[mask]\n{toml}")).unwrap();
        MaskRules::new(&config.mask, &[0; 32])
            .err()
            .map(|e| e.to_string())
    };
    for (toml, part) in [
        ("disable = ['emial']", "emial"),
        ("keep_last = 99", "keep_last"),
        ("[[mask.class]]\nname = 'x'\npattern = 'a+'", "at most 256"),
        ("[[mask.class]]\nname = 'x'\npattern = 'a{0,3}'", "at least 1"),
        ("[[mask.class]]\nname = 'x'\npattern = '^a'", "must not use"),
        ("[[mask.class]]\nname = 'x'\npattern = '('", "'x'"),
        ("[[mask.class]]\nname = 'X y'\npattern = 'a'", "no name"),
        ("[[mask.field]]\nclass = 'x'\njson = ['a..b']", "no key"),
        ("[[mask.field]]\nclass = 'x'\njson = ['*']", "no key"),
    ] {
        let error = refused(toml).unwrap_or_else(|| panic!("{toml}"));
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(
        refused("strategy = 'hash'\n[mask.strategies]\nipv4 = 'null'"),
        None
    );
}

#[test]
fn formats() {
    use Handling::{Binary, Mask, Unreadable};
    for (kind, first, expected) in [
        (
            Some("application/json; charset=utf-8"),
            &b"{"[..],
            Mask(Format::Json),
        ),
        (Some("application/problem+json"), b"{", Mask(Format::Json)),
        (Some("application/json; charset=UTF-16"), b"{", Unreadable),
        (Some("text/plain"), b"\xFF\xFEa\0", Unreadable),
        (None, b"{\0\"\0a\0", Unreadable),
        (Some("text/event-stream"), b"data: 1", Mask(Format::Text)),
        (
            Some("application/x-www-form-urlencoded"),
            b"a=b",
            Mask(Format::Form),
        ),
        (Some("image/png"), b"\x89PNG\r\n\x1a\n\0\0", Binary),
        (Some("image/png"), b"alice@example.com", Mask(Format::Text)),
        (Some("application/octet-stream"), b"{\"a\":1}", Mask(Format::Text)),
        (None, b" [1]", Mask(Format::Json)),
        (Some("text/plain; charset = utf-16le"), b"a", Unreadable),
        (Some("text/plain; charset='UTF-7'"), b"a", Unreadable),
        (Some("text/plain; charset=utf-8; charset=utf-7"), b"a", Unreadable),
        (Some("text/plain; charset=unicode-1-1-utf-7"), b"a", Unreadable),
        (Some("text/plain; charset*=us-ascii'en'utf-16"), b"a", Unreadable),
        (Some("application/octet-stream"), b"\xd0", Mask(Format::Text)),
        (
            Some("application/octet-stream"),
            &"п".repeat(400).as_bytes()[..799 - 287],
            Mask(Format::Text),
        ),
        (None, b"\x1f\x8b\x08\0\0\0", Binary),
    ] {
        assert_eq!(Format::of(kind, first), expected, "{kind:?} {first:?}");
    }
}

#[test]
fn private_keys_of_any_length_in_bounded_memory() {
    let rules = rules_of("");
    for (format, open, close, newline) in [
        (Format::Text, "", "", "\n"),
        (Format::Json, "{\"k\":\"", "\"}", "\\n"),
    ] {
        let mut masker = Masker::new(rules.clone(), rules.all(), format);
        let mut out = Vec::new();
        let mut feed = |s: &str| {
            masker.push(s.as_bytes(), &mut out);
            assert!(masker.held() <= HOLD_MAX);
            masker.held()
        };
        feed(&format!("{open}x -----BEGIN PRIV"));
        feed(&format!("ATE KEY-----{newline}"));
        for _ in 0..50_000 {
            feed(&format!(
                "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7{newline}"
            ));
        }
        feed("-----END PRIVATE KEY-");
        feed(&format!("---- y{close}"));
        masker.finish(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!("{open}x [masked:private_key] y{close}")
        );
    }
}

#[test]
fn events_are_not_held_back() {
    let rules = rules_of("");
    for format in [Format::Text, Format::Json] {
        let mut masker = Masker::new(rules.clone(), rules.all(), format);
        let mut out = Vec::new();
        let event = if format == Format::Text {
            "data: {\"token\":\"hello\"}\n\n"
        } else {
            "{\"a\":\"bob\"}\n"
        };
        masker.push(event.as_bytes(), &mut out);
        assert_eq!(out, event.as_bytes());
    }
}

#[test]
fn hostile_input_is_linear() {
    let rules = all_on();
    let size = 1 << 20;
    let patterns: Vec<String> = [
        "@",
        "a@",
        "a@b.",
        "a@b.c@",
        "1",
        "4111 ",
        "4111-",
        "1 ",
        "+1",
        "+1 ",
        "\"",
        "\\",
        "\\\"",
        "[",
        "{\"a\":",
        "eyJ",
        "eyJ.",
        "eyJabcdefghijkl.",
        ".eyJ",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN A",
        "://",
        "://a:",
        "://a:b@",
        "password=",
        "pwd= ",
        "sk-",
        " sk-",
        "ghp_",
        "AKIA",
        " AKIA",
        "secret_",
        " ecret_a",
        "secret_key ",
        "DE89",
        " DE89 ",
        "DE00 ",
        ":",
        "1.",
        "1.1.1.",
        "a:",
        "zz",
        "EMP-",
        "EMP-1 ",
        "%",
        "+",
        "&",
        "=",
        "\\u00",
        "a.a.",
    ]
    .iter()
    .map(|s| s.repeat(size / s.len()))
    .chain([
        "a".repeat(size),
        format!("{}@", "a".repeat(63)).repeat(size / 64),
        format!("{PEM} ").repeat(8000),
    ])
    .collect();
    for input in patterns {
        for format in [Format::Text, Format::Json, Format::Form] {
            detect::WORK.with(|w| w.set(0));
            let mut masker = Masker::new(rules.clone(), rules.all(), format);
            let mut out = Vec::new();
            for piece in input.as_bytes().chunks(16 << 10) {
                masker.push(piece, &mut out);
                assert!(masker.held() <= HOLD_MAX);
            }
            masker.finish(&mut out);
            let work = detect::WORK.with(std::cell::Cell::get);
            let factor = work / input.len();
            assert!(factor <= 40, "{} bytes for each of {:?}...", factor, &input[..20]);
        }
    }
}

#[test]
fn a_key_marker_with_the_longest_label_is_the_same_however_it_is_cut() {
    let rules = rules_of("");
    let input = "-----BEGIN RSA PRIVATE KED  RSA PRIVATE KED RSA PRIVATE KEY-----\ndata: {\"email\":\"a@b.example\"}\n\n";
    let expected = whole(&rules, Format::Text, input);
    assert!(expected.contains("[masked:private_key]"), "{expected}");
    for first in 0..input.len() {
        for second in [first, first + 1, first + 8] {
            let (out, _) = in_pieces(&rules, Format::Text, input.as_bytes(), &[first, second]);
            assert_eq!(
                String::from_utf8_lossy(&out),
                expected,
                "cut at {first} and {second}"
            );
        }
    }
}

fn fragment() -> impl Strategy<Value = String> {
    let values: Vec<String> = positives()
        .into_iter()
        .flat_map(|(text, _, value)| [text, value])
        .chain(
            [
                "PRIVATE KED ",
                "RSA PRIVATE KEY-----",
                "-----BEGIN RSA ",
                "\\u0040",
                "\\",
                "\"",
                "@",
                ".",
                "-",
                "4111",
                " ",
                "zz1q",
                "zz zz q",
                "{\"ssn\":\"",
                "\"}",
                "{",
                "}",
                "[",
                "]",
                ",",
                ":",
                "\"a\"",
                "\"password\":",
                "&",
                "=",
                "password",
                "%40",
                "%",
                "+",
                "\n",
                "\\n",
                "\\ud83d\\ude00",
                "é",
                "日本",
                "eyJ",
                "-----BEGIN ",
                "PRIVATE KEY-----",
                "-----END ",
                "://u:",
                "EMP-123",
                "12.5",
                "true",
                "null",
                "\"customer\":{\"tax\":",
                "secret",
                "alice",
                "example.com",
                "123-45-",
                "6789",
                "1",
                "\\u00e9",
                "\\u0022",
            ]
            .map(String::from),
        )
        .collect();
    prop_oneof![
        4 => proptest::sample::select(values),
        1 => "[a-zA-Z0-9@:/._+ -]{0,90}",
    ]
}

fn body() -> impl Strategy<Value = String> {
    let free = prop::collection::vec(fragment(), 0..9).prop_map(|v| v.concat());
    let json = prop::collection::vec((fragment(), fragment(), fragment()), 1..5).prop_map(|v| {
        let object: serde_json::Map<String, serde_json::Value> = v
            .into_iter()
            .map(|(k, a, b)| {
                (
                    k,
                    serde_json::json!([format!("{a}{b}"), {"api_key": b, "x": a}, 4_111_111_111_111_111u64]),
                )
            })
            .collect();
        serde_json::Value::Object(object).to_string()
    });
    prop_oneof![free, json]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn splits_make_no_difference(
        input in body(),
        cuts in prop::collection::vec(0usize..400, 0..6),
        format in proptest::sample::select(vec![Format::Json, Format::Form, Format::Text]),
        how in proptest::sample::select(vec![How::Redact, How::Partial, How::Hash, How::Null]),
    ) {
        thread_local! {
            static RULES: [Arc<MaskRules>; 4] = ["redact", "partial", "hash", "null"].map(|how| rules_of(&format!(
                "strategy = '{how}'\nenable = ['ipv4', 'ipv6']\n[[mask.field]]\nclass = 'us_ssn'\njson = ['customer.tax', 'k.*']\n\
                 [[mask.class]]\nname = 'loose'\npattern = 'zz[^\"a]{{1,9}}q'"
            )));
        }
        let rules = RULES.with(|r| r[how as usize].clone());
        let mut cuts = cuts;
        cuts.sort_unstable();
        let bytes = input.as_bytes();
        let mut masker = Masker::new(rules.clone(), rules.all(), format);
        let expected = masker.scan_whole(bytes).unwrap_or_else(|| bytes.to_vec());
        let (pieces, counts) = in_pieces(&rules, format, bytes, &cuts);
        prop_assert_eq!(String::from_utf8_lossy(&pieces), String::from_utf8_lossy(&expected));
        prop_assert_eq!(&counts, masker.counts());
        let every: Vec<usize> = (0..bytes.len()).collect();
        let (pieces, _) = in_pieces(&rules, format, bytes, &every);
        prop_assert_eq!(String::from_utf8_lossy(&pieces), String::from_utf8_lossy(&expected));
        prop_assert!(std::str::from_utf8(&expected).is_ok());
        if format == Format::Json && serde_json::from_slice::<serde_json::Value>(bytes).is_ok() {
            let read = serde_json::from_slice::<serde_json::Value>(&expected);
            prop_assert!(read.is_ok(), "{} -> {}", input, String::from_utf8_lossy(&expected));
        }
    }
}

#[test]
fn columns_by_name() {
    let rules = rules_of(
        "[[mask.field]]\nclass = 'pay'\ncolumn = ['hr.staff.salary', 'payroll.*.*', 'bonus', '*.grade', 'Staff.Level']\n\
         [[mask.field]]\nclass = 'late'\ncolumn = ['bonus', 'hr.staff.salary', 'hr.*.password']",
    );
    let class = |s: &str, r: &str, c: &str| {
        let id = rules.column(s, r, c)?;
        rules.classes().name(id).map(ToString::to_string)
    };
    for (schema, relation, column, expected) in [
        ("hr", "staff", "salary", Some("pay")),
        ("public", "staff", "salary", None),
        ("hr", "staff2", "salary", None),
        ("payroll", "anything", "at_all", Some("pay")),
        ("public", "t", "bonus", Some("pay")),
        ("public", "t", "Bo_Nus", Some("pay")),
        ("x", "y", "grade", Some("pay")),
        ("x", "y", "gra_de", None),
        ("x", "staff", "LEVEL", Some("pay")),
        ("x", "staff2", "level", None),
        // The operator's before the built-in names.
        ("hr", "users", "password", Some("late")),
        ("public", "users", "password", Some("password")),
        ("public", "users", "User-Password", Some("password")),
        ("public", "people", "SSN", Some("us_ssn")),
        ("public", "people", "name", None),
    ] {
        assert_eq!(
            class(schema, relation, column).as_deref(),
            expected,
            "{schema}.{relation}.{column}"
        );
    }
    for bad in ["", "*", "*.*", "*.*.*", "a..b", ".a", "a.", "a.b.c.d"] {
        let text = format!("[[mask.field]]\nclass = 'x'\ncolumn = ['{bad}']");
        let config = config::parse(std::path::Path::new("x"), &text).unwrap();
        let error = MaskRules::new(&config.mask, &[7; 32]).unwrap_err();
        assert!(matches!(error, MaskError::Column { .. }), "{bad}: {error}");
    }
    // A built-in class that is switched off names no column.
    let off = rules_of("disable = ['us_ssn', 'derived']\n[[mask.field]]\nclass = 'us_ssn'\ncolumn = ['tax']");
    assert_eq!(off.column("public", "people", "ssn"), None);
    assert_eq!(off.column("public", "people", "tax"), None);
    assert_eq!(off.derived(), None);
    assert!(rules.derived().is_some());
}

#[test]
fn values_as_a_whole() {
    let rules = rules_of("[mask.strategies]\nemail = 'hash'\nus_ssn = 'partial'\nphone = 'null'");
    let mask = |class: &str, value: &str| {
        let mut out = Vec::new();
        rules.mask_value(rules.classes().id(class).unwrap(), value.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(mask("derived", "12"), "[masked:derived]");
    assert_eq!(mask("us_ssn", "123-45-6789"), "****6789");
    assert_eq!(mask("phone", "1"), "");
    assert_eq!(mask("email", "a"), mask("email", "a"));
    assert_ne!(mask("email", "a"), mask("email", "b"));
    let (a, b) = (rules.derived().unwrap(), rules.classes().id("email").unwrap());
    assert_eq!(rules.pseudonym(a, b"1"), rules.pseudonym(a, b"1"));
    assert_ne!(rules.pseudonym(a, b"1"), rules.pseudonym(b, b"1"));
    assert_ne!(rules.pseudonym(a, b"1"), rules.pseudonym(a, b"2"));
}
