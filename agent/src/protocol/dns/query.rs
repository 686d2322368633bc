//! A message from a workload, read strictly: one question of class IN in a query, and at most an OPT record with it.

use hickory_resolver::proto::{
    op::{Edns, Message, OpCode, Query, ResponseCode},
    rr::{DNSClass, RecordType},
    serialize::binary::{BinDecodable as _, BinDecoder},
};

use crate::model::Reason;

/// The length of a header (RFC 1035 section 4.1.1).
const HEADER: usize = 12;

/// What is needed to answer a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Its id.
    pub id: u16,
    /// Its opcode, 0 to 15.
    pub opcode: u8,
    /// Whether recursion is desired, which an answer repeats.
    pub recursion: bool,
    /// Whether it says that the workload checks signatures itself, which an answer repeats.
    pub checking_disabled: bool,
    /// The question, as far as it could be read.
    pub question: Option<Query>,
    /// The bytes of a datagram that it takes, where it speaks EDNS (RFC 6891).
    pub payload: Option<u16>,
}

/// Why a message is no query that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It has no header.
    #[error("shorter than a header")]
    Short,
    /// It is an answer.
    #[error("an answer where a query belongs")]
    Response,
    /// UPDATE, NOTIFY and what else there is.
    #[error("opcode {0} is not carried")]
    Opcode(u8),
    /// None, or more than one.
    #[error("{0} questions")]
    Questions(u16),
    /// Records where a query has none.
    #[error("records in a query")]
    Records,
    /// It cannot be read: cut off, a loop in a name, a name that is too long, bytes after its end.
    #[error("cannot be read")]
    Malformed,
    /// An EDNS version that nobody knows.
    #[error("EDNS version {0}")]
    Version(u8),
    /// Another class than IN.
    #[error("class {0} is not carried")]
    Class(u16),
    /// A type that is no question about a name: a transfer, a signature, mail.
    #[error("type {0} is not carried")]
    Kind(u16),
}

impl Fault {
    /// What the answer says; `None` where there is none, because an answer to an answer may go on for ever (RFC 1035
    /// has no word on it, and every server does so).
    #[must_use]
    pub fn code(self) -> Option<ResponseCode> {
        Some(match self {
            Self::Short | Self::Response => return None,
            Self::Opcode(_) => ResponseCode::NotImp,
            Self::Questions(_) | Self::Records | Self::Malformed => ResponseCode::FormErr,
            Self::Version(_) => ResponseCode::BADVERS,
            Self::Class(_) | Self::Kind(_) => ResponseCode::Refused,
        })
    }

    /// The reason, for the entry.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::Short | Self::Response | Self::Records | Self::Malformed => Reason::ProtocolError,
            Self::Questions(_) => Reason::ProtocolAmbiguous,
            Self::Opcode(_) | Self::Version(_) | Self::Class(_) | Self::Kind(_) => Reason::NotUnderstood,
        }
    }

    /// Whether what follows in the same stream cannot be trusted to begin where it should.
    #[must_use]
    pub fn ends_stream(self) -> bool {
        matches!(self, Self::Short | Self::Response | Self::Malformed)
    }
}

/// Reads a message.
///
/// # Errors
/// What is wrong with it, and what of it could be read.
pub fn read(bytes: &[u8]) -> Result<Asked, (Asked, Fault)> {
    let mut asked = Asked::default();
    let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else {
        return Err((asked, Fault::Short));
    };
    let words: [u16; 6] = std::array::from_fn(|n| match header.get(2 * n..2 * n + 2) {
        Some([high, low]) => u16::from_be_bytes([*high, *low]),
        _ => 0,
    });
    let [id, flags, counts @ ..] = words;
    asked.id = id;
    asked.opcode = (flags >> 11 & 15) as u8;
    asked.recursion = flags & 0x100 != 0;
    asked.checking_disabled = flags & 0x10 != 0;
    if flags & 0x8000 != 0 {
        return Err((asked, Fault::Response));
    }
    match body(bytes, counts, &mut asked) {
        Ok(()) => Ok(asked),
        Err(fault) => Err((asked, fault)),
    }
}

fn body(bytes: &[u8], counts: [u16; 4], asked: &mut Asked) -> Result<(), Fault> {
    let [questions, answers, authority, additional] = counts;
    if asked.opcode != u8::from(OpCode::Query) {
        return Err(Fault::Opcode(asked.opcode));
    }
    if questions != 1 {
        return Err(Fault::Questions(questions));
    }
    if answers != 0 || authority != 0 || additional > 1 {
        return Err(Fault::Records);
    }
    let mut decoder = BinDecoder::new(bytes);
    let message = Message::read(&mut decoder).map_err(|_| Fault::Malformed)?;
    let question = message.queries.first().ok_or(Fault::Malformed)?;
    asked.question = Some(question.clone());
    asked.payload = message.edns.as_ref().map(Edns::max_payload);
    if !decoder.is_empty() {
        return Err(Fault::Malformed);
    }
    if let Some(edns) = &message.edns
        && edns.version() != 0
    {
        return Err(Fault::Version(edns.version()));
    }
    // Signed queries among them: an answer would have to be signed, too.
    if !message.additionals.is_empty() || message.signature.is_some() {
        return Err(Fault::Records);
    }
    if question.query_class() != DNSClass::IN {
        return Err(Fault::Class(question.query_class().into()));
    }
    let kind = question.query_type();
    if !carried(kind) {
        return Err(Fault::Kind(kind.into()));
    }
    Ok(())
}

/// Whether a type is a question about a name: of those from 128 to 255 (RFC 6895 section 3.1, "Q and Meta-TYPEs") only
/// ANY is.
#[must_use]
pub fn carried(kind: RecordType) -> bool {
    let number = u16::from(kind);
    number == u16::from(RecordType::ANY) || !(matches!(number, 0 | 41) || (128..=255).contains(&number))
}
