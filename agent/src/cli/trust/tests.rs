//! Plans over made-up systems, laid out as the distributions lay theirs out.

use std::os::unix::fs::symlink;

use super::*;

struct System(tempfile::TempDir);

impl System {
    fn new(files: &[(&str, &str)], links: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        for (name, target) in links {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, path).unwrap();
        }
        Self(dir)
    }

    fn plan(&self, env: &dyn Fn(&str) -> Option<OsString>) -> TrustPlan {
        let sources = Sources {
            root: self.0.path(),
            ca_pem: &ca_pem(),
            seen_at: Path::new("/run/portcullis"),
            env,
        };
        TrustPlan::new(&sources).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.0.path()).unwrap().join(name)
    }
}

fn ca_pem() -> String {
    static PEM: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let make = || {
        let dir = tempfile::tempdir().unwrap();
        crate::tls::HostCa::open_or_create(dir.path())
            .unwrap()
            .ca_pem()
            .to_string()
    };
    PEM.get_or_init(make).clone()
}

fn text(plan: &TrustPlan, name: impl AsRef<Path>) -> String {
    match plan.items.get(name.as_ref()) {
        Some(Item::File { content, .. }) => String::from_utf8(content.clone()).unwrap(),
        other => panic!("{}: {other:?}", name.as_ref().display()),
    }
}

fn targets(plan: &TrustPlan) -> Vec<PathBuf> {
    plan.mounts.iter().map(|m| m.target.clone()).collect()
}

#[test]
fn debian() {
    let system = System::new(
        &[
            ("etc/ssl/certs/ca-certificates.crt", "ROOTS"),
            ("etc/ssl/certs/java/cacerts", "JKS"),
        ],
        &[
            ("etc/ssl/certs/A.pem", "/usr/share/ca-certificates/A.crt"),
            ("etc/ssl/certs/01234567.0", "A.pem"),
            ("usr/lib/ssl/certs", "../../../etc/ssl/certs"),
            (
                "usr/lib/ssl/cert.pem",
                "../../../etc/ssl/certs/ca-certificates.crt",
            ),
        ],
    );
    let plan = system.plan(&|_| None);
    let ca = ca_pem();
    assert_eq!(
        targets(&plan),
        [system.path("etc/ssl/certs"), "/run/portcullis".into()]
    );
    assert_eq!(text(&plan, "dir-0/ca-certificates.crt"), format!("ROOTS\n{ca}"));
    assert_eq!(text(&plan, "dir-0/java/cacerts"), "JKS");
    assert_eq!(text(&plan, "dir-0/portcullis-host-ca.pem"), ca);
    assert_eq!(
        plan.items[Path::new("dir-0/01234567.0")],
        Item::Link("A.pem".into())
    );
    let hash = hash::subject_hash(ca.as_bytes()).unwrap();
    assert_eq!(
        plan.items[&PathBuf::from(format!("dir-0/{hash}.0"))],
        Item::Link(IN_DIRECTORY.into())
    );
    assert_eq!(text(&plan, BUNDLE), format!("ROOTS\n{ca}"));
    assert_eq!(text(&plan, EXTRA), ca);
    assert!(plan.warnings.is_empty());
    let value = |name: &str| {
        plan.env
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.to_str().unwrap())
    };
    assert_eq!(value("SSL_CERT_FILE"), Some("/run/portcullis/ca-bundle.pem"));
    assert_eq!(value("NODE_EXTRA_CA_CERTS"), Some("/run/portcullis/extra-ca.pem"));
    assert_eq!(value("UV_NATIVE_TLS"), Some("true"));
}

#[test]
fn red_hat() {
    let real = "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem";
    let system = System::new(
        &[(real, "ROOTS\n")],
        &[
            (
                "etc/pki/tls/certs/ca-bundle.crt",
                "../../../../etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
            ),
            ("etc/ssl/certs", "../pki/tls/certs"),
            ("etc/pki/tls/cert.pem", "certs/ca-bundle.crt"),
        ],
    );
    let plan = system.plan(&|_| None);
    // Many names, two things: the directory once, and the bundle that all of them lead to.
    let expected = [
        system.path("etc/pki/tls/certs"),
        system.path(real),
        "/run/portcullis".into(),
    ];
    assert_eq!(targets(&plan), expected);
    assert_eq!(text(&plan, "bundle-0.pem"), format!("ROOTS\n{}", ca_pem()));
    assert!(matches!(
        plan.items[Path::new("dir-0/ca-bundle.crt")],
        Item::Link(_)
    ));
}

#[test]
fn alpine_and_nothing() {
    let system = System::new(&[("etc/ssl/cert.pem", "ROOTS")], &[]);
    let plan = system.plan(&|_| None);
    assert_eq!(
        targets(&plan),
        [system.path("etc/ssl/cert.pem"), "/run/portcullis".into()]
    );
    let bare = System::new(&[], &[]).plan(&|_| None);
    assert_eq!(targets(&bare), [PathBuf::from("/run/portcullis")]);
    assert_eq!(text(&bare, BUNDLE), ca_pem());
}

#[test]
fn what_variables_named_before_is_kept() {
    let system = System::new(
        &[
            ("etc/ssl/cert.pem", "ROOTS\n"),
            ("corp.pem", "CORP\n"),
            ("node.pem", "NODE\n"),
        ],
        &[],
    );
    let (corp, node) = (system.path("corp.pem"), system.path("node.pem"));
    let root = system.path("etc/ssl/cert.pem");
    let plan = system.plan(&|name| match name {
        "SSL_CERT_FILE" => Some(root.clone().into()),
        "REQUESTS_CA_BUNDLE" | "CURL_CA_BUNDLE" => Some(corp.clone().into()),
        "NODE_EXTRA_CA_CERTS" => Some(node.clone().into()),
        "PIP_CERT" => Some("/nonexistent.pem".into()),
        _ => None,
    });
    assert_eq!(text(&plan, BUNDLE), format!("ROOTS\n\nCORP\n{}", ca_pem()));
    assert_eq!(text(&plan, EXTRA), format!("\nNODE\n{}", ca_pem()));
    assert_eq!(plan.warnings.len(), 1, "{:?}", plan.warnings);
}

#[test]
fn a_second_ca_of_the_same_name_gets_the_next_link() {
    let hash = hash::subject_hash(ca_pem().as_bytes()).unwrap();
    let link = format!("etc/ssl/certs/{hash}.0");
    let system = System::new(&[("etc/ssl/certs/x.pem", "X")], &[(&link, "x.pem")]);
    let plan = system.plan(&|_| None);
    assert_eq!(
        plan.items[&PathBuf::from(format!("dir-0/{hash}.0"))],
        Item::Link("x.pem".into())
    );
    assert_eq!(
        plan.items[&PathBuf::from(format!("dir-0/{hash}.1"))],
        Item::Link(IN_DIRECTORY.into())
    );
}

#[test]
fn a_plan_is_made_whatever_the_umask() {
    let system = System::new(
        &[
            ("etc/ssl/certs/ca-certificates.crt", "ROOTS"),
            ("etc/ssl/certs/secret", "S"),
        ],
        &[],
    );
    fs::set_permissions(
        system.path("etc/ssl/certs/secret"),
        fs::Permissions::from_mode(0o640),
    )
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mounts = system.plan(&|_| None).make(dir.path()).unwrap();
    assert_eq!(mounts[0].source, dir.path().join("dir-0"));
    assert_eq!(
        mounts[1],
        Mount {
            source: dir.path().join(""),
            target: "/run/portcullis".into()
        }
    );
    let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode("ca-bundle.pem"), mode("dir-0/secret"), mode("dir-0")),
        (0o644, 0o600, 0o755)
    );
}
