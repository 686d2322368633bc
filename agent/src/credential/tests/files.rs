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
