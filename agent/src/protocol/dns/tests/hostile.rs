//! What is no query, and what is one only in form.

use hickory_resolver::proto::op::Message;

use super::{
    fake::{Resolver, ask, framed, query, send},
    *,
};
use crate::{model::Reason, protocol::ProtocolError};

const NAME: &[u8] = b"\x02db\x08internal\0";

/// A message of header words and a body.
fn raw(flags: u16, counts: [u16; 4], body: &[u8]) -> Vec<u8> {
    let mut bytes = 0xbeef_u16.to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(counts.iter().flat_map(|n| n.to_be_bytes()));
    bytes.extend(body);
    bytes
}

fn question(kind: u16, class: u16) -> Vec<u8> {
    [NAME, &kind.to_be_bytes(), &class.to_be_bytes()].concat()
}

fn in_frame(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

#[tokio::test]
#[allow(clippy::too_many_lines)] // a table
async fn each_fault_has_its_answer_and_its_entry() {
    let resolver = Resolver::start(TABLE).await;
    let a = question(1, 1);
    let opt = |version: u8| [b"\0\0\x29\x10\0\0", &[version][..], b"\0\0\0\0"].concat();
    let twice = [&a[..], &opt(0), &opt(0)].concat();
    let deep = [&b"\x3f"[..], &[b'a'; 63]].concat().repeat(5);
    for (what, message, code, reason) in [
        (
            "no question",
            raw(0x100, [0, 0, 0, 0], b""),
            1,
            "protocol_ambiguous",
        ),
        (
            "two questions",
            raw(0x100, [2, 0, 0, 0], &[&a[..], &a].concat()),
            1,
            "protocol_ambiguous",
        ),
        (
            "cut off",
            raw(0x100, [1, 0, 0, 0], &a[..a.len() - 1]),
            1,
            "protocol_error",
        ),
        (
            "bytes after it",
            raw(0x100, [1, 0, 0, 0], &[&a[..], b"tunnel"].concat()),
            1,
            "protocol_error",
        ),
        (
            "a loop",
            raw(0x100, [1, 0, 0, 0], b"\xc0\x0c\0\x01\0\x01"),
            1,
            "protocol_error",
        ),
        (
            "a pointer to nowhere",
            raw(0x100, [1, 0, 0, 0], b"\xff\xff\0\x01\0\x01"),
            1,
            "protocol_error",
        ),
        (
            "a label of another kind",
            raw(0x100, [1, 0, 0, 0], b"\x41a\0\0\x01\0\x01"),
            1,
            "protocol_error",
        ),
        (
            "a name that is too long",
            raw(0x100, [1, 0, 0, 0], &[&deep[..], b"\0\0\x01\0\x01"].concat()),
            1,
            "protocol_error",
        ),
        (
            "an answer in it",
            raw(0x100, [1, 1, 0, 0], &a),
            1,
            "protocol_error",
        ),
        (
            "authority in it",
            raw(0x100, [1, 0, 1, 0], &a),
            1,
            "protocol_error",
        ),
        ("two OPT", raw(0x100, [1, 0, 0, 2], &twice), 1, "protocol_error"),
        ("UPDATE", raw(0x2800, [1, 0, 0, 0], &a), 4, "not_understood"),
        ("NOTIFY", raw(0x2000, [1, 0, 0, 0], &a), 4, "not_understood"),
        (
            "an unknown opcode",
            raw(0x7800, [1, 0, 0, 0], &a),
            4,
            "not_understood",
        ),
        (
            "EDNS 5",
            raw(0x100, [1, 0, 0, 1], &[&a[..], &opt(5)].concat()),
            16,
            "not_understood",
        ),
        (
            "CH",
            raw(0x100, [1, 0, 0, 0], &question(16, 3)),
            5,
            "not_understood",
        ),
        (
            "AXFR",
            raw(0x100, [1, 0, 0, 0], &question(252, 1)),
            5,
            "not_understood",
        ),
        (
            "IXFR",
            raw(0x100, [1, 0, 0, 0], &question(251, 1)),
            5,
            "not_understood",
        ),
        (
            "TKEY",
            raw(0x100, [1, 0, 0, 0], &question(249, 1)),
            5,
            "not_understood",
        ),
        (
            "OPT as a type",
            raw(0x100, [1, 0, 0, 0], &question(41, 1)),
            5,
            "not_understood",
        ),
    ] {
        let rig = resolver.rig(ALLOW);
        let went = send(&rig, &Dns::default(), &[&in_frame(&message)]).await;
        let answer = went.only();
        assert_eq!(u16::from(answer.metadata.response_code), code, "{what}");
        assert_eq!((answer.metadata.id, went.operations), (0xbeef, 1), "{what}");
        let entry = &entries(&rig, "json_extract(body, '$.kind') = 'operation'", 1).await[0];
        assert_eq!(
            (&entry["reason"], &entry["decision"]),
            (&reason.into(), &"deny".into()),
            "{what}"
        );
    }
    assert_eq!(resolver.count(), 0);
}

#[tokio::test]
async fn what_has_no_answer_gets_none_and_ends_a_stream() {
    let resolver = Resolver::start(TABLE).await;
    let good = framed(&[query(1, "db.internal.", RecordType::A)]);
    for bad in [
        raw(0x8180, [1, 1, 0, 0], &question(1, 1)),
        b"short".to_vec(),
        Vec::new(),
    ] {
        let mut rig = resolver.rig(ALLOW);
        let bytes = [in_frame(&bad), good.clone()].concat();
        let went = send(&rig, &Dns::default(), &[&bytes]).await;
        assert!(went.answers.len() <= 1, "{went:?}");
        assert!(
            matches!(went.result, Err(ProtocolError::Refused(Reason::ProtocolError))),
            "{went:?}"
        );
        // Of datagrams one says nothing about the next.
        rig.transport = Transport::Udp;
        let went = send(&rig, &Dns::default(), &[&bytes]).await;
        assert_eq!(went.only().answers.len(), 1);
        assert!(went.result.is_ok() && went.operations == 2, "{went:?}");
    }
}

#[tokio::test]
async fn what_is_no_dns_ends_and_goes_nowhere() {
    let resolver = Resolver::start(TABLE).await;
    let whole = framed(&[
        query(1, "db.internal.", RecordType::A),
        query(2, "www.example.", RecordType::A),
    ]);
    let rig = resolver.rig(ALLOW);
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"SSH-2.0-x\r\n",
        &[0; 40],
        &[0xff; 70_000],
    ] {
        let went = send(&rig, &Dns::default(), &[garbage]).await;
        assert!(went.operations <= 1 && went.result.is_err(), "{went:?}");
    }
    assert_eq!(resolver.count(), 0);
    for end in 0..whole.len() {
        let went = send(&rig, &Dns::default(), &[&whole[..end]]).await;
        assert!(went.answers.len() < 2, "cut at {end}");
    }
}

#[tokio::test]
async fn names_are_what_they_are_however_they_are_written() {
    let resolver = Resolver::start(TABLE).await;
    let policy =
        r#"@id("below") permit (principal, action == Action::"dns:query", resource in DnsName::"internal");"#;
    let rig = resolver.rig(policy);
    // One label with a dot in it is not in the domain that it looks like.
    let dotted = b"\x0bdb.internal\0\0\x01\0\x01";
    let upper = b"\x02DB\x08INTERNAL\0\0\x01\0\x01";
    for (body, code, id) in [(&dotted[..], 5, "db\\.internal"), (upper, 0, "db.internal")] {
        let message = raw(0x100, [1, 0, 0, 0], body);
        let went = send(&rig, &Dns::default(), &[&in_frame(&message)]).await.only();
        assert_eq!(u16::from(went.metadata.response_code), code, "{id}");
        let sql = "json_extract(body, '$.kind') = 'operation'";
        let last = entries(&rig, sql, 1).await.pop().unwrap();
        assert_eq!(last["resource"]["id"], id);
    }
}

#[tokio::test]
async fn a_flood_is_answered_in_full_and_limits_are_for_policy() {
    const LIMITED: &str = r#"
@id("all") permit (principal, action, resource);
@id("names") forbid (principal, action == Action::"dns:query", resource) when { context.dns.recent.names > 20 };
@id("long") forbid (principal, action == Action::"dns:query", resource)
when { context.dns.longest_label > 40 && context.dns.entropy > 400 };
@id("types") forbid (principal, action == Action::"dns:query", resource)
when { ["NULL", "ANY", "TYPE65399"].contains(context.dns.type) };
"#;
    let resolver = Resolver::start(TABLE).await;
    let (rig, dns) = (resolver.rig(LIMITED), Dns::default());
    let many: Vec<Message> = (0..300)
        .map(|n| query(n, &format!("n{n}.evil.example."), RecordType::A))
        .collect();
    let went = ask(&rig, &dns, &many).await;
    assert_eq!((went.answers.len(), went.operations), (300, 300));
    let refused = (0..300).filter(|at| went.message(*at).metadata.response_code == ResponseCode::Refused);
    assert_eq!((refused.count(), resolver.count()), (280, 20));
    let data = "mfrggzdfmztwq2lkbnwg23tpobyxe43uov3ho6dzpjaueq2eivdeoscj.tunnel.test.";
    for (text, kind) in [
        (data, RecordType::A),
        ("a.test.", RecordType::NULL),
        ("a.test.", RecordType::ANY),
        ("a.test.", RecordType::Unknown(65_399)),
    ] {
        let went = ask(&rig, &dns, &[query(1, text, kind)]).await.only();
        assert_eq!(
            went.metadata.response_code,
            ResponseCode::Refused,
            "{text} {kind}"
        );
    }
}

#[test]
fn no_bytes_break_it() {
    use crate::protocol::dns::fuzzing::{fuzz_dns_frames, fuzz_dns_message};
    let good = framed(&[query(1, "db.internal.", RecordType::A)]);
    let mut seed = 1_u64;
    for n in 0..20_000_usize {
        let mut bytes = good.clone();
        for _ in 0..=n % 4 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = usize::try_from(seed >> 33).unwrap() % bytes.len();
            bytes[at] = (seed >> 20) as u8;
        }
        fuzz_dns_message(&bytes[2..]);
        let (head, tail) = bytes.split_at(n % bytes.len());
        fuzz_dns_frames(head, tail);
    }
}
