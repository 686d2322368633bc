//! AWS's own host names: which service, region and bucket they are for.

use super::table;

/// What a host name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// What requests are signed for: `ec2`, `s3`.
    pub service: String,
    /// What stands before the operation in policies.
    pub iam: String,
    /// `eu-west-1`; none in the name of a global endpoint.
    pub region: Option<String>,
    /// The bucket or access point in the name.
    pub bucket: Option<String>,
    /// The account in the name.
    pub account: Option<String>,
    /// How its requests are read.
    pub plane: Plane,
}

/// How requests to an endpoint are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// A service's API: by target, Action or path.
    Api,
    /// S3's buckets and objects.
    S3,
    /// S3's directory buckets, whose sessions have keys of their own.
    S3Express,
    /// Somebody's API behind API Gateway.
    UserApi,
    /// The documents of a search domain.
    Search,
    /// An endpoint of AWS that is not known.
    Unknown,
}

/// Suffixes of AWS's own endpoints.
const SUFFIXES: [&str; 6] = [
    ".amazonaws.com",
    ".amazonaws.com.cn",
    ".api.aws",
    ".api.amazonwebservices.com.cn",
    ".amazonaws.eu",
    ".api.amazonwebservices.eu",
];

/// Hosts below those suffixes that are not AWS's API but what customers run, or registries with logins of their own.
const CUSTOMERS: [&str; 9] = [
    "elb",
    "compute",
    "compute-1",
    "rds",
    "cache",
    "elasticbeanstalk",
    "redshift",
    "dkr",
    "docdb",
];

/// What a host in lower case says; none for one that is not an endpoint of AWS.
#[must_use]
pub fn of(host: &str) -> Option<Endpoint> {
    let name = SUFFIXES.iter().find_map(|s| host.strip_suffix(s))?;
    let labels: Vec<&str> = name.split('.').filter(|l| !l.is_empty()).collect();
    if labels.is_empty() {
        return None;
    }
    if let Some(at) = labels.iter().rposition(|l| is_s3(l)) {
        return s3(&labels, at);
    }
    let at = labels.iter().rposition(|l| is_region(l));
    // What is on the right of the region is the service in names of old; on the left it is otherwise.
    let (left, region) = match at {
        Some(0) if labels.len() > 1 => (&labels[1..], Some(labels[0])),
        Some(at) => (&labels[..at], Some(labels[at])),
        None => (&labels[..], None),
    };
    if let Some(kind) = at
        .and_then(|at| labels.get(at + 1))
        .filter(|l| matches!(**l, "es" | "aoss"))
    {
        return Some(Endpoint {
            service: (*kind).to_owned(),
            iam: (*kind).to_owned(),
            region: region.map(str::to_owned),
            bucket: None,
            account: None,
            plane: Plane::Search,
        });
    }
    let says = |l: &&str| {
        !matches!(*l, "dualstack" | "fips" | "vpce") && !l.starts_with("vpce-") && Some(*l) != region
    };
    let left: Vec<&str> = left.iter().copied().filter(says).collect();
    let all = labels.iter().copied().filter(says).count();
    // A customer's server has its name in front of these; `rds.REGION` and `redshift.REGION` alone are the API.
    let website = labels.iter().any(|l| l.starts_with("s3-website"));
    if website || (all > 1 && labels.iter().any(|l| CUSTOMERS.contains(l))) {
        return None;
    }
    Some(api(&left, region))
}

fn api(left: &[&str], region: Option<&str>) -> Endpoint {
    let mut endpoint = Endpoint {
        service: left.last().map_or_else(String::new, |l| plain(l)),
        iam: String::new(),
        region: region.map(str::to_owned),
        bucket: None,
        account: None,
        plane: Plane::Unknown,
    };
    endpoint.iam.clone_from(&endpoint.service);
    match endpoint.service.as_str() {
        "execute-api" => endpoint.plane = Plane::UserApi,
        _ => {
            // The longest that is known: `runtime.sagemaker` before `sagemaker`.
            for start in 0..left.len() {
                let tail: Vec<String> = left[start..].iter().map(|l| plain(l)).collect();
                let Some(service) = table::by_endpoint(&tail.join(".")) else {
                    continue;
                };
                service.signing.clone_into(&mut endpoint.service);
                service.iam.clone_into(&mut endpoint.iam);
                endpoint.plane = Plane::Api;
                endpoint.account = left[..start]
                    .iter()
                    .find(|l| is_account(l))
                    .map(|l| (*l).to_owned());
                break;
            }
        }
    }
    endpoint
}

fn s3(labels: &[&str], at: usize) -> Option<Endpoint> {
    let word = labels[at];
    if word.starts_with("s3-website") {
        return None;
    }
    let mut region = labels[at + 1..]
        .iter()
        .find(|l| is_region(l))
        .map(|l| (*l).to_owned());
    let before = labels[..at].iter().copied().filter(|l| !l.starts_with("vpce-"));
    let mut before: Vec<&str> = before.collect();
    // In names of VPC endpoints it says what kind of name stands in front.
    if labels.iter().any(|l| l.starts_with("vpce-")) {
        if matches!(before.last(), Some(&("bucket" | "accesspoint" | "control"))) {
            before.pop();
        } else if before.is_empty() {
            return None;
        }
    }
    let kind = word.strip_prefix("s3-").unwrap_or("").trim_end_matches("-fips");
    let (mut service, mut plane) = ("s3", Plane::S3);
    let mut account = None;
    match kind {
        "object-lambda" => service = "s3-object-lambda",
        "outposts" => service = "s3-outposts",
        "control" => {
            plane = Plane::Api;
            account = before.pop().map(str::to_owned);
        }
        "global" => {
            before.pop();
        }
        _ if is_region(kind) => region = Some(kind.to_owned()),
        _ if word.starts_with("s3express") => {
            service = "s3express";
            plane = Plane::S3Express;
        }
        _ => {}
    }
    Some(Endpoint {
        service: service.to_owned(),
        iam: service.to_owned(),
        region,
        bucket: (!before.is_empty()).then(|| before.join(".")),
        account,
        plane,
    })
}

fn is_s3(label: &str) -> bool {
    label == "s3" || label.starts_with("s3express-") || (label.starts_with("s3-") && s3_word(&label[3..]))
}

/// What may follow `s3-` in an endpoint's name. A bucket may be called `s3-anything`, but then `s3` follows it.
fn s3_word(word: &str) -> bool {
    const WORDS: [&str; 10] = [
        "fips",
        "accelerate",
        "accesspoint",
        "accesspoint-fips",
        "control",
        "control-fips",
        "object-lambda",
        "outposts",
        "global",
        "external-1",
    ];
    WORDS.contains(&word) || word.starts_with("website") || is_region(word) || word == "object-lambda-fips"
}

/// A label without what marks FIPS endpoints.
fn plain(label: &str) -> String {
    let label = label.strip_suffix("-fips").unwrap_or(label);
    label.strip_prefix("fips-").unwrap_or(label).to_owned()
}

fn is_account(label: &str) -> bool {
    label.len() == 12 && label.bytes().all(|b| b.is_ascii_digit())
}

/// `eu-west-1`, `us-gov-east-1`, `eusc-de-east-1`.
#[must_use]
pub fn is_region(label: &str) -> bool {
    let mut parts = label.split('-');
    let (first, last) = (parts.next().unwrap_or(""), parts.next_back().unwrap_or(""));
    let middle: Vec<&str> = parts.collect();
    (2..=4).contains(&first.len())
        && first.bytes().all(|b| b.is_ascii_lowercase())
        && (1..=2).contains(&last.len())
        && last.bytes().all(|b| b.is_ascii_digit())
        && (1..=3).contains(&middle.len())
        && middle
            .iter()
            .all(|m| m.len() >= 2 && m.bytes().all(|b| b.is_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// service, region, bucket, account
    type Parts<'a> = (&'a str, &'a str, &'a str, &'a str);

    #[test]
    fn hosts_are_read() {
        let cases: [(&str, Plane, Parts<'_>); 44] = [
            ("s3.amazonaws.com", Plane::S3, ("s3", "", "", "")),
            (
                "s3.eu-west-1.amazonaws.com",
                Plane::S3,
                ("s3", "eu-west-1", "", ""),
            ),
            (
                "s3-eu-west-1.amazonaws.com",
                Plane::S3,
                ("s3", "eu-west-1", "", ""),
            ),
            ("b.s3.amazonaws.com", Plane::S3, ("s3", "", "b", "")),
            (
                "b.s3.eu-west-1.amazonaws.com",
                Plane::S3,
                ("s3", "eu-west-1", "b", ""),
            ),
            (
                "b.s3-eu-west-1.amazonaws.com",
                Plane::S3,
                ("s3", "eu-west-1", "b", ""),
            ),
            (
                "a.b.s3.eu-west-1.amazonaws.com",
                Plane::S3,
                ("s3", "eu-west-1", "a.b", ""),
            ),
            (
                "x.s3.s3.eu-west-1.amazonaws.com",
                Plane::S3,
                ("s3", "eu-west-1", "x.s3", ""),
            ),
            (
                "s3-x.s3.eu-west-1.amazonaws.com",
                Plane::S3,
                ("s3", "eu-west-1", "s3-x", ""),
            ),
            (
                "s3-global.s3.us-east-1.amazonaws.com",
                Plane::S3,
                ("s3", "us-east-1", "s3-global", ""),
            ),
            (
                "s3.dualstack.us-east-1.amazonaws.com",
                Plane::S3,
                ("s3", "us-east-1", "", ""),
            ),
            (
                "b.s3.dualstack.us-east-1.amazonaws.com",
                Plane::S3,
                ("s3", "us-east-1", "b", ""),
            ),
            (
                "b.s3-fips.us-gov-west-1.amazonaws.com",
                Plane::S3,
                ("s3", "us-gov-west-1", "b", ""),
            ),
            (
                "b.s3-fips.dualstack.us-east-1.amazonaws.com",
                Plane::S3,
                ("s3", "us-east-1", "b", ""),
            ),
            ("b.s3-accelerate.amazonaws.com", Plane::S3, ("s3", "", "b", "")),
            (
                "b.s3-accelerate.dualstack.amazonaws.com",
                Plane::S3,
                ("s3", "", "b", ""),
            ),
            (
                "ap-1.s3-accesspoint.eu-west-1.amazonaws.com",
                Plane::S3,
                ("s3", "eu-west-1", "ap-1", ""),
            ),
            (
                "m.accesspoint.s3-global.amazonaws.com",
                Plane::S3,
                ("s3", "", "m", ""),
            ),
            (
                "x.s3-object-lambda.eu-west-1.amazonaws.com",
                Plane::S3,
                ("s3-object-lambda", "eu-west-1", "x", ""),
            ),
            (
                "b.bucket.vpce-1a-2b.s3.eu-west-1.vpce.amazonaws.com",
                Plane::S3,
                ("s3", "eu-west-1", "b", ""),
            ),
            (
                "bucket.vpce-1a-2b.s3.eu-west-1.vpce.amazonaws.com",
                Plane::S3,
                ("s3", "eu-west-1", "", ""),
            ),
            (
                "123456789012.s3-control.eu-west-1.amazonaws.com",
                Plane::Api,
                ("s3", "eu-west-1", "", "123456789012"),
            ),
            (
                "b--euw1-az1--x-s3.s3express-euw1-az1.eu-west-1.amazonaws.com",
                Plane::S3Express,
                ("s3express", "eu-west-1", "b--euw1-az1--x-s3", ""),
            ),
            (
                "s3.cn-north-1.amazonaws.com.cn",
                Plane::S3,
                ("s3", "cn-north-1", "", ""),
            ),
            (
                "ec2.eu-west-1.amazonaws.com",
                Plane::Api,
                ("ec2", "eu-west-1", "", ""),
            ),
            ("ec2.amazonaws.com", Plane::Api, ("ec2", "", "", "")),
            (
                "ec2-fips.us-east-1.amazonaws.com",
                Plane::Api,
                ("ec2", "us-east-1", "", ""),
            ),
            ("ec2.us-east-1.api.aws", Plane::Api, ("ec2", "us-east-1", "", "")),
            (
                "vpce-1a-2b.ec2.us-east-1.vpce.amazonaws.com",
                Plane::Api,
                ("ec2", "us-east-1", "", ""),
            ),
            ("iam.amazonaws.com", Plane::Api, ("iam", "", "", "")),
            (
                "sts.eu-west-1.amazonaws.com",
                Plane::Api,
                ("sts", "eu-west-1", "", ""),
            ),
            (
                "dynamodb.eu-west-1.amazonaws.com",
                Plane::Api,
                ("dynamodb", "eu-west-1", "", ""),
            ),
            (
                "123456789012.ddb.eu-west-1.amazonaws.com",
                Plane::Api,
                ("dynamodb", "eu-west-1", "", "123456789012"),
            ),
            (
                "streams.dynamodb.eu-west-1.amazonaws.com",
                Plane::Api,
                ("dynamodb", "eu-west-1", "", ""),
            ),
            (
                "monitoring.eu-west-1.amazonaws.com",
                Plane::Api,
                ("monitoring", "eu-west-1", "", ""),
            ),
            (
                "runtime.sagemaker.eu-west-1.amazonaws.com",
                Plane::Api,
                ("sagemaker", "eu-west-1", "", ""),
            ),
            (
                "bedrock-runtime.eu-west-1.amazonaws.com",
                Plane::Api,
                ("bedrock", "eu-west-1", "", ""),
            ),
            (
                "eu-west-1.queue.amazonaws.com",
                Plane::Api,
                ("sqs", "eu-west-1", "", ""),
            ),
            ("queue.amazonaws.com", Plane::Api, ("sqs", "", "", "")),
            (
                "rds.eu-west-1.amazonaws.com",
                Plane::Api,
                ("rds", "eu-west-1", "", ""),
            ),
            (
                "es.eu-west-1.amazonaws.com",
                Plane::Api,
                ("es", "eu-west-1", "", ""),
            ),
            (
                "search-d-1.eu-west-1.es.amazonaws.com",
                Plane::Search,
                ("es", "eu-west-1", "", ""),
            ),
            (
                "a1b2.execute-api.eu-west-1.amazonaws.com",
                Plane::UserApi,
                ("execute-api", "eu-west-1", "", ""),
            ),
            (
                "brandnew.eu-west-1.amazonaws.com",
                Plane::Unknown,
                ("brandnew", "eu-west-1", "", ""),
            ),
        ];
        for (host, plane, (service, region, bucket, account)) in cases {
            let endpoint = of(host).unwrap_or_else(|| panic!("{host} is none"));
            let text = |o: &Option<String>| o.clone().unwrap_or_default();
            let read = (
                endpoint.plane,
                endpoint.service.clone(),
                text(&endpoint.region),
                text(&endpoint.bucket),
                text(&endpoint.account),
            );
            let expected = (
                plane,
                service.into(),
                region.into(),
                bucket.into(),
                account.into(),
            );
            assert_eq!(read, expected, "{host}");
        }
    }

    #[test]
    fn what_customers_run_is_not_the_api() {
        for host in [
            "api.internal",
            "amazonaws.com",
            "amazonaws.com.evil.example",
            "s3.amazonaws.com.evil.example",
            "evilamazonaws.com",
            "my-lb-1.eu-west-1.elb.amazonaws.com",
            "ec2-1-2-3-4.compute-1.amazonaws.com",
            "ec2-1-2-3-4.eu-west-1.compute.amazonaws.com",
            "db.c1x2.eu-west-1.rds.amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
            "b.s3-website-eu-west-1.amazonaws.com",
            "b.s3-website.eu-west-1.amazonaws.com",
            "s3.amazonaws.com.",
        ] {
            assert_eq!(of(host), None, "{host}");
        }
    }
}
