//! What a login asks for, as operations: `sql:connect` and `sql:cancel`.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    super::startup::{Replication, Startup},
    route::{Route, Tls},
    switches::Switches,
};
use crate::{
    config::{Login, Upstream},
    gate::Gate,
    mask::Counts,
    model::{Destination, Operation, OperationId, Resource, Value},
};

/// A database on a server, and the role there: what every operation of a connection is asked of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The server's name in the configuration, else the TLS server name that its certificate is verified against, else
    /// the name that the workload resolved to its address, else address and port.
    pub server: Arc<str>,
    /// The database.
    pub database: Arc<str>,
    /// The role that statements run as at first: the user, or the one taken after a brokered login.
    pub role: Arc<str>,
    /// Where it is.
    pub destination: Destination,
}

impl Target {
    /// The target of a connection by this route, before database and role are known.
    #[must_use]
    pub fn of(gate: &Gate, route: &Route) -> Self {
        let to = gate.original_dst().0;
        let name = match gate.upstream() {
            Some(upstream) => Some(upstream.host.as_str().into()),
            None => route.server_name.clone(),
        };
        // By the host's own look-up, or by the certificate.
        let verified = gate.upstream().is_some() || (name.is_some() && route.tls == Tls::Require);
        // Or by what the host's resolvers told this workload.
        let told = gate.told_names();
        let (name, verified) = match (name, verified) {
            (Some(name), false) => {
                let told = told.iter().any(|t| t.eq_ignore_ascii_case(&name));
                (Some(name), told)
            }
            (None, _) => (told.first().cloned(), !told.is_empty()),
            proved => proved,
        };
        let server = match (gate.upstream(), &name) {
            (Some(upstream), _) => upstream.name.as_str().into(),
            // What a workload calls its destination is not taken for one that the configuration calls so.
            (None, Some(name)) if verified && !gate.is_upstream_name(name) => Arc::clone(name),
            _ => to.to_string().into(),
        };
        Self {
            server,
            database: "".into(),
            role: "".into(),
            destination: Destination {
                address: to.ip(),
                port: to.port(),
                name,
                name_verified: verified,
            },
        }
    }

    /// The resource, as policy names it.
    #[must_use]
    pub fn resource(&self) -> Resource {
        Resource {
            kind: "Database",
            id: format!("{}/{}", self.server, self.database).into(),
            attributes: Vec::new(),
            parents: vec![("DatabaseServer", Arc::clone(&self.server))],
        }
    }

    fn operation(
        &self,
        gate: &Gate,
        action: &'static str,
        name: &'static str,
        record: BTreeMap<&'static str, Value>,
        recorded: BTreeMap<&'static str, Value>,
    ) -> Operation {
        let resource = self.resource();
        let kept = kept(gate, &resource.id);
        let recorded: BTreeMap<_, _> = recorded
            .into_iter()
            .map(|(key, value)| match value {
                Value::String(text) => (key, Value::String(kept_or(gate, &text))),
                other => (key, other),
            })
            .collect();
        let recorded_context = (recorded != record).then_some(Value::Record(recorded));
        Operation {
            id: OperationId::new(),
            protocol: "postgres",
            action,
            recorded_resource: kept,
            credential: None,
            resource,
            destination: self.destination.clone(),
            context: (name, Value::Record(record)),
            recorded_context,
        }
    }

    /// The login.
    #[must_use]
    pub fn connect(&self, gate: &Gate, asked: &Asked<'_>) -> Operation {
        let replication = asked.replication != Replication::No;
        let mut record = BTreeMap::from([
            ("access", Value::from(if replication { "admin" } else { "read" })),
            ("complete", Value::Bool(asked.complete)),
            ("database", Value::String(Arc::clone(&self.database))),
            ("role", Value::String(Arc::clone(&self.role))),
            ("replication", Value::Bool(replication)),
            ("brokered", Value::Bool(asked.broker.is_some())),
            ("tls", Value::Bool(gate.tls().is_some())),
        ]);
        if let Some(application) = asked.application {
            record.insert("application", Value::from(application));
        }
        let mut recorded = record.clone();
        if let Some(options) = asked.options {
            recorded.insert("options", Value::from(options));
        }
        if let Some(broker) = asked.broker {
            // Who it said it was does not count; it is kept for those who wonder.
            recorded.insert("user", Value::from(asked.user));
            for (key, reference) in [
                ("credential", &broker.credential),
                ("certificate", &broker.certificate),
                ("login_user", &broker.user),
            ] {
                if let Some(reference) = reference {
                    recorded.insert(key, Value::from(reference.as_str()));
                }
            }
        }
        self.operation(gate, "sql:connect", "connect", record, recorded)
    }

    /// A cancel request.
    #[must_use]
    pub fn cancel(&self, gate: &Gate) -> Operation {
        let record = BTreeMap::from([
            // It stops a statement of the workload's own, and changes nothing.
            ("access", Value::from("read")),
            ("complete", Value::Bool(true)),
            ("database", Value::String(Arc::clone(&self.database))),
            ("role", Value::String(Arc::clone(&self.role))),
        ]);
        self.operation(gate, "sql:cancel", "cancel", record.clone(), record)
    }
}

/// What is known of a login beside its target.
pub struct Asked<'a> {
    user: &'a str,
    application: Option<&'a str>,
    options: Option<&'a str>,
    replication: Replication,
    complete: bool,
    broker: Option<&'a Upstream>,
}

impl<'a> Asked<'a> {
    /// Nothing: the first message could not be read.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            user: "",
            application: None,
            options: None,
            replication: Replication::No,
            complete: false,
            broker: None,
        }
    }

    /// What a startup message asks for.
    #[must_use]
    pub fn of(startup: &'a Startup, switches: &Switches, gate: &'a Gate) -> Self {
        let taken = |name: &str| {
            startup.settings.contains_key(name) || switches.settings.iter().any(|(n, _)| n == name)
        };
        Self {
            user: &startup.user,
            application: startup.settings.get("application_name").map(|v| &**v),
            options: startup.options.as_deref(),
            replication: startup.replication,
            // Another role than the one that is asked for would be taken.
            complete: switches.complete && !taken("role") && !taken("session_authorization"),
            broker: broker(gate),
        }
    }
}

/// The destination's entry, where the agent logs in to it.
#[must_use]
pub fn broker(gate: &Gate) -> Option<&Upstream> {
    gate.upstream()
        .map(|u| &**u)
        .filter(|u| u.login == Login::Brokered)
}

fn kept(gate: &Gate, text: &str) -> Option<Arc<str>> {
    let mut counts = Counts::default();
    let masked = gate.mask().mask_text(gate.mask().all(), text, &mut counts);
    (!counts.is_empty()).then(|| masked.as_ref().into())
}

fn kept_or(gate: &Gate, text: &Arc<str>) -> Arc<str> {
    kept(gate, text).unwrap_or_else(|| Arc::clone(text))
}
