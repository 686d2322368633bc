//! The services that are known: their endpoints, signing names, X-Amz-Target prefixes and IAM prefixes.

use std::{collections::BTreeMap, sync::LazyLock};

/// One endpoint of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// What its host names begin with: `api.ecr`.
    pub endpoint: &'static str,
    /// What requests are signed for.
    pub signing: &'static str,
    /// What stands before the operation in X-Amz-Target.
    pub target: Option<&'static str>,
    /// What stands before the operation in policies: `ecr`.
    pub iam: &'static str,
}

/// As it is in the program; made by `data/generate.py`.
const TEXT: &str = include_str!("data/services.tsv");

static SERVICES: LazyLock<Services> = LazyLock::new(|| {
    let mut services = Services::default();
    for line in TEXT.lines().filter(|l| !l.starts_with('#')) {
        let mut fields = line.split('\t');
        let mut next = || fields.next().unwrap_or_default();
        let service = Service {
            endpoint: next(),
            signing: next(),
            target: Some(next()).filter(|t| *t != "-"),
            iam: next(),
        };
        services.by_endpoint.entry(service.endpoint).or_insert(service);
        services.by_signing.entry(service.signing).or_insert(service);
        if let Some(target) = service.target {
            services.by_target.entry(target).or_default().push(service);
        }
    }
    services
});

#[derive(Default)]
struct Services {
    by_endpoint: BTreeMap<&'static str, Service>,
    by_signing: BTreeMap<&'static str, Service>,
    by_target: BTreeMap<&'static str, Vec<Service>>,
}

/// Other names of endpoints: regional ones of old, dual-stack ones, and those that the models do not list.
const ALIASES: [(&str, &str); 10] = [
    ("queue", "sqs"),
    ("ddb", "dynamodb"),
    ("data.iot", "data-ats.iot"),
    ("iot-data", "data-ats.iot"),
    ("ecr", "api.ecr"),
    ("pricing", "api.pricing"),
    ("sagemaker", "api.sagemaker"),
    ("ses", "email"),
    ("email-smtp", "email"),
    ("cloudwatch", "monitoring"),
];

/// The service of an endpoint's name.
pub fn by_endpoint(name: &str) -> Option<Service> {
    let services = &SERVICES.by_endpoint;
    let alias = || ALIASES.iter().find(|(alias, _)| *alias == name);
    let found = services.get(name).or_else(|| services.get(alias()?.1));
    found.copied()
}

/// A service by what requests to it are signed for.
pub fn by_signing(name: &str) -> Option<Service> {
    SERVICES.by_signing.get(name).copied()
}

/// Those whose operations are named with this prefix.
pub fn by_target(prefix: &str) -> &'static [Service] {
    SERVICES.by_target.get(prefix).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_found() {
        assert_eq!(by_endpoint("monitoring").unwrap().iam, "cloudwatch");
        assert_eq!(by_endpoint("api.ecr").unwrap().signing, "ecr");
        assert_eq!(by_endpoint("ddb").unwrap().signing, "dynamodb");
        assert_eq!(by_endpoint("email").unwrap().signing, "ses");
        assert_eq!(by_signing("s3").unwrap().iam, "s3");
        assert_eq!(by_target("DynamoDB_20120810")[0].signing, "dynamodb");
        assert!(by_target("Nothing").is_empty() && by_endpoint("elb").is_none());
        for (_, endpoint) in ALIASES {
            assert!(SERVICES.by_endpoint.contains_key(endpoint), "{endpoint}");
        }
        assert!(SERVICES.by_endpoint.len() > 380);
    }
}
