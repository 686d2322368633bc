//! Approvers with what they really have: headless Chromium on a phone's screen and on a desktop's, a terminal with the
//! device flow, and a certified OpenID provider to sign in at. Nothing but loopback is reached.

use std::{
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use e2e::{
    child::{Process, Said},
    ledger::Reader,
    site::{Options, Site},
    wait::{DEADLINE, wait_until},
    world::World,
};
use serde_json::{Value, json};

const PROVIDER: u16 = 7101;
const PAGE: &str = "http://127.0.0.1:7102";
const POLICY: &str = r#"
@id("all") permit(principal, action, resource);
@id("writes-need-a-dba") @reason("Changes of customers need a DBA who has looked at them") @approval("dba") @hold("2m")
forbid(principal, action == Action::"http:request", resource)
when { ["POST", "PUT"].contains(context.http.method) } unless { context has approval };
@id("deletes-need-two") @reason("Deleting takes two people of the on-call") @approval("oncall,sre") @quorum("2") @hold("2m")
forbid(principal, action == Action::"http:request", resource)
when { context.http.method == "DELETE" } unless { context has approval };
"#;

/// The packages, installed once below `target/` by the committed lock file.
fn packages() -> Result<PathBuf> {
    static PLACE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let installed = PLACE.get_or_init(|| install().map_err(|e| format!("{e:#}")));
    installed.clone().map_err(|e| anyhow!(e))
}

fn install() -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/console");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("console-node");
    std::fs::create_dir_all(&place)?;
    let list = std::fs::read(source.join("package-lock.json"))?;
    let done = place.join("done");
    if !std::fs::read(&done).is_ok_and(|there| there == list) {
        for name in ["package.json", "package-lock.json"] {
            std::fs::copy(source.join(name), place.join(name))?;
        }
        let mut npm = Command::new("npm");
        npm.args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--prefer-offline",
        ]);
        Said::by(npm.current_dir(&place))?.ok()?;
        // Last: half an installation is none.
        std::fs::write(done, list)?;
    }
    for name in ["provider.mjs", "drive.mjs"] {
        std::fs::copy(source.join(name), place.join(name))?;
    }
    Ok(place)
}

/// A site with approvers: `ada` is a DBA, `ben` and `cleo` are on call.
struct Desk<'s, 'w> {
    site: &'s Site<'w>,
    packages: PathBuf,
    shots: PathBuf,
    _provider: Process,
}

fn with_desk(name: &str, test: impl FnOnce(&Desk<'_, '_>) -> Result<()> + Send) {
    let packages = packages().unwrap();
    let result = World::enter(|world| {
        let options = json!({
            "port": PROVIDER, "redirect": format!("{PAGE}/sign-in/done"),
            "groups": { "ada": ["dba", "sre"], "ben": ["oncall"], "cleo": ["oncall"], "dora": ["sre"], "eve": ["staff"] },
        });
        let mut node = world.host("node");
        node.arg("provider.mjs")
            .arg(options.to_string())
            .current_dir(&packages);
        let provider = Process::start("provider", world.dir(), &mut node)?;
        wait_until("the provider", DEADLINE, || {
            TcpStream::connect(("127.0.0.1", PROVIDER)).is_ok()
        })?;
        let config = format!(
            "[[issuer]]\nname = \"staff\"\nurl = \"http://127.0.0.1:{PROVIDER}\"\naudience = \"nobody\"\n\
             [approvals]\nissuer = \"staff\"\nclient_id = \"approvers\"\nbreak_glass_group = \"sre\"\n\
             [console]\nlisten = \"127.0.0.1:7102\"\nurl = \"{PAGE}\"\n"
        );
        let site = Site::start(
            world,
            name,
            &Options {
                policy: POLICY.into(),
                config,
                ..Options::default()
            },
        )?;
        let desk = Desk {
            // Kept, where somebody wants to look at them.
            shots: std::env::var_os("PORTCULLIS_SHOTS").map_or_else(|| world.path("shots"), PathBuf::from),
            site: &site,
            packages,
            _provider: provider,
        };
        std::fs::create_dir_all(&desk.shots)?;
        let said = test(&desk);
        said.map_err(|e| e.context(format!("the daemon's log:\n{}", super::tail(&site.daemon.log()))))
    });
    if let Err(error) = result {
        panic!("{error:?}");
    }
}

impl Desk<'_, '_> {
    /// The workload sends something that is held; the process that waits for the answer.
    fn send(&self, name: &str, arguments: &[&str]) -> Result<Process> {
        let mut words = vec!["curl", "-sS", "-w", "\n%{http_code}"];
        words.extend(arguments);
        Process::start(
            name,
            self.site.world.dir(),
            &mut self.site.workload().command(&words)?,
        )
    }

    fn approvals(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.site.daemon.command(&["approvals"])?;
        command
            .args(arguments)
            .env("XDG_STATE_HOME", self.site.world.path("state"));
        Ok(command)
    }

    /// The open requests, once there are so many, as the command lists them.
    fn open(&self, count: usize) -> Result<Vec<Value>> {
        let mut open = Vec::new();
        wait_until("the requests", DEADLINE, || {
            let said = self
                .approvals(&["list", "--json"])
                .and_then(|mut c| Said::by(&mut c)?.ok());
            let list: Value = said
                .ok()
                .and_then(|s| serde_json::from_str(&s).ok())
                .unwrap_or_default();
            open = list["open"].as_array().cloned().unwrap_or_default();
            open.len() == count
        })?;
        Ok(open)
    }

    fn drive(&self, act: &str, options: &Value) -> Result<()> {
        let mut all = json!({ "act": act, "url": PAGE, "shots": self.shots });
        for (name, value) in options.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        let mut node = self.site.world.host("node");
        // Chromium keeps a profile and a cache; not in the home of who runs this.
        node.env("HOME", self.site.world.dir());
        Said::by(
            node.arg("drive.mjs")
                .arg(all.to_string())
                .current_dir(&self.packages),
        )?
        .ok()?;
        Ok(())
    }

    /// Signs an account in for the command, by the device flow.
    fn login(&self, account: &str) -> Result<()> {
        let mut login = self.approvals(&["login"])?;
        // Each with a log of its own, in which its code is the first.
        let name = format!("login-{account}-{}", uuid::Uuid::now_v7());
        let mut process = Process::start(&name, self.site.world.dir(), &mut login)?;
        let word = |key: &str, log: &str| {
            let line = log.lines().find_map(|l| l.strip_prefix(key));
            line.map(|l| l.trim().to_owned())
        };
        wait_until("a user code", DEADLINE, || {
            word("Enter", &process.log()).is_some()
        })?;
        let log = process.log();
        let (url, code) = (word("Open", &log), word("Enter", &log));
        self.drive(
            "device",
            &json!({ "url": url, "code": code, "account": account, "look": "desktop" }),
        )
        .with_context(|| log.clone())?;
        let status = process.wait(DEADLINE)?;
        ensure!(status.success(), "{}", process.log());
        Ok(())
    }
}

fn id(request: &Value) -> Result<&str> {
    request["id"].as_str().context("an id")
}

/// What curl printed once it has ended.
fn ended(process: &mut Process) -> Result<String> {
    process.wait(DEADLINE)?;
    Ok(process.log())
}

#[test]
fn in_a_browser_on_a_phone_and_on_a_desktop() {
    with_desk("browser", |desk| {
        let body = r#"{"plan":"gold","note":"<script>alert(1)</script>","mail":"ada@example.com"}"#;
        let json = "content-type: application/json";
        let url = "http://api.internal/customers/17";
        let mut put = desk.send("put", &["-X", "PUT", "-H", json, "-d", body, url])?;
        let open = desk.open(1)?;
        desk.drive(
            "answer",
            &json!({
                "look": "phone", "account": "ada", "request": id(&open[0])?, "verdict": "Approve",
                "reason": "Ticket 4711: looked at the customer with sales",
            }),
        )?;
        let said = ended(&mut put)?;
        ensure!(!said.contains("approval_"), "{said}");

        let mut post = desk.send("post", &["-d", "x=1", "http://api.internal/customers"])?;
        let _delete = desk.send("delete", &["-X", "DELETE", "http://api.internal/customers/9"])?;
        let mut many = Vec::new();
        for n in 0..6 {
            let url = format!("http://api.internal/customers/{n}/plan?x=<b>%E2%80%AE</b>");
            many.push(desk.send(&format!("many{n}"), &["-g", "-X", "PUT", "-d", "plan=free", &url])?);
        }
        let open = desk.open(8)?;
        for (look, scheme) in [("phone", "dark"), ("desktop", "light")] {
            desk.drive(
                "queue",
                &json!({ "look": look, "scheme": scheme, "account": "ada" }),
            )?;
        }
        let asked = open
            .iter()
            .find(|r| r["summary"].as_str().is_some_and(|s| s.contains("POST")));
        desk.drive(
            "answer",
            &json!({
                "look": "desktop", "account": "ada", "request": id(asked.context("the POST")?)?, "verdict": "Deny",
                "reason": "Not during the freeze",
            }),
        )?;
        let said = ended(&mut post)?;
        ensure!(
            said.contains("approval_denied") && said.contains("Not during the freeze"),
            "{said}"
        );
        let rows = Reader::open(&desk.site.daemon.ledger())?
            .rows("SELECT event, approver, via FROM approval_events WHERE event IN ('approved', 'denied') ORDER BY entry")?;
        ensure!(
            rows == [["approved", "ada", "web"], ["denied", "ada", "web"]],
            "{rows:?}"
        );
        Ok(())
    });
}

#[test]
fn in_a_terminal_with_the_device_flow() {
    with_desk("terminal", |desk| {
        let mut delete = desk.send("delete", &["-X", "DELETE", "http://api.internal/customers/9"])?;
        let open = desk.open(1)?;
        let id = id(&open[0])?.to_owned();
        let answer = |reason: &str| -> Result<Said> {
            Said::by(&mut desk.approvals(&["approve", &id, "--reason", reason])?)
        };
        let without = answer("x")?;
        ensure!(
            without.code == 4 && without.err.contains("approvals login"),
            "{without:?}"
        );
        for (account, code, word) in [
            ("eve", 3, "none of the groups"),
            ("ben", 0, "1 more of"),
            ("ben", 3, "already"),
        ] {
            desk.login(account)?;
            let said = answer("looked at it")?;
            ensure!(said.code == code, "{account}: {said:?}");
            ensure!(
                said.out.contains(word) || said.err.contains(word),
                "{account}: {said:?}"
            );
        }
        let shown = Said::by(&mut desk.approvals(&["show", &id])?)?.ok()?;
        ensure!(
            shown.contains("1 of 2 of") && shown.contains("deletes-need-two"),
            "{shown}"
        );
        desk.login("cleo")?;
        let said = answer("me too")?;
        ensure!(said.code == 0 && said.out.contains("approved"), "{said:?}");
        let said = ended(&mut delete)?;
        ensure!(!said.contains("approval_"), "{said}");
        // The same over the network, where looking takes the sign-in, too.
        let mut over = desk.approvals(&["--url", PAGE, "list"])?;
        let said = Said::by(over.stdin(Stdio::null()))?;
        ensure!(
            said.code == 4,
            "a sign-in for the daemon is not sent to another place: {said:?}"
        );
        break_glass(desk)?;
        not_for_the_workload(desk)?;
        let out = Said::by(&mut desk.approvals(&["logout"])?)?;
        ensure!(out.code == 0 && answer("x")?.code == 4, "{out:?}");
        Ok(())
    });
}

/// Two people, in two terminals; and somebody who watches.
fn break_glass(desk: &Desk<'_, '_>) -> Result<()> {
    let mut watch = desk.approvals(&["list", "--watch", "--json"])?;
    let watch = Process::start("watch", desk.site.world.dir(), &mut watch)?;
    let mut put = desk.send(
        "glass",
        &["-X", "PUT", "-d", "x=1", "http://api.internal/customers/1"],
    )?;
    desk.open(1)?;
    wait_until("the watcher to see it", DEADLINE, || {
        watch.log().contains("customers/1")
    })?;
    desk.login("ada")?;
    let arguments = [
        "break-glass",
        "ask",
        "deploy-bot",
        "--for",
        "10m",
        "--reason",
        "all is down",
    ];
    Said::by(&mut desk.approvals(&arguments)?)?.ok()?;
    let list = Said::by(&mut desk.approvals(&["list", "--json"])?)?.ok()?;
    let list: Value = serde_json::from_str(&list)?;
    let glass = id(&list["break_glass"][0])?.to_owned();
    let confirm = ["break-glass", "confirm", &glass, "--reason", "I see it"];
    let own = Said::by(&mut desk.approvals(&confirm)?)?;
    ensure!(own.code == 3 && own.err.contains("somebody else"), "{own:?}");
    desk.login("dora")?;
    Said::by(&mut desk.approvals(&confirm)?)?.ok()?;
    let said = ended(&mut put)?;
    ensure!(!said.contains("approval_"), "{said}");
    let grants = Said::by(&mut desk.approvals(&["grants"])?)?.ok()?;
    ensure!(
        grants.contains(&glass) && grants.contains("Ada, Dora"),
        "{grants}"
    );
    Said::by(&mut desk.approvals(&["end-grant", &glass, "--reason", "over"])?)?.ok()?;
    let grants = Said::by(&mut desk.approvals(&["grants"])?)?.ok()?;
    ensure!(!grants.contains(&glass), "{grants}");
    let status = Said::by(&mut desk.site.daemon.command(&["status"])?)?;
    ensure!(
        status.out.contains("approvers sign in at") && status.out.contains(PAGE),
        "{status:?}"
    );
    Ok(())
}

/// The workload may be root, and reaches neither the socket nor the page.
fn not_for_the_workload(desk: &Desk<'_, '_>) -> Result<()> {
    let config = desk.site.daemon.config().display().to_string();
    let program = e2e::paths::portcullis()?;
    let mut inside = desk.site.workload().tagged(program);
    let said = Said::by(inside.args(["--config", &config, "approvals", "list"]))?;
    // By the kernel, where it is asked of UNIX sockets; else by the daemon.
    let by_kernel = said.code == 1 && said.err.contains("permission denied");
    let by_daemon = said.code == 3 && said.err.contains("belongs to workload");
    ensure!(by_kernel || by_daemon, "{said:?}");
    for url in [format!("{PAGE}/"), "http://192.0.2.1:7102/".to_owned()] {
        let said = desk.site.workload().run(&["curl", "-sS", &url])?;
        ensure!(said.out.contains("upstream_is_agent"), "{url}: {said:?}");
    }
    Ok(())
}
