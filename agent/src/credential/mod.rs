//! Credentials: secrets by reference, read when they are used and wiped afterwards.
//!
//! Invariants: a secret is never in the configuration, and nothing that holds one can be printed; an error names the
//! reference and the file, never what is in it.

mod file;
mod material;

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use zeroize::{Zeroize as _, Zeroizing};

pub use material::{Asker, AwsKeys, Material, MaterialValue, WorkloadToken};

use crate::config::Credential;

/// Where systemd puts a unit's credentials.
const SYSTEMD: &str = "CREDENTIALS_DIRECTORY";

/// Why a credential cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// There is none of that name.
    #[error("there is no credential '{0}'")]
    Unknown(Box<str>),
    /// It cannot be read, or must not be used as it is.
    #[error("credential '{name}': {path}: {message}")]
    File {
        /// Its reference.
        name: Box<str>,
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        message: String,
    },
    /// The daemon was not started with systemd credentials.
    #[error("credential '{0}': systemd gave this daemon no credentials (LoadCredential=)")]
    NoDirectory(Box<str>),
}

/// A password; wiped when dropped.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// One that is in memory already.
    #[must_use]
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// Its bytes, for the one message that carries them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A client certificate with its key; the key is wiped when dropped.
pub struct Certificate {
    /// It, and those that lead to its root.
    pub chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// The private key, for the handshake.
    #[must_use]
    pub fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("chain", &self.chain.len())
            .finish_non_exhaustive()
    }
}

/// The credentials of the configuration; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Credentials(Arc<ArcSwap<BTreeMap<String, Credential>>>);

impl Credentials {
    /// Those of a configuration that was checked.
    #[must_use]
    pub fn new(credentials: &[Credential]) -> Self {
        let all = Self::default();
        all.reload(credentials);
        all
    }

    /// Replaces them.
    pub fn reload(&self, credentials: &[Credential]) {
        let by_name = credentials.iter().map(|c| (c.name.clone(), c.clone())).collect();
        self.0.store(Arc::new(by_name));
    }

    /// Reads a password.
    ///
    /// # Errors
    /// When there is none of that name, or its file is missing, empty, or readable by others.
    pub async fn password(&self, name: &str) -> Result<Secret, CredentialError> {
        let credential = self.find(name)?;
        let wrong = |path: PathBuf, message: &str| CredentialError::File {
            name: name.into(),
            path,
            message: message.into(),
        };
        let (path, trust) = place(&credential)?;
        let mut bytes = read(name, path.clone(), trust).await?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        if bytes.is_empty() {
            return Err(wrong(path, "it is empty"));
        }
        if bytes.contains(&0) {
            return Err(wrong(path, "it holds a zero byte, which no password can have"));
        }
        Ok(Secret(bytes))
    }

    /// What a credential gives now, for one workload.
    ///
    /// # Errors
    /// When it cannot be had: what needs it must not go upstream.
    pub async fn get(&self, name: &str, _asker: &Asker) -> Result<Arc<Material>, CredentialError> {
        Ok(Arc::new(Material {
            reference: name.into(),
            version: "".into(),
            expires_at: None,
            value: MaterialValue::Secret(self.password(name).await?),
        }))
    }

    /// Reads a client certificate and its key.
    ///
    /// # Errors
    /// When there is none of that name, a file is missing or holds no PEM of its kind, or others may read the key.
    pub async fn certificate(&self, name: &str) -> Result<Certificate, CredentialError> {
        let credential = self.find(name)?;
        let wrong = |path: &PathBuf, message: &str| CredentialError::File {
            name: name.into(),
            path: path.clone(),
            message: message.into(),
        };
        let Some(path) = credential.certificate_file.clone() else {
            return Err(CredentialError::Unknown(name.into()));
        };
        let pem = read(name, path.clone(), file::Readers::Anyone).await?;
        let chain = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<Vec<_>, _>>()
            .unwrap_or_default();
        if chain.is_empty() {
            return Err(wrong(&path, "it holds no PEM certificate"));
        }
        let (path, trust) = place(&credential)?;
        let pem = read(name, path.clone(), trust).await?;
        let key =
            PrivateKeyDer::from_pem_slice(&pem).map_err(|_| wrong(&path, "it holds no PEM private key"))?;
        Ok(Certificate { chain, key })
    }

    fn find(&self, name: &str) -> Result<Credential, CredentialError> {
        self.0
            .load()
            .get(name)
            .cloned()
            .ok_or_else(|| CredentialError::Unknown(name.into()))
    }
}

/// The file with the secret part, and who may be able to read it.
fn place(credential: &Credential) -> Result<(PathBuf, file::Readers), CredentialError> {
    if let Some(path) = credential.file.as_ref().or(credential.key_file.as_ref()) {
        return Ok((path.clone(), file::Readers::Owner));
    }
    match (&credential.systemd, std::env::var_os(SYSTEMD)) {
        // systemd may let the unit's user in by an access control list, whose mask shows as the group's bits.
        (Some(name), Some(dir)) => Ok((PathBuf::from(dir).join(name), file::Readers::Group)),
        (Some(_), None) => Err(CredentialError::NoDirectory(credential.name.as_str().into())),
        (None, _) => Err(CredentialError::Unknown(credential.name.as_str().into())),
    }
}

async fn read(
    name: &str,
    path: PathBuf,
    readers: file::Readers,
) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let of = path.clone();
    let read = tokio::task::spawn_blocking(move || file::read(&of, readers)).await;
    let message = match read {
        Ok(Ok(bytes)) => return Ok(bytes),
        Ok(Err(message)) => message,
        Err(_) => "reading it was interrupted".into(),
    };
    Err(CredentialError::File {
        name: name.into(),
        path,
        message,
    })
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, path::Path};

    use super::*;

    fn put(path: &Path, content: &[u8], mode: u32) {
        std::fs::write(path, content).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn password_in(path: &Path) -> Credentials {
        Credentials::new(&[Credential {
            name: "pw".into(),
            file: Some(path.into()),
            systemd: None,
            certificate_file: None,
            key_file: None,
        }])
    }

    #[tokio::test]
    async fn passwords_are_read_at_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pw");
        let credentials = password_in(&path);
        let text = |e: CredentialError| e.to_string();
        assert!(text(credentials.password("other").await.unwrap_err()).contains("no credential"));
        assert!(text(credentials.password("pw").await.unwrap_err()).contains("not there"));
        for (content, expected) in [
            (&b"hunter2 \n"[..], &b"hunter2 "[..]),
            (b"hunter2\r\n", b"hunter2"),
            (b"hunter2", b"hunter2"),
            (b"two\n\n", b"two\n"),
            (b"\xff\xfe", b"\xff\xfe"),
        ] {
            put(&path, content, 0o600);
            let secret = credentials.password("pw").await.unwrap();
            assert_eq!(secret.expose(), expected);
            assert_eq!(format!("{secret:?}"), "Secret");
        }
        for (content, mode, word) in [
            (&b"hunter2"[..], 0o640, "others may read"),
            (b"hunter2", 0o604, "others may read"),
            (b"\n", 0o600, "empty"),
            (b"a\0b", 0o600, "zero byte"),
            (&[b'x'; 70_000], 0o600, "longer than"),
        ] {
            put(&path, content, mode);
            let error = text(credentials.password("pw").await.unwrap_err());
            assert!(error.contains(word) && !error.contains("hunter2"), "{error}");
        }
        let error = text(password_in(dir.path()).password("pw").await.unwrap_err());
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
            file: None,
            systemd: None,
            certificate_file: Some(cert.clone()),
            key_file: Some(key.clone()),
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
}
