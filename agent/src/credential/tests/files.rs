//! Files: read at use, and only if nobody else can.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use super::{rig::anyone, *};

fn put(path: &Path, content: &[u8], mode: u32) {
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn password_in(path: &Path) -> Credentials {
    Credentials::new(&[Credential {
        name: "pw".into(),
        file: Some(path.into()),
        ..Credential::default()
    }])
}

#[tokio::test]
async fn passwords_are_read_at_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pw");
    let credentials = password_in(&path);
    let text = |e: CredentialError| e.to_string();
    assert!(text(credentials.password("other", &anyone()).await.unwrap_err()).contains("no credential"));
    assert!(text(credentials.password("pw", &anyone()).await.unwrap_err()).contains("not there"));
    for (content, expected) in [
        (&b"hunter2 \n"[..], &b"hunter2 "[..]),
        (b"hunter2\r\n", b"hunter2"),
        (b"hunter2", b"hunter2"),
        (b"two\n\n", b"two\n"),
        (b"\xff\xfe", b"\xff\xfe"),
    ] {
        put(&path, content, 0o600);
        let material = credentials.password("pw", &anyone()).await.unwrap();
        let secret = material.secret().unwrap();
        assert_eq!(secret.expose(), expected);
        assert_eq!(format!("{secret:?}"), "Secret");
        assert!(!format!("{material:?}").contains("hunter2"));
    }
    for (content, mode, word) in [
        (&b"hunter2"[..], 0o640, "others may read"),
        (b"hunter2", 0o604, "others may read"),
        (b"\n", 0o600, "empty"),
        (b"a\0b", 0o600, "zero byte"),
        (&[b'x'; 70_000], 0o600, "longer than"),
    ] {
        put(&path, content, mode);
        let error = text(credentials.password("pw", &anyone()).await.unwrap_err());
        assert!(error.contains(word) && !error.contains("hunter2"), "{error}");
    }
    let error = text(
        password_in(dir.path())
            .password("pw", &anyone())
            .await
            .unwrap_err(),
    );
    assert!(error.contains("regular file"), "{error}");
}

#[tokio::test]
async fn certificates_need_both_parts() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("c.pem"), dir.path().join("c.key"));
    let pair = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
    put(&cert, pair.cert.pem().as_bytes(), 0o644);
    put(&key, pair.signing_key.serialize_pem().as_bytes(), 0o600);
    let credentials = Credentials::new(&[Credential {
        name: "cert".into(),
        certificate_file: Some(cert.clone()),
        key_file: Some(key.clone()),
        ..Credential::default()
    }]);
    let loaded = credentials.certificate("cert").await.unwrap();
    assert_eq!(loaded.chain.len(), 1);
    assert!(!format!("{loaded:?}").contains("PRIVATE"));
    put(&key, pair.signing_key.serialize_pem().as_bytes(), 0o644);
    let error = credentials.certificate("cert").await.unwrap_err().to_string();
    assert!(error.contains("others may read"), "{error}");
    put(&key, b"junk", 0o600);
    let error = credentials.certificate("cert").await.unwrap_err().to_string();
    assert!(error.contains("no PEM private key"), "{error}");
    put(&cert, b"junk", 0o600);
    let error = credentials.certificate("cert").await.unwrap_err().to_string();
    assert!(error.contains("no PEM certificate"), "{error}");
}

#[tokio::test]
async fn a_file_is_replaced_while_it_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let toml = format!("[[credential]]\nname = \"t\"\nfile = \"{}\"\n", path.display());
    let (all, told) = rig::start(&toml, rig::timing());
    rig::put(&path, "first-s3cret\n");
    let held = all.get("t", &anyone()).await.unwrap();
    assert!(
        held.version.starts_with("20") && held.version.ends_with('Z'),
        "{}",
        held.version
    );
    for _ in 0..50 {
        let same = all.get("t", &anyone()).await.unwrap();
        assert!(Arc::ptr_eq(&held, &same), "nothing changed");
    }
    rig::put(&path, "second-s3cret\n");
    assert_eq!(rig::secret(&all, "t", &anyone()).await.unwrap(), "second-s3cret");
    assert_eq!(told.announced("t"), ["second-s3cret"]);
    // Who holds the one before has it still.
    assert_eq!(held.secret().unwrap().expose(), b"first-s3cret");
    // In place, of the same size, in the same tick of the clock.
    std::fs::write(&path, "thirds-s3cret\n").unwrap();
    assert_eq!(rig::secret(&all, "t", &anyone()).await.unwrap(), "thirds-s3cret");
    std::fs::remove_file(&path).unwrap();
    let error = rig::secret(&all, "t", &anyone()).await.unwrap_err();
    assert!(error.contains("not there"), "{error}");
    assert!(told.announced("t").is_empty());
    rig::put(&path, "fourth-s3cret");
    assert_eq!(rig::secret(&all, "t", &anyone()).await.unwrap(), "fourth-s3cret");
    let words: Vec<String> = told
        .words()
        .iter()
        .map(|w| w.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(words, ["obtained", "renewed", "renewed", "failed", "obtained"]);
    told.says_none_of(&["s3cret"]);
}

#[tokio::test]
async fn a_file_is_looked_at_now_and_then() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let toml = format!("[[credential]]\nname = \"t\"\nfile = \"{}\"\n", path.display());
    let seldom = Timing {
        check: std::time::Duration::from_secs(3600),
        ..rig::timing()
    };
    let (all, _) = rig::start(&toml, seldom);
    rig::put(&path, "first");
    assert_eq!(rig::secret(&all, "t", &anyone()).await.unwrap(), "first");
    rig::put(&path, "second");
    assert_eq!(rig::secret(&all, "t", &anyone()).await.unwrap(), "first");
    // A login does not make do with that.
    let login = all.password("t", &anyone()).await.unwrap();
    assert_eq!(login.secret().unwrap().expose(), b"second");
    assert_eq!(rig::secret(&all, "t", &anyone()).await.unwrap(), "second");
}

#[tokio::test]
async fn aws_keys_by_profile() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    let toml = format!(
        "[[credential]]\nname = \"k\"\naws_keys_file = \"{}\"\nprofile = \"ci\"\n",
        path.display()
    );
    let (all, told) = rig::start(&toml, rig::timing());
    rig::put(
        &path,
        "[ci]\naws_access_key_id = AKIA1\naws_secret_access_key = s3cret\n",
    );
    let material = all.get("k", &anyone()).await.unwrap();
    assert_eq!(&*material.aws().unwrap().access_key_id, "AKIA1");
    assert_eq!(told.announced("k"), ["s3cret"]);
    rig::put(
        &path,
        "[other]\naws_access_key_id = AKIA1\naws_secret_access_key = s3cret\n",
    );
    let error = all.get("k", &anyone()).await.unwrap_err().to_string();
    assert!(
        error.contains("no profile [ci]") && !error.contains("s3cret"),
        "{error}"
    );
}
