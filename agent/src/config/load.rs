//! Reading the file, and saying what is wrong with it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize as _;

use super::Config;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML, or a value has the wrong form.
    #[error("{path}: {message}")]
    Form {
        /// The file.
        path: PathBuf,
        /// Where and what.
        message: String,
    },
    /// Values that do not go together.
    #[error("{path}: {message}")]
    Meaning {
        /// The file.
        path: PathBuf,
        /// What, and what to write instead.
        message: String,
    },
}

/// Reads and checks a file.
///
/// # Errors
/// When it cannot be read, is not TOML, has an unknown key, or its parts do not go together.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.into(),
        source,
    })?;
    parse(path, &text)
}

/// The same from text; `path` is for messages only.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let config: Config = toml::from_str(text).map_err(|e| ConfigError::Form {
        path: path.into(),
        message: nearest(&e.to_string()).unwrap_or_else(|| e.to_string()),
    })?;
    check(&config).map_err(|message| ConfigError::Meaning {
        path: path.into(),
        message,
    })?;
    Ok(config)
}

/// Adds the nearest valid key to serde's "unknown field `x`, expected one of `a`, `b`".
fn nearest(message: &str) -> Option<String> {
    let at = message.find("unknown field `")?;
    let mut words = message[at..].split('`').skip(1).step_by(2);
    let unknown = words.next()?;
    let best =
        words.max_by(|a, b| strsim::jaro_winkler(unknown, a).total_cmp(&strsim::jaro_winkler(unknown, b)))?;
    Some(format!(
        "{}\nThe nearest valid key is `{best}`.",
        message.trim_end()
    ))
}

fn check(config: &Config) -> Result<(), String> {
    let mut names = std::collections::BTreeSet::new();
    for issuer in &config.issuer {
        if !names.insert(&issuer.name) {
            return Err(format!("[[issuer]] '{}' is there twice", issuer.name));
        }
        if issuer.skew > Duration::from_secs(300) {
            return Err(format!("[[issuer]] '{}': skew is at most 5m", issuer.name));
        }
    }
    let mut workloads = std::collections::BTreeSet::new();
    for workload in &config.workload {
        if !workloads.insert(&workload.name) {
            return Err(format!("[[workload]] '{}' is there twice", workload.name));
        }
        if !names.contains(&workload.issuer) {
            return Err(format!(
                "[[workload]] '{}' names issuer '{}', and there is no [[issuer]] of that name",
                workload.name, workload.issuer
            ));
        }
        let secrets = [&workload.client_secret_file, &workload.private_key_file]
            .iter()
            .filter(|f| f.is_some())
            .count();
        match (&workload.token_file, &workload.client_id, secrets) {
            (Some(_), None, 0) | (None, Some(_), 1) => {}
            _ => {
                return Err(format!(
                    "[[workload]] '{}' needs either token_file, or client_id with one of client_secret_file and private_key_file",
                    workload.name
                ));
            }
        }
    }
    super::upstream::check(&config.credential, &config.upstream, &workloads)?;
    super::console_check::check(config)?;
    for unix in &config.unix {
        if let Some(problem) = unix.problem(&config.upstream) {
            return Err(problem);
        }
        if let Some(workload) = unix.workload.as_ref().filter(|name| !workloads.contains(name)) {
            return Err(format!(
                "[[unix]] '{}': there is no [[workload]] '{workload}'",
                unix.path
            ));
        }
    }
    super::ship::check(config)?;
    config.ledger.check()?;
    config.dns.check()?;
    super::exempt::check(&config.exempt, &workloads)?;
    config.retention.check(config.approvals.issuer.is_some())?;
    let limits = &config.limits;
    if limits.head_bytes < 1024 || limits.connections == 0 || limits.workload_connections == 0 {
        return Err(
            "[limits]: head_bytes is at least 1024, connections and workload_connections at least 1".into(),
        );
    }
    Ok(())
}

/// A duration as people write it: `30s`, `5m`.
pub(super) fn duration<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(d)?;
    humantime::parse_duration(&text).map_err(serde::de::Error::custom)
}

/// A size as people write it: `64 MiB`, `10 GB`, or a number of bytes.
pub(super) fn bytes<'de, D: serde::Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    match Either::deserialize(d)? {
        Either::Number(n) => Ok(n),
        Either::Text(text) => size(&text).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "'{text}' is no size; write e.g. 64 MiB, 10 GB or 1048576"
            ))
        }),
    }
}

/// The same from text alone.
pub(super) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit: u64 = match text[end..].trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        "TB" => 1_000_000_000_000,
        "TiB" => 1 << 40,
        _ => return None,
    };
    text[..end].parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        super::parse(Path::new("portcullis.toml"), text).map_err(|e| e.to_string())
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        let error = parse("[host]\ndatadir = \"/x\"\n").unwrap_err();
        assert!(error.contains("nearest valid key is `data_dir`"), "{error}");
        let error = parse("[[issuers]]\nname = \"x\"\n").unwrap_err();
        assert!(error.contains("nearest valid key is `issuer`"), "{error}");
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("64 MiB", Some(64 << 20)),
            ("10GB", Some(10_000_000_000)),
            ("1048576", Some(1 << 20)),
            ("1 parsec", None),
            ("", None),
            ("99999999999 TiB", None),
        ] {
            assert_eq!(size(text), expected, "{text}");
        }
        let error = parse("[ledger]\nsegment_bytes = \"1 kB\"\n").unwrap_err();
        assert!(error.contains("segment_bytes"), "{error}");
    }

    #[test]
    fn parts_go_together() {
        let issuer = "[[issuer]]\nname = \"a\"\nurl = \"https://i\"\naudience = \"x\"\n";
        let ok = format!("{issuer}[[workload]]\nname = \"w\"\nissuer = \"a\"\ntoken_file = \"/t\"\n");
        assert_eq!(parse(&ok).unwrap().workload.len(), 1);
        let error = parse(&ok.replace("issuer = \"a\"", "issuer = \"b\"")).unwrap_err();
        assert!(error.contains("no [[issuer]]"), "{error}");
        let error = parse(&ok.replace("token_file = \"/t\"", "client_id = \"c\"")).unwrap_err();
        assert!(error.contains("client_secret_file"), "{error}");
    }

    #[test]
    fn the_examples_in_the_readmes_are_valid() {
        let readme = include_str!("../../../README.md");
        let base = readme
            .split("```toml\n")
            .nth(1)
            .unwrap()
            .split("```")
            .next()
            .unwrap();
        let config = parse(base).unwrap();
        assert_eq!(
            (
                config.upstream.len(),
                config.credential.len(),
                config.mask.field.len()
            ),
            (2, 2, 1)
        );
        let issuer = &base[..base.find("[policy]").unwrap()];
        let postgres = include_str!("../protocol/postgres/README.md");
        let upstream = postgres
            .split("```toml\n")
            .nth(1)
            .unwrap()
            .split("```")
            .next()
            .unwrap();
        let http = include_str!("../protocol/http/README.md");
        let upstream_of_http = http
            .split("```toml\n")
            .nth(1)
            .unwrap()
            .split("```")
            .next()
            .unwrap();
        let named = upstream_of_http.replace("deploy-bot", &config.workload[0].name.to_string());
        parse(&format!("{issuer}{named}")).unwrap();
        // What stands behind a comment sign is to be valid as well.
        let all = upstream
            .replace("# server_name", "server_name")
            .replace("# database", "database");
        parse(&format!("{issuer}{}", all.replace("# workloads", "workloads"))).unwrap();
        let credentials = include_str!("../credential/README.md");
        let blocks = credentials.split("```toml\n").skip(1);
        let blocks: Vec<_> = blocks.map(|rest| rest.split("```").next().unwrap()).collect();
        assert_eq!(blocks.len(), 4);
        let all = parse(&blocks.concat()).unwrap();
        assert_eq!((all.credential.len(), all.upstream.len()), (9, 1));
    }

    #[test]
    fn what_goes_into_requests_is_checked() {
        let base = "[[credential]]\nname = \"pw\"\nfile = \"/p\"\n\
                    [[credential]]\nname = \"cert\"\ncertificate_file = \"/c\"\nkey_file = \"/k\"\n\
                    [[upstream]]\nname = \"api\"\nprotocol = \"http\"\nhost = \"api.example\"\nport = 443\n";
        for good in [
            "inject = { bearer = \"pw\" }",
            "inject = { basic = \"pw\", user = \"\" }",
            "inject = { header = \"X-Key\", credential = \"pw\", prefix = \"v1 \" }",
            "inject = { query = \"key\", credential = \"pw\" }\npath_prefix = \"/v1/\"",
            "inject = { cookie = \"sid\", credential = \"pw\" }\nplaintext = true",
            "certificate = \"cert\"",
        ] {
            let config = parse(&format!("{base}{good}\n")).unwrap();
            assert_eq!(config.upstream[0].protocol.as_str(), "http");
        }
        let again = "[[upstream]]\nname = \"b\"\nprotocol = \"http\"\nhost = \"API.example\"\nport = 443\ninject = { bearer = \"pw\" }\n";
        for (text, word) in [
            ("", "inject or certificate"),
            ("inject = {}", "exactly one"),
            ("inject = { bearer = \"pw\", query = \"k\" }", "exactly one"),
            ("inject = { bearer = \"no\" }", "no [[credential]]"),
            ("inject = { bearer = \"cert\" }", "a client certificate"),
            ("inject = { aws-sigv4 = \"pw\" }", "not AWS keys"),
            ("inject = { basic = \"pw\" }", "basic needs user"),
            ("inject = { basic = \"pw\", user = \"a:b\" }", "without ':'"),
            (
                "inject = { bearer = \"pw\", prefix = \"x\" }",
                "prefix does not go with bearer",
            ),
            ("inject = { query = \"k\" }", "needs credential"),
            (
                "inject = { query = \"a b\", credential = \"pw\" }",
                "name of a parameter",
            ),
            ("inject = { header = \"X Y\", credential = \"pw\" }", "not a name"),
            (
                "inject = { header = \"Content_Length\", credential = \"pw\" }",
                "nothing is injected",
            ),
            (
                "inject = { header = \"X\", credential = \"pw\", prefix = \"\\n\" }",
                "visible",
            ),
            ("inject = { berer = \"pw\" }", "nearest valid key is `bearer`"),
            (
                "inject = { bearer = \"pw\" }\ncredential = \"pw\"",
                "is in inject",
            ),
            (
                "inject = { bearer = \"pw\" }\ntls = \"require\"",
                "for protocol = \"postgres\"",
            ),
            (
                "inject = { bearer = \"pw\" }\npath_prefix = \"v1\"",
                "starts with '/'",
            ),
            (
                "inject = { bearer = \"pw\" }\npath_prefix = \"/%61\"",
                "without percent-encoding",
            ),
            ("certificate = \"cert\"\nplaintext = true", "needs TLS"),
            (&format!("inject = {{ bearer = \"pw\" }}\n{again}"), "never used"),
        ] {
            let error = parse(&format!("{base}{text}\n")).unwrap_err();
            assert!(error.contains(word), "{error}\n{text}");
        }
        for host in [
            "*",
            "*.com",
            "a.*.b",
            "*.1.2.3.4",
            "https://a.example",
            "a.example:443",
            "a.example.",
        ] {
            let text = base.replace("api.example", host);
            let error = parse(&format!("{text}inject = {{ bearer = \"pw\" }}\n")).unwrap_err();
            assert!(error.contains("host") || error.contains("'*.'"), "{error}");
        }
        let postgres = base.replace("\"http\"", "\"postgres\"");
        for key in [
            "inject = { bearer = \"pw\" }",
            "path_prefix = \"/\"",
            "plaintext = true",
        ] {
            let error = parse(&format!("{postgres}{key}\n")).unwrap_err();
            assert!(error.contains("for protocol = \"http\""), "{error}");
        }
    }

    #[test]
    fn the_examples_for_approvers_are_valid() {
        let readme = include_str!("../console/README.md");
        let blocks = readme.split("```toml\n").skip(1);
        let blocks: Vec<&str> = blocks.filter_map(|b| b.split("```").next()).collect();
        let [approvers, notify, slack] = blocks.as_slice() else {
            panic!("three examples")
        };
        let all = format!("{approvers}{}{notify}", slack.replace("[console]\n", ""));
        let config = parse(&all.replace("# client_secret_file", "client_secret_file")).unwrap();
        assert_eq!((config.notify.len(), config.console.slack_users.len()), (3, 1));
    }

    #[test]
    fn upstreams_and_credentials_go_together() {
        let base = "[[credential]]\nname = \"pw\"\nfile = \"/p\"\n\
                    [[credential]]\nname = \"cert\"\ncertificate_file = \"/c\"\nkey_file = \"/k\"\n\
                    [[upstream]]\nname = \"db\"\nprotocol = \"postgres\"\nhost = \"db.internal\"\nport = 5432\n";
        let brokered = format!("{base}login = \"brokered\"\nuser = \"svc\"\ncredential = \"pw\"\n");
        assert_eq!(
            parse(base).unwrap().upstream[0].login,
            super::super::Login::PassThrough
        );
        parse(&format!(
            "{brokered}certificate = \"cert\"\ntls = \"require\"\nroles = [{{ group = \"a\", role = \"r\" }}]\n"
        ))
        .unwrap();
        for (text, word) in [
            (format!("{base}user = \"x\"\n"), "user is for login"),
            (format!("{base}login = \"brokered\"\n"), "needs user"),
            (
                format!("{base}creds = \"x\"\n"),
                "nearest valid key is `credential`",
            ),
            (
                brokered.replace("credential = \"pw\"", "credential = \"pv\""),
                "no [[credential]] of that name",
            ),
            (
                brokered.replace("credential = \"pw\"", "credential = \"cert\""),
                "not a password",
            ),
            (
                format!("{brokered}certificate = \"pw\"\n"),
                "not a client certificate",
            ),
            (
                format!("{brokered}certificate = \"cert\"\ntls = \"disable\"\n"),
                "needs TLS",
            ),
            (format!("{brokered}roles = [{{ role = \"None\" }}]\n"), "no role"),
            (
                format!("{brokered}roles = [{{ role = \"\" }}]\n"),
                "1 to 63 bytes",
            ),
            (format!("{brokered}workloads = [\"w\"]\n"), "no [[workload]]"),
            (base.replace("name = \"db\"", "name = \"d/b\""), "a name is"),
            (base.replace("5432", "0"), "host and port"),
            (
                base.replace("file = \"/p\"", "file = \"/p\"\nsystemd = \"p\""),
                "either file or systemd",
            ),
            (base.replace("file = \"/p\"", "systemd = \"../p\""), "not a path"),
            (base.replace("\"cert\"", "\"pw\""), "there twice"),
            (
                format!(
                    "{base}{}",
                    base[base.find("[[upstream").unwrap()..].replace("\"db\"", "\"e\"")
                ),
                "never used",
            ),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(word), "{error}\n{text}");
        }
    }
}
