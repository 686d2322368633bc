//! The same over UDP.

use std::process::Command;

use anyhow::Result;
use e2e::child::Said;

use super::{NOBODY, dig, programs, rows, with_names};

#[test]
fn dig_over_udp_is_answered_by_whom_it_asked() {
    with_names("dns-udp", "", |site| {
        let short = |words: &[&str]| dig(site, &[&["+notcp", "+short", NOBODY], words].concat());
        assert_eq!(short(&["shop.internal", "A"])?, "192.0.2.2\n");
        assert_eq!(short(&["far.internal", "A"])?, "store.example.\n192.0.2.2\n");
        let v6 = dig(site, &["+short", "@2001:db8::53", "shop.internal", "AAAA"])?;
        assert_eq!(v6, "2001:db8::2\n");
        let server = dig(site, &[NOBODY, "shop.internal", "A"])?;
        assert!(
            server.contains("SERVER: 192.0.2.53#53(192.0.2.53) (UDP)"),
            "{server}"
        );
        // What does not fit is cut, and asked for again over TCP.
        let cut = dig(site, &["+notcp", "+ignore", NOBODY, "many.internal", "TXT"])?;
        assert!(cut.contains("flags: qr tc") && cut.contains("ANSWER: 0"), "{cut}");
        let whole = dig(site, &[NOBODY, "many.internal", "TXT"])?;
        assert!(
            whole.contains("Truncated, retrying in TCP") && whole.contains("ANSWER: 1"),
            "{whole}"
        );
        let plain = dig(site, &["+noedns", NOBODY, "secret.internal", "A"])?;
        assert!(
            plain.contains("status: REFUSED") && !plain.contains("EDE"),
            "{plain}"
        );
        let denied = dig(site, &[NOBODY, "secret.internal", "A"])?;
        assert!(
            denied.contains("status: REFUSED") && denied.contains("EDE: 15 (Blocked)"),
            "{denied}"
        );
        let sql = "SELECT DISTINCT json_extract(body, '$.context.dns.transport') FROM entry WHERE \
                   json_extract(body, '$.action') = 'dns:query' ORDER BY 1";
        assert_eq!(rows(site, sql, 2)?, ["tcp", "udp"]);
        Ok(())
    });
}

#[test]
fn programs_over_udp() {
    with_names("dns-programs-udp", "options timeout:2 attempts:1\n", |site| {
        programs(site)?;
        let script = "const r = new (require('dns').Resolver)(); r.setServers(['192.0.2.53']);\n\
            r.resolve4('shop.internal', (e, a) => { console.log(e ? e.code : a.join());\n\
            r.resolve4('secret.internal', (e, a) => console.log(e ? e.code : a.join())) })";
        let node = Said::by(site.workload().tagged("node").args(["-e", script]))?.ok()?;
        assert_eq!(node, "192.0.2.2\nEREFUSED\n");
        Ok(())
    });
}

#[test]
fn a_static_resolver() {
    with_names("dns-static", "", |site| -> Result<()> {
        let (source, program) = (
            concat!(env!("CARGO_MANIFEST_DIR"), "/clients/dns/static.c"),
            site.world.path("ask"),
        );
        Said::by(
            Command::new("cc")
                .args(["-static", "-O1", "-o"])
                .arg(&program)
                .arg(source),
        )?
        .ok()?;
        for (name, said) in [
            ("shop.internal", "192.0.2.2"),
            ("www.internal", "192.0.2.2"),
            ("secret.internal", "rcode 5"),
            ("nobody.internal", "rcode 3"),
        ] {
            let ask = Said::by(site.workload().tagged(&program).args(["192.0.2.53", name]))?;
            assert_eq!(ask.out.trim(), said, "{name}: {ask:?}");
        }
        Ok(())
    });
}
