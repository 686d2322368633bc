//! Debian's Knot DNS, an authoritative server, on the upstream.

use std::{fs, net::TcpStream, time::Duration};

use anyhow::{Context as _, Result};

use crate::{
    child::Process,
    wait::{DEADLINE, wait_until},
    world::{UPSTREAM, UPSTREAM_V6, World},
};

/// What it serves: zone and its records.
const ZONES: [(&str, &str); 3] = [
    (
        "internal",
        "shop 300 A {v4}\nshop 300 AAAA {v6}\nwww 60 CNAME shop\nfar 60 CNAME store.example.\nshort 1 A {v4}\n\
         rebind 60 A 127.0.0.1\nmeta 60 A 169.254.169.254\nmany 60 TXT {texts}\n_shop._tcp 60 SRV 1 2 80 shop\n\
         mail 60 MX 10 shop\nunknown 60 TYPE65280 \\# 4 01020304\nsecret 60 A {v4}\n",
    ),
    ("example", "store 120 A {v4}\nlist 60 A {v4}\n"),
    // The name of a public resolver.
    ("google", "dns 60 A {v4}\n"),
];

/// A running server.
pub struct Knot(Process);

impl Knot {
    /// Serves `internal`, `example` and `google` on port 53 of the upstream's addresses.
    ///
    /// # Errors
    /// When knot is missing or does not start; with its log.
    pub fn start(world: &World) -> Result<Self> {
        let dir = world.path("upstream.knot");
        fs::create_dir_all(&dir)?;
        let at = dir.display();
        let texts: Vec<String> = (0..16).map(|n| format!("\"{n:0>200}\"")).collect();
        let mut zones = String::new();
        for (zone, records) in ZONES {
            let records = records
                .replace("{v4}", UPSTREAM)
                .replace("{v6}", UPSTREAM_V6)
                .replace("{texts}", &texts.join(" "));
            let head = format!(
                "$ORIGIN {zone}.\n$TTL 300\n@ SOA ns root 1 3600 600 86400 30\n@ NS ns\nns A {UPSTREAM}\n"
            );
            fs::write(dir.join(format!("{zone}.zone")), format!("{head}{records}"))?;
            zones.push_str(&format!("  - domain: {zone}\n"));
        }
        let config = format!(
            "server:\n  rundir: {at}\n  listen: [ {UPSTREAM}@53, {UPSTREAM_V6}@53 ]\n  udp-workers: 1\n  tcp-workers: 1\n  \
             background-workers: 1\nlog:\n  - target: stderr\n    any: info\ndatabase:\n  storage: {at}\ntemplate:\n  - \
             id: default\n    storage: {at}\n    file: \"%s.zone\"\nzone:\n{zones}"
        );
        let file = dir.join("knot.conf");
        fs::write(&file, config)?;
        let mut command = world.upstream("/usr/sbin/knotd");
        command.arg("-c").arg(&file);
        let knot = Self(Process::start("knot", world.dir(), &mut command)?);
        wait_until("knot to listen", DEADLINE, || {
            TcpStream::connect_timeout(&([192, 0, 2, 2], 53).into(), Duration::from_secs(1)).is_ok()
        })
        .with_context(|| knot.0.log())?;
        Ok(knot)
    }
}
