//! RFC 3161 requests and tokens: what is asked, and whether a token says that a hash was there at a time.
//!
//! A token is CMS (RFC 5652) with one signer over a TSTInfo. What is demanded: DER; the imprint is the SHA-256 asked
//! about; the signed attributes name the content's type and digest, and the signer's certificate (RFC 5035, RFC 2634);
//! the certificate is for time stamping and nothing else. With roots its chain is verified at the time that the token
//! states; without, the token only fits itself.

use aws_lc_rs::digest::{self, digest};
use rustls_pki_types::{CertificateDer, UnixTime, alg_id, pem::PemObject as _};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::{
    asn1_rs::{Any, Class, FromDer as _, Tag},
    prelude::X509Certificate,
};

use crate::ledger::tree::Hash;

/// The most bytes that a token or an answer has.
pub const TOKEN_MAX: usize = 64 << 10;

const SIGNED_DATA: &str = "1.2.840.113549.1.7.2";
const TST_INFO: &str = "1.2.840.113549.1.9.16.1.4";
const CONTENT_TYPE: &str = "1.2.840.113549.1.9.3";
const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";
const SIGNING_CERTIFICATE: &str = "1.2.840.113549.1.9.16.2.12";
const SIGNING_CERTIFICATE_V2: &str = "1.2.840.113549.1.9.16.2.47";
const SHA256: &str = "2.16.840.1.101.3.4.2.1";
const SHA384: &str = "2.16.840.1.101.3.4.2.2";
const SHA512: &str = "2.16.840.1.101.3.4.2.3";
/// id-kp-timeStamping (1.3.6.1.5.5.7.3.8), the value of its DER.
const TIME_STAMPING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 8];

/// Why a token proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFlaw {
    /// It cannot be read.
    #[error("it is no RFC 3161 token: {0}")]
    Form(&'static str),
    /// The authority refused: the PKIStatus.
    #[error("the time-stamping authority refused (status {0})")]
    Refused(u64),
    /// It is about another hash.
    #[error("it is about something else than this checkpoint")]
    Imprint,
    /// It answers another request.
    #[error("it is the answer to another request")]
    Nonce,
    /// Its signature.
    #[error("its signature is wrong")]
    Signature,
    /// The certificate that signed it.
    #[error("its certificate {0}")]
    Certificate(&'static str),
    /// The chain to the roots given.
    #[error("its certificate does not chain to the roots given: {0}")]
    Chain(String),
}

/// The roots of a time-stamping authority.
#[derive(Clone, Debug)]
pub struct TsaRoots(Vec<CertificateDer<'static>>);

impl TsaRoots {
    /// Certificates in PEM.
    ///
    /// # Errors
    /// When there is none, or one that cannot be a root.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TokenFlaw> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|_| TokenFlaw::Certificate("file is not PEM"))?;
        if certificates.is_empty() || certificates.iter().any(|c| anchor_from_trusted_cert(c).is_err()) {
            return Err(TokenFlaw::Certificate(
                "file holds no certificate, or one that can be no root",
            ));
        }
        Ok(Self(certificates))
    }
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// When, nanoseconds since 1970 UTC.
    pub at_ns: i64,
    /// The subject of the certificate that signed it.
    pub tsa: String,
}

/// A request about a hash, asking for the certificate.
#[must_use]
pub fn request(hash: &Hash, nonce: Option<u64>) -> Vec<u8> {
    // SEQUENCE { OID SHA-256, NULL }
    let algorithm: &[u8] = &[0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0];
    let imprint = tlv(0x30, &[algorithm, &tlv(4, &[hash])]);
    let nonce = nonce.map(|n| tlv(2, &[&integer(n)])).unwrap_or_default();
    tlv(0x30, &[&[2, 1, 1], &imprint, &nonce, &[1, 1, 0xff]])
}

/// The shortest big-endian form of a positive integer.
fn integer(n: u64) -> Vec<u8> {
    let bytes = n.to_be_bytes();
    let start = bytes.iter().position(|b| *b != 0).unwrap_or(7);
    let mut value = bytes[start..].to_vec();
    if value[0] & 0x80 != 0 {
        value.insert(0, 0);
    }
    value
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        Ok(byte) => out.extend([0x81, byte]),
        // Nothing here is longer than 64 KiB.
        Err(_) => {
            out.push(0x82);
            out.extend(u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    out.extend(content);
    out
}

/// Reads DER, one element after the other.
struct Reader<'a>(&'a [u8]);

/// An element, and its bytes with tag and length.
struct Element<'a> {
    any: Any<'a>,
    raw: &'a [u8],
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<Element<'a>>, TokenFlaw> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (rest, any) = Any::from_der(self.0).map_err(|_| TokenFlaw::Form("it is not DER"))?;
        let raw = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        Ok(Some(Element { any, raw }))
    }

    fn expect(&mut self, tag: Tag, what: &'static str) -> Result<Element<'a>, TokenFlaw> {
        self.next()?
            .filter(|e| e.any.class() == Class::Universal && e.any.tag() == tag)
            .ok_or(TokenFlaw::Form(what))
    }

    fn oid(&mut self, what: &'static str) -> Result<String, TokenFlaw> {
        let element = self.expect(Tag::Oid, what)?;
        let oid = element.any.as_oid().map_err(|_| TokenFlaw::Form(what))?;
        Ok(oid.to_id_string())
    }

    /// The next element where it has this context tag.
    fn context(&mut self, tag: u32) -> Result<Option<Element<'a>>, TokenFlaw> {
        let before = self.0;
        match self.next()? {
            Some(e) if e.any.class() == Class::ContextSpecific && e.any.tag() == Tag(tag) => Ok(Some(e)),
            _ => {
                self.0 = before;
                Ok(None)
            }
        }
    }
}

impl<'a> Element<'a> {
    fn inside(&self) -> Reader<'a> {
        Reader(self.any.data)
    }
}

/// The token in an answer (or in what is a token already).
///
/// # Errors
/// When the authority refused, or it is neither.
pub fn token_of(answer: &[u8]) -> Result<&[u8], TokenFlaw> {
    if answer.len() > TOKEN_MAX {
        return Err(TokenFlaw::Form("it is too long"));
    }
    let mut outer = Reader(answer);
    let whole = outer.expect(Tag::Sequence, "no sequence")?;
    if !outer.0.is_empty() {
        return Err(TokenFlaw::Form("something follows it"));
    }
    let mut inside = whole.inside();
    let first = inside.next()?.ok_or(TokenFlaw::Form("it is empty"))?;
    if first.any.tag() == Tag::Oid {
        return Ok(answer);
    }
    let status = first.inside().expect(Tag::Integer, "no status")?;
    let status = status.any.as_u64().map_err(|_| TokenFlaw::Form("no status"))?;
    if status > 1 {
        return Err(TokenFlaw::Refused(status));
    }
    Ok(inside.expect(Tag::Sequence, "no token")?.raw)
}

/// What is read of a TSTInfo.
struct Info {
    imprint: Hash,
    at_ns: i64,
    nonce: Option<u64>,
}

fn info(content: &[u8]) -> Result<Info, TokenFlaw> {
    let mut reader = Reader(content).expect(Tag::Sequence, "no TSTInfo")?.inside();
    reader.expect(Tag::Integer, "no version")?;
    reader.oid("no policy")?;
    let mut imprint = reader.expect(Tag::Sequence, "no imprint")?.inside();
    let algorithm = imprint
        .expect(Tag::Sequence, "no algorithm")?
        .inside()
        .oid("no algorithm")?;
    let hash = imprint.expect(Tag::OctetString, "no imprint")?.any.data;
    let imprint = if algorithm == SHA256 {
        hash.try_into().ok()
    } else {
        None
    };
    reader.expect(Tag::Integer, "no serial number")?;
    let time = reader.expect(Tag::GeneralizedTime, "no time")?.any.data;
    let mut nonce = None;
    while let Some(element) = reader.next()? {
        if element.any.class() == Class::Universal && element.any.tag() == Tag::Integer {
            nonce = element.any.as_u64().ok();
        }
    }
    Ok(Info {
        imprint: imprint.ok_or(TokenFlaw::Imprint)?,
        at_ns: time_ns(time).ok_or(TokenFlaw::Form("no time"))?,
        nonce,
    })
}

/// `YYYYMMDDhhmmss[.f]Z` (RFC 3161 section 2.4.2) in nanoseconds since 1970.
fn time_ns(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if whole.len() != 14 || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let at = |from: usize, to: usize| whole.get(from..to).unwrap_or_default();
    let iso = format!(
        "{}-{}-{}T{}:{}:{}.{fraction}Z",
        at(0, 4),
        at(4, 6),
        at(6, 8),
        at(8, 10),
        at(10, 12),
        at(12, 14)
    );
    let time: jiff::Timestamp = iso.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok().filter(|ns| *ns > 0)
}

/// Verifies a token over `note`: it states that the note was there at its time.
///
/// # Errors
/// What is wrong.
pub fn verify(
    token: &[u8],
    note: &[u8],
    nonce: Option<u64>,
    roots: Option<&TsaRoots>,
) -> Result<Token, TokenFlaw> {
    let token = token_of(token)?;
    let mut reader = Reader(token).expect(Tag::Sequence, "no content")?.inside();
    if reader.oid("no content type")? != SIGNED_DATA {
        return Err(TokenFlaw::Form("it is not signed data"));
    }
    let explicit = reader.context(0)?.ok_or(TokenFlaw::Form("no content"))?;
    let mut data = explicit
        .inside()
        .expect(Tag::Sequence, "no signed data")?
        .inside();
    data.expect(Tag::Integer, "no version")?;
    data.expect(Tag::Set, "no digest algorithms")?;
    let mut content = data.expect(Tag::Sequence, "no content")?.inside();
    if content.oid("no content type")? != TST_INFO {
        return Err(TokenFlaw::Form("its content is no TSTInfo"));
    }
    let content = content.context(0)?.ok_or(TokenFlaw::Form("no content"))?;
    let content = content.inside().expect(Tag::OctetString, "no content")?.any.data;
    let info = info(content)?;
    if info.imprint != crate::ledger::tree::sha256(&[note]) {
        return Err(TokenFlaw::Imprint);
    }
    if nonce.is_some() && info.nonce != nonce {
        return Err(TokenFlaw::Nonce);
    }
    let mut certificates = Vec::new();
    if let Some(set) = data.context(0)? {
        let mut inside = set.inside();
        while let Some(certificate) = inside.next()? {
            certificates.push(certificate.raw);
        }
    }
    data.context(1)?;
    let mut signers = data.expect(Tag::Set, "no signer")?.inside();
    let signer = signers.expect(Tag::Sequence, "no signer")?;
    if !signers.0.is_empty() {
        return Err(TokenFlaw::Form("it has more than one signer"));
    }
    let certificate = signed_by(&signer, content, &certificates)?;
    let tsa = for_time_stamping(certificate)?;
    if let Some(roots) = roots {
        chain(certificate, &certificates, roots, info.at_ns)?;
    }
    Ok(Token {
        at_ns: info.at_ns,
        tsa,
    })
}

/// Checks the signature; the certificate of the list that made it.
fn signed_by<'a>(
    signer: &Element<'_>,
    content: &[u8],
    certificates: &[&'a [u8]],
) -> Result<&'a [u8], TokenFlaw> {
    let mut reader = signer.inside();
    reader.expect(Tag::Integer, "no signer version")?;
    reader.next()?;
    let mut algorithm = reader.expect(Tag::Sequence, "no digest algorithm")?.inside();
    let hash = match algorithm.oid("no digest algorithm")?.as_str() {
        SHA256 => &digest::SHA256,
        SHA384 => &digest::SHA384,
        SHA512 => &digest::SHA512,
        _ => return Err(TokenFlaw::Form("its digest algorithm is not SHA-2")),
    };
    let attributes = reader
        .context(0)?
        .ok_or(TokenFlaw::Form("no signed attributes"))?;
    let mut algorithm = reader.expect(Tag::Sequence, "no signature algorithm")?.inside();
    let algorithm = algorithm.oid("no signature algorithm")?;
    let signature = reader.expect(Tag::OctetString, "no signature")?.any.data;

    let (mut kind, mut digested, mut certificate) = (false, false, None);
    let mut each = attributes.inside();
    while let Some(attribute) = each.next()? {
        let mut attribute = attribute.inside();
        let name = attribute.oid("no attribute")?;
        let mut values = attribute.expect(Tag::Set, "no attribute value")?.inside();
        match name.as_str() {
            CONTENT_TYPE => kind = values.oid("no content type")? == TST_INFO,
            MESSAGE_DIGEST => {
                let value = values.expect(Tag::OctetString, "no digest")?.any.data;
                digested = digest(hash, content).as_ref() == value;
            }
            SIGNING_CERTIFICATE | SIGNING_CERTIFICATE_V2 => {
                let v2 = name == SIGNING_CERTIFICATE_V2;
                let list = values.expect(Tag::Sequence, "no signing certificate")?;
                let mut ids = list
                    .inside()
                    .expect(Tag::Sequence, "no signing certificate")?
                    .inside();
                let id = ids.expect(Tag::Sequence, "no signing certificate")?;
                certificate = certificate.or(named(&id, v2, certificates)?);
            }
            _ => {}
        }
    }
    if !kind || !digested {
        return Err(TokenFlaw::Signature);
    }
    let certificate = certificate.ok_or(TokenFlaw::Certificate("is not in it: ask for it (certReq)"))?;
    // What is signed is the attributes as a SET.
    let mut message = attributes.raw.to_vec();
    message[0] = 0x31;
    let der = CertificateDer::from(certificate);
    let key = EndEntityCert::try_from(&der).map_err(|_| TokenFlaw::Certificate("cannot be read"))?;
    let wanted =
        signature_id(&algorithm, hash).ok_or(TokenFlaw::Form("its signature algorithm is not known"))?;
    let right = webpki::ALL_VERIFICATION_ALGS
        .iter()
        .filter(|alg| alg.signature_alg_id() == wanted)
        .any(|alg| key.verify_signature(*alg, &message, signature).is_ok());
    if right {
        Ok(certificate)
    } else {
        Err(TokenFlaw::Signature)
    }
}

/// The certificate that an ESSCertID names.
fn named<'a>(id: &Element<'_>, v2: bool, certificates: &[&'a [u8]]) -> Result<Option<&'a [u8]>, TokenFlaw> {
    let mut reader = id.inside();
    let mut hash = if v2 {
        &digest::SHA256
    } else {
        &digest::SHA1_FOR_LEGACY_USE_ONLY
    };
    let mut first = reader.next()?.ok_or(TokenFlaw::Form("no signing certificate"))?;
    if v2 && first.any.tag() == Tag::Sequence {
        hash = match first.inside().oid("no algorithm")?.as_str() {
            SHA256 => &digest::SHA256,
            SHA384 => &digest::SHA384,
            SHA512 => &digest::SHA512,
            _ => return Err(TokenFlaw::Form("its certificate's digest is not SHA-2")),
        };
        first = reader.next()?.ok_or(TokenFlaw::Form("no signing certificate"))?;
    }
    let wanted = first.any.data;
    let found = certificates.iter().find(|c| digest(hash, c).as_ref() == wanted);
    Ok(found.copied())
}

fn signature_id(oid: &str, hash: &digest::Algorithm) -> Option<rustls_pki_types::AlgorithmIdentifier> {
    let rsa = || {
        Some(match hash.output_len() {
            32 => alg_id::RSA_PKCS1_SHA256,
            48 => alg_id::RSA_PKCS1_SHA384,
            64 => alg_id::RSA_PKCS1_SHA512,
            _ => return None,
        })
    };
    match oid {
        "1.2.840.113549.1.1.1" => rsa(),
        "1.2.840.113549.1.1.11" => Some(alg_id::RSA_PKCS1_SHA256),
        "1.2.840.113549.1.1.12" => Some(alg_id::RSA_PKCS1_SHA384),
        "1.2.840.113549.1.1.13" => Some(alg_id::RSA_PKCS1_SHA512),
        "1.2.840.10045.4.3.2" => Some(alg_id::ECDSA_SHA256),
        "1.2.840.10045.4.3.3" => Some(alg_id::ECDSA_SHA384),
        "1.2.840.10045.4.3.4" => Some(alg_id::ECDSA_SHA512),
        "1.3.101.112" => Some(alg_id::ED25519),
        _ => None,
    }
}

/// Checks that a certificate is for time stamping alone (RFC 3161 section 2.3); its subject.
fn for_time_stamping(certificate: &[u8]) -> Result<String, TokenFlaw> {
    let unreadable = TokenFlaw::Certificate("cannot be read");
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| unreadable.clone())?;
    let usage = parsed.extended_key_usage().map_err(|_| unreadable)?;
    let Some(usage) = usage.filter(|usage| usage.critical) else {
        return Err(TokenFlaw::Certificate("has no critical extended key usage"));
    };
    let v = usage.value;
    let more =
        v.any || v.server_auth || v.client_auth || v.code_signing || v.email_protection || v.ocsp_signing;
    if !v.time_stamping || more || !v.other.is_empty() {
        return Err(TokenFlaw::Certificate("is not for time stamping alone"));
    }
    Ok(parsed.subject().to_string())
}

fn chain(certificate: &[u8], others: &[&[u8]], roots: &TsaRoots, at_ns: i64) -> Result<(), TokenFlaw> {
    let der = CertificateDer::from(certificate);
    let leaf = EndEntityCert::try_from(&der).map_err(|_| TokenFlaw::Certificate("cannot be read"))?;
    let anchors: Result<Vec<_>, _> = roots.0.iter().map(anchor_from_trusted_cert).collect();
    let anchors = anchors.map_err(|e| TokenFlaw::Chain(e.to_string()))?;
    let others: Vec<CertificateDer<'_>> = others.iter().map(|c| CertificateDer::from(*c)).collect();
    let seconds = u64::try_from(at_ns / 1_000_000_000).unwrap_or(0);
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchors,
        &others,
        time,
        KeyUsage::required(TIME_STAMPING),
        None,
        None,
    )
    .map(drop)
    .map_err(|e| TokenFlaw::Chain(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(time_ns(b"20261121063000Z"), Some(1_795_242_600_000_000_000));
        assert_eq!(time_ns(b"20261121063000.25Z"), Some(1_795_242_600_250_000_000));
        for bad in [
            "20261121063000",
            "20261321063000Z",
            "2026112106300Z",
            "20261121063000.Z",
            "20261121063000.1+01",
        ] {
            assert_eq!(time_ns(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn garbage_is_refused() {
        for bytes in [
            &b""[..],
            b"\x30",
            b"\x30\x80",
            b"\x30\x00",
            b"\x30\x03\x02\x01\x01",
            &[0x30; 999],
        ] {
            assert!(verify(bytes, b"x", None, None).is_err());
        }
    }
}
