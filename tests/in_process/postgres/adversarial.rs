//! Ways around: to write, to read a masked column, to hide a statement. `clients/postgres/adversarial.toml` lists them
//! and says what is expected; each is first proved to be an attack by what the real server does without an agent.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::BytesMut;
use e2e::postgres::{APP, DATABASE, Role};
use serde::Deserialize;

use super::{
    PASSWORD, Shop, private,
    wire::{Answer, Extended, Wire, function_call, message, query},
};

/// The copy of the fixtures' database that a case runs in.
const COPY: &str = "shop_copy";
const SUPERUSER: Role = Role {
    name: "postgres",
    password: APP.password,
};
const PACKS: [&str; 3] = ["postgres-readonly", "postgres-guarded", "observe"];

#[derive(Deserialize)]
struct Catalogue {
    case: Vec<Case>,
}

/// One way; the file's head says what the fields mean.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    kind: String,
    pack: Option<String>,
    setup: Option<String>,
    send: Vec<Send>,
    #[serde(default)]
    pipeline: bool,
    copy_in: Option<String>,
    verdict: Verdict,
    #[serde(default)]
    policy: Vec<String>,
    probe: Option<String>,
    secret: Option<String>,
    limit: Option<String>,
    #[serde(default = "yes")]
    real: bool,
    #[serde(default)]
    superuser: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Denied,
    Allowed,
    Either,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Send {
    Text(String),
    Call {
        call: String,
        #[serde(default)]
        args: Vec<String>,
    },
    Extended(Batch),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    sql: Option<String>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    portal: String,
    #[serde(default)]
    params: Vec<String>,
    #[serde(default)]
    format: Format,
    #[serde(default = "yes")]
    describe: bool,
    #[serde(default = "yes")]
    execute: bool,
    bind: Option<bool>,
    close: Option<String>,
    #[serde(default)]
    max_rows: i32,
    #[serde(default = "yes")]
    sync: bool,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Text,
    Binary,
}

fn yes() -> bool {
    true
}

/// What came of a case on one way.
struct Outcome {
    answers: Vec<Answer>,
    heard: Vec<u8>,
    before: String,
    after: String,
    /// Whether the connection was ended.
    ended: bool,
}

impl Batch {
    fn bytes(&self) -> BytesMut {
        let mut out = Extended::default();
        if let Some(name) = &self.close {
            out = out.close(b'S', name);
        }
        if let Some(sql) = &self.sql {
            out = out.parse(&self.name, sql, &[]);
        }
        if self.bind.unwrap_or(self.execute) {
            let parameters: Vec<Option<&str>> = self.params.iter().map(|p| Some(p.as_str())).collect();
            let formats: &[i16] = match self.format {
                Format::Text => &[],
                Format::Binary => &[1],
            };
            out = out.bind(&self.portal, &self.name, &parameters, formats);
        }
        if self.describe && (self.execute || self.bind == Some(true)) {
            out = out.describe(b'P', &self.portal);
        }
        if self.execute {
            out = out.execute(&self.portal, self.max_rows);
        }
        if self.sync { out.sync() } else { out.0 }
    }
}

impl Send {
    /// What it is on the wire.
    fn bytes(&self, shop: &Shop) -> Result<BytesMut> {
        Ok(match self {
            Self::Text(sql) => query(sql),
            Self::Extended(batch) => batch.bytes(),
            Self::Call { call, args } => {
                let oid = format!("SELECT '{call}'::regprocedure::oid");
                let oid = shop.postgres.admin_in(COPY, &oid)?.trim().parse()?;
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                function_call(oid, &args).as_slice().into()
            }
        })
    }

    /// Whether the server says afterwards that it is ready.
    fn is_answered(&self) -> bool {
        !matches!(self, Self::Extended(batch) if !batch.sync)
    }
}

impl Case {
    fn pack(&self) -> &str {
        self.pack.as_deref().unwrap_or(PACKS[0])
    }

    /// Runs it on a connection that has been logged in.
    async fn run(&self, shop: &Shop, mut wire: Wire) -> Result<Outcome> {
        let probe = |_when| match &self.probe {
            Some(sql) => shop.postgres.admin_in(COPY, sql),
            None => Ok(String::new()),
        };
        let before = probe("before")?;
        let (mut answers, mut ended) = (Vec::new(), false);
        let mut waiting = Vec::new();
        for (n, send) in self.send.iter().enumerate() {
            // One that is gone has said why.
            let _gone = wire.send(&send.bytes(shop)?).await;
            waiting.extend(send.is_answered().then_some(send));
            if self.pipeline && n + 1 < self.send.len() {
                continue;
            }
            for send in waiting.drain(..) {
                let extended = matches!(send, Send::Extended(_));
                let answer = self.answer(&mut wire, extended).await?;
                ended |= answer.state() == '?';
                answers.push(answer);
            }
            if ended {
                break;
            }
        }
        // While the connection is open: what it did in a transaction holds locks.
        let after = probe("after")?;
        Ok(Outcome {
            answers,
            heard: std::mem::take(&mut wire.heard),
            before,
            after,
            ended,
        })
    }

    async fn answer(&self, wire: &mut Wire, extended: bool) -> Result<Answer> {
        let mut all = Vec::new();
        while let Some(next) = wire.next().await? {
            let tag = next.tag;
            all.push(next);
            match tag {
                b'Z' => break,
                b'G' => {
                    let data = self.copy_in.as_deref().unwrap_or_default().as_bytes();
                    let mut out = message(b'd', data);
                    out.extend(message(b'c', b""));
                    if extended {
                        // The one before it was not looked at.
                        out.extend(message(b'S', b""));
                    }
                    wire.send(&out).await?;
                }
                _ => {}
            }
        }
        Ok(Answer(all))
    }

    /// Directly it does what it is said to do.
    fn is_an_attack(&self, direct: &Outcome) -> Result<()> {
        if let Some(secret) = &self.secret {
            ensure!(
                contains(&direct.heard, secret),
                "directly, '{secret}' is not seen"
            );
        }
        if self.probe.is_some() && self.real {
            ensure!(
                direct.before != direct.after,
                "directly, the probe stays {}: {}",
                direct.before,
                errors(direct)
            );
        }
        Ok(())
    }

    fn is_stopped(&self, shop: &Shop, through: &Outcome) -> Result<()> {
        let denied: Vec<_> = through
            .answers
            .iter()
            .filter_map(Answer::error)
            .filter(|e| e.get(&'R').is_some_and(|r| r == "portcullis"))
            .collect();
        match self.verdict {
            Verdict::Denied => ensure!(!denied.is_empty(), "not denied; errors: {}", errors(through)),
            Verdict::Allowed => {
                ensure!(denied.is_empty() && !through.ended, "denied: {denied:?}");
            }
            Verdict::Either => {}
        }
        if self.verdict == Verdict::Denied {
            let names = |error: &super::wire::Fields| {
                let detail = error.get(&'D').map_or("", String::as_str);
                self.policy.is_empty() || self.policy.iter().any(|p| detail.contains(p.as_str()))
            };
            ensure!(denied.iter().any(names), "by another policy: {denied:?}");
        }
        // A string that was denied has not been sent on, also not in part.
        let answered = self.send.iter().filter(|s| s.is_answered());
        for (send, answer) in answered.zip(&through.answers) {
            let by_agent = answer
                .error()
                .is_some_and(|e| e.get(&'R').is_some_and(|r| r == "portcullis"));
            if let (Send::Text(sql), true) = (send, by_agent) {
                ensure!(!shop.tap.saw(sql), "the server was sent: {sql}");
            }
        }
        if self.limit.is_some() {
            return Ok(());
        }
        if let Some(secret) = &self.secret {
            ensure!(!contains(&through.heard, secret), "'{secret}' is seen");
        }
        ensure!(
            through.before == through.after,
            "the probe was {} and is {}",
            through.before,
            through.after
        );
        Ok(())
    }
}

fn contains(heard: &[u8], text: &str) -> bool {
    heard.windows(text.len()).any(|w| w == text.as_bytes())
}

fn errors(outcome: &Outcome) -> String {
    let errors: Vec<_> = outcome.answers.iter().filter_map(Answer::error).collect();
    format!("{errors:?}")
}

fn repository() -> PathBuf {
    e2e::paths::repository()
}

fn pack(name: &str) -> Result<String> {
    let dir = repository().join("policies").join(name);
    let mut text = String::new();
    for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "cedar") {
            text += &fs::read_to_string(path)?;
        }
    }
    Ok(text)
}

fn catalogue() -> Result<Vec<Case>> {
    let file: &Path = &repository().join("tests/clients/postgres/adversarial.toml");
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let catalogue: Catalogue = toml::from_str(&text)?;
    Ok(catalogue.case)
}

/// A fresh copy of the fixtures, with what the case needs in it.
fn copy(shop: &Shop, case: &Case) -> Result<()> {
    let drop = format!("DROP DATABASE IF EXISTS {COPY} WITH (FORCE)");
    shop.postgres.admin_in("postgres", &drop)?;
    let create = format!("CREATE DATABASE {COPY} TEMPLATE {DATABASE} OWNER app");
    shop.postgres.admin_in("postgres", &create)?;
    if let Some(setup) = &case.setup {
        shop.postgres.admin_in(COPY, setup)?;
    }
    Ok(())
}

/// Two shops, one for each role that cases run as.
struct Ring {
    app: Shop,
    superuser: Shop,
}

impl Ring {
    async fn new(policy: &str) -> Result<Self> {
        Ok(Self {
            app: Self::shop(policy, APP).await?,
            superuser: Self::shop(policy, SUPERUSER).await?,
        })
    }

    async fn shop(policy: &str, role: Role) -> Result<Shop> {
        let login = format!(
            "login = \"brokered\"\nuser = \"{}\"\ncredential = \"secret\"\ntls = \"disable\"\n",
            role.name
        );
        Shop::prepared(policy, &login, PASSWORD, |_, dir| private(dir, role.password)).await
    }

    async fn judge(&self, case: &Case) -> Result<()> {
        let (shop, role) = if case.superuser {
            (&self.superuser, SUPERUSER)
        } else {
            (&self.app, APP)
        };
        let parameters = [("user", role.name), ("database", COPY)];
        copy(shop, case)?;
        let mut wire = shop.direct().await?;
        let login = wire.login(&parameters, role.password).await?;
        ensure!(login.state() == 'I', "directly: {login:?}");
        let direct = case.run(shop, wire).await.context("directly")?;
        case.is_an_attack(&direct)?;
        copy(shop, case)?;
        shop.tap.forget();
        let mut wire = shop.connect().await;
        let login = wire.login(&parameters, "").await?;
        let through = if login.state() == 'I' {
            case.run(shop, wire).await?
        } else if case.verdict == Verdict::Either {
            return Ok(());
        } else {
            bail!("no login: {login:?}");
        };
        case.is_stopped(shop, &through)
    }
}

/// Every fourth case of the catalogue, from `first` on.
async fn quarter(first: usize) -> Result<()> {
    let cases = catalogue()?;
    ensure!(cases.len() >= 60, "only {} cases", cases.len());
    let known = |case: &Case| PACKS.contains(&case.pack());
    ensure!(cases.iter().all(known), "a case names another pack");
    let mut wrong = Vec::new();
    for name in PACKS {
        let ring = Ring::new(&pack(name)?).await?;
        let own = cases.iter().skip(first).step_by(4).filter(|c| c.pack() == name);
        for case in own {
            if let Err(error) = ring.judge(case).await {
                wrong.push(format!("{name}, {} '{}': {error:#}", case.kind, case.name));
            }
        }
    }
    ensure!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn ways_around_are_stopped_1() -> Result<()> {
    quarter(0).await
}

#[tokio::test]
async fn ways_around_are_stopped_2() -> Result<()> {
    quarter(1).await
}

#[tokio::test]
async fn ways_around_are_stopped_3() -> Result<()> {
    quarter(2).await
}

#[tokio::test]
async fn ways_around_are_stopped_4() -> Result<()> {
    quarter(3).await
}
