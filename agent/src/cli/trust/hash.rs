//! The name under which OpenSSL looks for a CA in a hashed directory: `X509_NAME_hash_ex` of its subject.
//!
//! SHA-1 over a canonical form of the subject (no outer SEQUENCE; strings as UTF-8 in lower case with white space
//! collapsed), its first four bytes read as little-endian. OpenSSL 1.0.0 and later.

use aws_lc_rs::digest;
use x509_parser::{der_parser::asn1_rs::Tag, x509::X509Name};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const UTF8: u8 = 0x0c;

/// The eight hex digits before `.0` for the first certificate of a PEM text; `None` when it cannot be parsed.
pub(super) fn subject_hash(pem: &[u8]) -> Option<String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let cert = pem.parse_x509().ok()?;
    let sum = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &canonical(cert.subject()));
    let first: [u8; 4] = sum.as_ref().get(..4)?.try_into().ok()?;
    Some(format!("{:08x}", u32::from_le_bytes(first)))
}

fn canonical(name: &X509Name<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for rdn in name.iter_rdn() {
        let mut attributes: Vec<Vec<u8>> = rdn
            .iter()
            .map(|attribute| {
                let value = attribute.attr_value();
                let mut pair = tlv(OID, attribute.attr_type().as_bytes());
                match text(value.tag(), value.data) {
                    Some(text) => pair.extend(tlv(UTF8, fold(&text).as_bytes())),
                    None => pair.extend(tlv(u8::try_from(value.tag().0).unwrap_or(UTF8), value.data)),
                }
                tlv(SEQUENCE, &pair)
            })
            .collect();
        attributes.sort(); // DER orders the members of a SET OF.
        out.extend(tlv(SET, &attributes.concat()));
    }
    out
}

/// The text of the string types that OpenSSL folds; `None` for others, which it takes as they are.
fn text(tag: Tag, data: &[u8]) -> Option<String> {
    match tag {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::VisibleString => {
            String::from_utf8(data.to_vec()).ok()
        }
        Tag::T61String => Some(data.iter().map(|b| char::from(*b)).collect()),
        Tag::BmpString => {
            let units: Vec<u16> = data
                .chunks_exact(2)
                .map(|c| u16::from_be_bytes([c[0], c[1]]))
                .collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

fn fold(text: &str) -> String {
    let space = |c: char| matches!(c, ' ' | '\t'..='\r');
    let words: Vec<&str> = text.split(space).filter(|w| !w.is_empty()).collect();
    words.join(" ").to_ascii_lowercase()
}

fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(value.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let length: Vec<u8> = value
                .len()
                .to_be_bytes()
                .into_iter()
                .skip_while(|b| *b == 0)
                .collect();
            out.push(0x80 | u8::try_from(length.len()).unwrap_or(8));
            out.extend(length);
        }
    }
    out.extend_from_slice(value);
    out
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    use super::*;

    #[test]
    fn strings_are_folded() {
        assert_eq!(fold("  Portcullis \t Host  CA "), "portcullis host ca");
        assert_eq!(tlv(SET, &[0; 200])[..3], [SET, 0x81, 200]);
        assert_eq!(tlv(SET, &[0; 300])[..4], [SET, 0x82, 1, 44]);
    }

    /// The reference values are `openssl x509 -subject_hash`'s, of certificates with these subjects.
    #[test]
    fn agrees_with_openssl() {
        let hash = |parts: &[(DnType, DnValue)]| {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            for (kind, value) in parts {
                params.distinguished_name.push(kind.clone(), value.clone());
            }
            let pem = params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
            subject_hash(pem.as_bytes()).unwrap()
        };
        let utf8 = |s: &str| DnValue::Utf8String(s.into());
        let plain = hash(&[(DnType::CommonName, utf8("Portcullis host CA build-1"))]);
        assert_eq!(plain, "d07a5b72");
        let folded = [
            (
                DnType::CountryName,
                DnValue::PrintableString("DE".try_into().unwrap()),
            ),
            (DnType::OrganizationName, utf8("  B\u{dc}CHER   und Co ")),
            (DnType::CommonName, utf8("Portcullis")),
        ];
        assert_eq!(hash(&folded), "a9e5fc8f");
    }

    /// Every certificate of this system's own hashed directory, where it has one, is where it says it is.
    #[test]
    fn agrees_with_the_system() {
        let Ok(entries) = std::fs::read_dir("/etc/ssl/certs") else {
            return;
        };
        for entry in entries
            .filter_map(Result::ok)
            .filter(|e| e.path().extension().is_some_and(|x| x == "0"))
        {
            let pem = std::fs::read(entry.path()).unwrap();
            let expected = entry.path().file_stem().unwrap().to_string_lossy().into_owned();
            assert_eq!(subject_hash(&pem), Some(expected), "{}", entry.path().display());
        }
    }
}
