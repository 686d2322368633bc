//! The host CA: made on first start, kept in two files, trusted by the workloads of this host only.
//!
//! The key is written before the certificate, each under a name of its own that is linked into place, so a crash or a
//! second process at the same moment leaves either nothing, or a key for which the certificate is made next time.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SerialNumber,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::TlsError;
use crate::clock::Clock;

/// The private key's file below the CA's directory: PKCS#8 PEM, mode 0600.
pub const KEY_FILE: &str = "ca.key";
/// The certificate's file below the CA's directory: PEM, mode 0644.
pub const CERT_FILE: &str = "ca.pem";

/// How long a host CA lasts: ten years, in seconds.
const LIFETIME: i64 = 10 * 365 * 86_400;
/// How far certificates are dated back, in seconds, for clocks that were set back a little.
pub(super) const BACKDATE: i64 = 3_600;
/// The most that is read of a CA file, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// This host's certificate authority (ECDSA P-256, `CA:TRUE`, path length 0).
pub struct HostCa {
    pub(super) issuer: Issuer<'static, KeyPair>,
    pem: Arc<str>,
    fingerprint: [u8; 32],
    /// Seconds since 1970 UTC after which it is not valid.
    pub(super) not_after: i64,
}

impl std::fmt::Debug for HostCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostCa")
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

impl HostCa {
    /// Opens the CA in `dir`, or makes one there.
    ///
    /// # Errors
    /// When a file cannot be read or written; when the key may be read by others than its owner, who must be root or
    /// this user; when key and certificate do not belong together, are no CA, or have expired.
    pub fn open_or_create(dir: &Path) -> Result<Self, TlsError> {
        Self::open_or_create_at(dir, &Clock::System)
    }

    /// As [`HostCa::open_or_create`], at a clock's time.
    ///
    /// # Errors
    /// As [`HostCa::open_or_create`].
    pub fn open_or_create_at(dir: &Path, clock: &Clock) -> Result<Self, TlsError> {
        let (key_path, cert_path) = (dir.join(KEY_FILE), dir.join(CERT_FILE));
        if !exists(&key_path)? {
            if exists(&cert_path)? {
                return Err(refuse(
                    &cert_path,
                    "there is a certificate but no key: restore ca.key, or remove ca.pem to make a new CA",
                ));
            }
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let pem = zeroize::Zeroizing::new(key.serialize_pem());
            place(dir, KEY_FILE, 0o600, pem.as_bytes())?;
        }
        // Read back, so that what another process placed first wins.
        let key = read_key(&key_path)?;
        if !exists(&cert_path)? {
            let pem = self_signed(&key, clock)?;
            place(dir, CERT_FILE, 0o644, pem.as_bytes())?;
        }
        Self::load(key, &cert_path, clock)
    }

    fn load(key: KeyPair, path: &Path, clock: &Clock) -> Result<Self, TlsError> {
        let pem = read(path, |_| Ok(()))?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
            refuse(
                path,
                "it holds no PEM certificate: restore it, or remove ca.key and ca.pem",
            )
        })?;
        let (_, cert) = x509_parser::parse_x509_certificate(&der).map_err(|_| {
            refuse(
                path,
                "it cannot be parsed: restore it, or remove ca.key and ca.pem",
            )
        })?;
        if cert.public_key().raw != key.subject_public_key_info().as_slice() {
            return Err(refuse(
                path,
                "it does not belong to ca.key: restore the pair, or remove both to make a new CA",
            ));
        }
        if !cert.is_ca() {
            return Err(refuse(
                path,
                "it is not a CA certificate (basicConstraints CA:TRUE)",
            ));
        }
        let not_after = cert.validity().not_after.timestamp();
        if not_after <= clock.now_seconds() {
            return Err(refuse(
                path,
                "it has expired: remove ca.key and ca.pem to make a new CA, and restart the workloads",
            ));
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, &der).as_ref());
        let issuer = Issuer::from_ca_cert_der(&der, key)?;
        Ok(Self {
            issuer,
            pem: pem.as_str().into(),
            fingerprint,
            not_after,
        })
    }

    /// The certificate, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> Arc<str> {
        Arc::clone(&self.pem)
    }

    /// SHA-256 of the certificate's DER, in lower-case hex.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex::encode(self.fingerprint)
    }

    /// When it stops being valid, seconds since 1970 UTC.
    #[must_use]
    pub fn not_after(&self) -> i64 {
        self.not_after
    }
}

/// Sets a validity in seconds since 1970 UTC; times before 1970 are taken as 1970.
pub(super) fn set_validity(params: &mut CertificateParams, from: i64, to: i64) {
    let date = |s: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(s).unwrap_or(0));
    params.not_before = date(from);
    params.not_after = date(to);
}

/// A random serial number of 127 bits, positive (RFC 5280 section 4.1.2.2).
pub(super) fn serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn self_signed(key: &KeyPair, clock: &Clock) -> Result<String, TlsError> {
    let host = nix::unistd::gethostname()
        .map(|h| h.to_string_lossy().into_owned())
        .unwrap_or_default();
    let host: String = host
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-._".contains(*c))
        .collect();
    let mut common = format!("Portcullis host CA {host}");
    common.truncate(64); // ub-common-name, RFC 5280 appendix A.1
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common.trim_end());
    // Two CAs of one host, before and after a reinstall, must not have one name: verifiers find an issuer by it.
    let unique = format!("host CA {}", hex::encode(rand::random::<[u8; 4]>()));
    params
        .distinguished_name
        .push(DnType::OrganizationalUnitName, unique);
    params.serial_number = Some(serial());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = clock.now_seconds();
    set_validity(&mut params, now - BACKDATE, now + LIFETIME);
    Ok(params.self_signed(key)?.pem())
}

fn read_key(path: &Path) -> Result<KeyPair, TlsError> {
    let text = read(path, |meta| {
        if meta.mode() & 0o077 != 0 {
            return Err(format!(
                "its mode is {:04o}: others may read the key; chmod 0600 it",
                meta.mode() & 0o7777
            ));
        }
        let me = nix::unistd::geteuid().as_raw();
        if meta.uid() != me && meta.uid() != 0 {
            return Err(format!(
                "it belongs to user {}, not to this one: chown it",
                meta.uid()
            ));
        }
        Ok(())
    })?;
    KeyPair::from_pem_and_sign_algo(&text, &PKCS_ECDSA_P256_SHA256).map_err(|_| {
        refuse(
            path,
            "it holds no ECDSA P-256 key in PEM: restore it, or remove ca.key and ca.pem",
        )
    })
}

/// Reads a CA file once it is opened and found to be a regular file that `check` accepts.
fn read(
    path: &Path,
    check: impl FnOnce(&fs::Metadata) -> Result<(), String>,
) -> Result<zeroize::Zeroizing<String>, TlsError> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(TlsError::file(path))?;
    let meta = file.metadata().map_err(TlsError::file(path))?;
    if !meta.is_file() {
        return Err(refuse(path, "it is not a regular file"));
    }
    check(&meta).map_err(|message| TlsError::Ca {
        path: path.into(),
        message,
    })?;
    let mut text = zeroize::Zeroizing::new(String::new());
    file.take(MAX_FILE)
        .read_to_string(&mut text)
        .map_err(TlsError::file(path))?;
    Ok(text)
}

/// Puts a file into place as a whole and for good; leaves one that is there already.
fn place(dir: &Path, name: &str, mode: u32, content: &[u8]) -> Result<(), TlsError> {
    let target = dir.join(name);
    let temporary = dir.join(format!(".{name}.{}", hex::encode(rand::random::<[u8; 8]>())));
    let written =
        write_new(&temporary, mode, content).and_then(|()| match fs::hard_link(&temporary, &target) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        });
    let removed = fs::remove_file(&temporary);
    written.map_err(TlsError::file(&target))?;
    removed.map_err(TlsError::file(&temporary))?;
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(TlsError::file(dir))
}

fn write_new(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    // The mode at open is cut by the umask; ca.pem is meant to be readable.
    file.set_permissions(<fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(
        mode,
    ))?;
    file.write_all(content)?;
    file.sync_all()
}

fn exists(path: &Path) -> Result<bool, TlsError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(TlsError::file(path)(e)),
    }
}

fn refuse(path: &Path, message: &str) -> TlsError {
    TlsError::Ca {
        path: PathBuf::from(path),
        message: message.into(),
    }
}
