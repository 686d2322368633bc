//! The generic webhook: JSON, signed with HMAC-SHA256 over time and body.

use aws_lc_rs::hmac;
use serde_json::{Value, json};

use super::message::{Event, Message};

/// The body.
pub fn body(message: &Message) -> Value {
    json!({
        "id": message.id,
        "type": "approvals",
        "at": message.at,
        "host": message.host,
        "open": message.open,
        "counts": message.counts,
        "more": message.more,
        "link": message.queue,
        "events": message.events.iter().map(event).collect::<Vec<_>>(),
    })
}

/// What a receiver may need to sort or route; the whole operation is on the page, for those who are signed in.
fn event(event: &Event) -> Value {
    let request = event.view.as_ref().map(|v| {
        json!({
            "id": v.id,
            "state": v.state,
            "workload": v.workload,
            "subject": v.subject,
            "on_behalf_of": v.on_behalf_of,
            "action": v.action,
            "resource": v.resource,
            "summary": v.summary,
            "message": v.message,
            "destination": v.destination,
            "requirements": v.requirements,
            "answers": v.answers,
            "waiting": v.waiting,
            "asked_at": v.asked_at,
            "expires_at": v.expires_at,
        })
    });
    json!({ "kind": event.kind.as_str(), "text": event.text, "link": event.link, "request": request })
}

/// `Portcullis-Signature`: `t=1795242600,v1=...`, over `1795242600.BODY`.
pub fn signature(key: &[u8], seconds: i64, body: &[u8]) -> String {
    let mut signed = format!("{seconds}.").into_bytes();
    signed.extend_from_slice(body);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &signed);
    format!("t={seconds},v1={}", hex::encode(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_another_implementation_signs_it() {
        // python3: hmac.new(b"key", b"1795242600.{}", hashlib.sha256).hexdigest()
        assert_eq!(
            signature(b"key", 1_795_242_600, b"{}"),
            "t=1795242600,v1=0f27c25a7f7eb6fcb5e871c6e494a324c742f53f77cfed3caa224c4fb97f8a51"
        );
    }
}
