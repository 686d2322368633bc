//! The database by its UNIX socket, through the agent.

use anyhow::{Result, ensure};
use e2e::{
    child::Said,
    ledger::Reader,
    postgres::{BIN, DATABASE},
    shop::{MASKED_SSN, Shop},
};

use super::{Way, with_shop};

/// What psql says when it comes by the socket.
fn psql(shop: &Shop<'_>, way: Way, sql: &str) -> Result<Said> {
    let mut psql = way.command(shop, &std::path::Path::new(BIN).join("psql"), &[]);
    psql.arg("-h").arg(shop.postgres.socket_dir());
    psql.args([
        "-XqAt",
        "-p",
        "5432",
        "-U",
        if way == Way::Direct {
            "postgres"
        } else {
            "somebody"
        },
    ]);
    Said::by(psql.args(["-d", DATABASE, "-c", sql]))
}

#[test]
fn psql_by_the_socket_is_gated_as_over_tcp() {
    with_shop("psql-unix", |shop| {
        let sql = "SELECT current_user, ssn FROM customers ORDER BY 2 LIMIT 1";
        let direct = psql(shop, Way::Direct, sql)?.ok()?;
        ensure!(
            direct.starts_with("postgres|") && !direct.contains(MASKED_SSN),
            "{direct}"
        );
        // Nothing is listed: the socket is there, and the kernel denies it.
        let denied = psql(shop, Way::Brokered, sql)?;
        ensure!(denied.err.contains("Operation not permitted"), "{denied:?}");

        let socket = shop.postgres.socket_dir().join(".s.PGSQL.5432");
        let unix = format!(
            "\n[[unix]]\npath = \"{}\"\nowner = \"the test\"\nredirect = \"shop-db\"\n",
            socket.display()
        );
        let config = shop.site.daemon.config().to_path_buf();
        std::fs::write(&config, std::fs::read_to_string(&config)? + &unix)?;
        shop.site.daemon.reload()?;
        let through = e2e::wait::wait_for("the socket to be redirected", e2e::wait::DEADLINE, || {
            let said = psql(shop, Way::Brokered, sql).ok()?;
            (said.code == 0).then_some(said.out)
        })?;
        ensure!(through.trim() == format!("app|{MASKED_SSN}"), "{through}");
        let forbidden = psql(shop, Way::Brokered, "DELETE FROM orders")?;
        ensure!(
            forbidden.err.contains("orders are kept for the auditors"),
            "{forbidden:?}"
        );
        ensure!(!shop.postgres.saw("DELETE FROM orders"), "it came through");
        // On record by its path, and by the process that connected.
        let ledger = Reader::open(&shop.site.daemon.ledger())?;
        let said = ledger.column(
            "SELECT json_extract(body, '$.process.exe') FROM entry WHERE json_extract(body, '$.destination.unix') LIKE \
             '%.s.PGSQL.5432'",
        )?;
        ensure!(said.iter().any(|exe| exe.ends_with("psql")), "{said:?}");
        Ok(())
    });
}
