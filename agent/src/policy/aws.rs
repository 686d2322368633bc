//! A question about AWS, as people write it: `aws = { call = "s3:GetObject", resource = "bucket/key" }`.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use serde::Deserialize;

use super::{QuestionError, database::Word, question::wrong};
use crate::model::{Destination, Operation, OperationId, Resource, Value, aws_class};

/// `aws` of a question: one call, as `context.aws` has it. What is left out follows from the operation's name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// `service:Operation`, as IAM calls it.
    pub call: Arc<str>,
    /// What it names, where that is one thing: `bucket/key`.
    #[serde(default)]
    pub resource: Option<Arc<str>>,
    /// All that it names, where that is more.
    #[serde(default)]
    pub resources: BTreeSet<Arc<str>>,
    /// `eu-west-1` when empty.
    #[serde(default = "region")]
    pub region: Arc<str>,
    /// The account, where the request says which.
    #[serde(default)]
    pub account: Option<Arc<str>>,
    /// By the name when empty.
    #[serde(default)]
    pub access: Option<Word>,
    /// By the name when empty.
    #[serde(default)]
    pub destructive: Option<bool>,
    /// By the name when empty.
    #[serde(default)]
    pub spend: Option<bool>,
    /// By the name when empty.
    #[serde(default)]
    pub secret: Option<bool>,
    /// Why it is not complete; by the name when empty.
    #[serde(default)]
    pub incomplete: Option<BTreeSet<Arc<str>>>,
    /// True when empty.
    #[serde(default = "yes")]
    pub brokered: bool,
    /// `header` when empty.
    #[serde(default = "header")]
    pub signed: Arc<str>,
    /// `POST` when empty.
    #[serde(default = "post")]
    pub method: Arc<str>,
    /// `service.region.amazonaws.com` when empty.
    #[serde(default)]
    pub host: Option<Arc<str>>,
    /// `/` when empty.
    #[serde(default = "root")]
    pub path: Arc<str>,
    /// True when empty.
    #[serde(default = "yes")]
    pub host_verified: bool,
}

fn region() -> Arc<str> {
    "eu-west-1".into()
}
fn header() -> Arc<str> {
    "header".into()
}
fn post() -> Arc<str> {
    "POST".into()
}
fn root() -> Arc<str> {
    "/".into()
}
fn yes() -> bool {
    true
}

impl Call {
    /// One of which nothing but the name is said, and what it names.
    #[must_use]
    pub fn new(call: &str, resource: Option<&str>) -> Self {
        Self {
            call: call.into(),
            resource: resource.map(Into::into),
            resources: BTreeSet::new(),
            region: region(),
            account: None,
            access: None,
            destructive: None,
            spend: None,
            secret: None,
            incomplete: None,
            brokered: true,
            signed: header(),
            method: post(),
            host: None,
            path: root(),
            host_verified: true,
        }
    }

    /// What is asked.
    pub(super) fn operation(&self) -> Result<Operation, QuestionError> {
        let parts = self
            .call
            .split_once(':')
            .filter(|(s, n)| !s.is_empty() && !n.is_empty());
        let (service, name) = parts.ok_or_else(|| {
            wrong(
                "call",
                format!("'{}': write it as IAM does, as s3:GetObject", self.call),
            )
        })?;
        if self.resource.is_some() && !self.resources.is_empty() {
            return Err(wrong("aws", "give one of `resource` and `resources`, not both"));
        }
        let named: Vec<&Arc<str>> = self.resource.iter().chain(&self.resources).collect();
        let one = named.first().filter(|_| named.len() == 1);
        let host = self
            .host
            .clone()
            .unwrap_or_else(|| format!("{service}.{}.amazonaws.com", self.region).into());
        Ok(Operation {
            id: OperationId::new(),
            protocol: "http",
            action: "aws:call",
            resource: resource(service, one.map(|r| &***r)),
            destination: Destination {
                address: Ipv4Addr::new(192, 0, 2, 1).into(),
                port: 443,
                name: Some(host.clone()),
                name_verified: self.host_verified,
            },
            context: ("aws", self.record(service, name, &named, host)),
            recorded_context: None,
            recorded_resource: None,
            credential: None,
        })
    }

    fn record(&self, service: &str, name: &str, named: &[&Arc<str>], host: Arc<str>) -> Value {
        let class = aws_class(service, name);
        let words = |words: &mut dyn Iterator<Item = Arc<str>>| Value::Set(words.map(Value::from).collect());
        let unsure = self.incomplete.clone().unwrap_or_else(|| {
            let word: Option<Arc<str>> = class.open.then(|| "language".into());
            word.into_iter().collect()
        });
        let access = self.access.map_or(class.access, Into::into);
        let mut record = Value::record([
            ("service", service.into()),
            ("region", self.region.clone().into()),
            ("action", self.call.clone().into()),
            ("access", access.as_str().into()),
            ("complete", unsure.is_empty().into()),
            (
                "destructive",
                self.destructive.unwrap_or(class.destructive).into(),
            ),
            ("spend", self.spend.unwrap_or(class.spend).into()),
            ("secret", self.secret.unwrap_or(class.secret).into()),
            ("resources", words(&mut named.iter().map(|n| Arc::clone(n)))),
            ("incomplete", words(&mut unsure.iter().cloned())),
            ("brokered", self.brokered.into()),
            ("signed", self.signed.clone().into()),
            ("method", self.method.clone().into()),
            ("host", host.into()),
            ("path", self.path.clone().into()),
            ("host_verified", self.host_verified.into()),
        ]);
        if let Value::Record(record) = &mut record {
            record.extend(self.account.clone().map(|a| ("account", a.into())));
            if let [one] = named {
                record.insert("resource", (*one).clone().into());
            }
        }
        record
    }
}

fn resource(service: &str, one: Option<&str>) -> Resource {
    let (kind, id, mut parents) = match one {
        None => ("AwsService", service.to_owned(), Vec::new()),
        Some(name) => {
            let within = vec![("AwsService", service.into())];
            ("AwsResource", format!("{service}/{name}"), within)
        }
    };
    if let Some((bucket, _)) = one
        .filter(|_| service.starts_with("s3"))
        .and_then(|n| n.split_once('/'))
    {
        parents.insert(0, ("AwsResource", format!("{service}/{bucket}").into()));
    }
    Resource {
        kind,
        id: id.into(),
        attributes: Vec::new(),
        parents,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Question, inputs};
    use crate::model::ClassTable;

    fn asked(text: &str) -> serde_json::Value {
        let question: Question = toml::from_str(text).unwrap();
        inputs(&question.ask().unwrap().query(&ClassTable::new([]).unwrap()))
    }

    #[test]
    fn what_is_left_out_follows_from_the_name() {
        let asked = asked("aws = { call = \"s3:DeleteObject\", resource = \"b/k\" }");
        assert_eq!(asked["action"], "aws:call");
        assert_eq!(asked["resource"]["id"], "s3/b/k");
        assert_eq!(asked["resource"]["in"][0]["id"], "s3/b");
        assert_eq!(asked["resource"]["in"][1]["id"], "s3");
        let context = &asked["context"];
        assert_eq!(
            (&context["access"], &context["complete"]),
            (&"admin".into(), &true.into())
        );
        assert_eq!(context["aws"]["destructive"], true);
        assert_eq!(context["aws"]["host"], "s3.eu-west-1.amazonaws.com");
    }

    #[test]
    fn what_is_in_a_language_is_not_complete() {
        let asked = asked("aws = { call = \"cloudformation:CreateStack\" }");
        assert_eq!(asked["resource"]["type"], "AwsService");
        assert_eq!(asked["context"]["complete"], false);
        assert_eq!(asked["context"]["aws"]["incomplete"][0], "language");
    }

    #[test]
    fn mistakes_are_named() {
        for text in [
            "aws = { call = \"GetObject\" }",
            "aws = { call = \"s3:GetObject\", resource = \"a\", resources = [\"b\"] }",
            "url = \"https://a/\"\naws = { call = \"s3:GetObject\" }",
        ] {
            let question: Question = toml::from_str(text).unwrap();
            assert!(question.ask().is_err(), "{text}");
        }
    }
}
