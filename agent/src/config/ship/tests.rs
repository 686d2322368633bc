use super::*;

const CREDENTIALS: &str = "[[credential]]\nname = \"keys\"\naws_keys_file = \"/k\"\n\
    [[credential]]\nname = \"token\"\nfile = \"/t\"\n\
    [[credential]]\nname = \"cert\"\ncertificate_file = \"/c\"\nkey_file = \"/k\"\n";

fn parse(text: &str) -> Result<Ship, String> {
    let text = format!("{CREDENTIALS}[[ship]]\nname = \"s\"\n{text}\n");
    load::parse("test".as_ref(), &text)
        .map(|mut config| config.ship.remove(0))
        .map_err(|e| e.to_string())
}

#[test]
fn every_kind() {
    for (kind, keys) in [
        ("directory", "path = \"/mnt/audit\"\nmode = \"0640\"\ngid = 7"),
        (
            "s3",
            "bucket = \"audit\"\ncredential = \"keys\"\nobject_lock = \"compliance\"\nobject_lock_days = 30\nmax_rate = \"5 MB/s\"",
        ),
        (
            "otlp",
            "url = \"https://c:4318\"\nheader = \"Authorization\"\ncredential = \"token\"",
        ),
        (
            "syslog",
            "host = \"siem.example\"\ncertificate = \"cert\"\nformat = \"cef\"",
        ),
        (
            "splunk_hec",
            "url = \"https://s:8088\"\ncredential = \"token\"\nkinds = [\"operation\"]",
        ),
        (
            "jsonl",
            "path = \"/var/log/p.jsonl\"\nfrom = \"now\"\nrequired = true",
        ),
    ] {
        let ship = parse(&format!("kind = \"{kind}\"\n{keys}")).unwrap();
        assert_eq!(ship.to.kind(), kind);
        assert_eq!(ship.to.takes_segments(), matches!(kind, "directory" | "s3"));
    }
}

#[test]
fn mistakes_are_told_with_what_to_write() {
    let directory = "kind = \"directory\"\npath = \"/d\"\n";
    let s3 = "kind = \"s3\"\nbucket = \"audit\"\ncredential = \"keys\"\n";
    for (text, word) in [
        ("path = \"/d\"".into(), "kind is needed"),
        ("kind = \"kafka\"".into(), "write one of directory, s3"),
        (format!("{directory}pth = \"/x\""), "nearest valid key is `path`"),
        (
            format!("{directory}requierd = true"),
            "nearest valid key is `required`",
        ),
        (
            format!("{directory}max_rte = \"1 MB/s\""),
            "nearest valid key is `max_rate`",
        ),
        (format!("{directory}max_rate = \"1 MB\""), "is no rate"),
        (format!("{directory}max_rate = \"5 events/s\""), "in bytes"),
        (format!("{directory}format = \"ocsf\""), "unknown field"),
        (format!("{directory}timeout = \"0s\""), "timeout is 1s to 1h"),
        (format!("{directory}dead_letter_bytes = 1"), "dead_letter_bytes"),
        (format!("{directory}mode = \"0666\""), "nobody else writes"),
        ("kind = \"directory\"\npath = \"d\"".into(), "path is absolute"),
        (s3.replace("\"keys\"", "\"token\""), "not AWS keys"),
        (s3.replace("\"keys\"", "\"no\""), "no [[credential]]"),
        (format!("{s3}endpoint = \"http://s3.local\""), "allow_http"),
        (format!("{s3}object_lock_days = 3"), "go together"),
        (format!("{s3}kms_key = \"k\""), "encryption = \"kms\""),
        (format!("{s3}prefix = \"a//b\""), "prefix"),
        (format!("{s3}access_key_id = \"AKIA\""), "unknown field"),
        (
            "kind = \"syslog\"\nhost = \"h\"\nfacility = 24".into(),
            "facility",
        ),
        (
            "kind = \"otlp\"\nurl = \"https://c\"\nheader = \"X\"".into(),
            "go together",
        ),
        (
            "kind = \"otlp\"\nurl = \"https://c\"\nbach_events = 5".into(),
            "nearest valid key is `batch_events`",
        ),
        ("kind = \"jsonl\"\npath = \"x\"".into(), "absolute"),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(error.contains(word), "{error}\n{text}");
    }
    let twice = format!("{directory}[[ship]]\nname = \"s\"\n{directory}");
    assert!(parse(&twice).unwrap_err().contains("there twice"));
}

#[test]
fn the_example_in_the_readme_is_valid() {
    let readme = include_str!("../../ship/README.md");
    let example = readme
        .split("```toml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let config = load::parse("README".as_ref(), &example.replace("# endpoint", "endpoint")).unwrap();
    let kinds: Vec<_> = config.ship.iter().map(|ship| ship.to.kind()).collect();
    assert_eq!(kinds, ["directory", "s3"]);
}
