//! The steps of the demo in which a human decides, and in which the workload uses a secret that it never has.

use std::fs;

use anyhow::{Context as _, Result};
use e2e::{
    child::{Process, Said},
    ledger::Reader,
    person::Person,
    site::{KEY, Site, WORKLOAD},
    wait::DEADLINE,
};

use super::show::Show;

pub fn approved(show: &Show, site: &Site<'_>) -> Result<()> {
    show.step("A human decides: the request waits inside its connection");
    let new = r#"{"name":"Alan Turing","plan":"gold"}"#;
    let post = ["-X", "POST", "-H", "Content-Type: application/json", "-d", new];
    show.run(
        WORKLOAD,
        &format!("curl -d '{new}' https://api.internal/customers &"),
    );
    let mut words = vec!["curl", "-sS", "--max-time", "120", "-w", "\\n%{http_code}"];
    words.extend(post);
    words.push("https://api.internal/customers");
    let before = site.backend.customers();
    let mut command = site.workload().command(&words)?;
    let mut waiting = Process::start("held", site.world.dir(), &mut command)?;
    let grace = Person::new(site, "grace");
    let id = grace.asked()?;
    show.run("approver", "portcullis approvals list");
    show.came(&grace.says(&["approvals", "list"])?.ok()?);
    let held = waiting.ended().is_none() && site.backend.customers() == before;
    show.check("curl waits, and nothing has reached the API", held, || {
        waiting.log()
    });

    show.tell("Approvers sign in at the issuer, with a code that they type in there (OAuth device flow).");
    show.run("approver", "portcullis approvals login");
    let log = grace.sign_in(&["customer-owners"])?;
    show.came(&log);
    show.check("she is signed in", log.contains("grace"), || log.clone());

    let reason = "the contract is signed";
    show.run(
        "approver",
        &format!("portcullis approvals approve {id} --reason '{reason}'"),
    );
    show.came(
        &grace
            .says(&["approvals", "approve", &id, "--reason", reason])?
            .ok()?,
    );
    waiting.wait(DEADLINE)?;
    show.came(&waiting.log());
    show.check(
        "the request went through: 201, and the API has one customer more",
        waiting.log().trim_end().ends_with("201") && site.backend.customers() == before + 1,
        || waiting.log(),
    );
    let ledger = Reader::open(&site.daemon.ledger())?;
    let sql = "SELECT approver FROM operations WHERE action = 'http:request' AND approver IS NOT NULL";
    let by = ledger.column(sql)?;
    show.check("the ledger says who approved it", by == ["grace"], || {
        format!("{by:?}")
    });
    let mut command = site.workload().command(&[
        "curl",
        "-sS",
        "--max-time",
        "120",
        "-w",
        "\\n%{http_code}",
        "-X",
        "POST",
        "-H",
        "Content-Type: application/json",
        "-d",
        r#"{"name":"Someone Else"}"#,
        "https://api.internal/customers",
    ])?;
    let mut other = Process::start("other", site.world.dir(), &mut command)?;
    let next = grace.asked()?;
    show.tell(
        "The answer was for exactly that: with another body it is another request. This one is denied.",
    );
    show.run(
        "approver",
        &format!("portcullis approvals deny {next} --reason 'who is that?'"),
    );
    grace
        .says(&["approvals", "deny", &next, "--reason", "who is that?"])?
        .ok()?;
    other.wait(DEADLINE)?;
    show.came(&other.log());
    show.check(
        "403, with her words",
        other.log().trim_end().ends_with("403") && other.log().contains("who is that?"),
        || other.log(),
    );
    Ok(())
}

pub fn injected(show: &Show, site: &Site<'_>) -> Result<()> {
    show.step("A secret that is used and not held: the agent puts the API's key in");
    let url = "https://api.internal/whoami";
    show.tell("/whoami answers with the key that it was shown, as badly made services do.");
    show.run("admin", &format!("curl {url}"));
    let outside = Said::by(site.world.host("curl").args(["-sS", "--max-time", "20", url]))?;
    show.came(&outside.out);
    show.run(WORKLOAD, &format!("curl {url}"));
    let inside = site.workload().run(&["curl", "-sS", "--max-time", "20", url])?;
    show.came(&inside.out);
    let arrived = site.backend.authorization();
    show.check(
        "the API was shown the key",
        arrived.iter().any(|a| a == &format!("Bearer {KEY}")),
        || format!("{arrived:?}"),
    );
    show.check(
        "the workload was not: it is masked on its way back, to the byte's length",
        !inside.out.contains(KEY) && inside.out.contains(&"*".repeat(KEY.len())),
        || inside.out.clone(),
    );
    let stored = find(site.daemon.data_dir(), KEY.as_bytes())?;
    show.check("nor is it in any file of the agent's", stored.is_empty(), || {
        format!("{stored:?}")
    });
    let ledger = Reader::open(&site.daemon.ledger())?;
    let sql = "SELECT json_extract(body, '$.credential') FROM entry \
               WHERE json_extract(body, '$.kind') = 'operation' AND body LIKE '%/whoami%' LIMIT 1";
    let reference = ledger.column(sql)?;
    show.check(
        "its entry has the credential by reference",
        reference == ["api-key"],
        || format!("{reference:?}"),
    );
    show.run("admin", "portcullis credentials");
    show.came(&site.daemon.cli(&["credentials"])?.ok()?);
    Ok(())
}

/// Files below a directory that hold some bytes.
fn find(dir: &std::path::Path, bytes: &[u8]) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(find(&path, bytes)?);
        } else if fs::read(&path).is_ok_and(|content| content.windows(bytes.len()).any(|w| w == bytes)) {
            found.push(path);
        }
    }
    Ok(found)
}
