//! The commands, on shipped packs.

use clap::Parser as _;

use super::*;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn run(words: &[&str]) -> (bool, String) {
    let cli = Cli::try_parse_from(std::iter::once("policy").chain(words.iter().copied())).unwrap();
    let (config, mut out) = (Config::default(), Vec::new());
    let code = match &cli.args.command {
        Command::Check(args) => check(args, &config, &mut out),
        Command::Test(args) => test(args, &config, &mut out),
        Command::Explain(args) => explain(args, &config, &mut out),
    };
    (
        code.unwrap() == ExitCode::SUCCESS,
        String::from_utf8(out).unwrap(),
    )
}

fn explained(sql: &str, more: &[&str]) -> String {
    const GUARDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/postgres-guarded");
    let words = [
        "explain",
        "--dir",
        GUARDED,
        "--workload",
        "bot",
        "--group",
        "agents",
    ];
    let sql = ["--database", "billing-db/app", "--role", "svc", "--sql", sql];
    run(&[&words[..], &sql, more].concat()).1
}

#[test]
fn explain_understands_sql() {
    let text = explained("DELETE FROM t", &[]);
    assert!(text.starts_with("DENY (policy_forbid)"), "{text}");
    assert!(
        text.contains("'guarded-where'") && text.contains("Without the database"),
        "{text}"
    );
    let json = |sql| serde_json::from_str::<serde_json::Value>(&explained(sql, &["--json"])).unwrap();
    let one = json("INSERT INTO app.notes VALUES (1)");
    assert_eq!(one["policies"][0]["id"], "guarded-write");
    assert_eq!(one["inputs"]["action"], "sql:statement");
    assert_eq!(one["inputs"]["resource"]["id"], "billing-db/app");
    assert_eq!(one["inputs"]["context"]["sql"]["writes"][0], "app.notes");
    assert_eq!(one["inputs"]["context"]["sql"]["role"], "svc");
    let two = json("BEGIN; DROP TABLE app.notes");
    assert_eq!(
        (&two[0]["decision"], &two[1]["decision"]),
        (&"allow".into(), &"deny".into())
    );
    assert_eq!(two[1]["inputs"]["context"]["sql"]["statements"], 2);
    let text = explained("SELECT 1; SELECT 2", &[]);
    assert!(text.contains("--- statement 2 of 2"), "{text}");
}

#[test]
fn explain_decides_logins_and_refuses_what_is_no_sql() {
    let words = [
        "policy",
        "explain",
        "--group",
        "agents",
        "--database",
        "billing-db/app",
    ];
    let explain = |more: &[&str]| {
        let cli = Cli::try_parse_from([&words[..], more].concat())?;
        let Command::Explain(args) = cli.args.command else {
            panic!("explain")
        };
        let mut out = Vec::new();
        explain(&args, &Config::default(), &mut out)?;
        anyhow::Ok(String::from_utf8(out)?)
    };
    assert!(explain(&[]).unwrap().contains("\"action\": \"sql:connect\""));
    let error = explain(&["--sql", "SELEC 1"]).unwrap_err();
    assert!(format!("{error:#}").contains("not valid SQL"), "{error:#}");
    assert!(explain(&["--sql", " -- nothing"]).is_err());
    assert!(explain(&["--url", "https://a/"]).is_err());
}

#[test]
fn explain_decides_names_by_all_that_policy_can_measure() {
    let asked = |more: &[&str]| {
        let words = [
            "policy",
            "explain",
            "--dir",
            BASELINE,
            "--group",
            "portcullis-readers",
            "--dns",
        ];
        let cli = Cli::try_parse_from([&words[..], more].concat())?;
        let Command::Explain(args) = cli.args.command else {
            panic!("explain")
        };
        let mut out = Vec::new();
        explain(&args, &Config::default(), &mut out)?;
        anyhow::Ok(String::from_utf8(out)?)
    };
    let decided = |more: &[&str]| asked(more).unwrap();
    let text = decided(&["API.example.com."]);
    assert!(text.starts_with("ALLOW (policy_permit)"), "{text}");
    assert!(
        text.contains("permit 'grant-dns-readers-api.example.com'"),
        "{text}"
    );
    let name = "api.example.com";
    for tunnel in [
        &[name, "--type", "txt"][..],
        &[name, "--type", "TYPE65280"],
        &[name, "--recent-names", "201"],
        &[name, "--recent-queries", "1201"],
        &["mfrggzdfmztwq2lkbnwg23tpobyxe43uov3ho6dzpjaueq2e.api.example.com"],
    ] {
        let text = decided(tunnel);
        assert!(
            text.contains("forbid 'baseline-dns-tunnel'"),
            "{tunnel:?}: {text}"
        );
    }
    let text = decided(&[name, "--transport", "tls"]);
    assert!(text.contains("forbid 'baseline-dns-encrypted'"), "{text}");
    let more = [
        "--type",
        "type28",
        "--recent-bytes",
        "700",
        "--transport",
        "tcp",
        "--json",
    ];
    let json: serde_json::Value =
        serde_json::from_str(&decided(&[&["a.api.example.com"], &more[..]].concat())).unwrap();
    let dns = &json["inputs"]["context"]["dns"];
    assert_eq!((&dns["type"], &dns["transport"]), (&"AAAA".into(), &"tcp".into()));
    assert_eq!(
        (&dns["entropy"], &dns["recent"]["bytes"]),
        (&252.into(), &700.into())
    );
    assert_eq!(json["inputs"]["resource"]["in"][0]["id"], name);
    assert_eq!(json["inputs"]["context"]["destination"]["port"], 53);
    for (wrong, why) in [
        (&["a..b"][..], "is no name"),
        (&[name, "--type", "ADRESS"], "is no type"),
        (&[name, "--type", "AXFR"], "whatever policy says"),
        (&[name, "--transport", "quic"], "is no transport"),
        (&[name, "--url", "https://a/"], "cannot be used with"),
    ] {
        let error = format!("{:#}", asked(wrong).unwrap_err());
        assert!(error.contains(why), "{wrong:?}: {error}");
    }
    assert!(run_error(&["explain", "--type", "A"]).contains("--dns"));
}

/// What the arguments are refused with.
fn run_error(words: &[&str]) -> String {
    match Cli::try_parse_from(std::iter::once("policy").chain(words.iter().copied())) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{words:?}"),
    }
}

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/baseline");

#[test]
fn check_says_what_is_in_force() {
    let (good, text) = run(&["check"]);
    assert!(good && text.contains("EVERYTHING IS DENIED"), "{text}");
    let (good, text) = run(&["check", "--deny-warnings", BASELINE]);
    assert!(
        good && text.starts_with("valid: 22 policies, 0 warnings"),
        "{text}"
    );
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.cedar"), "permit(principal, action, resource);").unwrap();
    let path = dir.path().to_str().unwrap();
    let (good, text) = run(&["check", path]);
    assert!(good && text.contains("warning: "), "{text}");
    assert!(!run(&["check", "--deny-warnings", path]).0);
    std::fs::write(dir.path().join("a.cedar"), "permit(principal, action);").unwrap();
    let (good, text) = run(&["check", path]);
    assert!(!good && text.contains("a.cedar:1: "), "{text}");
    let (good, text) = run(&["check", "--json", path]);
    assert!(!good && text.contains("\"line\": 1"), "{text}");
}

#[test]
fn test_fails_where_an_example_does() {
    let (good, text) = run(&["test", BASELINE]);
    assert!(good && text.contains("38 examples, 0 failed"), "{text}");
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("examples")).unwrap();
    let example = r#"{"example": [{"name": "x", "url": "https://a/", "expect": {"decision": "allow"}}]}"#;
    std::fs::write(dir.path().join("examples/a.json"), example).unwrap();
    let (good, text) = run(&["test", dir.path().to_str().unwrap()]);
    assert!(
        !good && text.contains("FAILED") && text.contains("expected allow, got deny"),
        "{text}"
    );
}

#[test]
fn explain_names_policy_inputs_and_masks() {
    let words = [
        "explain",
        "--dir",
        BASELINE,
        "--group",
        "portcullis-readers",
        "--url",
        "https://api.example.com/customers",
    ];
    let (_, text) = run(&words);
    assert!(text.starts_with("ALLOW (policy_permit)"), "{text}");
    assert!(
        text.contains("grant-read-api.example.com") && text.contains("masked: derived, email"),
        "{text}"
    );
    let (_, text) = run(&[&words[..], &["--method", "DELETE", "--class", "us_ssn", "--json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["policies"][0]["id"], "baseline-destructive");
    assert_eq!(json["masked"][0], "us_ssn");
    assert_eq!(json["inputs"]["context"]["access"], "admin");
}
