//! What Vault's HTTP API documents of what is used here: KV version 2, AppRole and JWT logins, the database engine,
//! leases. The real thing (OpenBao) is asked the same in tests/clients.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use axum::response::Response;
use serde_json::json;

use super::{
    rig::{Asked, json, plain, serve},
    *,
};

/// What there is, and what was asked.
#[derive(Default)]
pub(super) struct World {
    pub(super) secret: Option<(u64, String)>,
    tokens: BTreeSet<String>,
    /// Leases that live, with the token that each was had under.
    pub(super) leases: BTreeMap<String, String>,
    pub(super) lease_seconds: i64,
    /// Whether a lease can have a longer life.
    pub(super) extends: bool,
    /// Whether the policy lets a login revoke leases.
    pub(super) may_revoke: bool,
    /// What is answered to everything, where not to what is asked.
    pub(super) fault: Option<(u16, &'static str, String)>,
    made: u32,
    /// `METHOD PATH` of everything.
    pub(super) asked: Vec<String>,
    /// The `jwt` of logins.
    pub(super) jwts: Vec<String>,
}

pub(super) type Shared = Arc<Mutex<World>>;

pub(super) const ROLE_ID: &str = "role-1";
pub(super) const SECRET_ID: &str = "s3cret-id-of-the-agent";

pub(super) async fn start() -> (SocketAddr, Shared) {
    let world = Arc::new(Mutex::new(World {
        secret: Some((3, "kv-s3cret".into())),
        lease_seconds: 3600,
        extends: true,
        may_revoke: true,
        ..World::default()
    }));
    let shared = Arc::clone(&world);
    let address = serve(move |asked| shared.lock().unwrap().answer(asked)).await;
    (address, world)
}

impl World {
    /// How often something was asked.
    pub(super) fn count(&self, line: &str) -> usize {
        self.asked.iter().filter(|l| *l == line).count()
    }

    /// All logins end.
    pub(super) fn log_everyone_out(&mut self) {
        self.tokens.clear();
    }

    fn answer(&mut self, asked: &Asked) -> Response {
        let line = format!("{} {}", asked.method, asked.path);
        self.asked.push(line.clone());
        if let Some((status, kind, body)) = &self.fault {
            return plain(*status, kind, body.clone());
        }
        assert_eq!(asked.header("x-vault-request"), "true");
        let refused = |status| json(status, &json!({ "errors": ["permission denied"] }));
        let token = asked.header("x-vault-token").to_owned();
        match line.as_str() {
            "POST /v1/auth/approle/login" => {
                if asked.json() != json!({ "role_id": ROLE_ID, "secret_id": SECRET_ID }) {
                    return refused(400);
                }
                return self.log_in();
            }
            "POST /v1/auth/jwt/login" => {
                let body = asked.json();
                if body["role"] != "agents" {
                    return refused(400);
                }
                self.jwts.push(body["jwt"].as_str().unwrap().into());
                return self.log_in();
            }
            _ if !self.tokens.contains(&token) => return refused(403),
            _ => {}
        }
        match line.as_str() {
            "POST /v1/auth/token/renew-self" => json(
                200,
                &json!({ "auth": { "client_token": token, "lease_duration": 3600, "renewable": true } }),
            ),
            "POST /v1/auth/token/revoke-self" => {
                self.tokens.remove(&token);
                self.leases.retain(|_, owner| *owner != token);
                plain(204, "application/json", "")
            }
            "GET /v1/secret/data/apps/crm" => {
                assert_eq!(asked.header("x-vault-namespace"), "team");
                match &self.secret {
                    Some((version, text)) => json(
                        200,
                        &json!({ "lease_id": "", "lease_duration": 0, "renewable": false, "data": {
                            "data": { "token": text, "other": "kv-0ther", "number": 7, "nested": {} },
                            "metadata": { "version": version, "deletion_time": "", "destroyed": false },
                        } }),
                    ),
                    None => json(404, &json!({ "errors": [] })),
                }
            }
            "GET /v1/database/creds/app" => self.make(&token),
            "PUT /v1/sys/leases/renew" => {
                let id = asked.json()["lease_id"].as_str().unwrap().to_owned();
                if !self.leases.contains_key(&id) {
                    return refused(400);
                }
                let seconds = if self.extends { self.lease_seconds } else { 0 };
                // What is left of its longest life: nothing to speak of.
                json(
                    200,
                    &json!({ "lease_id": id, "renewable": true, "lease_duration": seconds }),
                )
            }
            "PUT /v1/sys/leases/revoke" if self.may_revoke => {
                self.leases.remove(asked.json()["lease_id"].as_str().unwrap());
                plain(204, "application/json", "")
            }
            "PUT /v1/sys/leases/revoke" => refused(403),
            _ => json(404, &json!({ "errors": [] })),
        }
    }

    /// A token that someone else made.
    pub(super) fn new_token(&mut self) -> String {
        self.made += 1;
        let token = format!("s.t0ken-{}", self.made);
        self.tokens.insert(token.clone());
        token
    }

    fn log_in(&mut self) -> Response {
        let token = self.new_token();
        json(
            200,
            &json!({ "auth": { "client_token": token, "lease_duration": 3600, "renewable": true } }),
        )
    }

    fn make(&mut self, token: &str) -> Response {
        self.made += 1;
        let id = format!("database/creds/app/{}", self.made);
        self.leases.insert(id.clone(), token.into());
        json(
            200,
            &json!({ "lease_id": id, "lease_duration": self.lease_seconds, "renewable": true, "data": {
                "username": format!("v-app-{}", self.made), "password": format!("db-s3cret-{}", self.made),
            } }),
        )
    }
}
