//! Client certificates: read when they are shown, each time.

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use super::{
    Certificate,
    error::{CredentialError, Failure},
    file::{self, Place, Readers},
};
use crate::config;

pub(super) async fn read(credential: &config::Credential) -> Result<Certificate, CredentialError> {
    let name = credential.name.as_str();
    let (Some(path), Some(place)) = (&credential.certificate_file, Place::of(credential)) else {
        return Err(CredentialError::Kind {
            name: name.into(),
            is: credential.gives().as_str(),
            wants: "a client certificate",
        });
    };
    let of = |failure: Failure| failure.of(name);
    let wrong =
        |path: &std::path::Path, message: &str| Failure::new(path.display().to_string(), message).of(name);
    let pem = file::read_to_end(path, Readers::Anyone).await.map_err(of)?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .unwrap_or_default();
    if chain.is_empty() {
        return Err(wrong(path, "it holds no PEM certificate"));
    }
    let path = place.path().map_err(of)?;
    let pem = file::read_to_end(&path, place.readers()).await.map_err(of)?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| wrong(&path, "it holds no PEM private key"))?;
    Ok(Certificate { chain, key })
}
