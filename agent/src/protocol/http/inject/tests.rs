//! Each place, and what a workload may have sent in it.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{InjectError, Injected, place::into_request};
use crate::{
    config::Inject,
    credential::{Material, MaterialValue, Secret},
    protocol::http::request::{Edits, Request, Setting},
};

fn material(secret: &[u8]) -> Material {
    Material {
        reference: "key".into(),
        version: "1".into(),
        expires_at: None,
        value: MaterialValue::Secret(Secret::new(Zeroizing::new(secret.to_vec()))),
    }
}

fn inject(text: &str) -> Inject {
    toml::from_str(text).unwrap()
}

fn parse(lines: &str) -> Request {
    let mut request = Request::default();
    let setting = Setting {
        tls: true,
        server_name: Some("api.example"),
        destination: "127.0.0.1:443".parse().unwrap(),
    };
    request.parse(lines.as_bytes(), setting).unwrap();
    request
}

fn written(place: &str, secret: &[u8], target: &str, lines: &str) -> (String, Injected) {
    let request = parse(&format!(
        "GET {target} HTTP/1.1\r\nHost: api.example\r\n{lines}\r\n"
    ));
    let injected = into_request(&inject(place), &material(secret), request.head(), &request.target).unwrap();
    let mut out = Vec::new();
    request.write(Edits::default(), Some(&injected), &mut out);
    (String::from_utf8(out).unwrap(), injected)
}

#[test]
fn each_place_has_the_credential_once() {
    let (head, injected) = written(
        "bearer = 'key'",
        b"s3cr3t",
        "/",
        "authorization: mine\r\nAUTHORIZATION: other\r\nX: 1\r\n",
    );
    assert_eq!(
        head,
        "GET / HTTP/1.1\r\nHost: api.example\r\nX: 1\r\nAuthorization: Bearer s3cr3t\r\n\r\n"
    );
    assert_eq!(injected.shown_lines, b"Authorization: Bearer [injected:key]\r\n");
    assert!(!format!("{injected:?}").contains("s3cr3t"));

    let (head, _) = written("basic = 'key'\nuser = 'ada'", b"s3cr3t", "/", "");
    assert!(
        head.contains("\r\nAuthorization: Basic YWRhOnMzY3IzdA==\r\n"),
        "{head}"
    );

    let (head, _) = written(
        "header = 'X-Api-Key'\ncredential = 'key'\nprefix = 'v1 '",
        b"s3cr3t",
        "/",
        "x-api-key: mine\r\nX_API_KEY: mine\r\nx-Api_key: mine\r\nX.Api.Key: mine\r\nx-api-keys: stays\r\n",
    );
    assert!(!head.contains("mine") && head.contains("x-api-keys: stays\r\nX-Api-Key: v1 s3cr3t\r\n\r\n"));

    let (head, injected) = written(
        "query = 'key'\ncredential = 'key'",
        b"s3 cr3t",
        "/a?x=1&%6bey=mine",
        "",
    );
    assert!(
        head.starts_with("GET /a?x=1&key=s3%20cr3t HTTP/1.1\r\n"),
        "{head}"
    );
    assert_eq!(injected.shown_query.as_deref(), Some("x=1&key=[injected:key]"));
    let (head, _) = written("query = 'key'\ncredential = 'key'", b"s3cr3t", "/a", "");
    assert!(head.starts_with("GET /a?key=s3cr3t HTTP/1.1\r\n"), "{head}");

    let (head, injected) = written(
        "cookie = 'sid'\ncredential = 'key'",
        b"s3cr3t",
        "/",
        "Cookie: a=1; sid=mine; b=2\r\ncookie: SID=mine;%73id=mine, sid =mine\r\n",
    );
    assert!(head.contains("Cookie: a=1; b=2; sid=s3cr3t\r\n\r\n"), "{head}");
    assert!(
        !head.contains("mine") && head.matches("ookie").count() == 1,
        "{head}"
    );
    assert_eq!(injected.shown_lines, b"Cookie: sid=[injected:key]\r\n");
}

#[test]
fn a_field_that_is_listed_as_ending_here_is_there_all_the_same() {
    let (head, _) = written(
        "header = 'X-Api-Key'\ncredential = 'key'",
        b"s3cr3t",
        "/",
        "Connection: x-api-key, close\r\nX-Api-Key: mine\r\n",
    );
    assert!(
        head.contains("X-Api-Key: s3cr3t\r\n") && !head.contains("mine"),
        "{head}"
    );
    assert!(head.contains("Connection: close\r\n"), "{head}");
}

#[test]
fn what_cannot_stand_there_is_not_sent() {
    let request = parse("GET / HTTP/1.1\r\nHost: api.example\r\n\r\n");
    for (place, secret) in [
        ("bearer = 'key'", &b"two\r\nlines"[..]),
        ("bearer = 'key'", b"\xff\xfe"),
        ("header = 'X'\ncredential = 'key'", b"tab\there"),
        ("cookie = 'sid'\ncredential = 'key'", b"a; admin=1"),
        ("cookie = 'sid'\ncredential = 'key'", b"two words"),
    ] {
        let error =
            into_request(&inject(place), &material(secret), request.head(), &request.target).unwrap_err();
        assert_eq!(error, InjectError::Unfit("key".into()));
        assert!(!error.to_string().contains("admin"));
    }
    let aws = Material {
        value: MaterialValue::Aws(crate::credential::AwsKeys {
            access_key_id: Arc::from("AKIA"),
            secret_access_key: Secret::new(Zeroizing::new(b"x".to_vec())),
            session_token: None,
        }),
        ..material(b"")
    };
    let error = into_request(&inject("bearer = 'key'"), &aws, request.head(), &request.target).unwrap_err();
    assert_eq!(error, InjectError::Kind("key".into()));
}
