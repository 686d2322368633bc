//! Who logs in, how, and what of it shows.

use anyhow::{Result, ensure};
use e2e::postgres::{APP, CERT, CLEAR, DATABASE, MD5, REPLICATOR, Role, TRUST};
use portcullis::{
    connection::Tag,
    model::{CgroupId, WorkloadName},
};
use tokio::io::AsyncWriteExt as _;

use super::{
    PASSWORD, Shop, private,
    wire::{Answer, Wire, cancel},
};

/// The parts of `[[upstream]]` and what follows it, for the agent's own login as a role.
async fn brokered(role: Role, tls: &str) -> Result<Shop> {
    brokered_with(role, role.password, tls).await
}

async fn brokered_with(role: Role, password: &str, tls: &str) -> Result<Shop> {
    let mut upstream = format!(
        "login = \"brokered\"\nuser = \"{}\"\ntls = \"{tls}\"\nserver_name = \"localhost\"\n",
        role.name
    );
    let mut more = "";
    if role.name == CERT.name {
        upstream += "certificate = \"secret\"\n";
        more = "[[credential]]\nname = \"secret\"\ncertificate_file = \"{dir}/chain.pem\"\nkey_file = \"{dir}/secret\"\n";
    } else if !role.password.is_empty() {
        upstream += "credential = \"secret\"\n";
        more = PASSWORD;
    }
    Shop::prepared(e2e::shop::POLICY, &upstream, more, |authority, dir| {
        if role.name != CERT.name {
            return private(dir, password);
        }
        let leaf = authority.leaf(&[CERT.name])?;
        std::fs::write(dir.join("chain.pem"), &leaf.chain)?;
        private(dir, &leaf.key)
    })
    .await
}

fn logged_in(answer: &Answer) -> Result<()> {
    ensure!(answer.state() == 'I', "not logged in: {answer:?}");
    ensure!(answer.tags().contains('K'), "no key to cancel with: {answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_workload_logs_in_by_itself() -> Result<()> {
    let shop = Shop::new("login = \"pass-through\"\nserver_name = \"localhost\"\n", "").await?;
    for role in [APP, MD5, CLEAR, TRUST] {
        let mut plain = shop.connect().await;
        if role.name != CLEAR.name {
            logged_in(&plain.login_as(role).await?)?;
            ensure!(plain.query("SELECT current_user").await?.value()? == role.name);
        }
        let mut tls = shop.connect_tls().await?;
        logged_in(&tls.login_as(role).await?)?;
        ensure!(tls.query("SELECT session_user").await?.value()? == role.name);
        ensure!(
            tls.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
                .await?
                .value()?
                == "t",
            "TLS that the workload asked for ends at the agent"
        );
        if !role.password.is_empty() {
            shop.not_stored(role.password)?;
        }
    }
    // Twice in the clear: the hashes of SCRAM and MD5 are not the passwords.
    shop.nowhere(APP.password)?;
    shop.nowhere(MD5.password)
}

#[tokio::test]
async fn a_wrong_password_is_the_servers_to_refuse() -> Result<()> {
    let shop = Shop::new("login = \"pass-through\"\n", "").await?;
    for role in [APP, MD5] {
        let mut wire = shop.connect().await;
        let wrong = Role {
            password: "not-the-password",
            ..role
        };
        let answer = wire.login_as(wrong).await?;
        ensure!(answer.sqlstate() == "28P01", "{answer:?}");
        ensure!(wire.next().await?.is_none(), "it stays open");
    }
    Ok(())
}

#[tokio::test]
async fn the_agent_logs_in_whatever_the_workload_presents() -> Result<()> {
    for (role, tls) in [
        (APP, "disable"),
        (APP, "require"),
        (MD5, "disable"),
        (MD5, "require"),
        (CLEAR, "require"),
        (CERT, "require"),
        (TRUST, "disable"),
    ] {
        let shop = brokered(role, tls).await?;
        for (user, password) in [
            ("somebody", ""),
            ("postgres", "not-the-password"),
            (role.name, "x"),
        ] {
            let mut wire = shop.connect().await;
            let parameters = [("user", user), ("database", DATABASE)];
            let answer = wire.login(&parameters, password).await?;
            logged_in(&answer).map_err(|e| e.context(format!("{} with TLS {tls}", role.name)))?;
            let who = wire.query("SELECT session_user || ' ' || current_user").await?;
            ensure!(who.value()? == format!("{0} {0}", role.name), "{who:?}");
            let ssl = wire
                .query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
                .await?;
            ensure!(
                ssl.value()? == if tls == "require" { "t" } else { "f" },
                "{ssl:?}"
            );
            if !role.password.is_empty() {
                let heard = String::from_utf8_lossy(&wire.heard).into_owned();
                ensure!(
                    !heard.contains(role.password),
                    "the workload was told the password"
                );
            }
        }
        if !role.password.is_empty() {
            shop.nowhere(role.password)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_password_that_the_server_refuses_is_not_told() -> Result<()> {
    let wrong = "Zq8.no-longer-valid.Lp3";
    for (role, tls) in [
        (APP, "disable"),
        (APP, "require"),
        (MD5, "disable"),
        (CLEAR, "require"),
    ] {
        let shop = brokered_with(role, wrong, tls).await?;
        let mut wire = shop.connect().await;
        let answer = wire
            .login(&[("user", "somebody"), ("database", DATABASE)], "")
            .await?;
        let error = answer
            .error()
            .ok_or_else(|| anyhow::anyhow!("logged in: {answer:?}"))?;
        ensure!(error.get(&'S').is_some_and(|s| s == "FATAL"), "{error:?}");
        ensure!(wire.next().await?.is_none(), "it stays open");
        let heard = String::from_utf8_lossy(&wire.heard).into_owned();
        ensure!(!heard.contains(wrong) && !heard.contains("Zq8"), "{heard}");
        shop.nowhere(wrong)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_password_is_not_sent_in_the_clear() -> Result<()> {
    let shop = brokered(CLEAR, "disable").await?;
    let mut wire = shop.connect().await;
    let answer = wire
        .login(&[("user", "somebody"), ("database", DATABASE)], "")
        .await?;
    ensure!(answer.error().is_some(), "{answer:?}");
    shop.nowhere(CLEAR.password)
}

#[tokio::test]
async fn a_role_is_taken_by_identity() -> Result<()> {
    let login = "login = \"brokered\"\nuser = \"app\"\ncredential = \"secret\"\ntls = \"disable\"\n\
        [[upstream.roles]]\ngroup = \"somebody-else\"\nrole = \"app\"\n\
        [[upstream.roles]]\ngroup = \"agents\"\nrole = \"reporting\"\n";
    let shop = Shop::prepared(e2e::shop::POLICY, login, PASSWORD, |_, dir| {
        private(dir, APP.password)
    })
    .await?;
    let mut wire = shop.connect().await;
    logged_in(&wire.login(&[("user", "x"), ("database", DATABASE)], "").await?)?;
    let who = wire.query("SELECT session_user || ' ' || current_user").await?;
    ensure!(who.value()? == "app reporting", "{who:?}");
    let write = wire.query("INSERT INTO scratch (id) VALUES (1)").await?;
    ensure!(write.sqlstate() == "42501", "{write:?}");
    Ok(())
}

/// What is streamed there is every change of every table, in a form that nothing here reads.
#[tokio::test]
async fn replication_is_denied_unless_granted() -> Result<()> {
    let shop = Shop::new("login = \"pass-through\"\n", "").await?;
    for kind in ["database", "true", "on", "1", "yes"] {
        let mut wire = shop.connect().await;
        let parameters = [
            ("user", REPLICATOR.name),
            ("database", DATABASE),
            ("replication", kind),
        ];
        let answer = wire.login(&parameters, REPLICATOR.password).await?;
        ensure!(answer.sqlstate() == "42501", "replication = {kind}: {answer:?}");
        ensure!(wire.next().await?.is_none(), "it stays open");
    }
    ensure!(!shop.postgres.saw("replication"), "it reached the server");
    Ok(())
}

#[tokio::test]
async fn granted_replication_is_carried_unread() -> Result<()> {
    let all = "@id(\"all\") permit (principal, action, resource);";
    let shop = Shop::under(all, "login = \"pass-through\"\n", "").await?;
    let mut wire = shop.connect().await;
    let parameters = [
        ("user", REPLICATOR.name),
        ("database", DATABASE),
        ("replication", "database"),
    ];
    logged_in(&wire.login(&parameters, REPLICATOR.password).await?)?;
    // No SQL, and no operation of its own: the login was the decision.
    let answer = wire.query("IDENTIFY_SYSTEM").await?;
    ensure!(answer.rows().concat().iter().any(|v| v == DATABASE), "{answer:?}");
    ensure!(shop.postgres.saw("replication"), "it reached the server");
    let sql = "SELECT action FROM operations ORDER BY entry";
    ensure!(
        shop.rig.rows(sql)? == ["sql:connect"],
        "{:?}",
        shop.rig.rows(sql)?
    );
    Ok(())
}

/// A connection in which `pg_sleep` runs, seen by the superuser.
async fn sleeping(shop: &Shop, wire: &mut Wire) -> Result<()> {
    wire.send(&super::wire::query("SELECT pg_sleep(600)")).await?;
    let runs =
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(600)'";
    while shop.postgres.admin(runs)?.trim() != "1" {
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[tokio::test]
async fn a_workload_cancels_its_own_statements_and_no_others() -> Result<()> {
    let other = "[[workload]]\nname = \"other\"\nissuer = \"test\"\ntoken_file = \"{dir}/token\"\n";
    let shop = Shop::new("login = \"pass-through\"\n", other).await?;
    let strange = CgroupId(8002);
    shop.rig.core.front.workloads.add(
        strange,
        Tag {
            workload: WorkloadName::new("other")?,
            cgroup: "/other".into(),
            source: "config",
        },
    );
    let mut wire = shop.connect().await;
    logged_in(&wire.login_as(TRUST).await?)?;
    let key = wire.key.clone().ok_or_else(|| anyhow::anyhow!("no key"))?;
    // The server's own key would let the workload cancel past the agent, by whoever it can make to send it.
    let pid: i32 = wire.query("SELECT pg_backend_pid()").await?.value()?.parse()?;
    sleeping(&shop, &mut wire).await?;

    let refused = cancel(&key);
    let mut stranger = shop.rig.connect_from(strange, shop.tap.address).await;
    stranger.write_all(&refused).await?;
    crate::rig::closed(&mut stranger).await?;
    let mut wrong = key.clone();
    wrong.1[0] ^= 1;
    for forged in [
        cancel(&wrong),
        cancel(&(pid, key.1.clone())),
        cancel(&(key.0, vec![])),
    ] {
        if forged == refused {
            continue;
        }
        let mut own = shop.rig.connect(shop.tap.address).await;
        own.write_all(&forged).await?;
        crate::rig::closed(&mut own).await?;
    }
    let cancels = || shop.postgres.log().matches("canceling statement").count();
    ensure!(cancels() == 0, "somebody else's cancel request was carried out");

    let mut own = shop.rig.connect(shop.tap.address).await;
    own.write_all(&refused).await?;
    crate::rig::closed(&mut own).await?;
    let answer = wire.answer().await?;
    ensure!(answer.sqlstate() == "57014", "{answer:?}");
    ensure!(wire.query("SELECT 1").await?.value()? == "1");
    Ok(())
}
