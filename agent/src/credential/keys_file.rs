//! AWS keys in a file, in the form of `~/.aws/credentials`.

use zeroize::Zeroizing;

use super::{AwsKeys, Secret};

/// The keys of a profile.
///
/// # Errors
/// What is missing; nothing of what is there.
pub(super) fn parse(bytes: &[u8], profile: &str) -> Result<AwsKeys, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text")?;
    let mut within = false;
    let mut seen = false;
    let (mut id, mut secret, mut token) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            let name = name.trim();
            // ~/.aws/config calls them so.
            within = name.strip_prefix("profile ").unwrap_or(name).trim() == profile;
            seen |= within;
            continue;
        }
        if !within || line.starts_with(['#', ';']) {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let value = value.trim();
        match key.trim() {
            _ if value.is_empty() => {}
            "aws_access_key_id" => id = Some(value),
            "aws_secret_access_key" => secret = Some(value),
            "aws_session_token" | "aws_security_token" => token = Some(value),
            _ => {}
        }
    }
    if !seen {
        return Err(format!("it has no profile [{profile}]"));
    }
    let own = |text: &str| Secret::new(Zeroizing::new(text.as_bytes().to_vec()));
    match (id, secret) {
        (Some(id), Some(secret)) => Ok(AwsKeys {
            access_key_id: id.into(),
            secret_access_key: own(secret),
            session_token: token.map(own),
        }),
        (None, _) => Err(format!("its profile [{profile}] has no aws_access_key_id")),
        (_, None) => Err(format!("its profile [{profile}] has no aws_secret_access_key")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = b"# keys\n[default]\naws_access_key_id = AKIA1\naws_secret_access_key=s3cr+et/=\n\
        [ci]\naws_access_key_id=ASIA2\naws_secret_access_key = other\r\naws_session_token = tok==\nregion = x\n\
        [half]\naws_access_key_id=AKIA3\naws_secret_access_key =\n";

    #[test]
    fn by_profile() {
        let keys = parse(FILE, "default").unwrap();
        assert_eq!(
            (&*keys.access_key_id, keys.secret_access_key.expose()),
            ("AKIA1", &b"s3cr+et/="[..])
        );
        assert!(keys.session_token.is_none());
        let keys = parse(FILE, "ci").unwrap();
        assert_eq!(
            (
                keys.secret_access_key.expose(),
                keys.session_token.unwrap().expose()
            ),
            (&b"other"[..], &b"tok=="[..])
        );
        for (profile, word) in [
            ("none", "no profile [none]"),
            ("half", "no aws_secret_access_key"),
        ] {
            let error = parse(FILE, profile).err().unwrap();
            assert!(error.contains(word), "{error}");
        }
        assert!(parse(b"\xff", "default").is_err());
    }
}
