//! Operations that are told by method and path, as the published models of the services have them.

use std::{collections::BTreeMap, sync::LazyLock};

use super::params::{Params, decode};

const TEXT: &str = include_str!("data/rest.tsv");

/// One operation's address.
struct Route {
    method: &'static str,
    path: &'static str,
    /// What the query has to have: a name, and a value where it is told by that.
    query: Option<(&'static str, Option<&'static str>)>,
    operation: &'static str,
}

static ROUTES: LazyLock<BTreeMap<&'static str, Vec<Route>>> = LazyLock::new(|| {
    let (mut routes, mut service) = (BTreeMap::<_, Vec<_>>::new(), "");
    for line in TEXT.lines().filter(|l| !l.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            service = name;
            continue;
        }
        let mut fields = line.split('\t');
        let (Some(method), Some(path), Some(operation)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
        let query = query.map(|q| q.split_once('=').map_or((q, None), |(n, v)| (n, Some(v))));
        routes.entry(service).or_default().push(Route {
            method,
            path,
            query,
            operation,
        });
    }
    routes
});

/// What a method and path stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// This operation, of what its path names first.
    One(&'static str, Option<String>),
    /// Nothing that is known, or several operations.
    Unsure,
}

/// Whether the operations of a service are known by path.
#[must_use]
pub fn has(signing: &str) -> bool {
    ROUTES.contains_key(signing)
}

/// Finds the operation. `path` is as it goes on the wire.
#[must_use]
pub fn find(signing: &str, method: &str, path: &str, query: &Params<'_>) -> Found {
    let mut best: Option<(usize, &'static str, Option<String>)> = None;
    let mut unsure = false;
    for route in ROUTES
        .get(signing)
        .into_iter()
        .flatten()
        .filter(|r| r.method == method)
    {
        let Some((literals, label)) = fits(route.path, path) else {
            continue;
        };
        let score = match route.query {
            None => 2 * literals,
            Some((name, value))
                if query
                    .iter()
                    .any(|(n, v)| n == name && value.is_none_or(|w| w == v)) =>
            {
                2 * literals + 1
            }
            Some(_) => continue,
        };
        match &best {
            Some((most, _, _)) if *most > score => {}
            // Two endpoints that are signed for by one name may give one path two meanings.
            Some((most, operation, _)) if *most == score => unsure |= *operation != route.operation,
            _ => {
                best = Some((score, route.operation, label));
                unsure = false;
            }
        }
    }
    match best {
        Some((_, operation, label)) if !unsure => Found::One(operation, label),
        _ => Found::Unsure,
    }
}

/// How many segments of a template are literally those of the path, and what its first label stands for; none where
/// they do not fit.
fn fits(template: &str, path: &str) -> Option<(usize, Option<String>)> {
    let mut segments = path.trim_matches('/').split('/');
    let (mut literals, mut label) = (0, None);
    let mut parts = template.trim_matches('/').split('/').peekable();
    while let Some(part) = parts.next() {
        let value = segments.next()?;
        let Some(name) = part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) else {
            if part != value {
                return None;
            }
            literals += 1;
            continue;
        };
        if value.is_empty() {
            return None;
        }
        let mut value = decode(value, false).ok()?.into_owned();
        if name.ends_with('+') {
            // As many as leave enough for what follows it.
            let rest: Vec<&str> = segments.clone().collect();
            let following = parts.clone().count();
            for more in rest.get(..rest.len().checked_sub(following)?)? {
                value.push('/');
                value.push_str(&decode(more, false).ok()?);
                segments.next();
            }
        }
        label.get_or_insert(value);
    }
    segments.next().is_none().then_some((literals, label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found() {
        for (service, method, path, query, expected) in [
            (
                "lambda",
                "POST",
                "/2015-03-31/functions/f/invocations",
                "",
                "Invoke f",
            ),
            ("lambda", "GET", "/2015-03-31/functions/", "", "ListFunctions"),
            (
                "lambda",
                "GET",
                "/2015-03-31/functions",
                "MaxItems=3",
                "ListFunctions",
            ),
            ("lambda", "POST", "/2015-03-31/functions", "", "CreateFunction"),
            (
                "lambda",
                "DELETE",
                "/2015-03-31/functions/f",
                "",
                "DeleteFunction f",
            ),
            (
                "lambda",
                "GET",
                "/2018-10-31/layers",
                "find=LayerVersion&Arn=a",
                "GetLayerVersionByArn",
            ),
            ("lambda", "GET", "/2018-10-31/layers", "", "ListLayers"),
            (
                "lambda",
                "PUT",
                "/2021-10-31/functions/f/url",
                "",
                "UpdateFunctionUrlConfig f",
            ),
            (
                "lambda",
                "GET",
                "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A1%3Afunction%3Af",
                "",
                "GetFunction arn:aws:lambda:eu-west-1:1:function:f",
            ),
            ("lambda", "PATCH", "/2015-03-31/functions/f", "", "?"),
            ("lambda", "GET", "/2099-01-01/functions/f", "", "?"),
            ("lambda", "GET", "/2015-03-31/functions//f", "", "?"),
            ("eks", "POST", "/clusters", "", "CreateCluster"),
            (
                "eks",
                "DELETE",
                "/clusters/c/node-groups/n",
                "",
                "DeleteNodegroup c",
            ),
            ("batch", "POST", "/v1/submitjob", "", "SubmitJob"),
            ("apigateway", "GET", "/restapis/a1/stages/prod", "", "GetStage a1"),
            ("apigateway", "POST", "/restapis", "mode=import", "ImportRestApi"),
            ("apigateway", "POST", "/restapis", "", "CreateRestApi"),
            (
                "s3",
                "GET",
                "/v20180820/mrap/instances/a/b/policy",
                "",
                "GetMultiRegionAccessPointPolicy a/b",
            ),
            (
                "cloudfront",
                "POST",
                "/2020-05-31/distribution",
                "",
                "CreateDistribution",
            ),
            ("bedrock", "POST", "/model/m/invoke", "", "InvokeModel m"),
            ("nothing", "GET", "/", "", "?"),
        ] {
            let expected = match expected.split_once(' ') {
                _ if expected == "?" => "?".to_owned(),
                Some((operation, label)) => format!("{operation} {label}"),
                None => expected.to_owned(),
            };
            let found = match find(service, method, path, &Params::parse(query).unwrap()) {
                Found::Unsure => "?".to_owned(),
                Found::One(operation, None) => operation.to_owned(),
                Found::One(operation, Some(label)) => format!("{operation} {label}"),
            };
            // A model may have the function as one version or another.
            let found = found.replace("GetFunction20150331", "GetFunction");
            assert_eq!(found, expected, "{service} {method} {path}?{query}");
        }
    }

    #[test]
    fn the_table_is_well_formed() {
        assert!(ROUTES.len() > 55);
        for route in ROUTES.values().flatten() {
            assert!(
                route.path.starts_with('/') && !route.operation.is_empty(),
                "{}",
                route.path
            );
            // A label is a whole segment, or it is not found.
            for segment in route.path.split('/') {
                let whole = segment.starts_with('{') == segment.ends_with('}');
                assert!(whole, "{}", route.path);
            }
        }
    }
}
