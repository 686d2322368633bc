//! Bodies: not delayed, not gathered, whole.

use std::time::Duration;

use e2e::{
    child::Said,
    ledger::Reader,
    wait::{DEADLINE, wait_until},
};

use super::{shown, with_site};

#[test]
fn events_are_not_delayed() {
    with_site("sse", |site| {
        let said = site.workload().python(
            "import requests, time\n\
             began = time.time()\n\
             r = requests.get('https://api.internal/events?count=6&ms=300', stream=True)\n\
             for line in r.iter_lines(chunk_size=1):\n  if line: print(int((time.time() - began) * 1000), line.decode(), flush=True)\n",
        )?;
        let out = said.clone().ok()?;
        let at: Vec<u64> = out
            .lines()
            .filter_map(|l| l.split(' ').next()?.parse().ok())
            .collect();
        assert_eq!(at.len(), 6, "{said:?}");
        // Gathered, they would all come at the end, 1.5 s after the first was sent.
        assert!(at[0] + 900 < at[5], "{at:?}");
        assert!(at.windows(2).all(|w| w[1] - w[0] > 100), "{at:?}");
        assert!(shown(&out).is_empty() && out.contains("data: {\"n\":5"), "{out}");
        Ok(())
    });
}

#[test]
fn large_bodies_take_constant_memory() {
    with_site("large", |site| {
        let workload = site.workload();
        workload
            .run(&["curl", "-sS", "-o", "/dev/null", "https://api.internal/customers"])?
            .ok()?;
        let before = site.daemon.resident()?;
        let mb = 64;
        let write = "%{http_code} %{size_download}";
        let url = format!("http://api.internal/big?mb={mb}");
        let mut peak = before;
        let mut curl = workload.command(&["curl", "-sS", "-o", "/dev/null", "-w", write, &url])?;
        let mut running = e2e::child::Process::start("large", site.world.dir(), &mut curl)?;
        while running.ended().is_none() {
            peak = peak.max(site.daemon.resident()?);
            std::thread::sleep(Duration::from_millis(20));
        }
        let size = running.log();
        let (code, bytes) = size.split_once(' ').unwrap_or_default();
        assert_eq!(code, "200", "{size}");
        assert!(bytes.parse::<u64>()? > mb * 1_000_000, "{size}");
        // Queues and caches have their bounds; 64 MiB of body must not show.
        assert!(peak - before < 32 << 20, "{} MiB more", (peak - before) >> 20);
        Ok(())
    });
}

#[test]
fn uploads_arrive_whole() {
    with_site("upload", |site| {
        let text = "{\"metric\":\"requests\",\"value\":12345}\n".repeat(150_000);
        let file = site.world.path("upload");
        std::fs::write(&file, &text)?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let want = format!(
            "{{\"bytes\":{},\"sha256\":\"{}\"}}",
            text.len(),
            hex::encode(digest)
        );
        let data = format!("@{}", file.display());
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://api.internal/echo");
            for header in [
                "Content-Type: application/json",
                "Transfer-Encoding: chunked",
                "Expect: 100-continue",
            ] {
                let words = [
                    "curl",
                    "-sS",
                    "--max-time",
                    "60",
                    "-H",
                    header,
                    "--data-binary",
                    &data,
                    &url,
                ];
                let said = site.workload().run(&words)?.ok()?;
                assert_eq!(said, want, "{scheme} {header}");
            }
        }
        Ok(())
    });
}

#[test]
fn expect_is_answered_before_the_body() {
    with_site("expect", |site| {
        let words = [
            "curl",
            "-sSv",
            "-H",
            "Expect: 100-continue",
            "--expect100-timeout",
            "20",
            "-d",
            "x=1",
        ];
        let run = |url| {
            let mut all = words.to_vec();
            all.push(url);
            site.workload().run(&all)
        };
        let said = run("http://api.internal/echo")?;
        assert!(said.err.contains("< HTTP/1.1 100"), "{said:?}");
        assert!(said.out.contains("\"bytes\":3"), "{said:?}");
        // Refused: the body is never asked for.
        let said = site
            .workload()
            .run(&[&words[..], &["-X", "DELETE", "http://api.internal/customers/1"]].concat())?;
        assert!(
            said.out.contains("policy_forbid") && !said.err.contains("< HTTP/1.1 100"),
            "{said:?}"
        );
        assert!(!site.backend.seen().iter().any(|r| r.starts_with("DELETE")));
        Ok(())
    });
}

#[test]
fn what_comes_back_chunked_and_gzipped_is_masked() {
    with_site("mirror", |site| {
        let body = "{\"a\":1,\"to\":\"ada@example.com\",\"ssn\":\"219-09-9999\"}";
        let script = format!(
            "printf '%s' '{body}' | curl -sS --compressed -H 'Transfer-Encoding: chunked' \
            -H 'Content-Type: application/json' --data-binary @- https://api.internal/mirror"
        );
        let said = site.workload().run(&["sh", "-c", &script])?.ok()?;
        assert!(
            shown(&said).is_empty() && said.starts_with("{\"a\":1,\"to\":"),
            "{said}"
        );
        // It reached the API as it was: only what comes back, and what is stored, is masked.
        assert_eq!(site.backend.seen(), ["POST /mirror"]);
        let ledger = Reader::open(&site.daemon.ledger())?;
        wait_until("the outcome", DEADLINE, || {
            ledger
                .column("SELECT masked FROM operations")
                .is_ok_and(|m| m.iter().any(|m| m.contains("email")))
        })?;
        let at_rest = Said::by(
            site.world
                .host("grep")
                .arg("-rlaF")
                .arg("ada@example.com")
                .arg(site.daemon.data_dir()),
        )?;
        assert_eq!(at_rest.out, "");
        Ok(())
    });
}
