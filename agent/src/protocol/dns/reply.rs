//! Answers, as they go to the workload.

use hickory_resolver::proto::{
    op::{Edns, Message, MessageType, OpCode, ResponseCode},
    rr::{Record, rdata::opt::EdnsOption},
};

use super::query::Asked;
use crate::{gate::Denied, model::Reason};

/// What an answer over UDP takes at least (RFC 1035 section 2.3.4), and what it is given at most (DNS flag day 2020).
const SMALLEST: u16 = 512;
const LARGEST: u16 = 1232;
/// The option of extended errors (RFC 8914).
const EXTENDED_ERROR: u16 = 15;
/// Bytes of its text at most: an answer with it fits wherever an answer fits.
const WORDS: usize = 240;

/// Extended errors (RFC 8914 section 4) that are said here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extended {
    /// "Not Ready": the agent cannot decide or record now.
    NotReady = 14,
    /// "Blocked": by a policy of whoever runs the resolver.
    Blocked = 15,
    /// "Prohibited": this client may not ask.
    Prohibited = 18,
    /// "Not Supported"
    NotSupported = 21,
    /// "No Reachable Authority"
    NoReachableAuthority = 22,
}

/// An answer to be.
pub struct Reply<'a> {
    asked: &'a Asked,
    code: ResponseCode,
    answers: Vec<Record>,
    authority: Vec<Record>,
    extended: Option<(Extended, String)>,
}

impl<'a> Reply<'a> {
    /// One without records.
    #[must_use]
    pub fn code(asked: &'a Asked, code: ResponseCode) -> Self {
        Self {
            asked,
            code,
            answers: Vec::new(),
            authority: Vec::new(),
            extended: None,
        }
    }

    /// What was looked up.
    #[must_use]
    pub fn answered(asked: &'a Asked, answered: crate::gate::Answered) -> Self {
        Self {
            answers: answered.answers,
            authority: answered.authority,
            ..Self::code(asked, answered.code)
        }
    }

    /// The answer to something that may not pass: who decided, why, and which entry says so.
    #[must_use]
    pub fn denied(asked: &'a Asked, denied: &Denied) -> Self {
        let (code, extended) = match denied.reason {
            Reason::PolicyForbid | Reason::ApprovalDenied | Reason::SecretLeak => {
                (ResponseCode::Refused, Extended::Blocked)
            }
            Reason::LedgerUnavailable | Reason::Overloaded | Reason::Draining | Reason::Interrupted => {
                (ResponseCode::ServFail, Extended::NotReady)
            }
            // A program may ask again.
            Reason::ApprovalTimeout | Reason::ApprovalLapsed | Reason::ApprovalOverloaded => {
                (ResponseCode::ServFail, Extended::Prohibited)
            }
            _ => (ResponseCode::Refused, Extended::Prohibited),
        };
        let mut words = format!("denied by Portcullis: {} entry={}", denied.reason, denied.entry);
        if let Some(asked) = &denied.request {
            words.push_str(&format!(" request={}", asked.id));
        }
        if let Some(message) = &denied.message {
            words.push_str(&format!(": {message}"));
        }
        Self::code(asked, code).with(extended, words)
    }

    /// The same with an extended error.
    #[must_use]
    pub fn with(mut self, extended: Extended, words: String) -> Self {
        self.extended = Some((extended, words));
        self
    }

    /// The response code.
    #[must_use]
    pub fn response_code(&self) -> ResponseCode {
        self.code
    }

    /// The bytes; over UDP what does not fit is left out and the answer says so (TC), so that the workload asks again
    /// over TCP.
    #[must_use]
    pub fn bytes(self, datagram: bool) -> Vec<u8> {
        let asked = self.asked;
        let most = match (datagram, asked.payload) {
            (false, _) => u16::MAX,
            (true, None) => SMALLEST,
            (true, Some(payload)) => payload.clamp(SMALLEST, LARGEST),
        };
        let mut message = Message::new(asked.id, MessageType::Response, OpCode::from_u8(asked.opcode));
        message.metadata.recursion_desired = asked.recursion;
        message.metadata.recursion_available = true;
        message.metadata.checking_disabled = asked.checking_disabled;
        message.metadata.response_code = self.code;
        message.add_queries(asked.question.clone());
        message.add_answers(self.answers);
        message.add_authorities(self.authority);
        // Who does not speak EDNS is not spoken to in it.
        if asked.payload.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(LARGEST).set_version(0);
            if let Some((extended, words)) = self.extended {
                let mut option = (extended as u16).to_be_bytes().to_vec();
                option.extend_from_slice(cut(&words).as_bytes());
                edns.options_mut()
                    .insert(EdnsOption::Unknown(EXTENDED_ERROR, option));
            }
            message.set_edns(edns);
        }
        match message.to_vec() {
            Ok(bytes) if bytes.len() <= usize::from(most) => bytes,
            Ok(_) => message.truncate().to_vec().unwrap_or_default(),
            Err(_) => {
                // What came cannot be written again.
                let failed = Message::error_msg(asked.id, OpCode::Query, ResponseCode::ServFail);
                failed.to_vec().unwrap_or_default()
            }
        }
    }
}

/// The beginning of a text, in whole characters.
fn cut(text: &str) -> &str {
    let fits = |(at, c): &(usize, char)| at + c.len_utf8() <= WORDS;
    let end = text.char_indices().take_while(fits).last();
    text.get(..end.map_or(0, |(at, c)| at + c.len_utf8()))
        .unwrap_or_default()
}
