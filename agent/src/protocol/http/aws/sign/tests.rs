//! Signatures against those that AWS publishes, and against AWS's own signer.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials as TheirKeys;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
        SigningSettings, UriPathNormalizationMode,
    },
    sign::v4,
};
use proptest::prelude::*;

use super::{super::tests::request, *};
use crate::{
    credential::Secret,
    protocol::http::aws::{Custom, claim as claimed},
};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const S3_SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// 2015-08-30T12:36:00Z and 2013-05-24T00:00:00Z
const SUITE: i64 = 1_440_938_160_000_000_000;
const S3_DAY: i64 = 1_369_353_600_000_000_000;

fn keys(id: &str, secret: &str, token: Option<&str>) -> AwsKeys {
    let wrap = |text: &str| Secret::new(Zeroizing::new(text.as_bytes().to_vec()));
    AwsKeys {
        access_key_id: id.into(),
        secret_access_key: wrap(secret),
        session_token: token.map(wrap),
    }
}

fn s3_keys() -> AwsKeys {
    keys("AKIAIOSFODNN7EXAMPLE", S3_SECRET, None)
}

/// The claim of a request to an endpoint that the configuration names.
fn claim(request: &Request, service: &str) -> Claim {
    let custom = Custom {
        service: Some(service.to_owned()),
        region: Some("us-east-1".to_owned()),
    };
    let mut claim = claimed(request, Some(&custom)).unwrap().unwrap();
    service.clone_into(&mut claim.service);
    if service != "s3" {
        claim.plane = Plane::Api;
    }
    claim
}

fn lines(signed: &Signed) -> String {
    String::from_utf8(signed.lines.to_vec()).unwrap()
}

fn signature(text: &str) -> &str {
    let at = text.find("Signature=").unwrap() + "Signature=".len();
    text[at..].split(['\r', '&', ' ']).next().unwrap()
}

#[test]
fn the_published_suite() {
    for line in include_str!("fixtures/v4.tsv").lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, method, target, token, header, query] = fields[..] else {
            panic!("{line}");
        };
        let keys = keys("AKIDEXAMPLE", SECRET, Some(token).filter(|t| *t != "-"));
        let plain = request(&format!(
            "{method} {target} HTTP/1.1\nHost: example.amazonaws.com"
        ));
        let signed = sign(&plain, &claim(&plain, "service"), &keys, None, SUITE).unwrap();
        assert_eq!(signature(&lines(&signed)), header, "{name}");
        assert_eq!(signed.query, None, "{name}");
        // The same, presigned by the workload with other keys.
        let join = if target.contains('?') { '&' } else { '?' };
        let presigned = request(&format!(
            "{method} {target}{join}X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=DUMMY%2F20150830%2Fus-east-1%2Fservice%2Faws4_request\
             &X-Amz-Date=20150830T123600Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Security-Token=dummy&X-Amz-Signature=00 HTTP/1.1\n\
             Host: example.amazonaws.com\nAuthorization-Not: x"
        ));
        let signed = sign(&presigned, &claim(&presigned, "service"), &keys, None, 0).unwrap();
        let new = signed.query.unwrap();
        assert_eq!(signature(&new), query, "{name}");
        assert!(!new.contains("DUMMY") && !new.contains("dummy"), "{}", *new);
        let shown = signed.shown_query.unwrap();
        assert!(
            !shown.contains(query) && shown.contains("X-Amz-Signature=%5Binjected%5D"),
            "{shown}"
        );
    }
}

#[test]
fn the_published_examples_of_s3_and_iam() {
    let s3 = |target: &str| {
        let request = request(&format!(
            "GET {target} HTTP/1.1\nHost: examplebucket.s3.amazonaws.com"
        ));
        sign(&request, &claim(&request, "s3"), &s3_keys(), None, S3_DAY).unwrap()
    };
    assert_eq!(
        signature(&lines(&s3("/?lifecycle"))),
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
    );
    assert_eq!(
        signature(&lines(&s3("/?max-keys=2&prefix=J"))),
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    );
    let presigned = s3(
        "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=X%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
         &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=0",
    );
    assert_eq!(
        signature(&presigned.query.unwrap()),
        "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    );
    let iam = request(
        "GET /?Action=ListUsers&Version=2010-05-08 HTTP/1.1\nHost: iam.amazonaws.com\n\
         Content-Type: application/x-www-form-urlencoded; charset=utf-8",
    );
    let signed = sign(
        &iam,
        &claim(&iam, "iam"),
        &keys("AKIDEXAMPLE", SECRET, None),
        None,
        SUITE,
    )
    .unwrap();
    assert_eq!(
        signature(&lines(&signed)),
        "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    );
}

#[test]
fn the_published_key_of_sigv4a() {
    let key = Key::asymmetric(&keys("AKIDEXAMPLE", SECRET, None)).unwrap();
    let text = "AWS4-ECDSA-P256-SHA256\n20150830T123600Z\n20150830/service/aws4_request\n\
                cf59db423e841c8b7e3444158185aa261b724a5c27cbe762676f3eed19f4dc02";
    let mut public = vec![4];
    for half in [
        "b6618f6a65740a99e650b33b6b4b5bd0d43b176d721a3edfea7e7d2d56d936b1",
        "865ed22a7eadc9c5cb9d2cbaca1b3699139fedc5043dc6661864218330c8e518",
    ] {
        public.extend(hex::decode(half).unwrap());
    }
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public);
    let signature = hex::decode(key.sign(text.as_bytes()).unwrap()).unwrap();
    public.verify(text.as_bytes(), &signature).unwrap();
    assert!(public.verify(b"another", &signature).is_err());
    // As AWS draws them.
    for secret in [SECRET, S3_SECRET, "x"] {
        let theirs = aws_sigv4::sign::v4a::generate_signing_key("AKIA", secret);
        let theirs = aws_sigv4::sign::v4a::calculate_signature(theirs, b"text");
        let Key::Ecdsa(ours) = Key::asymmetric(&keys("AKIA", secret, None)).unwrap() else {
            panic!("not ECDSA");
        };
        let public = aws_lc_rs::signature::KeyPair::public_key(&*ours)
            .as_ref()
            .to_vec();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public)
            .verify(b"text", &hex::decode(theirs).unwrap())
            .unwrap();
    }
}

#[test]
fn an_asymmetric_signature_stays_one() {
    let request = request(
        "GET /k HTTP/1.1\nHost: m.accesspoint.s3-global.amazonaws.com\nX-Amz-Region-Set: eu-*\n\
         Authorization: AWS4-ECDSA-P256-SHA256 Credential=D/20130524/s3/aws4_request, SignedHeaders=host, Signature=00",
    );
    let claim = claimed(&request, None).unwrap().unwrap();
    let text = lines(&sign(&request, &claim, &s3_keys(), None, S3_DAY).unwrap());
    assert!(text.contains("x-amz-region-set: eu-*\r\n"), "{text}");
    assert!(
        text.contains(
            "authorization: AWS4-ECDSA-P256-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/s3/aws4_request, "
        ),
        "{text}"
    );
}

/// The published stream: 65 KiB in two pieces.
fn stream(signatures: [&str; 3], end: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (size, signature) in [65536, 1024, 0].into_iter().zip(signatures) {
        body.extend(format!("{size:x};chunk-signature={signature}\r\n").into_bytes());
        body.extend(vec![b'a'; size]);
        if size > 0 {
            body.extend(b"\r\n");
        }
    }
    body.extend(end.as_bytes());
    body
}

fn s3_key() -> hmac_key::Hmac {
    match Key::symmetric(&s3_keys(), "20130524", "us-east-1", "s3") {
        Key::Hmac(key) => *key,
        Key::Ecdsa(_) => panic!("not HMAC"),
    }
}

mod hmac_key {
    pub type Hmac = aws_lc_rs::hmac::Key;
}

fn signer(seed: &str, trailer: bool) -> ChunkSigner {
    ChunkSigner::new(
        s3_key(),
        "20130524T000000Z",
        "20130524/us-east-1/s3/aws4_request",
        seed,
        trailer,
    )
}

const ZEROES: &str = "0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn the_published_streams() {
    let signed = [
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ];
    let with_trailer = [
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ];
    let end = |signature: &str| {
        format!("x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:{signature}\r\n\r\n")
    };
    let sealed = end("d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435");
    for (seed, trailer, dummy, expected) in [
        (
            "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
            false,
            stream([ZEROES; 3], "\r\n"),
            stream(signed, "\r\n"),
        ),
        (
            "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
            true,
            stream([ZEROES; 3], &end(ZEROES)),
            stream(with_trailer, &sealed),
        ),
    ] {
        assert_eq!(dummy.len(), expected.len());
        for piece in [1, 7, 100, 1000, 65_000, 1 << 20] {
            let mut signer = signer(seed, trailer);
            let mut out = Vec::new();
            for part in dummy.chunks(piece) {
                assert!(!signer.is_done());
                signer.push(part, &mut out).unwrap();
            }
            assert!(signer.is_done());
            assert!(out == expected, "in pieces of {piece}");
        }
        let mut content = Vec::new();
        let mut reader = Content::default();
        for part in dummy.chunks(1000) {
            reader.push(part, &mut content).unwrap();
        }
        assert!(reader.is_done() && content == vec![b'a'; 66_560]);
    }
}

#[test]
fn streams_that_are_not_what_they_say_do_not_go_up() {
    let head = |size: &str| format!("{size};chunk-signature={ZEROES}\r\n");
    let last = head("0");
    for (trailer, body) in [
        (false, "5\r\nhello\r\n0\r\n\r\n".to_owned()),
        (false, "5;chunk-signature=00\r\nhello\r\n".to_owned()),
        (false, format!("5;other={ZEROES}\r\nhello\r\n")),
        (false, format!("{}hello!\r\n", head("5"))),
        (false, format!("{}hello\n\r\n", head("5"))),
        (false, head("")),
        (false, head("0x5")),
        (false, head(" 5")),
        (false, head("-5")),
        (false, head("fffffffffffffff")),
        (false, head("800001")),
        (false, head("ffffffffffffffffffff")),
        (false, format!("{last}\r\nmore")),
        (false, format!("{last}x-amz-checksum-crc32c:a\r\n\r\n")),
        (false, format!("{last}x-amz-trailer-signature:{ZEROES}\r\n\r\n")),
        (true, format!("{last}\r\n")),
        (true, format!("{last}x-amz-checksum-crc32c:a\r\n\r\n")),
        (true, format!("{last}x-amz-trailer-signature:00\r\n\r\n")),
        (
            true,
            format!("{last}x-amz-trailer-signature:{ZEROES}\r\nx-amz-checksum-crc32c:a\r\n\r\n"),
        ),
        (true, format!("{last}nothing\r\n\r\n")),
        (false, "5".repeat(2000)),
    ] {
        for piece in [1, 4096] {
            let mut signer = signer(ZEROES, trailer);
            let mut out = Vec::new();
            let pushed = body
                .as_bytes()
                .chunks(piece)
                .try_for_each(|part| signer.push(part, &mut out));
            assert!(pushed.is_err(), "{body:.80}");
            assert!(!String::from_utf8_lossy(&out).contains(ZEROES), "{body:.80}");
        }
    }
}

#[test]
fn what_the_workload_signed_with_is_gone() {
    let head = "PUT /b/k?X-Amz-SignedHeaders=DUMMY&x-id=PutObject HTTP/1.1\nHost: s3.us-east-1.amazonaws.com\n\
                Authorization: AWS4-HMAC-SHA256 Credential=DUMMY/20130524/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00\n\
                X-Amz-Date: 20130524T000000Z\nX-Amz-Security-Token: DUMMY\nX-Amz-Content-Sha256: UNSIGNED-PAYLOAD\n\
                X-Amz-Meta-A:  b   c \nx-amz-meta-a: d\nContent-Length: 3";
    let request = request(head);
    let keys = keys("ASIA1", SECRET, Some("the-token"));
    let signed = sign(&request, &claim(&request, "s3"), &keys, None, S3_DAY).unwrap();
    assert_eq!(
        signed.query.as_deref().map(String::as_str),
        Some("x-id=PutObject")
    );
    let text = lines(&signed);
    assert!(!text.contains("DUMMY"), "{text}");
    assert!(text.contains("x-amz-security-token: the-token\r\n"), "{text}");
    assert!(
        text.contains(
            "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-meta-a;x-amz-security-token, "
        ),
        "{text}"
    );
    let shown = String::from_utf8(signed.shown_lines).unwrap();
    assert!(
        !shown.contains("the-token") && !shown.contains(signature(&text)),
        "{shown}"
    );
    for name in [
        "authorization",
        "x-amz-date",
        "x-amz-security-token",
        "x-amz-content-sha256",
    ] {
        assert!(signed.drop.iter().any(|d| d == name));
    }
}

#[test]
fn a_request_presigned_the_old_way_lasts_as_long() {
    let old = |expires: i64| {
        let request = request(&format!(
            "GET /b/k?AWSAccessKeyId=DUMMY&Signature=DUMMY%3D&Expires={expires}&versionId=3 HTTP/1.1\nHost: s3.us-east-1.amazonaws.com"
        ));
        let claim = claimed(&request, None).unwrap().unwrap();
        sign(&request, &claim, &s3_keys(), None, S3_DAY).map(|signed| signed.query.unwrap().to_string())
    };
    let now = S3_DAY / 1_000_000_000;
    let query = old(now + 60).unwrap();
    assert!(
        query.starts_with("versionId=3&X-Amz-Algorithm=") && query.contains("&X-Amz-Expires=60&"),
        "{query}"
    );
    assert!(
        !query.contains("DUMMY") && query.contains("&X-Amz-Date=20130524T000000Z&"),
        "{query}"
    );
    assert!(old(i64::MAX).unwrap().contains("&X-Amz-Expires=604800&"));
    for expires in [now, 1, -1, i64::MIN] {
        assert_eq!(old(expires), Err(SignError::Expired));
    }
}

#[test]
fn what_cannot_be_signed_is_said() {
    let s3 = |head: &str| {
        let request = request(&format!("{head}\nHost: s3.us-east-1.amazonaws.com"));
        let claim = claimed(&request, None).unwrap().unwrap();
        sign(&request, &claim, &s3_keys(), None, S3_DAY).map(|_| ())
    };
    let sha = |value: &str| format!("PUT /b/k HTTP/1.1\nContent-Length: 3\nX-Amz-Content-Sha256: {value}");
    assert_eq!(
        s3(&sha("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD")),
        Err(SignError::Stream)
    );
    assert_eq!(s3(&sha("nonsense")), Err(SignError::Malformed));
    assert_eq!(
        s3("POST /b HTTP/1.1\nContent-Length: 3\nContent-Type: multipart/form-data; boundary=x"),
        Err(SignError::Form)
    );
    let presigned = "GET /b/k?X-Amz-Credential=D%2F20130524%2Fus-east-1%2Fs3%2Faws4_request";
    assert_eq!(s3(&format!("{presigned} HTTP/1.1")), Err(SignError::Presigned));
    assert_eq!(
        s3(&format!(
            "{presigned}&X-Amz-Date=20130524&X-Amz-Expires=3 HTTP/1.1"
        )),
        Err(SignError::Presigned)
    );
    assert_eq!(
        s3(&format!("{presigned}&X-Amz-Date=20130524T000000Z HTTP/1.1")),
        Err(SignError::Presigned)
    );
    for (host, error) in [
        (
            "b--x-s3.s3express-use1-az1.us-east-1.amazonaws.com",
            SignError::Express,
        ),
        ("brandnew.us-east-1.amazonaws.com", SignError::Service),
    ] {
        let request = request(&format!("GET /k HTTP/1.1\nHost: {host}"));
        let claim = claimed(&request, None).unwrap().unwrap();
        assert_eq!(
            sign(&request, &claim, &s3_keys(), None, S3_DAY).err(),
            Some(error)
        );
    }
    let post = request("POST / HTTP/1.1\nHost: sts.us-east-1.amazonaws.com\nContent-Length: 3");
    let claim = claimed(&post, None).unwrap().unwrap();
    assert!(needs_body(&claim, &post));
    assert_eq!(
        sign(&post, &claim, &s3_keys(), None, S3_DAY).err(),
        Some(SignError::Body)
    );
    assert_eq!(
        sign(&post, &claim, &keys("A/B", "x", None), Some(&[0; 32]), S3_DAY).err(),
        Some(SignError::Keys)
    );
    assert_eq!(
        sign(
            &post,
            &claim,
            &keys("A", "x", Some("a\r\nb")),
            Some(&[0; 32]),
            S3_DAY
        )
        .err(),
        Some(SignError::Keys)
    );
    let unknown = request("GET / HTTP/1.1\nHost: aws.internal");
    let claim = claimed(&unknown, Some(&Custom::default())).unwrap().unwrap();
    assert_eq!(
        sign(&unknown, &claim, &s3_keys(), None, S3_DAY).err(),
        Some(SignError::Service)
    );
}

/// What AWS's own signer makes of a request.
fn theirs(head: &Request, service: &str, body: SignableBody<'_>, presigned: Option<u64>) -> String {
    let identity = TheirKeys::new("AKIA", SECRET, Some("token/+=".to_owned()), None, "test").into();
    let mut settings = SigningSettings::default();
    if service == "s3" {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    if let Some(seconds) = presigned {
        settings.signature_location = SignatureLocation::QueryParams;
        settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
        settings.expires_in = Some(Duration::from_secs(seconds));
    }
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name(service)
        .time(SystemTime::UNIX_EPOCH + Duration::from_nanos(SUITE.unsigned_abs()))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let query = head
        .target
        .query
        .as_ref()
        .map_or(String::new(), |q| format!("?{q}"));
    let uri = format!("https://{}{}{query}", head.host, head.target.wire());
    let headers = head
        .head()
        .headers()
        .filter(|h| !h.name.eq_ignore_ascii_case("host") && !h.name.eq_ignore_ascii_case("content-length"))
        .map(|h| (h.name, std::str::from_utf8(h.value).unwrap()));
    let signable = SignableRequest::new(&head.method, uri, headers, body).unwrap();
    let (_, signature) = aws_sigv4::http_request::sign(signable, &params)
        .unwrap()
        .into_parts();
    signature
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn signatures_are_those_of_aws_own_signer(
        service in "(s3|ec2|lambda)",
        method in "(GET|PUT|POST|DELETE)",
        path in "(/[A-Za-z0-9_~-]{1,8}|/%20x%C3%A9%2B|/a%3Ab){0,4}/?",
        query in proptest::option::of("[A-Za-z][A-Za-z0-9._~-]{0,6}(=[A-Za-z0-9._~-]{0,6}(%20|%2F|%C3%A9)?)?(&[a-z][A-Za-z0-9._~-]{0,6}(=[A-Za-z0-9._~-]{0,6})?){0,4}"),
        meta in proptest::option::of("[!-~][ -~]{0,20}[!-~]"),
        body in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..64)),
        presigned in any::<bool>(),
    ) {
        let path = if path.is_empty() { "/" } else { &path };
        let query = query.map_or(String::new(), |q| format!("?{q}"));
        let mut head = format!("{method} {path}{query} HTTP/1.1\nHost: {service}.us-east-1.amazonaws.com");
        if let Some(meta) = &meta {
            head.push_str(&format!("\nX-Amz-Meta-One: {meta}\nX-Amz-Target: a.B"));
        }
        if body.is_some() {
            head.push_str("\nContent-Type: application/json\nContent-Length: 9");
        }
        let plain = request(&head);
        let keys = keys("AKIA", SECRET, Some("token/+="));
        let hash = body.as_ref().map(|b| aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b));
        let hash = hash.as_ref().map(AsRef::as_ref);
        let payload = SignableBody::Bytes(body.as_deref().unwrap_or_default());
        let mut claimed = claim(&plain, &service);
        if presigned {
            claimed.auth.place = Place::Query;
            claimed.auth.date = Some("20150830T123600Z".to_owned());
            claimed.auth.expires = Some(900);
            // Presigned they cover all headers, too, and ours only those that say what is asked for.
            let plain = request(&head.replace("\nContent-Type: application/json", ""));
            let ours = sign(&plain, &claimed, &keys, hash, 0).unwrap();
            let payload = if service == "s3" { SignableBody::UnsignedPayload } else { payload };
            let expected = theirs(&plain, &service, payload, Some(900));
            let new = ours.query.unwrap();
            prop_assert_eq!(signature(&new), expected);
        } else {
            let ours = sign(&plain, &claimed, &keys, hash, SUITE).unwrap();
            let text = lines(&ours);
            prop_assert_eq!(signature(&text), theirs(&plain, &service, payload, None));
        }
    }
}
