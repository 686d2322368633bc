//! A question to a database, as people write it: `database = "server/name"` with `sql`, `login` or `cancel`.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use serde::Deserialize;

use super::{
    QuestionError,
    question::{Question, wrong},
};
use crate::model::{Access, Destination, Operation, OperationId, Resource, Value};

/// `sql` of a question: one statement, as `context.sql` has it. What is left out is what a plain read has.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// `simple` when empty.
    #[serde(default = "simple")]
    pub phase: Arc<str>,
    /// `select` when empty.
    #[serde(default = "select")]
    pub verbs: BTreeSet<Arc<str>>,
    /// `schema.relation`
    #[serde(default)]
    pub reads: BTreeSet<Arc<str>>,
    /// `schema.relation`
    #[serde(default)]
    pub writes: BTreeSet<Arc<str>>,
    /// Those of `reads` when empty.
    #[serde(default)]
    pub read_schemas: Option<BTreeSet<Arc<str>>>,
    /// Those of `writes` when empty.
    #[serde(default)]
    pub write_schemas: Option<BTreeSet<Arc<str>>>,
    /// `schema.relation.column`
    #[serde(default)]
    pub columns: BTreeSet<Arc<str>>,
    /// Data classes.
    #[serde(default)]
    pub sensitive: BTreeSet<Arc<str>>,
    /// `schema.function`
    #[serde(default)]
    pub functions: BTreeSet<Arc<str>>,
    /// Those of `functions` that are not known.
    #[serde(default)]
    pub unknown_functions: BTreeSet<Arc<str>>,
    /// Data classes that it stores elsewhere.
    #[serde(default)]
    pub copied: BTreeSet<Arc<str>>,
    /// Absent when empty.
    #[serde(default)]
    pub has_where: Option<bool>,
    /// `idle` when empty.
    #[serde(default = "idle")]
    pub transaction: Arc<str>,
    /// 1 when empty.
    #[serde(default = "one")]
    pub statements: i64,
    /// Why it is not complete.
    #[serde(default)]
    pub incomplete: BTreeSet<Arc<str>>,
    /// Whether nothing is in `incomplete`, when empty.
    #[serde(default)]
    pub complete: Option<bool>,
    /// By `verbs` and `writes` when empty, see [`of_verbs`].
    #[serde(default)]
    pub access: Option<Word>,
}

/// `login` of a question, as `context.connect` has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// False when empty.
    #[serde(default)]
    pub replication: bool,
    /// Absent when empty.
    #[serde(default)]
    pub application: Option<Arc<str>>,
    /// True when empty.
    #[serde(default = "yes")]
    pub brokered: bool,
    /// True when empty.
    #[serde(default = "yes")]
    pub tls: bool,
}

/// A class of access, as a word.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// [`Access::Read`]
    Read,
    /// [`Access::Write`]
    Write,
    /// [`Access::Admin`]
    Admin,
}

impl From<Word> for Access {
    fn from(word: Word) -> Self {
        match word {
            Word::Read => Self::Read,
            Word::Write => Self::Write,
            Word::Admin => Self::Admin,
        }
    }
}

fn simple() -> Arc<str> {
    "simple".into()
}
fn select() -> BTreeSet<Arc<str>> {
    BTreeSet::from(["select".into()])
}
fn idle() -> Arc<str> {
    "idle".into()
}
fn one() -> i64 {
    1
}
fn yes() -> bool {
    true
}

impl Default for Login {
    fn default() -> Self {
        Self {
            replication: false,
            application: None,
            brokered: true,
            tls: true,
        }
    }
}

/// The class of access of a statement that does these, for questions that do not say it. The words are those of the
/// PostgreSQL codec, which goes by the statement itself; a word that is not here is `admin`.
#[must_use]
pub fn of_verbs<'a>(verbs: impl IntoIterator<Item = &'a str>) -> Access {
    let one = |verb: &str| match verb {
        "begin" | "close" | "commit" | "copy" | "deallocate" | "declare" | "discard" | "execute"
        | "explain" | "fetch" | "listen" | "move" | "prepare" | "release" | "reset" | "rollback"
        | "savepoint" | "select" | "set" | "show" | "unlisten" => Access::Read,
        "call"
        | "commit_prepared"
        | "delete"
        | "insert"
        | "lock"
        | "merge"
        | "notify"
        | "prepare_transaction"
        | "rollback_prepared"
        | "update" => Access::Write,
        _ => Access::Admin,
    };
    verbs.into_iter().map(one).max().unwrap_or(Access::Admin)
}

fn set(words: &BTreeSet<Arc<str>>) -> Value {
    Value::Set(words.iter().map(|w| w.clone().into()).collect())
}

fn schemas(key: &str, relations: &BTreeSet<Arc<str>>) -> Result<BTreeSet<Arc<str>>, QuestionError> {
    let schema = |relation: &Arc<str>| {
        relation
            .split_once('.')
            .map(|(schema, _)| schema.into())
            .ok_or_else(|| {
                wrong(
                    key,
                    format!("'{relation}': write it with its schema, as public.{relation}"),
                )
            })
    };
    relations.iter().map(schema).collect()
}

impl Statement {
    fn record(&self, database: &str, role: &Arc<str>) -> Result<Value, QuestionError> {
        let (reads, writes) = (schemas("reads", &self.reads)?, schemas("writes", &self.writes)?);
        let access = match self.access {
            Some(word) => word.into(),
            None if self.writes.is_empty() => of_verbs(self.verbs.iter().map(|v| &**v)),
            None => of_verbs(self.verbs.iter().map(|v| &**v)).max(Access::Write),
        };
        let mut record = Value::record([
            ("phase", self.phase.clone().into()),
            ("verbs", set(&self.verbs)),
            ("reads", set(&self.reads)),
            ("writes", set(&self.writes)),
            ("read_schemas", set(self.read_schemas.as_ref().unwrap_or(&reads))),
            (
                "write_schemas",
                set(self.write_schemas.as_ref().unwrap_or(&writes)),
            ),
            ("columns", set(&self.columns)),
            ("sensitive", set(&self.sensitive)),
            ("functions", set(&self.functions)),
            ("database", database.into()),
            ("role", role.clone().into()),
            ("transaction", self.transaction.clone().into()),
            ("statements", self.statements.into()),
            ("incomplete", set(&self.incomplete)),
            ("access", access.as_str().into()),
            (
                "complete",
                self.complete.unwrap_or(self.incomplete.is_empty()).into(),
            ),
        ]);
        if let Value::Record(record) = &mut record {
            record.extend(self.has_where.map(|has| ("has_where", has.into())));
            for (name, words) in [
                ("copied", &self.copied),
                ("unknown_functions", &self.unknown_functions),
            ] {
                if !words.is_empty() {
                    record.insert(name, set(words));
                }
            }
        }
        Ok(record)
    }
}

impl Login {
    fn record(&self, database: &str, role: &Arc<str>) -> Value {
        let mut record = Value::record([
            ("database", database.into()),
            ("role", role.clone().into()),
            ("replication", self.replication.into()),
            ("brokered", self.brokered.into()),
            ("tls", self.tls.into()),
            // A replication connection can create and drop slots, and streams everything.
            ("access", if self.replication { "admin" } else { "read" }.into()),
            ("complete", true.into()),
        ]);
        if let (Value::Record(record), Some(name)) = (&mut record, &self.application) {
            record.insert("application", name.clone().into());
        }
        record
    }
}

impl Question {
    /// The role asked for in the login.
    #[must_use]
    pub fn role(&self) -> &str {
        self.role.as_deref().unwrap_or("postgres")
    }

    /// What is asked of a database.
    pub(super) fn database(&self, id: &str) -> Result<Operation, QuestionError> {
        let (server, database) = id
            .split_once('/')
            .filter(|(server, database)| !server.is_empty() && !database.is_empty())
            .ok_or_else(|| wrong("database", format!("'{id}': write it as server/database")))?;
        let role: Arc<str> = self.role().into();
        let (action, context) = match (&self.sql, &self.understood, &self.login, self.cancel) {
            (Some(sql), None, None, false) => ("sql:statement", ("sql", sql.record(database, &role)?)),
            (None, Some(record), None, false) => ("sql:statement", ("sql", record.clone())),
            (None, None, login, false) => {
                let login = login.clone().unwrap_or_default();
                ("sql:connect", ("connect", login.record(database, &role)))
            }
            (None, None, None, true) => {
                let record = Value::record([
                    ("database", database.into()),
                    ("role", role.into()),
                    ("access", "read".into()),
                    ("complete", true.into()),
                ]);
                ("sql:cancel", ("cancel", record))
            }
            _ => {
                return Err(wrong(
                    "database",
                    "ask for one of `sql`, `login` and `cancel`, not several",
                ));
            }
        };
        Ok(Operation {
            id: OperationId::new(),
            protocol: "postgres",
            action,
            resource: Resource {
                kind: "Database",
                id: id.into(),
                attributes: Vec::new(),
                parents: vec![("DatabaseServer", server.into())],
            },
            destination: Destination {
                address: Ipv4Addr::new(192, 0, 2, 1).into(),
                port: 5432,
                name: None,
                name_verified: false,
            },
            context,
            recorded_context: None,
            recorded_resource: None,
            credential: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{fixture::set as policies, inputs},
        *,
    };
    use crate::model::{ClassTable, Effect};

    fn question(text: &str) -> Question {
        toml::from_str(text).unwrap()
    }

    fn context(text: &str) -> serde_json::Value {
        let asked = question(text).ask().unwrap();
        inputs(&asked.query(&ClassTable::new([]).unwrap()))
    }

    #[test]
    fn a_statement_is_a_plain_read_where_nothing_else_is_said() {
        let inputs = context("database = \"billing-db/app\"\nsql = {}");
        assert_eq!(inputs["action"], "sql:statement");
        assert_eq!(inputs["resource"]["id"], "billing-db/app");
        assert_eq!(inputs["resource"]["in"][0]["id"], "billing-db");
        let context = &inputs["context"];
        assert_eq!(
            (&context["access"], &context["complete"]),
            (&"read".into(), &true.into())
        );
        assert_eq!(context["destination"]["port"], 5432);
        let expected = serde_json::json!({
            "phase": "simple", "verbs": ["select"], "reads": [], "writes": [], "read_schemas": [],
            "write_schemas": [], "columns": [], "sensitive": [], "functions": [], "database": "app",
            "role": "postgres", "transaction": "idle", "statements": 1, "incomplete": [],
        });
        assert_eq!(context["sql"], expected);
    }

    #[test]
    fn what_is_left_out_follows_from_what_is_there() {
        let text = "database = \"s/d\"\nrole = \"svc\"\nsql = { verbs = [\"update\", \"select\"], reads = [\"b.t\", \"a.t\", \"a.u\"], writes = [\"c.t\"], has_where = false }";
        let context = &context(text)["context"];
        assert_eq!(context["access"], "write");
        assert_eq!(context["sql"]["reads"], serde_json::json!(["a.t", "a.u", "b.t"]));
        assert_eq!(context["sql"]["read_schemas"], serde_json::json!(["a", "b"]));
        assert_eq!(context["sql"]["write_schemas"], serde_json::json!(["c"]));
        assert_eq!(context["sql"]["has_where"], false);
        assert_eq!(context["sql"]["role"], "svc");
        for (sql, access, complete) in [
            ("{ verbs = [\"drop\"] }", "admin", true),
            ("{ writes = [\"a.t\"] }", "write", true),
            ("{ access = \"admin\" }", "admin", true),
            ("{ incomplete = [\"dynamic\"] }", "write", false),
            (
                "{ incomplete = [\"dynamic\"], access = \"admin\" }",
                "admin",
                false,
            ),
            ("{ complete = false }", "write", false),
        ] {
            let context = &self::context(&format!("database = \"s/d\"\nsql = {sql}"))["context"];
            assert_eq!(context["access"], access, "{sql}");
            assert_eq!(context["complete"], complete, "{sql}");
        }
    }

    #[test]
    fn a_login_and_a_cancel_request_are_asked_for() {
        let inputs =
            context("database = \"s/d\"\nrole = \"svc\"\nlogin = { application = \"psql\", tls = false }");
        assert_eq!(inputs["action"], "sql:connect");
        assert_eq!(inputs["context"]["access"], "read");
        let expected = serde_json::json!({
            "database": "d", "role": "svc", "replication": false, "application": "psql", "brokered": true, "tls": false,
        });
        assert_eq!(inputs["context"]["connect"], expected);
        assert_eq!(context("database = \"s/d\"")["action"], "sql:connect");
        let inputs = context("database = \"s/d\"\nlogin = { replication = true }");
        assert_eq!(inputs["context"]["access"], "admin");
        let inputs = context("database = \"s/d\"\ncancel = true");
        assert_eq!(inputs["action"], "sql:cancel");
        assert_eq!(inputs["context"]["access"], "read");
    }

    #[test]
    fn questions_are_what_policies_are_asked() {
        let set = policies(
            "permit(principal, action == Action::\"sql:statement\", resource in DatabaseServer::\"s\")
            when { context.sql == context.sql && context.complete };
            permit(principal, action == Action::\"sql:connect\", resource == Database::\"s/d\")
            when { context.connect == context.connect };
            permit(principal, action == Action::\"sql:cancel\", resource)
            when { context.cancel == context.cancel };",
        );
        let effect = |text: &str| {
            let asked = question(text).ask().unwrap();
            set.decide(&asked.query(&ClassTable::new([]).unwrap())).effect
        };
        assert_eq!(effect("database = \"s/d\"\nsql = {}"), Effect::Allow);
        assert_eq!(
            effect("database = \"s/d\"\nsql = { has_where = true }"),
            Effect::Allow
        );
        assert_eq!(effect("database = \"s/d\""), Effect::Allow);
        assert_eq!(
            effect("database = \"s/d\"\nlogin = { application = \"a\" }"),
            Effect::Allow
        );
        assert_eq!(effect("database = \"s/d\"\ncancel = true"), Effect::Allow);
        assert_eq!(effect("database = \"t/d\"\nsql = {}"), Effect::Deny);
        assert_eq!(effect("database = \"s/e\""), Effect::Deny);
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        for (text, part) in [
            ("database = \"app\"\nsql = {}", "server/database"),
            ("database = \"/app\"\nsql = {}", "server/database"),
            ("database = \"s/d\"\nsql = { reads = [\"t\"] }", "public.t"),
            ("database = \"s/d\"\nsql = {}\ncancel = true", "not several"),
            (
                "database = \"s/d\"\nsql = {}\nurl = \"https://a/\"",
                "not several",
            ),
            ("sql = {}", "database"),
            ("role = \"a\"\nurl = \"https://a/\"", "database"),
        ] {
            let error = question(text).ask().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        for text in [
            "database = \"s/d\"\nsql = { read = [\"a.t\"] }",
            "database = \"s/d\"\nsql = { access = \"reed\" }",
            "database = \"s/d\"\nlogin = { user = \"a\" }",
        ] {
            assert!(toml::from_str::<Question>(text).is_err(), "{text}");
        }
    }
}
