//! Whether `[approvals]`, `[console]` and `[[notify]]` go together, and what to write where they do not.

use std::{net::IpAddr, time::Duration};

use reqwest::Url;

use super::{Approvals, Config, Console, Gives, Notify, NotifyKind, upstream::is_name};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// More targets than this are not told by one host.
const MAX_NOTIFY: usize = 16;

pub(super) fn check(config: &Config) -> Result<(), String> {
    approvals(config).map_err(|e| format!("[approvals]: {e}"))?;
    console(config).map_err(|e| format!("[console]: {e}"))?;
    if config.notify.len() > MAX_NOTIFY {
        return Err(format!("[[notify]]: at most {MAX_NOTIFY}"));
    }
    for (at, notify) in config.notify.iter().enumerate() {
        let twice = config.notify[..at].iter().any(|other| other.name == notify.name);
        target(config, notify, twice).map_err(|e| format!("[[notify]] '{}': {e}", notify.name))?;
    }
    Ok(())
}

fn approvals(config: &Config) -> Result<(), String> {
    let a = &config.approvals;
    match (&a.issuer, &a.client_id) {
        (Some(name), Some(client)) => approvers(config, name, client)?,
        (Some(_), None) => {
            return Err("issuer needs client_id: the client that approvers sign in with there".into());
        }
        (None, Some(_)) => return Err("client_id needs issuer: the name of an [[issuer]]".into()),
        (None, None) if a.client_secret_file.is_some() => {
            return Err("client_secret_file is for issuer and client_id, and neither is there".into());
        }
        (None, None) if a.break_glass_group.is_some() => {
            return Err("break_glass_group needs issuer and client_id: nobody could be in it".into());
        }
        (None, None) => {}
    }
    if a.break_glass_group
        .as_deref()
        .is_some_and(|g| g.trim().is_empty())
    {
        return Err("break_glass_group is a group's name; leave it out for no break-glass".into());
    }
    times(a)?;
    if a.open_per_workload == 0 || a.held_per_workload == 0 || a.payload_bytes == 0 {
        return Err("open_per_workload, held_per_workload and payload_bytes are at least 1".into());
    }
    if a.payload_bytes > a.held_bytes_per_workload {
        return Err("payload_bytes is at most held_bytes_per_workload".into());
    }
    Ok(())
}

fn approvers(config: &Config, name: &str, client: &str) -> Result<(), String> {
    let Some(issuer) = config.issuer.iter().find(|issuer| issuer.name == name) else {
        return Err(format!(
            "issuer is '{name}', and there is no [[issuer]] of that name"
        ));
    };
    if client.trim().is_empty() {
        return Err("client_id is empty".into());
    }
    // A workload's own token would pass for an approver's.
    let shared = config
        .issuer
        .iter()
        .find(|other| other.url == issuer.url && other.audience == client);
    if let Some(other) = shared {
        return Err(format!(
            "client_id is the audience of [[issuer]] '{}', so that a workload's token would pass for a human's: register a client of its own for approvers",
            other.name
        ));
    }
    Ok(())
}

fn times(a: &Approvals) -> Result<(), String> {
    for (key, value, least, most) in [
        ("sign_in_age", a.sign_in_age, MINUTE, 7 * DAY),
        ("hold_time", a.hold_time, Duration::from_secs(1), DAY),
        ("request_time", a.request_time, Duration::from_secs(1), 7 * DAY),
        ("retry_time", a.retry_time, Duration::ZERO, 7 * DAY),
        ("grant_time", a.grant_time, Duration::ZERO, 30 * DAY),
        ("break_glass_time", a.break_glass_time, MINUTE, DAY),
    ] {
        if value < least || value > most {
            return Err(format!(
                "{key} is {} to {}",
                humantime::format_duration(least),
                humantime::format_duration(most)
            ));
        }
    }
    if a.request_time < a.hold_time {
        return Err("request_time is at least hold_time: what is held must stay open to an answer".into());
    }
    Ok(())
}

fn console(config: &Config) -> Result<(), String> {
    let c = &config.console;
    let Some(listen) = c.listen else {
        return if *c == Console::default() {
            Ok(())
        } else {
            Err("listen is needed: an address and port, such as \"127.0.0.1:8443\"".into())
        };
    };
    if config.approvals.issuer.is_none() {
        return Err("nobody could sign in: set [approvals] issuer and client_id".into());
    }
    if listen.port() == 0 || listen.port() == config.redirect.port {
        return Err("listen needs a port of its own, other than [redirect] port".into());
    }
    let tls = match (&c.certificate_file, &c.key_file) {
        (Some(_), Some(_)) => true,
        (None, None) => false,
        _ => return Err("certificate_file and key_file go together".into()),
    };
    if !tls && !listen.ip().is_loopback() {
        return Err(format!(
            "listen is {listen}, which others can reach: set certificate_file and key_file, or listen on 127.0.0.1"
        ));
    }
    let Some(url) = &c.url else {
        return Err("url is needed: what approvers type, such as \"https://approvals.example.com\"".into());
    };
    let url = web(url).map_err(|e| format!("url: {e}"))?;
    if url.path() != "/" || url.query().is_some() {
        return Err("url: it has no path: the page is at the root of its own name".into());
    }
    if tls && url.scheme() == "http" {
        return Err("url: it begins with https where there is a certificate_file".into());
    }
    slack(config)
}

fn slack(config: &Config) -> Result<(), String> {
    let c = &config.console;
    if let Some(name) = &c.slack_signing_credential {
        secret(config, "slack_signing_credential", name)?;
    } else if !c.slack_users.is_empty() {
        return Err("slack_users needs slack_signing_credential".into());
    }
    for (user, subject) in &c.slack_users {
        let plain = user.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        if user.is_empty() || !plain || subject.is_empty() {
            return Err(format!(
                "slack_users: '{user}' = '{subject}': write U024BE7LH = \"the approver's sub at the issuer\""
            ));
        }
    }
    Ok(())
}

fn target(config: &Config, notify: &Notify, twice: bool) -> Result<(), String> {
    if !is_name(&notify.name) {
        return Err("a name is 1 to 64 of A-Z a-z 0-9 . _ -".into());
    }
    if twice {
        return Err("it is there twice".into());
    }
    match (&notify.url, &notify.url_credential) {
        (Some(url), None) => {
            web(url).map_err(|e| format!("url: {e}"))?;
        }
        (None, Some(name)) => secret(config, "url_credential", name)?,
        _ => return Err("it needs either url or url_credential (for a URL that is itself a secret)".into()),
    }
    match (notify.kind, &notify.key_credential) {
        (NotifyKind::Webhook, Some(name)) => secret(config, "key_credential", name),
        (NotifyKind::Webhook, None) => Err(
            "kind webhook needs key_credential: the key that its receiver checks the signature with".into(),
        ),
        (_, Some(_)) => Err("key_credential is for kind webhook only".into()),
        (_, None) => Ok(()),
    }
}

fn secret(config: &Config, key: &str, name: &str) -> Result<(), String> {
    match config.credential.iter().find(|c| c.name == name) {
        None => Err(format!(
            "{key} is '{name}', and there is no [[credential]] of that name"
        )),
        Some(c) if c.gives() != Gives::Secret => Err(format!(
            "{key} is '{name}', which is {}, not a secret text",
            c.gives().as_str()
        )),
        Some(c) if c.is_per_workload() => Err(format!(
            "{key} is '{name}', which is had with a workload's own token: no workload asks here"
        )),
        Some(_) => Ok(()),
    }
}

/// An https URL, or an http one on loopback.
fn web(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|_| format!("'{text}' is not a URL"))?;
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("it has neither user nor fragment".into());
    }
    let host = url.host_str().unwrap_or_default();
    let loopback = host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        _ => Err("it begins with https://; plain http is for loopback only".into()),
    }
}

impl Console {
    /// The page's origin, without a slash at the end.
    #[must_use]
    pub fn origin(&self) -> Option<String> {
        let url = web(self.url.as_deref()?).ok()?;
        Some(url.origin().ascii_serialization())
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    const BASE: &str = "[[issuer]]\nname = \"staff\"\nurl = \"https://i.example\"\naudience = \"portcullis\"\n\
        [[credential]]\nname = \"key\"\nfile = \"/k\"\n\
        [[credential]]\nname = \"cert\"\ncertificate_file = \"/c\"\nkey_file = \"/k\"\n";
    const APPROVALS: &str = "[approvals]\nissuer = \"staff\"\nclient_id = \"console\"\n";
    const CONSOLE: &str = "[console]\nlisten = \"127.0.0.1:8443\"\nurl = \"https://approvals.example.com\"\n";
    const NOTIFY: &str = "[[notify]]\nname = \"n\"\nkind = \"webhook\"\nurl = \"https://h.example/x\"\nkey_credential = \"key\"\n";

    fn said(text: &str) -> Result<super::Config, String> {
        parse("t".as_ref(), text).map_err(|e| e.to_string())
    }

    #[test]
    fn what_goes_together() {
        let all = format!(
            "{BASE}{APPROVALS}{CONSOLE}slack_signing_credential = \"key\"\nslack_users = {{ U1 = \"ada\" }}\n{NOTIFY}"
        );
        let config = said(&all).unwrap();
        assert_eq!(
            config.console.origin().as_deref(),
            Some("https://approvals.example.com")
        );
        said(BASE).unwrap();
        let local = CONSOLE.replace("https://approvals.example.com", "http://localhost:8443/");
        let config = said(&format!("{BASE}{APPROVALS}{local}")).unwrap();
        assert_eq!(config.console.origin().as_deref(), Some("http://localhost:8443"));
    }

    #[test]
    fn what_does_not_says_what_to_write() {
        let approvals = |change: (&str, &str)| format!("{BASE}{}", APPROVALS.replace(change.0, change.1));
        let console =
            |change: (&str, &str)| format!("{BASE}{APPROVALS}{}", CONSOLE.replace(change.0, change.1));
        let more = |line: &str| format!("{BASE}{APPROVALS}{CONSOLE}{line}\n");
        let notify = |change: (&str, &str)| format!("{BASE}{}", NOTIFY.replace(change.0, change.1));
        for (text, word) in [
            (approvals(("\"staff\"", "\"stuff\"")), "no [[issuer]]"),
            (approvals(("client_id = \"console\"\n", "")), "needs client_id"),
            (approvals(("issuer = \"staff\"\n", "")), "needs issuer"),
            (approvals(("\"console\"", "\"portcullis\"")), "pass for a human's"),
            (
                format!("{BASE}[approvals]\nbreak_glass_group = \"sre\"\n"),
                "nobody could be in it",
            ),
            (
                format!("{BASE}{APPROVALS}sign_in_age = \"1s\"\n"),
                "sign_in_age is 1m to 7days",
            ),
            (
                format!("{BASE}{APPROVALS}request_time = \"1m\"\n"),
                "at least hold_time",
            ),
            (format!("{BASE}{APPROVALS}payload_bytes = 0\n"), "at least 1"),
            (
                format!("{BASE}{APPROVALS}break_glass_group = \" \"\n"),
                "group's name",
            ),
            (format!("{BASE}{CONSOLE}"), "nobody could sign in"),
            (console(("127.0.0.1:8443", "0.0.0.0:8443")), "others can reach"),
            (console(("8443", "15001")), "port of its own"),
            (console(("listen = \"127.0.0.1:8443\"\n", "")), "listen is needed"),
            (
                console(("url = \"https://approvals.example.com\"\n", "")),
                "url is needed",
            ),
            (
                console(("https://approvals.example.com", "http://approvals.example.com")),
                "loopback only",
            ),
            (console(("example.com", "example.com/page")), "no path"),
            (
                console(("https://approvals", "https://u:p@approvals")),
                "neither user",
            ),
            (more("certificate_file = \"/c\""), "go together"),
            (more("slack_signing_credential = \"cert\""), "client certificate"),
            (more("slack_users = { U1 = \"ada\" }"), "slack_signing_credential"),
            (
                more("slack_signing_credential = \"key\"\nslack_users = { ada = \"U1\" }"),
                "U024BE7LH",
            ),
            (notify(("key_credential = \"key\"\n", "")), "needs key_credential"),
            (notify(("\"webhook\"", "\"slack\"")), "kind webhook only"),
            (notify(("\"key\"", "\"kee\"")), "no [[credential]]"),
            (notify(("https://h", "http://h")), "loopback only"),
            (notify(("url = \"https://h.example/x\"\n", "")), "either url or"),
            (notify(("\"n\"", "\"a b\"")), "a name is"),
            (format!("{BASE}{NOTIFY}{NOTIFY}"), "there twice"),
        ] {
            let error = said(&text).unwrap_err();
            assert!(error.contains(word), "{error}\n{text}");
        }
    }
}
