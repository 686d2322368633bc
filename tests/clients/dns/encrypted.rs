//! Over TLS and HTTPS: decided by name like any other query, or denied where policy wants no encrypted resolver.

use anyhow::{Result, ensure};
use e2e::{child::Said, paths, site::Site};

use super::{NOBODY, POLICY, rows, with_names, with_policy};

/// The pack's guards as they are shipped, under grants that would let everything pass.
const GUARDED: &str = concat!(
    include_str!("../../../policies/baseline/00-guards.cedar"),
    "@id(\"everything\") permit (principal, action, resource);"
);

/// kdig under `portcullis run`, with TLS, trusting what the workload trusts.
fn kdig(site: &Site<'_>, words: &[&str]) -> Result<Said> {
    site.workload()
        .run(&[&["kdig", "+tls-ca", "+retry=0", "+timeout=30"], words].concat())
}

/// Decision, reason and address of what was asked over TLS for a name.
fn decided(site: &Site<'_>, name: &str) -> Result<String> {
    let sql = format!(
        "SELECT json_extract(body, '$.decision') || ' ' || json_extract(body, '$.reason') || ' ' || \
         json_extract(body, '$.destination.address') || ' ' || json_extract(body, '$.destination.port') FROM entry \
         WHERE json_extract(body, '$.resource.id') = '{name}' AND json_extract(body, '$.context.dns.transport') = 'tls'"
    );
    Ok(rows(site, &sql, 1)?[0].clone())
}

#[test]
fn kdig_over_tls_is_answered_by_the_agent() {
    with_names("dns-tls", "", |site| {
        let named = "+tls-hostname=dns.corp.example";
        let said = kdig(site, &[named, NOBODY, "www.internal", "A"])?;
        let out = said.clone().ok()?;
        assert!(out.contains("TLS session (TLS1.3)"), "{out}");
        assert!(out.contains("NOERROR") && out.contains("192.0.2.53@853"), "{out}");
        assert!(
            out.contains("shop.internal.") && out.contains("192.0.2.2"),
            "{out}"
        );
        assert_eq!(
            decided(site, "www.internal")?,
            "allow policy_permit 192.0.2.53 853"
        );
        // Without a name the certificate is the address's.
        let by_address = kdig(
            site,
            &["+tls-hostname=192.0.2.53", NOBODY, "shop.internal", "AAAA"],
        )?
        .ok()?;
        assert!(by_address.contains("2001:db8::2"), "{by_address}");
        // It is checked: another name than the one in it, and a program that does not trust the host's authority.
        for (mismatch, said) in [
            (
                "name",
                kdig(
                    site,
                    &[
                        "+tls-sni=one.example",
                        "+tls-hostname=two.example",
                        NOBODY,
                        "short.internal",
                    ],
                )?,
            ),
            ("trust", {
                let mut kdig = site.workload().tagged("kdig");
                Said::by(kdig.args(["+tls-ca", named, "+retry=0", NOBODY, "short.internal"]))?
            }),
        ] {
            ensure!(!said.out.contains("192.0.2.2"), "{mismatch}: {said:?}");
        }

        let denied = kdig(site, &[named, NOBODY, "secret.internal", "A"])?.out;
        assert!(
            denied.contains("REFUSED") && denied.contains("policy_forbid"),
            "{denied}"
        );
        assert_eq!(
            decided(site, "secret.internal")?,
            "deny policy_forbid 192.0.2.53 853"
        );
        let other = kdig(site, &[named, NOBODY, "list.example", "A"])?.out;
        assert!(other.contains("REFUSED"), "{other}");
        assert_eq!(
            decided(site, "list.example")?,
            "deny policy_default_deny 192.0.2.53 853"
        );
        Ok(())
    });
}

#[test]
fn a_public_resolver_over_tls_is_denied_where_policy_says_so() {
    with_policy("dns-tls-denied", GUARDED, "", |site| {
        let public = ["+tls-hostname=dns.quad9.net", "@9.9.9.9", "shop.internal", "A"];
        let denied = kdig(site, &public)?.out;
        assert!(
            denied.contains("REFUSED") && denied.contains("ask the host's resolver"),
            "{denied}"
        );
        assert_eq!(decided(site, "shop.internal")?, "deny policy_forbid 9.9.9.9 853");
        let sql = "SELECT json_extract(body, '$.id') || ' ' || json_extract(body, '$.policies[0]') FROM entry \
                   WHERE json_extract(body, '$.resource.id') = 'shop.internal'";
        let row = &rows(site, sql, 1)?[0];
        let (entry, policy) = row.split_once(' ').unwrap_or_default();
        assert!(
            policy == "baseline-dns-encrypted" && denied.contains(entry),
            "{row}: {denied}"
        );
        // The same query of the host's resolver passes.
        assert_eq!(
            super::dig(site, &["+short", NOBODY, "shop.internal", "A"])?,
            "192.0.2.2\n"
        );
        Ok(())
    });
}

#[test]
fn a_public_resolver_over_https_is_denied_where_policy_says_so() {
    let policy = format!("{POLICY}{GUARDED}");
    with_policy("dns-https-denied", &policy, "", |site| {
        // A query for shop.internal, as RFC 8484 has it.
        let query = "AAABAAABAAAAAAAABHNob3AIaW50ZXJuYWwAAAEAAQ";
        let node = format!(
            "fetch('https://dns.google/dns-query?dns={query}', {{headers: {{accept: 'application/dns-message'}}}})\
             .then(async r => console.log(r.status, await r.text()), e => console.log(String(e.cause)))"
        );
        let python = format!(
            "import requests\nr = requests.get('https://9.9.9.9/resolve?name=shop.internal&type=A', timeout=30)\n\
             print(r.status_code, r.text)\nr = requests.post('https://1.1.1.1/', data=b'{query}', timeout=30,\
             headers={{'content-type': 'application/dns-message'}})\nprint(r.status_code, r.text)\n"
        );
        for said in [
            site.workload().run(&["node", "-e", &node])?,
            site.workload().run(&[paths::python(), "-c", &python])?,
        ] {
            assert!(
                said.out.starts_with("403 ") && said.out.contains("DNS over HTTPS is not allowed"),
                "{said:?}"
            );
        }
        let sql = "SELECT json_extract(body, '$.resource.id') || ' ' || json_extract(body, '$.policies[0]') FROM entry \
                   WHERE json_extract(body, '$.action') = 'http:request' ORDER BY 1";
        assert_eq!(
            rows(site, sql, 3)?,
            [
                "1.1.1.1/ baseline-dns-over-https",
                "9.9.9.9/resolve baseline-dns-over-https",
                "dns.google/dns-query baseline-dns-over-https",
            ]
        );
        Ok(())
    });
}
