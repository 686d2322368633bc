//! The five places that hold a credential as it is: two schemes of `Authorization`, a field, a parameter, a cookie.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{InjectError, Injected, query};
use crate::{
    config::Inject,
    credential::{Material, MaterialValue},
    mask::percent_decoded,
    protocol::http::{head::Head, target::Target},
};

/// A request with a credential in its place.
///
/// # Errors
/// When the credential cannot stand there.
pub fn into_request(
    inject: &Inject,
    material: &Material,
    head: &Head,
    target: &Target,
) -> Result<Injected, InjectError> {
    let reference = &material.reference;
    let secret = material
        .secret()
        .ok_or_else(|| InjectError::Kind(Arc::clone(reference)))?
        .expose();
    let unfit = || InjectError::Unfit(Arc::clone(reference));
    let field = |name: &str, before: &str, value: &[u8]| {
        if value.is_empty() || !value.iter().all(|b| matches!(b, 0x20..=0x7e)) {
            return Err(unfit());
        }
        Ok(of_field(reference, name, before, value))
    };
    if inject.bearer.is_some() {
        field("Authorization", "Bearer ", secret)
    } else if inject.basic.is_some() {
        let own = match &material.value {
            MaterialValue::Login { user, .. } => Some(&**user),
            _ => None,
        };
        let user = inject.user.as_deref().or(own).unwrap_or("");
        // Room for all of it: a buffer that grows leaves a copy behind.
        let mut pair = Zeroizing::new(Vec::with_capacity(user.len() + 1 + secret.len()));
        pair.extend_from_slice(user.as_bytes());
        pair.push(b':');
        pair.extend_from_slice(secret);
        let mut value = Zeroizing::new(String::with_capacity(pair.len() / 3 * 4 + 4));
        STANDARD.encode_string(&*pair, &mut value);
        field("Authorization", "Basic ", value.as_bytes())
    } else if let Some(name) = &inject.header {
        field(name, inject.prefix.as_deref().unwrap_or(""), secret)
    } else if let Some(name) = &inject.query {
        Ok(of_query(reference, name, secret, target))
    } else if let Some(name) = &inject.cookie {
        // RFC 6265 section 4.1.1: what a cookie's value may hold.
        let octet = |b: &u8| matches!(b, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e);
        if secret.is_empty() || !secret.iter().all(octet) {
            return Err(unfit());
        }
        Ok(of_cookie(reference, name, secret, head))
    } else {
        Err(InjectError::Kind(Arc::clone(reference)))
    }
}

fn marker(reference: &str) -> String {
    format!("[injected:{reference}]")
}

fn of_field(reference: &Arc<str>, name: &str, before: &str, value: &[u8]) -> Injected {
    let mut lines = Zeroizing::new(Vec::with_capacity(name.len() + before.len() + value.len() + 4));
    for part in [name.as_bytes(), b": ", before.as_bytes(), value, b"\r\n"] {
        lines.extend_from_slice(part);
    }
    Injected {
        reference: Arc::clone(reference),
        echoes: true,
        drop: vec![name.to_ascii_lowercase().into()],
        lines,
        shown_lines: format!("{name}: {before}{}\r\n", marker(reference)).into_bytes(),
        ..Injected::default()
    }
}

fn of_query(reference: &Arc<str>, name: &str, secret: &[u8], target: &Target) -> Injected {
    let rest = query::without(target.query.as_deref().unwrap_or(""), name);
    let mut shown = rest.clone();
    if !shown.is_empty() {
        shown.push('&');
    }
    shown.push_str(&format!("{name}={}", marker(reference)));
    let mut full = Zeroizing::new(String::with_capacity(
        rest.len() + name.len() + 2 + 3 * secret.len(),
    ));
    full.push_str(&rest);
    query::add(&mut full, name, secret);
    Injected {
        reference: Arc::clone(reference),
        echoes: true,
        query: Some(full),
        shown_query: Some(shown),
        ..Injected::default()
    }
}

/// All Cookie fields become one: the workload's cookies but for those of this name, then the agent's.
fn of_cookie(reference: &Arc<str>, name: &str, secret: &[u8], head: &Head) -> Injected {
    let mut kept: Vec<u8> = Vec::new();
    let fields = head.headers().filter(|h| h.name.eq_ignore_ascii_case("cookie"));
    for cookie in fields.flat_map(|h| h.value.split(|b| matches!(b, b';' | b','))) {
        let cookie = cookie.trim_ascii();
        let given = cookie
            .split(|b| *b == b'=')
            .next()
            .unwrap_or_default()
            .trim_ascii();
        let given = percent_decoded(given);
        let bare = given.trim_ascii();
        if cookie.is_empty() || bare.trim_ascii().eq_ignore_ascii_case(name.as_bytes()) {
            continue;
        }
        kept.extend_from_slice(cookie);
        kept.extend_from_slice(b"; ");
    }
    let mut lines = Zeroizing::new(Vec::with_capacity(kept.len() + name.len() + secret.len() + 16));
    for part in [b"Cookie: ", &kept[..], name.as_bytes(), b"=", secret, b"\r\n"] {
        lines.extend_from_slice(part);
    }
    Injected {
        reference: Arc::clone(reference),
        echoes: true,
        drop: vec!["cookie".into()],
        lines,
        // The workload's own cookies are credentials as well.
        shown_lines: format!("Cookie: {name}={}\r\n", marker(reference)).into_bytes(),
        ..Injected::default()
    }
}
