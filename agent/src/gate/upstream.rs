//! Destinations that are known by name, found by where a connection wants to go.

use std::sync::Arc;

use super::Names;
use crate::{
    config::{Upstream, UpstreamProtocol},
    model::{OriginalDst, WorkloadName},
};

/// The `[[upstream]]` of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Upstreams(Arc<[Arc<Upstream>]>);

impl Upstreams {
    /// Those of a configuration that was checked.
    #[must_use]
    pub fn new(upstreams: &[Upstream]) -> Self {
        Self(upstreams.iter().cloned().map(Arc::new).collect())
    }

    /// The first one that is for this workload and whose host, as the workload was told or by this host's own look-up,
    /// is where it wants to go.
    /// Those of HTTP are not among them: they are found for each request, by the name in it.
    pub async fn find(
        &self,
        names: &Names,
        to: OriginalDst,
        workload: &WorkloadName,
    ) -> Option<Arc<Upstream>> {
        for upstream in &*self.0 {
            let fits = upstream.protocol != UpstreamProtocol::Http
                && upstream.port == to.0.port()
                && (upstream.workloads.is_empty() || upstream.workloads.contains(workload));
            if fits && names.is(workload, &upstream.host, to.0.ip()).await {
                return Some(Arc::clone(upstream));
            }
        }
        None
    }

    /// The one of this name, where it is for this workload.
    #[must_use]
    pub fn named(&self, name: &str, workload: &WorkloadName) -> Option<Arc<Upstream>> {
        let fits =
            |u: &&Arc<Upstream>| u.name == name && (u.workloads.is_empty() || u.workloads.contains(workload));
        self.0.iter().find(fits).cloned()
    }

    /// The first one of HTTP that a request fits whose host is verified; `tls` is whether it came over TLS.
    #[must_use]
    pub fn find_http(&self, request: &Requested<'_>, workload: &WorkloadName) -> Option<Arc<Upstream>> {
        let fits = |u: &&Arc<Upstream>| {
            u.protocol == UpstreamProtocol::Http
                && u.port == request.port
                && (request.tls || u.plaintext)
                && (u.workloads.is_empty() || u.workloads.contains(workload))
                && u.has_host(request.host)
                && u.has_path(request.path, request.wire)
        };
        self.0.iter().find(fits).cloned()
    }

    /// Whether one is called so: what is not it must not be taken for it.
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        self.0.iter().any(|u| u.name.eq_ignore_ascii_case(name))
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub struct Requested<'a> {
    /// The host, verified, in lower case.
    pub host: &'a str,
    /// The port it went to.
    pub port: u16,
    /// The path as policy sees it.
    pub path: &'a str,
    /// The path as it goes upstream.
    pub wire: &'a str,
    /// Whether it came over TLS.
    pub tls: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn found_by_address_port_and_workload() {
        let config: crate::config::Config = crate::config::parse(
            std::path::Path::new("t"),
            r#"
[[issuer]]
name = "i"
url = "https://i"
audience = "a"
[[workload]]
name = "one"
issuer = "i"
token_file = "/t"
[[upstream]]
name = "mine"
protocol = "postgres"
host = "127.0.0.1"
port = 5432
workloads = ["one"]
[[upstream]]
name = "everyone"
protocol = "postgres"
host = "localhost"
port = 5432
"#,
        )
        .unwrap();
        let upstreams = Upstreams::new(&config.upstream);
        let names = Names::default();
        for (to, workload, found) in [
            ("127.0.0.1:5432", "one", Some("mine")),
            ("127.0.0.1:5432", "two", Some("everyone")),
            ("127.0.0.1:5433", "one", None),
            ("127.0.0.9:5432", "one", None),
        ] {
            let to = OriginalDst(to.parse().unwrap());
            let workload = WorkloadName::new(workload).unwrap();
            let upstream = upstreams.find(&names, to, &workload).await;
            assert_eq!(upstream.as_ref().map(|u| &*u.name), found);
        }
        assert!(upstreams.has_name("Mine") && !upstreams.has_name("other"));
    }

    #[tokio::test]
    async fn requests_are_matched_by_host_port_path_and_workload() {
        let base = "[[credential]]\nname = \"c\"\nfile = \"/c\"\n[[issuer]]\nname = \"i\"\nurl = \"https://i\"\n\
                    audience = \"a\"\n[[workload]]\nname = \"one\"\nissuer = \"i\"\ntoken_file = \"/t\"\n";
        let one = |name: &str, rest: &str| {
            format!(
                "[[upstream]]\nname = \"{name}\"\nprotocol = \"http\"\ninject = {{ bearer = \"c\" }}\n{rest}\n"
            )
        };
        let text = [
            base,
            &one(
                "v1",
                "host = \"API.example\"\nport = 443\npath_prefix = \"/v1\"\nworkloads = [\"one\"]",
            ),
            &one("rest", "host = \"api.example\"\nport = 443"),
            &one("any", "host = \"*.sub.example\"\nport = 443"),
            &one("plain", "host = \"localhost\"\nport = 80\nplaintext = true"),
            &one("address", "host = \"127.0.0.1\"\nport = 443"),
        ]
        .concat();
        let config = crate::config::parse(std::path::Path::new("t"), &text).unwrap();
        let upstreams = Upstreams::new(&config.upstream);
        let to = |to: &str| OriginalDst(to.parse().unwrap());
        let bot = WorkloadName::new("one").unwrap();
        let by_address = upstreams.find(&Names::default(), to("127.0.0.1:80"), &bot).await;
        assert!(by_address.is_none(), "{by_address:?}");
        for (host, port, path, tls, workload, found) in [
            ("api.example", 443, "/v1", true, "one", Some("v1")),
            ("api.example", 443, "/v1/x", true, "one", Some("v1")),
            ("api.example", 443, "/v10", true, "one", Some("rest")),
            ("api.example", 443, "/v1/x", true, "two", Some("rest")),
            ("api.example", 8443, "/v1", true, "one", None),
            ("api.example", 443, "/", false, "one", None),
            ("xapi.example", 443, "/", true, "one", None),
            ("a.sub.example", 443, "/", true, "one", Some("any")),
            ("a.b.sub.example", 443, "/", true, "one", Some("any")),
            ("sub.example", 443, "/", true, "one", None),
            (".sub.example", 443, "/", true, "one", None),
            ("evilsub.example", 443, "/", true, "one", None),
            ("localhost", 80, "*", false, "one", Some("plain")),
            ("localhost", 80, "/", true, "one", Some("plain")),
            ("127.0.0.1", 443, "/", true, "one", Some("address")),
        ] {
            let request = Requested {
                host,
                port,
                path,
                wire: path,
                tls,
            };
            let workload = WorkloadName::new(workload).unwrap();
            let upstream = upstreams.find_http(&request, &workload);
            assert_eq!(upstream.as_ref().map(|u| &*u.name), found, "{request:?}");
        }
        // To a server that does not decode slashes this is not below /v1.
        let hidden = Requested {
            host: "api.example",
            port: 443,
            path: "/v1/x",
            wire: "/v1%2Fx",
            tls: true,
        };
        assert_eq!(&*upstreams.find_http(&hidden, &bot).unwrap().name, "rest");
    }
}
