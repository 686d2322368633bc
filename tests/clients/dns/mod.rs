//! Names: real programs ask, the agent answers by the host's resolvers, of which one is a real authoritative server.

mod container;
mod datagrams;
mod encrypted;

use std::fs;

use anyhow::Result;
use e2e::{
    child::Said,
    knot::Knot,
    ledger::Reader,
    site::{Options, Site},
    wait::{DEADLINE, wait_for},
};

use super::with_options;

/// Everything below `internal` but `secret`, and one name of `example`; connections by the name that was resolved.
pub const POLICY: &str = r#"
@id("names") permit (principal, action == Action::"dns:query", resource in DnsName::"internal");
@id("store") permit (principal, action == Action::"dns:query", resource == DnsName::"store.example");
@id("secret") @reason("not that one") forbid (principal, action == Action::"dns:query", resource == DnsName::"secret.internal");
@id("shop") permit (principal, action == Action::"http:request", resource in HttpHost::"shop.internal")
when { context.http.host_verified };
@id("raw") permit (principal, action == Action::"tcp:connect", resource)
when { context.destination has name && context.destination.name == "shop.internal" };
"#;
/// A resolver that nobody runs: whom the workload asks does not matter.
pub const NOBODY: &str = "@192.0.2.53";

/// A site whose host asks Knot on the upstream for names.
pub fn with_names(name: &str, resolv_conf: &str, test: impl FnOnce(&Site<'_>) -> Result<()> + Send) {
    with_policy(name, POLICY, resolv_conf, test);
}

/// The same under another policy.
pub fn with_policy(
    name: &str,
    policy: &str,
    resolv_conf: &str,
    test: impl FnOnce(&Site<'_>) -> Result<()> + Send,
) {
    let resolv_conf = format!("nameserver 192.0.2.2\n{resolv_conf}");
    with_options(
        name,
        |world| {
            world.resolvers(&resolv_conf)?;
            Ok(Options {
                policy: policy.into(),
                ..Options::default()
            })
        },
        |site| {
            let _knot = Knot::start(site.world)?;
            test(site)
        },
    );
}

/// dig, in the tagged cgroup.
pub fn dig(site: &Site<'_>, words: &[&str]) -> Result<String> {
    Said::by(site.workload().tagged("dig").args(words))?.ok()
}

/// Rows of the live ledger, once there are `n`.
pub fn rows(site: &Site<'_>, sql: &str, n: usize) -> Result<Vec<String>> {
    wait_for(sql, DEADLINE, || {
        let rows = Reader::open(&site.daemon.ledger())
            .and_then(|r| r.column(sql))
            .ok()?;
        (rows.len() >= n).then_some(rows)
    })
}

#[test]
fn dig_over_tcp_is_answered_whoever_it_asks() {
    with_names("dns-tcp", "", |site| {
        let short = |words: &[&str]| dig(site, &[&["+tcp", "+short", NOBODY], words].concat());
        assert_eq!(short(&["shop.internal", "A"])?, "192.0.2.2\n");
        assert_eq!(short(&["SHOP.internal", "AAAA"])?, "2001:db8::2\n");
        assert_eq!(short(&["www.internal", "A"])?, "shop.internal.\n192.0.2.2\n");
        // The chain leads into another zone.
        assert_eq!(short(&["far.internal", "A"])?, "store.example.\n192.0.2.2\n");
        assert_eq!(short(&["_shop._tcp.internal", "SRV"])?, "1 2 80 shop.internal.\n");
        assert_eq!(short(&["mail.internal", "MX"])?, "10 shop.internal.\n");
        assert_eq!(short(&["unknown.internal", "TYPE65280"])?, "\\# 4 01020304\n");
        assert!(short(&["many.internal", "TXT"])?.len() > 3000);
        let missing = dig(site, &["+tcp", NOBODY, "nobody.internal", "A"])?;
        assert!(
            missing.contains("status: NXDOMAIN") && missing.contains("SOA"),
            "{missing}"
        );
        let empty = dig(site, &["+tcp", NOBODY, "shop.internal", "TXT"])?;
        assert!(
            empty.contains("status: NOERROR") && empty.contains("SOA"),
            "{empty}"
        );
        let pipelined = dig(
            site,
            &[
                "+tcp",
                "+short",
                "+keepopen",
                NOBODY,
                "shop.internal",
                "short.internal",
            ],
        )?;
        assert_eq!(pipelined, "192.0.2.2\n192.0.2.2\n");

        let denied = dig(site, &["+tcp", NOBODY, "secret.internal", "A"])?;
        assert!(
            denied.contains("status: REFUSED") && denied.contains("EDE: 15 (Blocked)"),
            "{denied}"
        );
        assert!(
            denied.contains("policy_forbid") && denied.contains("not that one"),
            "{denied}"
        );
        let sql = "SELECT json_extract(body, '$.id') FROM entry WHERE json_extract(body, '$.resource.id') = 'secret.internal'";
        let entry = &rows(site, sql, 1)?[0];
        assert!(denied.contains(entry), "{entry}: {denied}");
        let other = dig(site, &["+tcp", NOBODY, "list.example", "A"])?;
        assert!(
            other.contains("status: REFUSED") && other.contains("EDE: 18 (Prohibited)"),
            "{other}"
        );
        let transfer = dig(site, &["+tcp", NOBODY, "internal", "AXFR"])?;
        assert!(
            transfer.contains("Transfer failed") && !transfer.contains("192.0.2.2\n"),
            "{transfer}"
        );
        let version = dig(
            site,
            &["+tcp", "+edns=7", "+noednsneg", NOBODY, "shop.internal", "A"],
        )?;
        assert!(version.contains("status: BADVERS"), "{version}");

        let sql = "SELECT json_extract(o.body, '$.answer.names') FROM entry AS o JOIN entry AS q ON \
                   json_extract(q.body, '$.id') = json_extract(o.body, '$.operation') WHERE \
                   json_extract(q.body, '$.resource.id') = 'far.internal'";
        assert_eq!(rows(site, sql, 1)?, [r#"["store.example"]"#]);
        Ok(())
    });
}

#[test]
fn the_ttl_is_the_servers_and_runs_down() {
    with_names("dns-ttl", "", |site| {
        let ttl = || -> Result<u32> {
            let line = dig(site, &["+tcp", "+noall", "+answer", NOBODY, "shop.internal", "A"])?;
            Ok(line.split_whitespace().nth(1).unwrap_or_default().parse()?)
        };
        let first = ttl()?;
        assert!((295..=300).contains(&first), "{first}");
        wait_for("the TTL to run down", DEADLINE, || {
            ttl().ok().filter(|now| *now < first)
        })?;
        Ok(())
    });
}

#[test]
fn connections_are_known_by_the_names_that_were_resolved() {
    with_names("dns-tied", "options use-vc\n", |site| {
        let get = |arguments: &[&str]| {
            let all = ["-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}"];
            Said::by(site.workload().tagged("curl").args(all).args(arguments))
        };
        // The name is on record nowhere but in DNS, and nothing was asked yet.
        let unasked = get(&[
            "--resolve",
            "shop.internal:80:192.0.2.2",
            "http://shop.internal/customers",
        ])?;
        let own = Said::by(site.world.host("getent").args(["ahostsv4", "shop.internal"]))?;
        // The host's own look-up knows it, too: both go by the same resolvers.
        assert!(own.out.contains("192.0.2.2"), "{own:?}");
        assert_eq!(unasked.out, "200", "{unasked:?}");
        assert_eq!(get(&["http://shop.internal/customers"])?.out, "200");
        let other = get(&["--resolve", "store.example:80:192.0.2.2", "http://store.example/"])?;
        assert_eq!(other.out, "403", "{other:?}");
        let script = "import socket\ns = socket.create_connection(('shop.internal', 22), 5)\ns.sendall(b'SSH-2.0-x\\r\\n')\ns.recv(1)\n";
        let raw = Said::by(site.workload().tagged(e2e::paths::python()).args(["-c", script]))?;
        let sql = "SELECT json_extract(body, '$.decision') || ' ' || json_extract(body, '$.destination.name') FROM entry \
                   WHERE json_extract(body, '$.action') = 'tcp:connect'";
        assert_eq!(rows(site, sql, 1)?[0], "allow shop.internal", "{raw:?}");
        Ok(())
    });
}

/// What programs that use libc ask, over TCP as resolv.conf says, and over UDP where it does not.
pub fn programs(site: &Site<'_>) -> Result<()> {
    let workload = site.workload();
    let run = |program: &str, words: &[&str]| Said::by(workload.tagged(program).args(words));
    let getent = run("getent", &["ahostsv4", "www.internal"])?.ok()?;
    assert!(
        getent.contains("192.0.2.2") && getent.contains("shop.internal"),
        "{getent}"
    );
    let script = "import socket\n\
        print(sorted({a[4][0] for a in socket.getaddrinfo('shop.internal', 80, type=socket.SOCK_STREAM)}))\n\
        for name in 'secret.internal', 'nobody.internal', 'list.example':\n\
        \ttry: print(socket.getaddrinfo(name, 80))\n\
        \texcept socket.gaierror as e: print(name, e.errno)\n";
    let python = run(e2e::paths::python(), &["-c", script])?.ok()?;
    let mut lines = python.lines();
    assert_eq!(lines.next(), Some("['192.0.2.2', '2001:db8::2']"), "{python}");
    // EAI_NONAME where there is none; where the resolver refuses libc says that or EAI_AGAIN, by transport.
    let failed = |line: Option<&str>, name: &str, codes: &[&str]| {
        let code = line.and_then(|l| l.strip_prefix(name)).map(str::trim);
        assert!(code.is_some_and(|c| codes.contains(&c)), "{python}");
    };
    failed(lines.next(), "secret.internal", &["-2", "-3"]);
    failed(lines.next(), "nobody.internal", &["-2"]);
    failed(lines.next(), "list.example", &["-2", "-3"]);
    let script = "require('dns').lookup('www.internal', {all: true}, (e, a) => console.log(e ? e.code : a.map(x => x.address).sort().join()))";
    assert_eq!(run("node", &["-e", script])?.ok()?, "192.0.2.2,2001:db8::2\n");
    let source = site.world.path("Ask.java");
    fs::write(
        &source,
        "import java.net.*;\nclass Ask { public static void main(String[] a) throws Exception {\n\
         for (String name : a) try { System.out.println(InetAddress.getByName(name).getHostAddress()); }\n\
         catch (UnknownHostException e) { System.out.println(\"unknown\"); } } }\n",
    )?;
    let source = source.to_string_lossy().into_owned();
    let java = run("java", &[&source, "shop.internal", "secret.internal"])?.ok()?;
    assert_eq!(java, "192.0.2.2\nunknown\n");
    Ok(())
}

#[test]
fn programs_over_tcp() {
    with_names("dns-programs", "options use-vc timeout:2 attempts:1\n", programs);
}
