//! Where a connection's requests become calls to AWS, and are signed.

use super::{
    Ambiguity, Body, Claim, Custom, Style, claim, deny, endpoint, needs_body,
    operation::of as operation,
    read,
    sign::{self, SignError},
};
use crate::{
    config::Upstream,
    credential::{Material, MaterialValue},
    gate::Denied,
    model::{Operation, Reason},
    protocol::{
        ProtocolError,
        http::{
            body::BodyDecoder,
            encoding::Coding,
            gather::{Gathered, Ungathered},
            inject::{InjectError, Injected},
            problem,
            serve::{Connection, Next},
        },
    },
};

/// The most of a body that is kept to be read and hashed before it goes up: what services take as one request, with
/// Lambda's 6 MiB the largest that is common.
const BODY: usize = 8 << 20;

/// What the request in hand is to AWS.
pub struct InHand {
    claim: Claim,
    /// Its body, where it lies in the input buffer.
    gathered: Option<Gathered>,
}

/// Why a request to AWS is refused before policy is asked.
pub(in super::super) struct Refused {
    operation: Box<Operation>,
    why: Why,
}

enum Why {
    Ambiguous(Ambiguity),
    Ungathered(Ungathered),
}

impl Connection<'_> {
    /// The request's operation as a call to AWS, where it is one.
    ///
    /// # Errors
    /// When it can be taken for several, or its body, which is needed, cannot be had.
    pub(in super::super) async fn as_aws(
        &mut self,
        http: Operation,
        upstream: Option<&Upstream>,
    ) -> Result<Operation, Refused> {
        let inject = upstream
            .and_then(|u| u.inject.as_ref())
            .filter(|i| i.aws_sigv4.is_some());
        let custom = inject.map(|inject| Custom {
            service: inject.service.clone(),
            region: inject.region.clone(),
        });
        let claim = match claim(&self.request, custom.as_ref()) {
            Ok(None) => return Ok(http),
            Ok(Some(claim)) => claim,
            Err(why) => return Err(Refused::new(http, Why::Ambiguous(why))),
        };
        let brokered = inject.is_some();
        let needed =
            needs_body(&claim, &self.request) || (brokered && sign::needs_body(&claim, &self.request));
        let gathered = if needed {
            match Box::pin(self.gather(BODY)).await {
                Ok(gathered) => Some(gathered),
                Err(why) => return Err(Refused::new(http, Why::Ungathered(why))),
            }
        } else {
            None
        };
        let content = gathered.as_ref().map(|g| self.content(g));
        let body = match &content {
            Some(content) if self.request.encoding == Coding::Identity => Body::Bytes(content),
            None if !self.request.has_body() => Body::None,
            _ => Body::Unread,
        };
        let call = read(&claim, &self.request, body);
        self.aws = Some(InHand { claim, gathered });
        match (call, &self.aws) {
            (Ok(call), Some(aws)) => {
                let query = self.request.target.query.as_deref();
                let query = query.and_then(sign::unsigned_query).filter(|q| !q.is_empty());
                Ok(operation(
                    &call,
                    &aws.claim,
                    brokered,
                    http,
                    query.as_deref(),
                    self.gate.mask(),
                ))
            }
            (Err(why), _) => Err(Refused::new(http, Why::Ambiguous(why))),
            (Ok(_), None) => Ok(http),
        }
    }

    /// Takes the framing off a body in the input buffer.
    fn content(&self, gathered: &Gathered) -> Vec<u8> {
        let mut rest = self.wire.down.input.get(..gathered.wire).unwrap_or_default();
        let mut decoder = BodyDecoder::new(self.request.framing);
        let mut content = Vec::with_capacity(usize::try_from(gathered.bytes).unwrap_or(0).min(rest.len()));
        while let Ok(step) = decoder.step(rest) {
            if step.consumed == 0 {
                break;
            }
            content.extend_from_slice(rest.get(step.data).unwrap_or_default());
            rest = rest.get(step.consumed..).unwrap_or_default();
        }
        content
    }

    /// Signs the request in hand.
    ///
    /// # Errors
    /// When it cannot be signed: it does not go up then, least of all with what the workload signed with.
    pub(in super::super) fn sign_aws(&self, material: &Material) -> Result<Injected, InjectError> {
        let MaterialValue::Aws(keys) = &material.value else {
            return Err(InjectError::Kind(material.reference.clone()));
        };
        let Some(aws) = &self.aws else {
            return Err(SignError::Service.into());
        };
        let hash = aws.gathered.as_ref().map(|g| &g.digest[..]);
        let signed = sign::sign(&self.request, &aws.claim, keys, hash, self.gate.now_ns())?;
        Ok(Injected {
            reference: material.reference.clone(),
            drop: signed.drop,
            lines: signed.lines,
            query: signed.query,
            shown_lines: signed.shown_lines,
            shown_query: signed.shown_query,
            // The secret key stays here; the token of a session goes up. AWS itself has never sent one back, and objects
            // are had in parts.
            echoes: keys.session_token.is_some() && endpoint::of(&self.request.host).is_none(),
            chunks: signed.chunks,
        })
    }

    /// Takes away a body that lies in the input buffer and is not going anywhere; whether there was one.
    pub(in super::super) fn drop_gathered(&mut self) -> bool {
        let gathered = self.aws.as_mut().and_then(|aws| aws.gathered.take());
        let Some(gathered) = gathered else { return false };
        bytes::Buf::advance(&mut self.wire.down.input, gathered.wire);
        true
    }

    /// How an error of the service that is asked is written.
    pub(in super::super) fn error_style(&self) -> Style {
        let style = |aws: &InHand| deny::style(&aws.claim, &self.request);
        self.aws.as_ref().map_or_else(Style::default, style)
    }

    /// Refuses a request that can be taken for several, or whose body cannot be had.
    pub(in super::super) async fn refuse_aws(&mut self, refused: Refused) -> Result<Next, ProtocolError> {
        let Refused { operation, why } = refused;
        let (reason, status, detail) = match &why {
            Why::Ambiguous(why) => (Reason::ProtocolAmbiguous, 400, why.to_string()),
            Why::Ungathered(Ungathered::Malformed(fault)) => {
                (fault.reason(), fault.status(), fault.to_string())
            }
            Why::Ungathered(Ungathered::Slow) => {
                (Reason::Timeout, 408, "nothing came for too long".to_owned())
            }
            Why::Ungathered(why) => (why.reason(), problem::status_of(why.reason()), why.to_string()),
        };
        let denied: Denied = self.gate.refuse(*operation, reason).await;
        match why {
            Why::Ambiguous(_) => {
                let gathered = self.drop_gathered();
                self.answer(&denied, status, &detail, gathered, true).await
            }
            Why::Ungathered(Ungathered::Gone(error)) => Err(error),
            // Part of its body is here and part of it is not.
            Why::Ungathered(_) => {
                self.request.keep_alive = false;
                self.answer(&denied, status, &detail, false, false).await?;
                Err(ProtocolError::Refused(reason))
            }
        }
    }
}

impl Refused {
    fn new(operation: Operation, why: Why) -> Self {
        Self {
            operation: Box::new(operation),
            why,
        }
    }
}
