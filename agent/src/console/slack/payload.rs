//! What Slack says was clicked (`block_actions`), as far as it is needed.

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

/// A click on one of our buttons.
#[derive(Debug, PartialEq, Eq)]
pub struct Click {
    /// The Slack account.
    pub user: String,
    /// The request that the button is for.
    pub request: Uuid,
    /// Which button.
    pub approve: bool,
    /// What stood in the reason's field; empty where there was none.
    pub reason: String,
}

#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "type")]
    kind: String,
    user: User,
    #[serde(default)]
    actions: Vec<Action>,
    #[serde(default)]
    state: Value,
    response_url: Option<String>,
}

#[derive(Deserialize)]
struct User {
    id: String,
}

#[derive(Deserialize)]
struct Action {
    action_id: String,
    #[serde(default)]
    value: Option<String>,
}

/// Reads a body: the click, and where to answer; `None` for what asks for nothing.
///
/// # Errors
/// When it is not what Slack sends.
pub fn read(body: &[u8]) -> Result<Option<(Click, Option<String>)>, &'static str> {
    let text = form(body).ok_or("not a form with a payload")?;
    let payload: Payload = serde_json::from_str(&text).map_err(|_| "the payload cannot be read")?;
    if payload.kind != "block_actions" {
        return Ok(None);
    }
    let Some(action) = payload.actions.first() else {
        return Ok(None);
    };
    let approve = match action.action_id.as_str() {
        "approve" => true,
        "deny" => false,
        _ => return Ok(None),
    };
    let request = action.value.as_deref().and_then(|v| v.parse().ok());
    let click = Click {
        request: request.ok_or("the button names no request")?,
        user: payload.user.id,
        approve,
        reason: payload
            .state
            .pointer("/values/reason/reason/value")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
    };
    // Only Slack itself is told.
    let answer_to = payload.response_url.filter(|url| {
        url.strip_prefix("https://hooks.slack.com/")
            .is_some_and(|rest| !rest.is_empty())
    });
    Ok(Some((click, answer_to)))
}

/// The form's one payload.
fn form(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let url = reqwest::Url::parse(&format!("http://form/?{text}")).ok()?;
    let mut payloads = url.query_pairs().filter(|(key, _)| key == "payload");
    let payload = payloads.next()?.1.into_owned();
    // Two would be read differently by two readers.
    payloads.next().is_none().then_some(payload)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body(payload: &Value) -> Vec<u8> {
        let mut url = reqwest::Url::parse("http://x/").unwrap();
        url.query_pairs_mut().append_pair("payload", &payload.to_string());
        url.query().unwrap().as_bytes().to_vec()
    }

    #[test]
    fn clicks() {
        let id = Uuid::now_v7();
        let click = |action: &str, state: Value, to: &str| {
            json!({ "type": "block_actions", "user": { "id": "U1" }, "state": state, "response_url": to,
                "actions": [{ "action_id": action, "value": id }] })
        };
        let state = json!({ "values": { "reason": { "reason": { "value": "a & b" } } } });
        let (read_click, to) = read(&body(&click(
            "approve",
            state,
            "https://hooks.slack.com/actions/x",
        )))
        .unwrap()
        .unwrap();
        assert_eq!((read_click.request, read_click.approve), (id, true));
        assert_eq!(
            (read_click.reason.as_str(), read_click.user.as_str()),
            ("a & b", "U1")
        );
        assert!(to.is_some());
        let (denied, to) = read(&body(&click("deny", json!({}), "https://evil.example/")))
            .unwrap()
            .unwrap();
        assert_eq!((denied.approve, denied.reason.as_str(), to), (false, "", None));
        assert_eq!(read(&body(&click("open", json!({}), ""))).unwrap(), None);
        assert!(read(b"payload=%7B%7D").is_err());
        assert!(read(b"x=1").is_err());
        let mut twice = body(&click("deny", json!({}), ""));
        twice.extend_from_slice(b"&payload=x");
        assert!(read(&twice).is_err());
    }
}
