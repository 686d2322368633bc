//! A server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), to log in to.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;

const SALT: &[u8] = b"a salt of the server";
const ROUNDS: u32 = 4096;

fn sign(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message)
        .as_ref()
        .into()
}

/// What the workload, or the agent, said at the start.
pub(super) struct Said {
    pub(super) mechanism: String,
    /// `n`, `y` or `p=...`
    pub(super) binding: String,
}

/// Offers mechanisms and checks a login; `Ok` with what was said, or the SQLSTATE of what is wrong.
pub(super) async fn check(
    peer: &mut Peer,
    offered: &[&str],
    password: &str,
    end_point: Option<&[u8]>,
) -> Result<Said, &'static str> {
    let mut list = vec![0, 0, 0, 10];
    for name in offered {
        list.extend_from_slice(name.as_bytes());
        list.push(0);
    }
    list.push(0);
    peer.say(b'R', &list).await;
    let Some((b'p', initial)) = peer.message().await else {
        return Err("08006");
    };
    let mut r = Reader::new(&initial);
    let mechanism = r.text().unwrap().to_owned();
    let first = std::str::from_utf8(r.value().unwrap().unwrap())
        .unwrap()
        .to_owned();
    let mut parts = first.splitn(3, ',');
    let binding = parts.next().unwrap().to_owned();
    parts.next();
    let bare = parts.next().unwrap().to_owned();
    if binding == "y" && offered.len() > 1 {
        return Err("28000");
    }
    let nonce = bare.rsplit(",r=").next().unwrap();
    let server_first = format!("r={nonce}srv,s={},i={ROUNDS}", STANDARD.encode(SALT));
    peer.say(b'R', &[&[0, 0, 0, 11], server_first.as_bytes()].concat())
        .await;
    let Some((b'p', last)) = peer.message().await else {
        return Err("08006");
    };
    let last = String::from_utf8(last).unwrap();
    let (without_proof, proof) = last.rsplit_once(",p=").unwrap();
    let mut header = format!("{binding},,").into_bytes();
    if binding.starts_with("p=") {
        header.extend_from_slice(end_point.unwrap());
    }
    if !without_proof.starts_with(&format!("c={},r={nonce}srv", STANDARD.encode(&header))) {
        return Err("28P01");
    }
    let mut salted = [0; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        NonZeroU32::new(ROUNDS).unwrap(),
        SALT,
        password.as_bytes(),
        &mut salted,
    );
    let all = format!("{bare},{server_first},{without_proof}");
    let client_key = sign(&salted, b"Client Key");
    let stored = digest::digest(&digest::SHA256, &client_key);
    let signature = sign(stored.as_ref(), all.as_bytes());
    let expected: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
    if STANDARD.decode(proof).unwrap() != expected {
        return Err("28P01");
    }
    let verifier = STANDARD.encode(sign(&sign(&salted, b"Server Key"), all.as_bytes()));
    peer.say(
        b'R',
        &[&[0, 0, 0, 12], format!("v={verifier}").as_bytes()].concat(),
    )
    .await;
    Ok(Said { mechanism, binding })
}

/// What a server says to a wrong password.
pub(super) async fn reject(peer: &mut Peer, code: &str) {
    let body = format!("SFATAL\0VFATAL\0C{code}\0Mpassword authentication failed for user \"svc\"\0\0");
    peer.say(b'E', body.as_bytes()).await;
}
