//! Leases: what Vault made for us lives as long as we say, and no longer.

use std::sync::Arc;

use reqwest::Method;
use serde::Deserialize;

use super::{
    super::{error::Failure, web::Web},
    Session, Vault,
    login::until,
    object, refused,
};
use crate::io::fetch::shown;

/// A lease, with the login that it was had under.
#[derive(Clone)]
pub(in super::super) struct Lease {
    /// Its id; not secret, and of no use without a token.
    pub(in super::super) id: Arc<str>,
    /// For how long it was given at first.
    pub(super) seconds: i64,
    pub(in super::super) renewable: bool,
    pub(super) session: Arc<Session>,
}

#[derive(Deserialize)]
struct Renewed {
    #[serde(default)]
    lease_duration: i64,
}

impl Lease {
    /// When it ends if it was given for so many seconds now: never after its login.
    pub(super) fn ends(&self, now_ns: i64, seconds: i64) -> i64 {
        until(now_ns, seconds).min(self.session.expires_at())
    }
}

impl Vault {
    /// A longer life for a lease and for its login: when it ends now.
    pub(in super::super) async fn renew(
        &self,
        web: &Web,
        lease: &Lease,
        now_ns: i64,
    ) -> Result<i64, Failure> {
        self.renew_session(web, &lease.session, now_ns).await?;
        let url = self.url(&["sys", "leases", "renew"])?;
        let mut body = object(&[("lease_id", &lease.id)]);
        body.pop();
        body.push_str(&format!(",\"increment\":{}}}", lease.seconds));
        let answer = self
            .call(web, Method::PUT, &url, Some(&lease.session.token), Some(body))
            .await?;
        if answer.status != 200 {
            return Err(refused(&url, answer.status));
        }
        let renewed: Renewed = serde_json::from_slice(&answer.body)
            .map_err(|_| Failure::new(shown(&url), "its answer is none of a lease"))?;
        // Here zero is not for ever: there is no longer life to be had.
        if renewed.lease_duration <= 0 {
            return Ok(now_ns);
        }
        Ok(lease.ends(now_ns, renewed.lease_duration))
    }

    /// Gives a lease back. Where the login's policy does not let us revoke one, ending the login does it.
    pub(in super::super) async fn revoke(&self, web: &Web, lease: &Lease) -> Result<(), Failure> {
        let url = self.url(&["sys", "leases", "revoke"])?;
        let body = object(&[("lease_id", &lease.id)]);
        let token = Some(lease.session.token.as_str());
        let answer = self.call(web, Method::PUT, &url, token, Some(body)).await;
        if self.log_out(web, &lease.session).await {
            return Ok(());
        }
        match answer?.status {
            200..=299 => Ok(()),
            status => Err(refused(&url, status)),
        }
    }
}
