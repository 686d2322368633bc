//! One test for each client: verified TLS by its own means, masked data, keep-alive.

use e2e::{ledger::Reader, wait};

use super::{shown, with_site};

const URL: &str = "https://api.internal/customers";

#[test]
fn curl() {
    with_site("curl", |site| {
        let workload = site.workload();
        for url in [URL, "http://api.internal/customers"] {
            let said = workload.run(&["curl", "-sS", url])?.ok()?;
            assert!(shown(&said).is_empty(), "{said}");
            assert!(
                said.contains("Ada Lovelace") && said.contains("\"plan\":\"gold\""),
                "{said}"
            );
        }
        // One connection for both requests.
        let write = "%{http_code} %{num_connects}\\n";
        let said = workload
            .run(&[
                "curl",
                "-sS",
                "-o",
                "/dev/null",
                "-o",
                "/dev/null",
                "-w",
                write,
                URL,
                URL,
            ])?
            .ok()?;
        assert_eq!(said, "200 1\n200 0\n");
        // By address, the resource is another one, and nobody granted that.
        let said = workload
            .run(&["curl", "-sS", "http://[2001:db8::2]/customers"])?
            .ok()?;
        assert!(said.contains("policy_default_deny"), "{said}");
        let entries = Reader::open(&site.daemon.ledger())?
            .rows("SELECT decision, resource FROM operations WHERE protocol = 'http' ORDER BY entry")?;
        let decisions: Vec<_> = entries.iter().map(|e| e[0].as_str()).collect();
        assert_eq!(decisions, ["allow", "allow", "allow", "allow", "deny"]);
        Ok(())
    });
}

#[test]
fn openssl_s_client() {
    with_site("openssl", |site| {
        let script = "printf 'GET /customers HTTP/1.1\\r\\nHost: api.internal\\r\\nConnection: close\\r\\n\\r\\n' | \
            openssl s_client -connect api.internal:443 -servername api.internal -verify_return_error \
            -verify_hostname api.internal -alpn http/1.1 -ign_eof 2>&1";
        let said = site.workload().run(&["sh", "-c", script])?.ok()?;
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
        assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
        assert!(
            said.contains("HTTP/1.1 200") && said.contains("Ada Lovelace"),
            "{said}"
        );
        assert!(shown(&said).is_empty(), "{said}");
        Ok(())
    });
}

#[test]
fn python_requests() {
    with_site("python", |site| {
        let said = site.workload().python(
            "import requests\n\
             s = requests.Session()\n\
             for _ in range(3):\n  r = s.get('https://api.internal/customers'); r.raise_for_status()\n\
             print(r.json()['customers'][0])\n\
             r = s.delete('https://api.internal/customers/1')\n\
             p = r.json()\n\
             print(r.status_code, r.headers['content-type'], p['reason'])\n\
             print(s.get('https://api.internal/customers/1').json()['name'])\n",
        )?;
        let out = said.clone().ok()?;
        assert!(
            out.contains("403 application/problem+json policy_forbid\nAda Lovelace\n"),
            "{said:?}"
        );
        assert!(shown(&out).is_empty(), "{out}");
        // All five on one connection.
        let ledger = Reader::open(&site.daemon.ledger())?;
        wait::wait_until("the session's end", wait::DEADLINE, || {
            ledger
                .number("SELECT count(*) FROM sessions WHERE closed_at IS NOT NULL")
                .is_ok_and(|n| n == 1)
        })?;
        assert_eq!(ledger.column("SELECT operations FROM sessions")?, ["5"]);
        Ok(())
    });
}

#[test]
fn node_fetch() {
    with_site("node", |site| {
        let script = "const u = 'https://api.internal/customers';\n\
             (async () => {\n\
               const r = await fetch(u); console.log(r.status, JSON.stringify(await r.json()));\n\
               const d = await fetch(u + '/1', { method: 'DELETE' });\n\
               console.log(d.status, d.headers.get('content-type'), (await d.json()).reason);\n\
               const p = await fetch(u, { method: 'POST', headers: { 'content-type': 'application/json' },\n\
                 body: JSON.stringify({ name: 'Linus' }) });\n\
               console.log(p.status, JSON.stringify(await p.json()));\n\
             })();";
        let said = site.workload().run(&["node", "-e", script])?;
        let out = said.clone().ok()?;
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(lines.len(), 3, "{said:?}");
        assert!(
            lines[0].starts_with("200 ") && lines[0].contains("Ada Lovelace"),
            "{said:?}"
        );
        assert_eq!(lines[1], "403 application/problem+json policy_forbid");
        assert_eq!(lines[2], "201 {\"id\":3}");
        assert!(shown(&out).is_empty(), "{out}");
        assert_eq!(site.backend.customers(), 3);
        Ok(())
    });
}

#[test]
fn what_is_neither_masked_nor_refused_is_the_same_to_the_byte() {
    with_site("identical", |site| {
        let body: String = (0..400)
            .map(|n| format!("{{\"line\": {n}, \"text\" : \"nothing\\u0020special\"}}\n"))
            .collect();
        site.nginx.file("plain.json", body.as_bytes())?;
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://api.internal/static/plain.json");
            let words = ["curl", "-sSi", &url];
            let outside = e2e::child::Said::by(site.world.host(words[0]).args(&words[1..]))?.ok()?;
            let inside = site.workload().run(&words)?.ok()?;
            // A part of a body could be cut so that nothing in it is recognised: ranges are not offered.
            let undated = |text: &str| {
                text.lines()
                    .filter(|l| !l.starts_with("Date:") && !l.starts_with("Accept-Ranges:"))
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            assert_eq!(undated(&inside), undated(&outside));
        }
        Ok(())
    });
}
