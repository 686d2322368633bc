//! Real PostgreSQL clients through the real redirect. Each runs the same script twice, against the server directly and
//! as the workload, and must get the same but for what policy says.

mod install;
mod tools;
mod transcript;
mod unix;

use std::{
    ffi::OsString,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    child::Said,
    postgres::{APP, DATABASE, SECRETS},
    shop::Shop,
    world::{UPSTREAM, UPSTREAM_V6, World},
};

/// Runs a test with a shop of its own.
fn with_shop(name: &str, test: impl FnOnce(&mut Shop<'_>) -> Result<()> + Send) {
    let result = World::enter(|world| {
        let mut shop = Shop::start(world, name, "process")?;
        test(&mut shop).map_err(|e| {
            let (log, postgres) = (
                super::tail(&shop.site.daemon.log()),
                super::tail(&shop.postgres.log()),
            );
            e.context(format!("the daemon's log:\n{log}\nPostgreSQL's:\n{postgres}"))
        })
    });
    if let Err(error) = result {
        panic!("{error:?}");
    }
}

/// How a client comes to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Not through the agent.
    Direct,
    /// The agent logs in; what the client presents is not looked at.
    Brokered,
    /// The client logs in.
    PassThrough,
}

impl Way {
    fn host(self) -> &'static str {
        match self {
            Self::Direct | Self::Brokered => UPSTREAM,
            Self::PassThrough => UPSTREAM_V6,
        }
    }

    fn login(self) -> (&'static str, &'static str) {
        match self {
            Self::Direct | Self::PassThrough => (APP.name, APP.password),
            Self::Brokered => ("somebody", "not-the-password"),
        }
    }

    /// The file with the roots that a client trusts.
    fn roots(self, shop: &Shop<'_>) -> PathBuf {
        match self {
            Self::Direct => shop.site.world.path("roots.pem"),
            Self::Brokered | Self::PassThrough => shop.site.daemon.data_dir().join("ca.pem"),
        }
    }

    /// The arguments as JSON.
    fn options(self, shop: &Shop<'_>, tls: bool) -> String {
        let (user, password) = self.login();
        let mut options = serde_json::json!({
            "host": self.host(), "port": 5432, "user": user, "password": password, "database": DATABASE,
        });
        if tls {
            options["ca"] = self.roots(shop).display().to_string().into();
        }
        options.to_string()
    }

    /// The command, outside of the workload or in it.
    fn command(self, shop: &Shop<'_>, program: &Path, arguments: &[OsString]) -> Command {
        let mut command = match self {
            Self::Direct => shop.site.world.host(program),
            Self::Brokered | Self::PassThrough => shop.site.workload().tagged(program),
        };
        command.args(arguments);
        command
    }
}

/// Runs a client in all ways and compares; `arguments` says how it is told where to connect.
fn compare(
    shop: &Shop<'_>,
    program: &Path,
    tls: bool,
    arguments: impl Fn(Way, bool) -> Vec<OsString>,
    set: impl Fn(&mut Command),
) -> Result<()> {
    let run = |way: Way, tls: bool| {
        let mut command = way.command(shop, program, &arguments(way, tls));
        set(&mut command);
        Said::by(&mut command)?
            .ok()
            .with_context(|| format!("{way:?}, TLS: {tls}"))
    };
    let direct = run(Way::Direct, false)?;
    // Over TLS, where the client has it, and in the clear.
    for (way, tls) in [(Way::Brokered, tls), (Way::PassThrough, false)] {
        let through = run(way, tls)?;
        transcript::compare(&direct, &through).with_context(|| format!("{way:?}, TLS: {tls}"))?;
    }
    at_rest(shop)
}

/// Nothing of what was masked is stored, and the password is nowhere.
fn at_rest(shop: &Shop<'_>) -> Result<()> {
    let mut grep = shop.site.world.host("grep");
    grep.arg("-rlaF");
    for secret in SECRETS.iter().chain([&APP.password]) {
        grep.args(["-e", secret]);
    }
    let said = Said::by(grep.arg(shop.site.daemon.data_dir()))?;
    ensure!(said.code == 1 && said.out.is_empty(), "stored in {}", said.out);
    let log = shop.site.daemon.log();
    ensure!(!log.contains(APP.password), "the password is in the log:\n{log}");
    Ok(())
}

fn script(name: &str) -> OsString {
    install::source().join(name).into()
}

fn python(name: &'static str) {
    let python = install::python().unwrap();
    with_shop(name, |shop| {
        let script = script(&format!("with_{name}.py"));
        let arguments = |way: Way, tls| vec![script.clone(), way.options(shop, tls).into()];
        compare(shop, &python, true, arguments, |_| {})
    });
}

#[test]
fn psycopg() {
    python("psycopg");
}

#[test]
fn asyncpg() {
    python("asyncpg");
}

#[test]
fn pg8000() {
    python("pg8000");
}

#[test]
fn node_postgres() {
    let packages = install::packages().unwrap();
    with_shop("node-postgres", |shop| {
        let arguments = |way: Way, tls| vec![script("with_pg.mjs"), way.options(shop, tls).into()];
        compare(shop, Path::new("node"), true, arguments, |node| {
            node.env("PACKAGES", &packages);
        })
    });
}

#[test]
fn jdbc() {
    let classes = install::classes().unwrap();
    with_shop("jdbc", |shop| {
        let arguments = |way: Way, tls| {
            let (user, password) = way.login();
            let host = way
                .host()
                .parse()
                .map_or(way.host().to_owned(), |address| match address {
                    IpAddr::V4(v4) => v4.to_string(),
                    IpAddr::V6(v6) => format!("[{v6}]"),
                });
            let mut words: Vec<OsString> = ["-Dstdout.encoding=UTF-8", "-cp", &classes, "Jdbc"]
                .map(Into::into)
                .into();
            words.extend([&host, "5432", user, password, DATABASE].map(Into::into));
            if tls {
                words.push(way.roots(shop).into());
            }
            words
        };
        compare(shop, Path::new("java"), true, arguments, |_| {})
    });
}

fn rust(driver: &str) {
    with_shop(driver, |shop| {
        let arguments = |way: Way, tls| vec![driver.into(), way.options(shop, tls).into()];
        let program = Path::new(env!("CARGO_BIN_EXE_postgres-workload"));
        compare(shop, program, false, arguments, |_| {})
    });
}

#[test]
fn tokio_postgres() {
    rust("tokio-postgres");
}

#[test]
fn sqlx() {
    rust("sqlx");
}
