//! Logging in to Vault: with a token that someone keeps fresh, as an AppRole, or with the workload's own token.

use std::sync::atomic::{AtomicI64, Ordering};

use reqwest::Method;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    super::{error::Failure, file, source::Ask, text::Text, web::Web},
    Vault, object, refused,
};
use crate::io::fetch::shown;

const SECOND: i64 = 1_000_000_000;

/// A login: the token that requests carry.
pub(in super::super) struct Session {
    pub(super) token: Zeroizing<String>,
    /// Nanoseconds since 1970 UTC; `i64::MAX` where it does not end, or is someone else's to keep.
    expires_at: AtomicI64,
    renewable: bool,
    /// We logged in, so we log out.
    own: bool,
}

#[derive(Deserialize)]
struct LoggedIn {
    auth: Option<Auth>,
}

#[derive(Deserialize)]
struct Auth {
    client_token: Text,
    #[serde(default)]
    lease_duration: i64,
    #[serde(default)]
    renewable: bool,
}

impl Session {
    pub(super) fn expires_at(&self) -> i64 {
        self.expires_at.load(Ordering::Acquire)
    }

    /// Whether it is good for another request, and then some.
    pub(super) fn is_good(&self, now_ns: i64) -> bool {
        now_ns.saturating_add(10 * SECOND) < self.expires_at()
    }

    pub(super) fn is_own(&self) -> bool {
        self.own
    }
}

impl Vault {
    /// A token to ask with.
    pub(super) async fn log_in(&self, web: &Web, ask: &Ask<'_>) -> Result<Session, Failure> {
        if let Some(path) = &self.config.token_file {
            return Ok(Session {
                token: file::text(path).await?,
                expires_at: AtomicI64::new(i64::MAX),
                renewable: false,
                own: false,
            });
        }
        let (mount, body) = if let Some(approle) = &self.config.approle {
            let secret_id = file::text(&approle.secret_id_file).await?;
            let body = object(&[("role_id", &approle.role_id), ("secret_id", &secret_id)]);
            (&approle.mount, body)
        } else if let (Some(jwt), Some((_, token))) = (&self.config.jwt, ask.party) {
            (&jwt.mount, object(&[("role", &jwt.role), ("jwt", token)]))
        } else {
            return Err(Failure::new("vault", "the workload has no token to log in with"));
        };
        let url = self.url(&["auth", mount, "login"])?;
        let answer = self.call(web, Method::POST, &url, None, Some(body)).await?;
        if answer.status != 200 {
            // A secret id or token that is refused takes nothing back that was given before.
            return Err(Failure {
                gone: false,
                ..refused(&url, answer.status)
            });
        }
        let answer: LoggedIn = serde_json::from_slice(&answer.body)
            .map_err(|_| Failure::new(shown(&url), "its answer is no JSON of a login"))?;
        let auth = answer
            .auth
            .ok_or_else(|| Failure::new(shown(&url), "its answer holds no login"))?;
        Ok(Session {
            token: auth.client_token.0,
            expires_at: AtomicI64::new(until(ask.now_ns, auth.lease_duration)),
            renewable: auth.renewable,
            own: true,
        })
    }

    /// A longer life for a login, where it can have one.
    pub(super) async fn renew_session(
        &self,
        web: &Web,
        session: &Session,
        now_ns: i64,
    ) -> Result<(), Failure> {
        if !session.renewable {
            return Ok(());
        }
        let url = self.url(&["auth", "token", "renew-self"])?;
        let answer = self
            .call(web, Method::POST, &url, Some(&session.token), Some(object(&[])))
            .await?;
        if answer.status != 200 {
            return Err(refused(&url, answer.status));
        }
        let answer: LoggedIn = serde_json::from_slice(&answer.body)
            .map_err(|_| Failure::new(shown(&url), "its answer is no JSON of a login"))?;
        if let Some(auth) = answer.auth {
            let until = until(now_ns, auth.lease_duration);
            session.expires_at.store(until, Ordering::Release);
        }
        Ok(())
    }

    /// Ends a login of ours; what was leased under it ends with it. That it cannot be ended is no harm: it runs out.
    pub(in super::super) async fn log_out(&self, web: &Web, session: &Session) -> bool {
        if !session.own {
            return false;
        }
        let Ok(url) = self.url(&["auth", "token", "revoke-self"]) else {
            return false;
        };
        let answer = self
            .call(web, Method::POST, &url, Some(&session.token), None)
            .await;
        answer.is_ok_and(|a| a.status < 300)
    }
}

/// When something ends that lives for so many seconds; zero is for ever.
pub(super) fn until(now_ns: i64, seconds: i64) -> i64 {
    if seconds <= 0 {
        return i64::MAX;
    }
    now_ns.saturating_add(seconds.saturating_mul(SECOND))
}
