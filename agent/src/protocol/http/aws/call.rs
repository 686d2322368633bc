//! What a request asks of AWS, put together from what its service's protocol says.

use std::{borrow::Cow, collections::BTreeSet};

use super::{Ambiguity, Body, Claim, endpoint::Plane, params::Params, resource, rest, s3, table};
use crate::{
    model::{AwsClass, aws_class},
    protocol::http::request::Request,
};

/// Why a call is not understood as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Which operation it is.
    Operation,
    /// Which service it is.
    Service,
    /// A parameter that is not known.
    Parameter,
    /// Its path can be read in two ways.
    Path,
    /// The body, where what it says is said.
    Body,
    /// A form, with key and signature inside of it.
    Form,
    /// The keys of what it deletes are in its body.
    Keys,
    /// What it does is in a language or program that is not read.
    Language,
    /// It is for somebody's own API.
    Opaque,
}

impl Why {
    /// The word in policies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operation => "unknown_operation",
            Self::Service => "unknown_service",
            Self::Parameter => "unknown_parameter",
            Self::Path => "path",
            Self::Body => "body",
            Self::Form => "form",
            Self::Keys => "keys_in_body",
            Self::Language => "language",
            Self::Opaque => "opaque",
        }
    }
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The service, by IAM's prefix.
    pub service: String,
    /// Where.
    pub region: Option<String>,
    /// Whose, where the request says so.
    pub account: Option<String>,
    /// The operation's name; `unknown` where it is not known.
    pub name: Cow<'static, str>,
    /// What kind it is.
    pub class: AwsClass,
    /// What it names: `bucket/key`, a table, a function.
    pub resources: BTreeSet<String>,
    /// Why it is not understood as a whole.
    pub why: BTreeSet<Why>,
}

impl Call {
    /// A call of a service, of which nothing is known yet.
    fn new(claim: &Claim) -> Self {
        let mut call = Self {
            service: claim.iam.clone(),
            region: claim.region.clone(),
            account: claim.account.clone(),
            name: Cow::Borrowed("unknown"),
            class: aws_class(&claim.iam, "unknown"),
            resources: BTreeSet::new(),
            why: BTreeSet::new(),
        };
        if matches!(claim.plane, Plane::Unknown) {
            call.unsure(Why::Service);
        }
        call
    }

    /// `ec2:RunInstances`
    #[must_use]
    pub fn action(&self) -> String {
        format!("{}:{}", self.service, self.name)
    }

    /// Whether all of it is understood.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.why.is_empty()
    }

    /// Says what it is.
    pub(super) fn operation(&mut self, name: impl Into<Cow<'static, str>>) {
        self.name = name.into();
        self.class = aws_class(&self.service, &self.name);
        if self.class.open {
            self.unsure(Why::Language);
        }
    }

    /// Says what is not understood.
    pub(super) fn unsure(&mut self, why: Why) {
        self.why.insert(why);
    }

    /// Names what it is about.
    pub(super) fn resource(&mut self, name: &str) {
        let name = resource::plain(&self.service, name, &mut self.account);
        self.resources.extend((!name.is_empty()).then_some(name));
    }

    /// Names something else that it is about.
    pub(super) fn more(&mut self, name: &str) {
        self.resource(name);
    }
}

/// Whether what a request does is in its body.
#[must_use]
pub fn needs_body(claim: &Claim, request: &Request) -> bool {
    let api = matches!(claim.plane, Plane::Api | Plane::Unknown);
    api && request.has_body()
        && (is_root(claim, request.target.wire()) || target(request).is_ok_and(|t| t.is_some()))
}

/// Whether its service answers in JSON.
pub(super) fn is_json(claim: &Claim, request: &Request) -> bool {
    !is_root(claim, request.target.wire()) || target(request).is_ok_and(|t| t.is_some())
}

/// Reads a request.
///
/// # Errors
/// When servers could take it for different operations.
pub fn read(claim: &Claim, request: &Request, body: Body<'_>) -> Result<Call, Ambiguity> {
    let query = Params::parse(request.target.query.as_deref().unwrap_or(""))?;
    let mut call = Call::new(claim);
    let method = request.method.as_str();
    let target = target(request)?;
    match claim.plane {
        Plane::S3 | Plane::S3Express if target.is_some() => Err(Ambiguity::Target),
        Plane::S3 | Plane::S3Express => s3::read(request, &query, claim.bucket.as_deref(), &mut call),
        Plane::UserApi => {
            call.operation("Invoke");
            call.unsure(Why::Opaque);
            if let Some(api) = &claim.bucket {
                call.resource(api);
            }
            Ok(())
        }
        Plane::Search => {
            let mut word = method.to_ascii_lowercase();
            if let Some(first) = word.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            call.operation(format!("ESHttp{word}"));
            Ok(())
        }
        Plane::Api | Plane::Unknown => api(claim, request, &query, target, body, &mut call),
    }?;
    Ok(call)
}

fn api(
    claim: &Claim,
    request: &Request,
    query: &Params<'_>,
    target: Option<&str>,
    body: Body<'_>,
    call: &mut Call,
) -> Result<(), Ambiguity> {
    let path = request.target.wire();
    let root = is_root(claim, path);
    let action = query.only("Action")?;
    if let Some(target) = target {
        // A service that is addressed by path may not look at the target, and the other way round.
        if action.is_some() || !root {
            return Err(Ambiguity::Target);
        }
        return by_target(claim, request, target, body, call);
    }
    if let Some((service, operation)) = rpc(path) {
        if action.is_some() {
            return Err(Ambiguity::Action);
        }
        by_prefix(claim, service, call)?;
        return by_name(operation, call).map(|()| {
            // CBOR is not read: what it is about stays unsaid.
            call.unsure(Why::Body);
        });
    }
    if root {
        return by_action(claim, request, query, action, body, call);
    }
    // `Action` beside a path: services of the query protocol take it at any path.
    if action.is_some() && !rest::has(&claim.service) {
        return Err(Ambiguity::Action);
    }
    match rest::find(&claim.service, &request.method, path, query) {
        rest::Found::One(operation, label) => {
            // IAM calls it by another name.
            let name = match (claim.iam.as_str(), operation) {
                ("lambda", "Invoke") => "InvokeFunction",
                _ => operation,
            };
            call.operation(name);
            if let Some(label) = label {
                call.resource(&label);
            }
        }
        rest::Found::Unsure => call.unsure(Why::Operation),
    }
    // A server that decodes slashes first sees another path. ARNs have them, and are one label everywhere.
    if request.target.encoded_slash && !path.contains("arn%3A") {
        call.unsure(Why::Path);
    }
    Ok(())
}

/// JSON: `X-Amz-Target: DynamoDB_20120810.GetItem`.
fn by_target(
    claim: &Claim,
    request: &Request,
    target: &str,
    body: Body<'_>,
    call: &mut Call,
) -> Result<(), Ambiguity> {
    let (prefix, operation) = target.rsplit_once('.').ok_or(Ambiguity::Target)?;
    by_prefix(claim, prefix, call)?;
    by_name(operation, call)?;
    if request.method != "POST" {
        call.unsure(Why::Operation);
    }
    let json = request
        .content_type
        .as_deref()
        .is_some_and(|t| t.to_ascii_lowercase().starts_with("application/x-amz-json-1."));
    match body {
        Body::Bytes(bytes) if json => resource::of_json(&claim.service, bytes, call),
        Body::None => {}
        _ => call.unsure(Why::Body),
    }
    Ok(())
}

/// Whether a prefix of operations is the claimed service's.
fn by_prefix(claim: &Claim, prefix: &str, call: &mut Call) -> Result<(), Ambiguity> {
    let services = table::by_target(prefix);
    if services.iter().any(|s| s.signing == claim.service) {
        return Ok(());
    }
    if !services.is_empty() && !matches!(claim.plane, Plane::Unknown) {
        // It names an operation of another service than it is sent to.
        return Err(Ambiguity::Service);
    }
    call.unsure(Why::Service);
    Ok(())
}

/// Query and EC2: `Action=RunInstances`, in the query or in a form.
fn by_action(
    claim: &Claim,
    request: &Request,
    query: &Params<'_>,
    action: Option<&str>,
    body: Body<'_>,
    call: &mut Call,
) -> Result<(), Ambiguity> {
    let form_type = request.content_type.as_deref().is_some_and(|t| {
        t.to_ascii_lowercase()
            .starts_with("application/x-www-form-urlencoded")
    });
    let text;
    let form = match body {
        Body::None => Params::default(),
        Body::Bytes(bytes) if form_type => {
            text = std::str::from_utf8(bytes).map_err(|_| Ambiguity::Parameters)?;
            Params::parse(text)?
        }
        _ => {
            call.unsure(Why::Body);
            Params::default()
        }
    };
    let in_form = form.only("Action")?;
    // A signature in the form would not be replaced.
    if form.iter().any(|(name, _)| super::auth::is_trace(name)) {
        return Err(Ambiguity::Signature);
    }
    let (action, params) = match (action, in_form) {
        (Some(_), Some(_)) => return Err(Ambiguity::Action),
        (Some(action), None) => (action, query),
        (None, Some(action)) => (action, &form),
        (None, None) => {
            if let rest::Found::One(operation, _) = rest::find(&claim.service, &request.method, "/", query) {
                call.operation(operation);
            } else {
                call.unsure(Why::Operation);
            }
            return Ok(());
        }
    };
    if !matches!(request.method.as_str(), "GET" | "POST") {
        call.unsure(Why::Operation);
    }
    by_name(action, call)?;
    resource::of_params(&claim.service, params, call);
    // Parameters on both sides: which of them count is for the server to know.
    let both = query.iter().any(|(n, _)| !super::auth::is_trace(n)) && form.iter().next().is_some();
    if both {
        call.unsure(Why::Parameter);
    }
    if claim.service == "sqs" && request.target.wire() != "/" {
        call.resource(&request.target.path);
    }
    Ok(())
}

fn by_name(name: &str, call: &mut Call) -> Result<(), Ambiguity> {
    let fits = (1..=128).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric());
    if !fits || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err(Ambiguity::Action);
    }
    // Should a server not mind the case, the words would be read wrongly.
    if !name.starts_with(|c: char| c.is_ascii_uppercase()) {
        return Err(Ambiguity::Action);
    }
    call.operation(name.to_owned());
    Ok(())
}

/// `/service/GraniteServiceVersion20100801/operation/PutMetricData`
fn rpc(path: &str) -> Option<(&str, &str)> {
    let (service, operation) = path.strip_prefix("/service/")?.split_once("/operation/")?;
    (!service.contains('/') && !operation.contains('/')).then_some((service, operation))
}

/// Whether a path is the one that calls by name are sent to. A queue's is its address.
fn is_root(claim: &Claim, path: &str) -> bool {
    let queue = |path: &str| {
        let mut parts = path.trim_start_matches('/').split('/');
        let account = parts.next().unwrap_or("");
        account.len() == 12
            && account.bytes().all(|b| b.is_ascii_digit())
            && parts.next().is_some()
            && parts.next().is_none()
    };
    path == "/" || (claim.service == "sqs" && queue(path))
}

/// `X-Amz-Target`
fn target(request: &Request) -> Result<Option<&str>, Ambiguity> {
    let mut found = None;
    for header in request.head().headers() {
        let name = header.name;
        // CGI-like servers read '_' and '-' as one.
        if !name.eq_ignore_ascii_case("x-amz-target") {
            if name.replace('_', "-").eq_ignore_ascii_case("x-amz-target") {
                return Err(Ambiguity::Target);
            }
            continue;
        }
        if found.is_some() {
            return Err(Ambiguity::Repeated("X-Amz-Target"));
        }
        found = Some(std::str::from_utf8(header.value).map_err(|_| Ambiguity::Target)?);
    }
    Ok(found)
}
