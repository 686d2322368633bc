//! The `add-checkpoint` call of c2sp.org/tlog-witness: what is sent, and what its answers mean.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::cosignature::WitnessKey;
use crate::ledger::tree::Hash;

/// So many lines a consistency proof has at most.
const PROOF_MAX: usize = 63;

/// What a witness answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It cosigned: the signature line, and its time in seconds since 1970 UTC.
    Cosigned { line: String, time: u64 },
    /// It last cosigned a checkpoint of another size: the proof has to begin there.
    Size(u64),
}

/// Why a witness did not cosign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 404.
    #[error("it does not know this ledger (404): its operator has to add the ledger's public key and origin")]
    Unknown,
    /// 403.
    #[error("it does not trust the ledger's key (403): its operator has to add the new public key")]
    Untrusted,
    /// 422.
    #[error(
        "it says that the checkpoint does not go on from the one that it cosigned before (422): this ledger is not the \
         one that it saw, or is an older copy that went another way"
    )]
    Inconsistent,
    /// 409 with a size that is larger than the ledger.
    #[error(
        "it has cosigned {seen} entries of this ledger, which has only {size}: this is an older copy, or entries were \
         lost"
    )]
    Behind {
        /// What the witness saw.
        seen: u64,
        /// What there is.
        size: u64,
    },
    /// Any other status.
    #[error("it answered with status {0}")]
    Status(u16),
    /// 200 without a cosignature by the key that was configured.
    #[error("its answer has no cosignature by the configured key")]
    NoCosignature,
    /// 200 with one that is wrong.
    #[error("its cosignature is wrong")]
    Wrong,
    /// Its clock is wrong, or it sent an old answer.
    #[error("its cosignature is of another time ({0} s since 1970) than now")]
    Time(u64),
    /// An answer that the protocol does not have.
    #[error("its answer is not understood")]
    Form,
}

/// The body of the request.
pub(super) fn request(old: u64, proof: &[Hash], note: &str) -> String {
    let mut text = format!("old {old}\n");
    for hash in proof.iter().take(PROOF_MAX) {
        text.push_str(&STANDARD.encode(hash));
        text.push('\n');
    }
    text.push('\n');
    text.push_str(note);
    text
}

/// Reads an answer; `text` is the checkpoint's, without signatures.
pub(super) fn read(status: u16, body: &[u8], key: &WitnessKey, text: &str) -> Result<Answer, Refusal> {
    let body = || std::str::from_utf8(body).map_err(|_| Refusal::Form);
    match status {
        200 => {
            let line = body()?
                .split_inclusive('\n')
                .find(|line| line.ends_with('\n') && key.claims(line))
                .ok_or(Refusal::NoCosignature)?;
            let time = key.open(text, line).map_err(|_| Refusal::Wrong)?;
            let line = line.to_owned();
            Ok(Answer::Cosigned { line, time })
        }
        409 => {
            let size = body()?.strip_suffix('\n').ok_or(Refusal::Form)?;
            let number: u64 = size.parse().map_err(|_| Refusal::Form)?;
            if number.to_string() == size {
                Ok(Answer::Size(number))
            } else {
                Err(Refusal::Form)
            }
        }
        403 => Err(Refusal::Untrusted),
        404 => Err(Refusal::Unknown),
        422 => Err(Refusal::Inconsistent),
        other => Err(Refusal::Status(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::cosignature::testing::Signer, *};

    const TEXT: &str = "portcullis/h\n7\nBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU=\n";

    /// The form of the specification's example.
    #[test]
    fn the_request() {
        assert_eq!(
            request(5, &[[5; 32], [6; 32]], "a\n\n— b c\n"),
            "old 5\nBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU=\nBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgY=\n\na\n\n— b c\n"
        );
        assert_eq!(request(0, &[], "x"), "old 0\n\nx");
    }

    #[test]
    fn answers() {
        let (witness, other) = (Signer::new("w/1", 1), Signer::new("w/2", 2));
        let ours = witness.sign(TEXT, 9);
        let both = format!("{}{ours}", other.sign(TEXT, 8));
        let cosigned = Answer::Cosigned {
            line: ours.clone(),
            time: 9,
        };
        assert_eq!(read(200, both.as_bytes(), &witness.key, TEXT), Ok(cosigned));
        for (status, body, expected) in [
            (200, other.sign(TEXT, 8), Refusal::NoCosignature),
            (200, String::new(), Refusal::NoCosignature),
            (200, witness.sign("else\n", 9), Refusal::Wrong),
            (200, ours.trim_end().into(), Refusal::NoCosignature),
            (409, "07\n".into(), Refusal::Form),
            (409, "7".into(), Refusal::Form),
            (409, "-1\n".into(), Refusal::Form),
            (409, "+7\n".into(), Refusal::Form),
            (403, String::new(), Refusal::Untrusted),
            (404, String::new(), Refusal::Unknown),
            (422, String::new(), Refusal::Inconsistent),
            (500, ours.clone(), Refusal::Status(500)),
            (301, ours.clone(), Refusal::Status(301)),
        ] {
            assert_eq!(
                read(status, body.as_bytes(), &witness.key, TEXT),
                Err(expected),
                "{status} {body}"
            );
        }
        assert_eq!(read(409, b"7\n", &witness.key, TEXT), Ok(Answer::Size(7)));
    }
}
