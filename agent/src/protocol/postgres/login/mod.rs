//! The beginning of a connection, up to the server's first ReadyForQuery: encryption, `sql:connect`, the login.
//!
//! Invariants: nothing goes upstream before the login is allowed and on record; a password is never recorded or
//! logged; where the agent logs in, nothing of its credential goes downstream.

mod brokered;
mod cancel;
mod encoding;
mod negotiate;
mod ready;
mod refusal;
mod relayed;
mod route;
mod switches;
mod talk;
mod target;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::BufMut as _;
use tokio::time::Instant;

use self::{
    brokered::Means,
    cancel::{Cancels, Registered},
    negotiate::Ended,
    ready::{Keys, Ready, encoding_refused},
    refusal::Refusal,
    relayed::{Legs, Unbound},
    route::{Opened, Route, Way},
    switches::Switches,
    talk::{Failed, Negotiated, Talk, Words},
    target::Asked,
};
pub use self::{encoding::is_ascii_safe, target::Target};
use super::startup::{Replication, Startup, Version};
use crate::{
    config::Upstream,
    credential::Material,
    gate::{Dial, Gate, Permit},
    mask::Counts,
    model::{Direction, Reason, WorkloadName},
    protocol::{
        ProtocolError,
        wire::{Leg, Wire},
    },
};

/// How many destinations are remembered whose logins are to be bound.
const REMEMBERED: usize = 1024;

/// What all PostgreSQL connections of this agent share.
#[derive(Debug, Default)]
pub struct Shared {
    cancels: Arc<Cancels>,
    /// Destinations to which a workload could not log in over TLS, because it would have bound its login to its TLS
    /// connection. Libraries with `sslmode=prefer` try again without TLS; the server's leg stays encrypted then.
    unbound: Mutex<HashMap<(WorkloadName, SocketAddr), Route>>,
}

/// A connection that is logged in, both legs at the first ReadyForQuery, which was passed on.
pub struct Established {
    /// The login's; it lasts as long as the connection.
    pub permit: Permit,
    /// What every operation is asked of.
    pub target: Target,
    /// Whether it is for replication: a stream that nothing here reads.
    pub replication: Replication,
    /// The server's settings (ParameterStatus) so far, by the name that it gave.
    pub parameters: BTreeMap<Box<str>, Box<str>>,
    /// The role that was taken after a brokered login. `SET ROLE NONE` would leave it: it must be refused.
    pub set_role: Option<Box<str>>,
    /// The connection can be cancelled as long as this is there.
    pub cancel: Option<Registered>,
    /// What a brokered login was done with: a user that was made for it lives as long as someone holds this.
    pub login: Option<Arc<Material>>,
}

#[cfg(any(test, feature = "testing"))]
impl Established {
    /// A login that was simply allowed.
    #[allow(clippy::unwrap_used)]
    pub(super) async fn for_tests(gate: &Gate) -> Self {
        let mut target = Target::of(gate, &Route::of(gate, Way::Plain));
        (target.database, target.role) = ("shop".into(), "app".into());
        let permit = gate
            .authorize(target.connect(gate, &Asked::nothing()))
            .await
            .unwrap();
        Self {
            permit,
            target,
            replication: Replication::No,
            parameters: BTreeMap::new(),
            set_role: None,
            cancel: None,
            login: None,
        }
    }
}

/// Carries a connection from its first byte to the first ReadyForQuery. `None`: it was a cancel request, or went away,
/// or the server refused it in words that were passed on.
///
/// # Errors
/// When it is refused (the words for it are in the downstream output), or a leg broke.
pub async fn login(
    wire: &mut Wire,
    dial: &dyn Dial,
    gate: &Gate,
    shared: &Shared,
) -> Result<Option<Established>, ProtocolError> {
    let until = Instant::now() + gate.limits().handshake_timeout;
    let mut way = if gate.tls().is_some() {
        Way::Direct
    } else {
        Way::Plain
    };
    let asked = negotiate::negotiate(wire, dial, gate, &mut way, until).await;
    let route = shared.route(gate, way);
    let target = Target::of(gate, &route);
    match asked {
        Ok(negotiate::Asked::Nothing) => Ok(None),
        Ok(negotiate::Asked::Cancel { process, key }) => shared
            .cancels
            .serve((process, &key), &target, dial, gate, until)
            .await
            .map(|()| None),
        Ok(negotiate::Asked::Login(startup)) => {
            Login {
                wire,
                dial,
                gate,
                shared,
                way,
                route,
                target,
                switches: Switches::parse(startup.options.as_deref().unwrap_or_default()),
                startup: *startup,
            }
            .run()
            .await
        }
        Err(Ended::Broken(error)) => Err(error),
        Err(Ended::Refused(refusal)) => {
            let operation = target.connect(gate, &Asked::nothing());
            Err(refusal.refuse(operation, gate, wire).await)
        }
    }
}

impl Shared {
    fn route(&self, gate: &Gate, way: Way) -> Route {
        if way == Way::Plain
            && gate.upstream().is_none()
            && let Some(route) = self.lock().get(&(gate.workload().clone(), gate.original_dst().0))
        {
            return route.clone();
        }
        Route::of(gate, way)
    }

    fn remember(&self, gate: &Gate, route: &Route) {
        let mut unbound = self.lock();
        if unbound.len() >= REMEMBERED {
            unbound.clear();
        }
        unbound.insert((gate.workload().clone(), gate.original_dst().0), route.clone());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(WorkloadName, SocketAddr), Route>> {
        self.unbound.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A login under way.
struct Login<'a> {
    wire: &'a mut Wire,
    dial: &'a dyn Dial,
    gate: &'a Gate,
    shared: &'a Shared,
    way: Way,
    route: Route,
    target: Target,
    switches: Switches,
    startup: Startup,
}

impl Login<'_> {
    async fn run(mut self) -> Result<Option<Established>, ProtocolError> {
        let upstream = target::broker(self.gate).cloned();
        let role = self.prepare(upstream.as_ref());
        let operation = self
            .target
            .connect(self.gate, &Asked::of(&self.startup, &self.switches, self.gate));
        let role = match role {
            Ok(role) => role,
            Err(refusal) => return Err(refusal.refuse(operation, self.gate, self.wire).await),
        };
        let mut permit = match self.gate.authorize(operation).await {
            Ok(permit) => permit,
            Err(denied) => return Err(refusal::denied(&denied, self.wire)),
        };
        let mut counts = Counts::default();
        let reached = self.reach(&mut permit, upstream.as_ref(), role.as_deref(), &mut counts);
        let result = reached.await;
        permit.add_masked(&counts);
        permit.add_bytes(Direction::Up, self.wire.up.as_ref().map_or(0, |up| up.written));
        permit.add_bytes(Direction::Down, self.wire.down.written);
        match result {
            Ok((ready, login)) => {
                if let Some(up) = &mut self.wire.up {
                    up.secret = false;
                }
                Ok(Some(self.established(permit, ready, login, role)))
            }
            Err(Failed::Refused(refusal)) => Err(refusal.end(permit, self.wire).await),
            Err(Failed::Said(code)) => {
                permit.finish(Reason::Completed, &code).await?;
                Ok(None)
            }
            Err(Failed::Broken(error)) => {
                permit.finish(error.reason(), "").await?;
                Err(error)
            }
        }
    }

    /// Who it will be, and where; what cannot be carried is refused.
    fn prepare(&mut self, upstream: Option<&Upstream>) -> Result<Option<Box<str>>, Refusal> {
        let startup = &self.startup;
        // A user that the credential makes is not known yet, and another one each time: policy knows it by the
        // credential's name.
        let user = match upstream {
            Some(u) => u.user.as_deref().or(u.credential.as_deref()).unwrap_or_default(),
            None => &startup.user,
        };
        self.target.role = user.into();
        self.target.database = startup
            .database
            .as_deref()
            .or(upstream.and_then(|u| u.database.as_deref()))
            .unwrap_or(user)
            .into();
        let switched = self
            .switches
            .settings
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()));
        let mut settings = startup.settings.iter().map(|(n, v)| (&**n, &**v)).chain(switched);
        if let Some((_, encoding)) = settings
            .clone()
            .find(|(n, v)| *n == "client_encoding" && !is_ascii_safe(v))
        {
            return Err(encoding_refused(encoding));
        }
        let Some(upstream) = upstream else { return Ok(None) };
        if let Some((name, _)) = settings.find(|(n, _)| matches!(*n, "role" | "session_authorization")) {
            return Err(Refusal {
                hint: Some("Leave it out."),
                ..Refusal::new(
                    Reason::PolicyDefaultDeny,
                    format!(
                        "who a brokered login is, the host's administrator says: \"{name}\" cannot be set"
                    ),
                )
            });
        }
        let role = pick_role(upstream, self.gate)?;
        if let Some(role) = role {
            self.target.role = role.into();
        }
        Ok(role.map(Into::into))
    }

    /// To the server, and through its login.
    async fn reach(
        &mut self,
        permit: &mut Permit,
        upstream: Option<&Upstream>,
        role: Option<&str>,
        counts: &mut Counts,
    ) -> Result<(Ready, Option<Arc<Material>>), Failed> {
        // Before a connection: a credential that cannot be had means that there is none.
        let login = password(self.gate, permit, upstream).await?;
        let password = login.as_ref().and_then(|login| login.secret());
        let user = match (&login, upstream) {
            (Some(login), _) if login.user().is_some() => login.user().cloned(),
            (_, Some(upstream)) => match &upstream.user {
                Some(user) => Some(user.as_str().into()),
                // The configuration changed between two looks.
                None => return Err(no_credential(upstream.credential.as_deref().unwrap_or_default())),
            },
            (_, None) => None,
        };
        let until = Instant::now() + self.gate.limits().handshake_timeout;
        let opened = self
            .route
            .open(self.dial, permit, until)
            .await
            .map_err(|e| Failed::Refused(e.into()))?;
        let Opened {
            stream,
            tls,
            end_point,
        } = opened;
        let mut up = Leg::new(stream);
        up.secret = true;
        let mut negotiated = Negotiated::new(self.startup.version, &self.startup.extensions);
        up.output
            .unsplit(self.startup_message(negotiated.version, user.as_deref(), role));
        self.wire.up = Some(up);
        let mut talk = Talk {
            wire: self.wire,
            until,
            secret: password,
            words: Words {
                rules: self.gate.mask(),
                hidden: permit.obligations().mask,
                counts,
            },
        };
        if upstream.is_some() {
            let means = Means {
                user: user.as_deref().unwrap_or_default(),
                password,
                tls,
                end_point: end_point.as_deref(),
            };
            brokered::log_in(&mut talk, &mut negotiated, &means).await?;
        } else {
            let legs = Legs {
                down: self.way != Way::Plain,
                up: tls,
            };
            match relayed::log_in(&mut talk, &mut negotiated, legs).await {
                Ok(()) => {}
                Err(Unbound::Failed(failed)) => return Err(failed),
                Err(Unbound::Binding(refusal)) => {
                    self.shared.remember(self.gate, &self.route);
                    return Err(Failed::Refused(refusal));
                }
            }
        }
        let keys = Keys {
            cancels: &self.shared.cancels,
            gate: self.gate,
            route: &self.route,
            target: &self.target,
            version: negotiated.version,
        };
        let mut ready = Ready::default();
        let mut length = ready.wait(&mut talk, &keys).await?;
        if let Some(role) = role {
            length = ready.set_role(&mut talk, length, role).await?;
        }
        talk.relay(length)?;
        talk.flush().await?;
        Ok((ready, login))
    }

    /// With `user` it is a brokered login's.
    fn startup_message(&self, version: Version, user: Option<&str>, role: Option<&str>) -> bytes::BytesMut {
        let startup = &self.startup;
        if let Some(user) = user {
            return brokered::startup(version.0, &startup.parameters, user, &self.target.database, role);
        }
        let mut out = bytes::BytesMut::new();
        super::frame::write_untagged(&mut out, |out| {
            out.put_u32(version.0);
            for (name, value) in &startup.parameters {
                super::frame::put_cstr(out, name.as_bytes());
                super::frame::put_cstr(out, value.as_bytes());
            }
            out.put_u8(0);
        });
        out
    }

    fn established(
        self,
        permit: Permit,
        ready: Ready,
        login: Option<Arc<Material>>,
        set_role: Option<Box<str>>,
    ) -> Established {
        Established {
            permit,
            target: self.target,
            replication: self.startup.replication,
            parameters: ready.parameters,
            set_role,
            cancel: ready.cancel,
            login,
        }
    }
}

/// The password of a brokered login, and its user where it comes with one.
async fn password(
    gate: &Gate,
    permit: &mut Permit,
    upstream: Option<&Upstream>,
) -> Result<Option<Arc<Material>>, Failed> {
    let Some(reference) = upstream.and_then(|u| u.credential.as_deref()) else {
        return Ok(None);
    };
    match gate.password(permit, reference).await {
        Ok(login) => Ok(Some(login)),
        Err(error) => {
            // The file is the administrator's affair.
            tracing::error!("{error}");
            Err(no_credential(reference))
        }
    }
}

fn no_credential(reference: &str) -> Failed {
    Failed::Refused(Refusal::new(
        Reason::CredentialUnavailable,
        format!("the credential \"{reference}\" cannot be had"),
    ))
}

/// The role of the first rule that is for this identity; none where there are no rules.
fn pick_role<'a>(upstream: &'a Upstream, gate: &Gate) -> Result<Option<&'a str>, Refusal> {
    if upstream.roles.is_empty() {
        return Ok(None);
    }
    let groups = match gate.identity() {
        Ok(identity) => Arc::clone(&identity.groups),
        Err(reason) => return Err(Refusal::new(reason, format!("denied by Portcullis: {reason}"))),
    };
    let fits = |rule: &&crate::config::RoleRule| {
        rule.workload.as_ref().is_none_or(|w| w == gate.workload())
            && rule
                .group
                .as_ref()
                .is_none_or(|g| groups.iter().any(|have| **have == **g))
    };
    match upstream.roles.iter().find(fits) {
        Some(rule) => Ok(Some(&rule.role)),
        None => Err(Refusal::new(
            Reason::PolicyDefaultDeny,
            format!("no role on \"{}\" is for this workload", upstream.name),
        )),
    }
}
