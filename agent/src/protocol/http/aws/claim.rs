//! Whether a request is one to AWS, and to which service.

use super::{
    Ambiguity,
    auth::{self, Auth},
    endpoint::{self, Plane},
    params::Params,
    table,
};
use crate::protocol::http::request::Request;

/// What the configuration says of an endpoint that the agent signs for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Custom {
    /// `service`
    pub service: Option<String>,
    /// `region`
    pub region: Option<String>,
}

/// A request to AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What it is, or will be, signed for.
    pub service: String,
    /// What stands before the operation in policies.
    pub iam: String,
    /// Where: by the configuration, the host, or the workload's own signature.
    pub region: Option<String>,
    /// The bucket, access point or API in the host.
    pub bucket: Option<String>,
    /// The account in the host.
    pub account: Option<String>,
    /// How it is read.
    pub plane: Plane,
    /// How the workload signed it.
    pub auth: Auth,
}

/// Whether a request is one to AWS: by its host, or because the agent signs for it.
///
/// # Errors
/// When its signature or query can be read in two ways.
pub fn claim(request: &Request, custom: Option<&Custom>) -> Result<Option<Claim>, Ambiguity> {
    let endpoint = endpoint::of(&request.host);
    if endpoint.is_none() && custom.is_none() {
        return Ok(None);
    }
    let query = Params::parse(request.target.query.as_deref().unwrap_or(""))?;
    let auth = auth::of(request, &query)?;
    let none = Custom::default();
    let custom = custom.unwrap_or(&none);
    let said = |own: Option<String>| custom.region.clone().or(own).or_else(|| auth.region.clone());
    if let Some(endpoint) = endpoint {
        return Ok(Some(Claim {
            region: said(endpoint.region),
            service: endpoint.service,
            iam: endpoint.iam,
            bucket: endpoint.bucket,
            account: endpoint.account,
            plane: endpoint.plane,
            auth,
        }));
    }
    let service = custom.service.clone().or_else(|| auth.service.clone());
    let service = service.or_else(|| by_target(request)).unwrap_or_default();
    let known = table::by_signing(&service);
    Ok(Some(Claim {
        region: said(None),
        iam: known.map_or_else(|| service.clone(), |s| s.iam.to_owned()),
        bucket: None,
        account: None,
        plane: match service.as_str() {
            "s3" if request.target.wire().starts_with("/v20180820/") => Plane::Unknown,
            "s3" | "s3-object-lambda" | "s3-outposts" => Plane::S3,
            "s3express" => Plane::S3Express,
            "execute-api" => Plane::UserApi,
            _ if known.is_some() => Plane::Api,
            _ => Plane::Unknown,
        },
        service,
        auth,
    }))
}

/// The service of `X-Amz-Target`, where only one has such operations.
fn by_target(request: &Request) -> Option<String> {
    let header = request
        .head()
        .headers()
        .find(|h| h.name.eq_ignore_ascii_case("x-amz-target"))?;
    let (prefix, _) = std::str::from_utf8(header.value).ok()?.rsplit_once('.')?;
    let services = table::by_target(prefix);
    let first = services.first()?;
    services
        .iter()
        .all(|s| s.signing == first.signing)
        .then(|| first.signing.to_owned())
}
