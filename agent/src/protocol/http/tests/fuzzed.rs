//! Properties over made-up messages, and a smoke run of the fuzz entry points.

use proptest::prelude::*;

use crate::protocol::http::fuzzing::{
    fuzz_http_gzip, fuzz_http_request, fuzz_http_response, fuzz_http_target,
};

/// Pieces that messages are made of, well-formed and not.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "GET ",
        "POST ",
        "HEAD ",
        "/",
        "/a",
        "%2e",
        "%7e",
        "..",
        "?q=1",
        " HTTP/1.1",
        " HTTP/1.0",
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\r",
        "Host: a\r\n",
        "host: b:80\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 0\r\n",
        "Transfer-Encoding: chunked\r\n",
        "transfer-encoding : chunked\r\n",
        "Connection: close\r\n",
        "Connection: x-a, keep-alive\r\n",
        "X-A: 1\r\n",
        " folded\r\n",
        "5\r\nhello\r\n",
        "0\r\n\r\n",
        "0\r\nX: y\r\n\r\n",
        "a;b=c\r\n",
        "hello",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 100 C\r\n\r\n",
        "HTTP/1.1 204 N\r\n",
        "\0",
        "\u{e9}",
        "TE: trailers\r\n",
        "Upgrade: h2c\r\n",
        "Expect: 100-continue\r\n",
        "http://a/",
        ":",
        ",",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ]);
    prop::collection::vec(words, 0..16).prop_map(|words| words.concat().into_bytes())
}

/// A well-formed request.
fn request() -> impl Strategy<Value = Vec<u8>> {
    (
        prop::sample::select(vec!["GET", "POST", "PUT", "DELETE", "PATCH", "X-odd!"]),
        "(/[a-zA-Z0-9_~:@!$&'()*+,=-]{1,8}(%(20|C3|3A|3f))?){1,4}/?",
        prop::option::of("[!-\"$-~]{0,20}"),
        prop::collection::vec(
            (
                "X-[A-Za-z0-9!#$%&'*+.^_`|~-]{1,10}",
                "[ \t]{0,2}([!-~]([ -~]{0,20}[!-~])?)?[ \t]{0,2}",
            ),
            0..6,
        ),
    )
        .prop_map(|(method, path, query, headers)| {
            let query = query.map(|q| format!("?{q}")).unwrap_or_default();
            let headers: String = headers.iter().map(|(n, v)| format!("{n}:{v}\r\n")).collect();
            format!("{method} {path}{query} HTTP/1.1\r\nHost: a.internal\r\n{headers}\r\n").into_bytes()
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_message_reads_the_same_in_any_pieces(message in pieces()) {
        fuzz_http_request(&message);
        fuzz_http_response(&message);
    }

    #[test]
    fn any_bytes_do_no_harm(data in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz_http_request(&data);
        fuzz_http_response(&data);
        fuzz_http_target(&data);
        fuzz_http_gzip(&data);
    }

    #[test]
    fn a_target_has_one_form(target in "(/|%2e|%7E|%3a|%c3|[a-z.;?#\\\\%]){0,12}") {
        fuzz_http_target(target.as_bytes());
    }

    #[test]
    fn what_is_well_formed_goes_up_as_it_came(message in request()) {
        use crate::{model::Side, protocol::{Codec as _, http::{codec::{Codec, Event}, request::Setting}}};
        let setting = Setting { tls: false, server_name: None, destination: ([10, 0, 0, 5], 80).into() };
        let mut codec = Codec::new(setting, 65_536);
        let event = codec.decode(Side::Downstream, &message);
        match event {
            Ok(Some((taken, Event::Request(_, host, written)))) => {
                prop_assert_eq!(taken, message.len());
                prop_assert_eq!(host, "a.internal");
                prop_assert!(written.eq_ignore_ascii_case(&message), "{}", written.escape_ascii());
            }
            other => prop_assert!(false, "{} {other:?}", message.escape_ascii()),
        }
    }
}
