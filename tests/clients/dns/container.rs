//! From a container, whose resolv.conf names a resolver that is nowhere.

use std::{fs, os::unix::fs::MetadataExt as _};

use e2e::container::Bundle;

use super::{NOBODY, dig, rows, with_names};

/// What a container is told by its runtime: the resolver of a network that is not there.
const RESOLVER: &str = "nameserver 10.0.2.3\noptions timeout:1 attempts:2\n";
/// Its namespace is known to the agent from the first socket in it on; what comes before is denied. It has no device but
/// loopback, so that programs which ask for names of both families only where they have addresses would not ask at all.
const SCRIPT: &str = "n=0; until getent hosts www.internal || [ $n = 1000 ]; do n=$((n + 1)); done; \
    dig +short far.internal A; dig +tcp shop.internal AAAA; dig secret.internal A; \
    getent hosts list.example || echo none; cat /etc/resolv.conf";

#[test]
fn a_container_is_answered_whichever_resolver_it_names() {
    with_names("dns-container", "", |site| {
        let files = [
            ("resolv.conf", RESOLVER),
            ("nsswitch.conf", "hosts: dns\n"),
            ("hosts", "127.0.0.1 localhost\n"),
        ];
        let bundle = Bundle::of_host(SCRIPT, &files)?;
        let done = bundle.run(site.tagged())?.wait_with_output()?;
        let (out, err) = (
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr),
        );
        assert!(done.status.success(), "{out}{err}");
        let first = out.lines().next().unwrap_or_default();
        assert!(
            first.starts_with("2001:db8::2 ") && first.contains("shop.internal"),
            "{out}{err}"
        );
        assert!(out.contains("store.example.\n192.0.2.2\n"), "{out}");
        assert!(
            out.contains("2001:db8::2") && out.contains("SERVER: 10.0.2.3#53(10.0.2.3) (TCP)"),
            "{out}"
        );
        assert!(
            out.contains("status: REFUSED") && out.contains("not that one"),
            "{out}"
        );
        assert!(out.contains("SERVER: 10.0.2.3#53(10.0.2.3) (UDP)"), "{out}");
        assert!(out.contains("none\nnameserver 10.0.2.3"), "{out}");
        // Each is the workload's, by the cgroup that the container was started in.
        let of = format!("deploy-bot {}/w/deploy-bot", site.cgroup().name());
        let sql = "SELECT DISTINCT json_extract(body, '$.resource.id') || ' ' || json_extract(body, '$.decision') \
                   || ' ' || json_extract(body, '$.workload') || ' ' || json_extract(body, '$.process.cgroup') FROM entry \
                   WHERE json_extract(body, '$.action') = 'dns:query' AND json_extract(body, '$.destination.address') = '10.0.2.3' \
                   ORDER BY 1";
        let expected = [
            ("far.internal", "allow"),
            ("list.example", "deny"),
            ("secret.internal", "deny"),
            ("shop.internal", "allow"),
            ("www.internal", "allow"),
        ];
        let expected = expected.map(|(name, decision)| format!("{name} {decision} {of}"));
        assert_eq!(rows(site, sql, 5)?, expected);
        // In a network namespace that is not the host's, where the same workload asks as well.
        dig(site, &["+short", NOBODY, "short.internal", "A"])?;
        let sql = "SELECT DISTINCT json_extract(body, '$.netns') || ' ' || json_extract(body, '$.cgroup_id') FROM entry \
                   WHERE json_extract(body, '$.kind') = 'session' AND json_extract(body, '$.destination.port') = 53";
        let sessions = rows(site, sql, 2)?;
        let tagged = format!(" {}", fs::metadata(site.tagged())?.ino());
        assert!(
            sessions.len() == 2 && sessions.iter().all(|s| s.ends_with(&tagged)),
            "{tagged}: {sessions:?}"
        );
        Ok(())
    });
}
