//! Credentials of a real OpenBao, used for real logins to a real PostgreSQL; and a daemon that keeps its memory to
//! itself.

mod bao;

use std::{fs, os::unix::fs::MetadataExt as _, time::Duration};

use anyhow::{Context as _, Result, ensure};
use bao::Bao;
use e2e::{
    child::{Process, Said},
    ledger::Reader,
    paths,
    postgres::{APP, BIN, DATABASE, Postgres},
    shop,
    site::{AUDIENCE, Options, SUBJECT, Site, WORKLOAD},
    wait::{DEADLINE, wait_until},
    world::{UPSTREAM, UPSTREAM_V6, World},
};
use serde_json::{Value, json};

/// Of the engine, which makes and drops users with it.
const SUPERUSER_PASSWORD: &str = "Zq3.of-the-engine-only.Lp8";

/// `orders-login` is a user that OpenBao makes, over IPv4; `app-password` is kept there and had with the workload's own
/// token, over IPv6.
fn config(bao: &Bao<'_>, world: &World, role_id: &str) -> String {
    format!(
        r#"
[[credential]]
name = "orders-login"
[credential.vault]
{vault}database_role = "orders"
approle = {{ role_id = "{role_id}", secret_id_file = "{secret_id}" }}

[[credential]]
name = "app-password"
[credential.vault]
{vault}path = "apps/shop"
field = "password"
refresh = "1s"
jwt = {{ role = "agents" }}

[[upstream]]
name = "made"
protocol = "postgres"
host = "{UPSTREAM}"
port = 5432
login = "brokered"
credential = "orders-login"
database = "{DATABASE}"

[[upstream]]
name = "kept"
protocol = "postgres"
host = "{UPSTREAM_V6}"
port = 5432
login = "brokered"
user = "{app}"
credential = "app-password"
"#,
        vault = bao.toml(),
        secret_id = world.path("secret-id").display(),
        app = APP.name,
    )
}

/// Engines, and an AppRole that may use them; gives its role id, and writes its secret id.
fn prepare(bao: &Bao<'_>, world: &World, postgres: &Postgres) -> Result<(String, String)> {
    postgres.admin(&format!("ALTER USER postgres PASSWORD '{SUPERUSER_PASSWORD}'"))?;
    bao.post("sys/mounts/database", &json!({ "type": "database" }))?;
    let url =
        format!("postgresql://{{{{username}}}}:{{{{password}}}}@{UPSTREAM}:5432/{DATABASE}?sslmode=disable");
    bao.post(
        "database/config/shop",
        &json!({
            "plugin_name": "postgresql-database-plugin", "connection_url": url, "allowed_roles": "orders",
            "username": "postgres", "password": SUPERUSER_PASSWORD,
        }),
    )?;
    let make = format!(
        "CREATE ROLE \"{{{{name}}}}\" LOGIN PASSWORD '{{{{password}}}}' VALID UNTIL '{{{{expiration}}}}' IN ROLE {}",
        APP.name
    );
    bao.post(
        "database/roles/orders",
        &json!({ "db_name": "shop", "creation_statements": [make], "default_ttl": "4s", "max_ttl": "1h" }),
    )?;
    bao.post(
        "secret/data/apps/shop",
        &json!({ "data": { "password": APP.password } }),
    )?;
    let policy = "path \"database/creds/orders\" { capabilities = [\"read\"] }\n\
                  path \"secret/data/apps/*\" { capabilities = [\"read\"] }\n\
                  path \"sys/leases/revoke\" { capabilities = [\"update\"] }\n";
    bao.post("sys/policies/acl/agents", &json!({ "policy": policy }))?;
    bao.post("sys/auth/approle", &json!({ "type": "approle" }))?;
    bao.post(
        "auth/approle/role/host",
        &json!({ "token_policies": "agents", "token_ttl": "1h" }),
    )?;
    let text = |answer: Value, key: &str| -> Result<String> {
        Ok(answer["data"][key].as_str().context("no such answer")?.to_owned())
    };
    let role_id = text(bao.get("auth/approle/role/host/role-id")?, "role_id")?;
    let secret_id = text(
        bao.post("auth/approle/role/host/secret-id", &json!({}))?,
        "secret_id",
    )?;
    let file = world.path("secret-id");
    fs::write(&file, &secret_id)?;
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok((role_id, secret_id))
}

/// The workloads' issuer is believed, for this one's subject.
fn trust_issuer(bao: &Bao<'_>, url: &str) -> Result<()> {
    bao.post("sys/auth/jwt", &json!({ "type": "jwt" }))?;
    bao.post(
        "auth/jwt/config",
        &json!({ "oidc_discovery_url": url, "bound_issuer": url }),
    )?;
    bao.post(
        "auth/jwt/role/agents",
        &json!({
            "role_type": "jwt", "user_claim": "sub", "bound_subject": SUBJECT, "bound_audiences": [AUDIENCE],
            "token_policies": "agents", "token_ttl": "1h",
        }),
    )?;
    Ok(())
}

/// What `psql` says, as the workload.
fn psql(site: &Site<'_>, host: &str, sql: &str) -> Result<Said> {
    let mut psql = site.workload().tagged(format!("{BIN}/psql"));
    psql.env("PGHOST", host)
        .env("PGPORT", "5432")
        .env("PGDATABASE", DATABASE);
    psql.env("PGUSER", "somebody").env("PGPASSWORD", "nothing");
    psql.env("PGSSLMODE", "disable");
    Said::by(psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]))
}

fn listed(site: &Site<'_>) -> Result<Vec<Value>> {
    let said = site.daemon.cli(&["credentials", "--json"])?.ok()?;
    Ok(serde_json::from_str(&said)?)
}

/// The events of a credential, in their order.
fn events(site: &Site<'_>, reference: &str) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT json_extract(detail, '$.event') FROM changes WHERE subject = 'credential' \
         AND json_extract(detail, '$.reference') = '{reference}' ORDER BY entry"
    );
    Reader::open(&site.daemon.ledger())?.column(&sql)
}

fn made_users(postgres: &Postgres) -> Result<String> {
    let sql = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'";
    Ok(postgres.admin(sql)?.trim().to_owned())
}

fn vault(world: &World, program: &std::path::Path) -> Result<()> {
    let postgres = Postgres::upstream(world)?;
    let bao = Bao::start(world, program)?;
    let (role_id, secret_id) = prepare(&bao, world, &postgres)?;
    let options = Options {
        durability: "process",
        policy: shop::POLICY.into(),
        config: config(&bao, world, &role_id),
        ..Options::default()
    };
    let mut site = Site::start(world, "credentials", &options)?;
    trust_issuer(&bao, site.issuer.url())?;
    let result = used(&mut site, &bao, &postgres, &secret_id);
    result.map_err(|e| {
        e.context(format!(
            "the daemon's log:\n{}\nPostgreSQL's:\n{}",
            super::tail(&site.daemon.log()),
            super::tail(&postgres.log())
        ))
    })
}

fn used(site: &mut Site<'_>, bao: &Bao<'_>, postgres: &Postgres, secret_id: &str) -> Result<()> {
    // Nothing is asked for before it is needed.
    ensure!(listed(site)?.iter().all(|c| c["version"].is_null()));
    ensure!(made_users(postgres)? == "0");

    // A user that is made for it, and that outlives its first four seconds because its lease is renewed.
    let user = psql(
        site,
        UPSTREAM,
        "SELECT current_user, count(*) FROM orders; SELECT pg_sleep(6)",
    )?
    .ok()?;
    ensure!(user.starts_with("v-"), "{user}");
    let name = user.split('|').next().context("a name")?.to_owned();
    ensure!(made_users(postgres)? == "1", "one for all");
    let again = psql(site, UPSTREAM, "SELECT current_user")?.ok()?;
    ensure!(again.trim() == name, "{again}");
    let told = events(site, "orders-login")?;
    ensure!(
        told.len() >= 2 && told[0] == "obtained" && told[1] == "renewed",
        "{told:?}"
    );

    // A password that is kept there, had with the workload's own token; a new version is used without anybody's doing.
    ensure!(psql(site, UPSTREAM_V6, "SELECT current_user")?.ok()?.trim() == APP.name);
    postgres.admin(&format!("ALTER USER {} PASSWORD 'Nw9.rotated.Xc3'", APP.name))?;
    bao.post(
        "secret/data/apps/shop",
        &json!({ "data": { "password": "Nw9.rotated.Xc3" } }),
    )?;
    wait_until("the new password to be used", DEADLINE, || {
        psql(site, UPSTREAM_V6, "SELECT 1").is_ok_and(|said| said.code == 0)
    })?;
    let list = listed(site)?;
    let kept = list
        .iter()
        .find(|c| c["reference"] == "app-password")
        .context("in the list")?;
    ensure!(kept["version"] == "2" && kept["workload"] == WORKLOAD, "{kept}");
    let made = list
        .iter()
        .find(|c| c["reference"] == "orders-login")
        .context("in the list")?;
    ensure!(
        made["user"] == name.as_str() && made["expires_at"].is_string(),
        "{made}"
    );
    let table = site.daemon.cli(&["credentials"])?.ok()?;
    ensure!(
        table.contains("orders-login") && table.contains("good"),
        "{table}"
    );

    // Where it cannot be had, the workload is told which, and not why; the log says that.
    bao.post(
        "sys/policies/acl/agents",
        &json!({ "policy": "path \"sys/nothing\" { capabilities = [\"read\"] }" }),
    )?;
    wait_until("the permission to be missed", DEADLINE, || {
        events(site, "app-password").is_ok_and(|e| e.last().is_some_and(|e| e == "failed"))
    })?;
    let denied = psql(site, UPSTREAM_V6, "SELECT 1")?;
    ensure!(
        denied.err.contains("app-password") && !denied.err.contains("127.0.0.1:8200"),
        "{denied:?}"
    );
    ensure!(site.daemon.log().contains("permission denied (403)"));
    ensure!(site.daemon.cli(&["credentials"])?.code == 1);

    // Revoked, the workload's own is gone; when the agent stops, the users are.
    site.daemon.cli(&["workload", "revoke", WORKLOAD])?.ok()?;
    wait_until("it to be forgotten", DEADLINE, || {
        listed(site).is_ok_and(|l| l.iter().all(|c| c["workload"].is_null()))
    })?;
    ensure!(made_users(postgres)? == "1");
    site.daemon.stop()?;
    ensure!(made_users(postgres)? == "0", "leases are given back");
    ensure!(
        events(site, "orders-login")?
            .last()
            .is_some_and(|e| e == "revoked")
    );
    at_rest(
        site,
        &[APP.password, "Nw9.rotated.Xc3", SUPERUSER_PASSWORD, secret_id],
    )
}

/// Nothing of it is in anything that stays.
fn at_rest(site: &Site<'_>, secrets: &[&str]) -> Result<()> {
    let mut grep = site.world.host("grep");
    grep.arg("-rlaF");
    for secret in secrets {
        grep.args(["-e", secret]);
    }
    let said = Said::by(grep.arg(site.daemon.data_dir()))?;
    ensure!(said.code == 1 && said.out.is_empty(), "stored in {}", said.out);
    let log = site.daemon.log();
    ensure!(secrets.iter().all(|s| !log.contains(s)), "in the log:\n{log}");
    Ok(())
}

#[test]
fn openbao_makes_users_and_keeps_passwords() {
    let program = bao::install().unwrap();
    if let Err(error) = World::enter(|world| vault(world, &program)) {
        panic!("{error:?}");
    }
}

/// What is dumpable belongs to whom it runs as, in /proc; what is not belongs to root.
#[test]
fn the_daemon_keeps_its_memory_to_itself() {
    let result = World::enter(|world| {
        let config = world.path("config.fifo");
        Said::by(world.host("mkfifo").arg(&config))?.ok()?;
        let other = 65_534;
        let mut command = world.host("setpriv");
        command.args(["--regid", &other.to_string(), "--clear-groups", "--"]);
        command
            .arg(paths::portcullis()?)
            .arg("daemon")
            .arg("--config")
            .arg(&config);
        // It waits for its configuration.
        let process = Process::start("memory", world.dir(), &mut command)?;
        let proc = format!("/proc/{}", process.pid());
        let running = || fs::read_to_string(format!("{proc}/comm")).is_ok_and(|c| c.trim() == "portcullis");
        wait_until("the daemon to run", DEADLINE, running)?;
        let status = || fs::read_to_string(format!("{proc}/status")).unwrap_or_default();
        ensure!(
            status()
                .lines()
                .any(|l| l.starts_with("Gid:") && l.contains(&other.to_string())),
            "{}",
            status()
        );
        wait_until("its memory to be root's alone", Duration::from_secs(10), || {
            fs::metadata(format!("{proc}/environ")).is_ok_and(|m| (m.uid(), m.gid()) == (0, 0))
        })?;
        let limits = fs::read_to_string(format!("{proc}/limits"))?;
        let core = limits
            .lines()
            .find(|l| l.starts_with("Max core file size"))
            .context("a limit")?;
        let words: Vec<&str> = core.split_whitespace().collect();
        ensure!(words[4..6] == ["0", "0"], "{core}");
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error:?}");
    }
}
