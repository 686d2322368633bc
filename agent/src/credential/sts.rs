//! Keys of an AWS role, by `AssumeRoleWithWebIdentity` (AWS Security Token Service API Reference, version 2011-06-15).

use reqwest::Method;
use zeroize::Zeroizing;

use super::{
    AwsKeys, Secret,
    error::Failure,
    material::MaterialValue,
    source::{Ask, Obtained},
    web::Web,
};
use crate::{
    config::AwsRole,
    io::{
        fetch::{Request, safe_url, shown},
        form::Form,
    },
    model::WorkloadName,
};

/// A role.
pub(super) struct Sts {
    role: AwsRole,
}

impl Sts {
    pub(super) fn new(role: AwsRole) -> Self {
        Self { role }
    }

    pub(super) async fn obtain(&self, web: &Web, ask: Ask<'_>) -> Result<Obtained, Failure> {
        let endpoint = self.role.endpoint();
        let url = safe_url(&endpoint).map_err(|e| Failure::new(&*endpoint, e))?;
        let place = shown(&url);
        let Some((workload, token)) = ask.party else {
            return Err(Failure::new(place, "the workload has no token"));
        };
        let mut form = Form::default();
        form.add("Action", "AssumeRoleWithWebIdentity");
        form.add("Version", "2011-06-15");
        form.add("RoleArn", &self.role.role_arn);
        form.add("RoleSessionName", &self.session_name(workload));
        form.add("DurationSeconds", &self.role.duration.as_secs().to_string());
        form.add("WebIdentityToken", token);
        let request = Request::new(Method::POST).form(form.into_body());
        let answer = web.send(&url, request).await?;
        let Ok(body) = std::str::from_utf8(&answer.body) else {
            return Err(Failure::new(place, "its answer is not text"));
        };
        if answer.status != 200 {
            let code = element(body, "Code").filter(|code| is_word(code));
            let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
            return Err(Failure::new(place, format!("answered {}{code}", answer.status)));
        }
        read(body).map_err(|message| Failure::new(place, message))
    }

    /// At least two characters, which a workload's name need not have.
    fn session_name(&self, workload: &WorkloadName) -> String {
        match &self.role.session_name {
            Some(name) => name.clone(),
            None if workload.as_str().len() < 2 => format!("workload-{workload}"),
            None => workload.to_string(),
        }
    }
}

fn read(body: &str) -> Result<Obtained, &'static str> {
    let part = element(body, "Credentials").ok_or("its answer holds no Credentials")?;
    let take = |name| element(part, name).and_then(unescape);
    let id = take("AccessKeyId").ok_or("its answer holds no AccessKeyId")?;
    let secret = take("SecretAccessKey").ok_or("its answer holds no SecretAccessKey")?;
    let token = take("SessionToken").ok_or("its answer holds no SessionToken")?;
    let expiration = take("Expiration").ok_or("its answer holds no Expiration")?;
    let expires_at = expiration
        .parse::<jiff::Timestamp>()
        .ok()
        .and_then(|at| i64::try_from(at.as_nanosecond()).ok())
        .ok_or("its Expiration is no time")?;
    if !is_word(&id) {
        return Err("its AccessKeyId is none");
    }
    Ok(Obtained {
        version: id.as_str().into(),
        value: MaterialValue::Aws(AwsKeys {
            access_key_id: id.as_str().into(),
            secret_access_key: Secret::text(secret),
            session_token: Some(Secret::text(token)),
        }),
        expires_at: Some(expires_at),
        refresh: None,
        stamp: None,
        lease: None,
    })
}

/// What is between an element's tags; elements of that name do not nest in these answers.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (content, _) = rest.split_once(&format!("</{name}>"))?;
    Some(content.trim())
}

/// Text without markup; base64 needs no entities, but may have them.
fn unescape(text: &str) -> Option<Zeroizing<String>> {
    let mut out = Zeroizing::new(String::with_capacity(text.len()));
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<']) {
        out.push_str(&rest[..at]);
        let (entity, after) = rest[at..].strip_prefix('&')?.split_once(';')?;
        out.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            other => char::from_u32(match other.strip_prefix("#x") {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => other.strip_prefix('#')?.parse().ok()?,
            })?,
        });
        rest = after;
    }
    out.push_str(rest);
    (!out.is_empty()).then_some(out)
}

fn is_word(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_elements() {
        let plain = |text: &str| unescape(text).map(|t| t.to_string());
        assert_eq!(plain("a+b/=="), Some("a+b/==".into()));
        assert_eq!(plain("&lt;&amp;&#65;&#x42;"), Some("<&AB".into()));
        for bad in ["", "a<b", "&nope;", "&amp", "&#xffffffff;"] {
            assert_eq!(plain(bad), None, "{bad}");
        }
        assert_eq!(element("<a><b> x </b></a>", "b"), Some("x"));
        assert_eq!(element("<b>x", "b"), None);
    }
}
