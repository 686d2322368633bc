//! Every encoding, every cut, secrets beside and across each other.

use base64::{Engine as _, engine::general_purpose as b64};
use proptest::prelude::*;

use super::*;

const SECRET: &[u8] = b"s3cr3t/\"key\"&<\xc3\xa9>+ 1";

fn knowing(secrets: &[&[u8]]) -> Secrets {
    let all = Secrets::default();
    for (at, secret) in secrets.iter().enumerate() {
        all.replace(&at.to_string(), &[secret]);
    }
    all
}

fn scrub(secrets: &Secrets, pieces: &[&[u8]]) -> (Vec<u8>, u64) {
    let mut out = Vec::new();
    let mut scrubber = Scrubber::new(secrets);
    for piece in pieces {
        scrubber.push(piece, &mut out);
    }
    scrubber.finish(&mut out);
    (out, scrubber.hits())
}

fn spellings(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let text = String::from_utf8_lossy(secret).into_owned();
    let mut all = vec![
        ("plain", secret.to_vec()),
        ("hex", hex::encode(secret).into_bytes()),
        ("hex upper", hex::encode_upper(secret).into_bytes()),
        (
            "json",
            serde_json::to_string(&text).unwrap().trim_matches('"').into(),
        ),
        ("utf-16", text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
    ];
    if text.is_ascii() {
        all[4].1 = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    } else {
        all.pop();
    }
    let query: String = secret.iter().map(|b| format!("%{b:02X}")).collect();
    all.push(("percent", query.clone().into_bytes()));
    all.push(("percent lower", query.to_lowercase().into_bytes()));
    all
}

#[test]
fn every_encoding_is_found_and_keeps_its_length() {
    let secrets = knowing(&[SECRET, b"AKIAIOSFODNN7EXAMPLE"]);
    for secret in [SECRET, b"AKIAIOSFODNN7EXAMPLE"] {
        for (name, spelling) in spellings(secret) {
            let text = [b"before ", &spelling[..], b" after"].concat();
            let (out, hits) = scrub(&secrets, &[&text]);
            assert_eq!((out.len(), hits), (text.len(), 1), "{name}");
            let fill = if name.starts_with("hex") { b'0' } else { b'*' };
            let masked = [b"before ", &vec![fill; spelling.len()][..], b" after"].concat();
            assert_eq!(out, masked, "{name}");
        }
        // In base64 what stands before it moves it through the groups of three.
        for before in 0..7 {
            let pair = [&b"user:xyz"[..before], secret, b"\n more"].concat();
            for engine in [
                b64::STANDARD,
                b64::URL_SAFE,
                b64::STANDARD_NO_PAD,
                b64::URL_SAFE_NO_PAD,
            ] {
                let text = engine.encode(&pair);
                let (out, hits) = scrub(&secrets, &[text.as_bytes()]);
                assert_eq!((out.len(), hits), (text.len(), 1), "{text}");
                let kept = out.iter().filter(|b| **b != b'*').count();
                assert!(
                    kept <= text.len() - (8 * secret.len() / 6 - 2),
                    "{}",
                    out.escape_ascii()
                );
            }
        }
    }
    let (out, hits) = scrub(&secrets, &[b"nothing of it: s3cr3t/\"key\"&"]);
    assert_eq!((&out[..], hits), (&b"nothing of it: s3cr3t/\"key\"&"[..], 0));
}

#[test]
fn what_is_beside_and_across_another_goes_too() {
    let secrets = knowing(&[b"abcdefgh", b"efghijkl", b"cdefgh", b"abcdefghXYZ"]);
    for (text, masked, hits) in [
        ("-abcdefghijkl-", "-************-", 1),
        ("-abcdefghabcdefgh-", "-****************-", 2),
        ("-abcdefghXYZ-", "-***********-", 1),
        ("-abcdefghXY-", "-********XY-", 1),
        ("-abcdefgabcdefg-", "-abcdefgabcdefg-", 0),
        ("-ababcdefgh-", "-ab********-", 1),
        ("xcdefghx", "x******x", 1),
    ] {
        for at in 0..=text.len() {
            let (out, n) = scrub(&secrets, &[&text.as_bytes()[..at], &text.as_bytes()[at..]]);
            assert_eq!(
                (&*String::from_utf8(out).unwrap(), n),
                (masked, hits),
                "{text} at {at}"
            );
        }
        let mut whole = text.as_bytes().to_vec();
        assert_eq!(secrets.mask(&mut whole), hits, "{text}");
        assert_eq!(whole, masked.as_bytes());
        assert_eq!(secrets.holds(text.as_bytes()), hits > 0);
    }
}

#[test]
fn only_what_may_become_a_secret_is_held() {
    let secrets = knowing(&[b"tokentoken42"]);
    let mut scrubber = Scrubber::new(&secrets);
    for (piece, passed, held) in [
        ("hello ", "hello ", 0),
        ("a tok", "a ", 3),
        ("en", "", 5),
        ("s; tokentoken4", "tokens; ", 11),
        ("2", "************", 0),
        (" tokentokentoken4", " token", 11),
        ("tok", "tokentoken4", 3),
    ] {
        let mut out = Vec::new();
        scrubber.push(piece.as_bytes(), &mut out);
        assert_eq!(
            (std::str::from_utf8(&out).unwrap(), scrubber.held()),
            (passed, held),
            "{piece}"
        );
    }
    let mut out = Vec::new();
    scrubber.finish(&mut out);
    assert_eq!(out, b"tok");
}

#[test]
fn former_values_and_new_ones_are_found_in_streams_that_run() {
    let secrets = Secrets::default();
    assert!(!secrets.is_active() && !secrets.holds(b"anything"));
    let mut scrubber = Scrubber::new(&secrets);
    assert!(scrubber.is_idle());
    let mut out = Vec::new();
    scrubber.push(b"first-secret ", &mut out);
    secrets.replace("a", &[b"first-secret"]);
    assert!(!scrubber.is_idle());
    scrubber.push(b"first-secret first-", &mut out);
    secrets.replace("a", &[b"second-secret", b"tiny"]);
    scrubber.push(b"secret second-secret tiny", &mut out);
    scrubber.finish(&mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "first-secret ************ ************ ************* tiny"
    );
    assert_eq!(scrubber.hits(), 3);
    secrets.replace("a", &[]);
    assert!(
        secrets.holds(b"second-secret"),
        "what was just withdrawn may still come back"
    );
    assert_eq!(
        secrets.mask_text("a second-secret").as_deref(),
        Some("a *************")
    );
    assert_eq!(secrets.mask_text("nothing"), None);
    assert!(!format!("{secrets:?}").contains("second"));
}

#[test]
fn many_values_of_one_owner_stay_bounded() {
    let secrets = Secrets::default();
    for n in 0..200 {
        secrets.replace("rotating", &[format!("value-number-{n:04}").as_bytes()]);
    }
    let owners = secrets.lock();
    assert_eq!(owners["rotating"].former.len(), FORMER_MAX);
    drop(owners);
    assert!(secrets.holds(b"value-number-0150") && !secrets.holds(b"value-number-0010"));
}

proptest! {
    #[test]
    fn where_a_stream_is_cut_makes_no_difference(
        parts in prop::collection::vec(prop::sample::select(vec![
            "abcabc", "bcabca", "abc", "YWJjYWJj", "x", "616263", "616263616263", "\0", "a", "bc", "ca",
        ]), 0..24),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let secrets = knowing(&[b"abcabc", b"bcabcab", b"cacacaca"]);
        let text = parts.concat().into_bytes();
        let mut whole = text.clone();
        let hits = secrets.mask(&mut whole);
        let mut at: Vec<usize> = cuts.iter().map(|c| c.index(text.len() + 1)).collect();
        at.extend([0, text.len()]);
        at.sort_unstable();
        let pieces: Vec<&[u8]> = at.windows(2).map(|w| &text[w[0]..w[1]]).collect();
        let (out, n) = scrub(&secrets, &pieces);
        prop_assert_eq!(&out, &whole);
        prop_assert_eq!(n, hits);
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        prop_assert_eq!(&scrub(&secrets, &bytes).0, &whole);
        for secret in [&b"abcabc"[..], b"bcabcab", b"cacacaca", b"YWJjYWJj", b"616263616263"] {
            prop_assert!(memchr::memmem::find(&out, secret).is_none());
        }
    }

    #[test]
    fn any_secret_is_gone_from_anything(
        secret in prop::collection::vec(any::<u8>(), 6..40),
        before in prop::collection::vec(any::<u8>(), 0..40),
        after in prop::collection::vec(any::<u8>(), 0..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let secrets = knowing(&[&secret, b"other-secret"]);
        let text = [&before[..], &secret, &after].concat();
        let (left, right) = text.split_at(cut.index(text.len() + 1));
        let (out, hits) = scrub(&secrets, &[left, right]);
        prop_assert!(hits >= 1 && out.len() == text.len());
        if secret.iter().any(|b| *b != b'*') {
            prop_assert!(memchr::memmem::find(&out, &secret).is_none());
        }
        for encoded in [hex::encode(&text), b64::STANDARD.encode(&text)] {
            let (left, right) = encoded.as_bytes().split_at(cut.index(encoded.len() + 1));
            let (out, hits) = scrub(&secrets, &[left, right]);
            prop_assert!(hits >= 1 && out.len() == encoded.len());
        }
    }
}
