//! What is asked of Vault: a field of a secret, or a user of a database.

use std::{collections::BTreeMap, sync::Arc};

use reqwest::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{
    super::{
        Secret,
        error::Failure,
        material::MaterialValue,
        source::{Ask, Obtained},
        text::Text,
        web::Web,
    },
    Lease, Session, Vault, refused,
};
use crate::io::fetch::{Answer, shown};

/// The answer of `GET MOUNT/data/PATH`. Fields that are not asked for are not copied out of it.
#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    data: Option<Version<'a>>,
}

#[derive(Deserialize)]
struct Version<'a> {
    #[serde(borrow)]
    data: Option<BTreeMap<String, &'a RawValue>>,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    version: u64,
}

/// The answer of `GET MOUNT/creds/ROLE`.
#[derive(Deserialize)]
struct Made {
    lease_id: String,
    #[serde(default)]
    lease_duration: i64,
    #[serde(default)]
    renewable: bool,
    data: User,
}

#[derive(Deserialize)]
struct User {
    username: String,
    password: Text,
}

impl Vault {
    /// A field of a secret of the KV engine, version 2.
    pub(super) async fn read_secret(&self, web: &Web, ask: Ask<'_>, path: &str) -> Result<Obtained, Failure> {
        let url = self.url(&[self.config.mount(), "data", path])?;
        let mut fresh = false;
        let answer = loop {
            let session = match &ask.memory.session {
                Some(session) if session.is_good(ask.now_ns) => Arc::clone(session),
                _ => {
                    fresh = true;
                    Arc::new(self.log_in(web, &ask).await?)
                }
            };
            let token = session.token.as_str();
            let answer = self.call(web, Method::GET, &url, Some(token), None).await?;
            // A token of someone else's is read anew each time.
            ask.memory.session = session.is_own().then_some(session);
            match answer.status {
                200 => break answer,
                // The login may have ended before its time.
                403 if !fresh => ask.memory.session = None,
                status => return Err(refused(&url, status)),
            }
        };
        let wrong = |message: String| Failure::gone(shown(&url), message);
        self.field(&answer).map_err(wrong)
    }

    fn field(&self, answer: &Answer) -> Result<Obtained, String> {
        let no_kv = || "its answer is none of a KV engine, version 2".to_owned();
        let read: Read<'_> = serde_json::from_slice(&answer.body).map_err(|_| no_kv())?;
        let Some(version) = read.data else {
            return Err(no_kv());
        };
        let fields = version.data.ok_or("that version is deleted")?;
        let name = self.config.field();
        let raw = fields.get(name).ok_or_else(|| {
            // The names of what is there are no secrets, but none of our affair either.
            format!("it has no field '{name}': set field")
        })?;
        let value = match serde_json::from_str::<Text>(raw.get()) {
            Ok(text) => text.0,
            Err(_) if raw.get().starts_with(['{', '[', 'n']) => {
                return Err(format!("its field '{name}' is no text"));
            }
            Err(_) => Zeroizing::new(raw.get().to_owned()),
        };
        if value.is_empty() || value.contains('\0') {
            return Err(format!("its field '{name}' is empty, or holds a zero byte"));
        }
        Ok(Obtained {
            value: MaterialValue::Secret(Secret::text(value)),
            version: version.metadata.version.to_string().into(),
            expires_at: None,
            refresh: Some(self.config.refresh),
            stamp: None,
            lease: None,
        })
    }

    /// A user of the database engine, under a login of its own: what ends the login ends the user.
    pub(super) async fn make_user(&self, web: &Web, ask: &Ask<'_>, role: &str) -> Result<Obtained, Failure> {
        let url = self.url(&[self.config.mount(), "creds", role])?;
        let session = Arc::new(self.log_in(web, ask).await?);
        let made = self.make(web, ask, &url, &session).await;
        if made.is_err() {
            self.log_out(web, &session).await;
        }
        made
    }

    async fn make(
        &self,
        web: &Web,
        ask: &Ask<'_>,
        url: &reqwest::Url,
        session: &Arc<Session>,
    ) -> Result<Obtained, Failure> {
        let answer = self
            .call(web, Method::GET, url, Some(&session.token), None)
            .await?;
        if answer.status != 200 {
            return Err(refused(url, answer.status));
        }
        let wrong = |message: &str| Failure::new(shown(url), message);
        let made: Made = serde_json::from_slice(&answer.body)
            .map_err(|_| wrong("its answer holds no lease with username and password"))?;
        let password = made.data.password.0;
        if made.data.username.is_empty() || made.data.username.contains('\0') || password.contains('\0') {
            return Err(wrong("the user in its answer is none"));
        }
        let lease = Lease {
            id: made.lease_id.as_str().into(),
            seconds: made.lease_duration,
            renewable: made.renewable,
            session: Arc::clone(session),
        };
        let ends = lease.ends(ask.now_ns, made.lease_duration);
        Ok(Obtained {
            value: MaterialValue::Login {
                user: made.data.username.into(),
                password: Secret::text(password),
            },
            version: made.lease_id.into(),
            expires_at: (ends != i64::MAX).then_some(ends),
            refresh: None,
            stamp: None,
            lease: Some(lease),
        })
    }
}
