//! Destinations that are known by name, found by where a connection wants to go.

use std::sync::Arc;

use super::Names;
use crate::{
    config::Upstream,
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

    /// The first one that is for this workload and whose host, by this host's own look-up, is where it wants to go.
    pub async fn find(
        &self,
        names: &Names,
        to: OriginalDst,
        workload: &WorkloadName,
    ) -> Option<Arc<Upstream>> {
        for upstream in &*self.0 {
            let fits = upstream.port == to.0.port()
                && (upstream.workloads.is_empty() || upstream.workloads.contains(workload));
            if fits && names.includes(&upstream.host, to.0.ip()).await {
                return Some(Arc::clone(upstream));
            }
        }
        None
    }

    /// Whether one is called so: what is not it must not be taken for it.
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        self.0.iter().any(|u| u.name.eq_ignore_ascii_case(name))
    }
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
}
