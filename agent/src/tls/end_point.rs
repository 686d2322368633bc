//! Channel binding by the server's certificate: `tls-server-end-point` (RFC 5929 section 4).

use aws_lc_rs::digest::{self, Algorithm};
use rustls_pki_types::CertificateDer;

/// The hash of a certificate's DER by the hash of its own signature, SHA-256 in place of MD5 and SHA-1. `None` where
/// the signature has no single hash (Ed25519) or hides it in parameters (RSASSA-PSS): there no binding is defined.
pub(super) fn hash(certificate: &CertificateDer<'_>) -> Option<Box<[u8]>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let algorithm = of_signature(&parsed.signature_algorithm.algorithm.to_id_string())?;
    Some(digest::digest(algorithm, certificate).as_ref().into())
}

/// The hash of a signature algorithm (RFC 8017 appendix C, RFC 5758 section 3.2).
fn of_signature(oid: &str) -> Option<&'static Algorithm> {
    match oid {
        // md5WithRSA, sha1WithRSA, ecdsa-with-SHA1; sha256WithRSA, ecdsa-with-SHA256
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.10045.4.1"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.3.2" => Some(&digest::SHA256),
        "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" => Some(&digest::SHA224),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(&digest::SHA384),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(&digest::SHA512),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};

    use super::*;

    #[test]
    fn the_hash_is_that_of_the_signature() {
        let made: [(&'static SignatureAlgorithm, Option<usize>); 3] = [
            (&rcgen::PKCS_ECDSA_P256_SHA256, Some(32)),
            (&rcgen::PKCS_ECDSA_P384_SHA384, Some(48)),
            (&rcgen::PKCS_ED25519, None),
        ];
        for (algorithm, length) in made {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let cert = CertificateParams::default().self_signed(&key).unwrap();
            assert_eq!(hash(cert.der()).map(|h| h.len()), length);
        }
        assert_eq!(hash(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
