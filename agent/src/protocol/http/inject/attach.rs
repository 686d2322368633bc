//! What a permitted request goes up with: the credential in its place, and the connection that is for it.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::place;
use crate::{
    config::Upstream,
    gate::{DialError, Permit},
    protocol::{
        http::{forward::Failure, request::Edits, serve::Connection},
        wire::Leg,
    },
};

/// What a head may grow by on its way up, beside what is injected.
const ROOM: usize = 256;

impl Connection<'_> {
    /// Obtains what the request is sent with; `None` where it is sent as it is.
    ///
    /// # Errors
    /// When it cannot be had or cannot stand in its place: nothing goes upstream.
    pub(in super::super) async fn attach(
        &mut self,
        permit: &mut Permit,
        upstream: Option<&Upstream>,
    ) -> Result<(), Failure> {
        self.injected = None;
        let certificate = upstream.and_then(|u| u.certificate.as_deref());
        if self.certificate.as_deref() != certificate {
            // Who the destination takes it for was settled when the connection was made.
            self.wire.up = None;
            self.certificate = certificate.map(Arc::from);
        }
        if let Some(reference) = certificate {
            permit.uses_certificate(reference);
        }
        let Some(inject) = upstream.and_then(|u| u.inject.as_ref()) else {
            return Ok(());
        };
        let reference = inject.reference().unwrap_or("");
        let material = self.gate.credential(permit, reference).await?;
        if inject.aws_sigv4.is_some() {
            let signed = self.sign_aws(&material)?;
            self.injected = Some(signed);
            return Ok(());
        }
        let (head, target) = (self.request.head(), &self.request.target);
        self.injected = Some(place::into_request(inject, &material, head, target)?);
        Ok(())
    }

    /// A connection upstream for the request in hand.
    pub(in super::super) async fn open_upstream(&mut self, permit: &Permit) -> Result<Leg, DialError> {
        let stream = match &self.certificate {
            Some(reference) => self.dial.connect_as(permit, reference).await?,
            None => self.dial.connect(permit).await?,
        };
        Ok(Leg::new(stream))
    }

    /// Writes the head upstream. Where it holds a secret, no copy of it stays.
    pub(in super::super) fn send_head(&mut self, edits: Edits) {
        let Some(up) = &mut self.wire.up else { return };
        self.read_before = up.read;
        let Some(injected) = &self.injected else {
            up.secret = false;
            self.scratch.clear();
            self.request.write(edits, None, &mut self.scratch);
            up.output.extend_from_slice(&self.scratch);
            return;
        };
        let query = injected.query.as_ref().map_or(0, |q| q.len());
        let size = self.request.head().bytes().len() + injected.lines.len() + query + ROOM;
        let mut head = Zeroizing::new(Vec::with_capacity(size));
        self.request.write(edits, Some(injected), &mut head);
        up.secret = true;
        up.output.reserve(head.len());
        up.output.extend_from_slice(&head);
    }
}
