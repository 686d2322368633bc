//! Peers that die, stall, or stop half-way.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::postgres::TRUST;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{
    Shop,
    wire::{Wire, query},
};

const LOGIN: &str = "login = \"pass-through\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_is_a_clean_error() -> Result<()> {
    let mut shop = Shop::new(LOGIN, "").await?;
    let mut busy = Vec::new();
    for n in 0..8 {
        let mut wire = shop.connect().await;
        wire.login_as(TRUST).await?;
        let sql = match n % 4 {
            0 => "SELECT pg_sleep(600)",
            1 => "SELECT n, repeat('x', 1000) FROM generate_series(1, 100000000) n",
            2 => "COPY (SELECT n FROM generate_series(1, 100000000) n) TO STDOUT",
            _ => "COPY scratch (id) FROM STDIN",
        };
        wire.send(&query(sql)).await?;
        if n % 4 != 0 {
            ensure!(wire.next().await?.is_some(), "nothing comes of {sql}");
        }
        wire.keep = false;
        busy.push(wire);
    }
    shop.postgres.kill9()?;
    for (n, mut wire) in busy.into_iter().enumerate() {
        let mut last = None;
        // Whatever came before the end is whole messages, and the last says what happened.
        while let Some(message) = wire.next().await.with_context(|| format!("connection {n}"))? {
            last = Some(message);
        }
        let error = last.filter(|m| m.tag == b'E').map(|m| m.fields());
        let class = error.as_ref().and_then(|e| e.get(&'C')).map_or("", |c| &c[..2]);
        ensure!(["08", "57"].contains(&class), "connection {n}: {error:?}");
    }
    // The next one is told, too, and the agent is alive.
    let mut wire = shop.connect().await;
    let answer = wire.login_as(TRUST).await?;
    ensure!(answer.sqlstate().starts_with("08"), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() -> Result<()> {
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let port = silent.local_addr()?.port();
    let shop = Shop::new(
        LOGIN,
        &format!(
            "[[upstream]]\nname = \"silent\"\nprotocol = \"postgres\"\nhost = \"127.0.0.1\"\nport = {port}\n\
             [limits]\nhandshake_timeout = \"1s\"\n"
        ),
    )
    .await?;
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            held.push(stream);
        }
    });
    let mut wire = Wire::new(shop.rig.connect(([127, 0, 0, 1], port).into()).await);
    let answer = wire.login_as(TRUST).await?;
    ensure!(answer.sqlstate() == "57P05", "{answer:?}");
    held.abort();
    Ok(())
}

#[tokio::test]
async fn a_workload_that_says_half_is_given_up() -> Result<()> {
    let shop = Shop::new(LOGIN, "[limits]\nhandshake_timeout = \"1s\"\n").await?;
    for begin in [
        &[][..],
        &[0],
        &[0, 0, 0, 40],
        &[0, 0, 0, 40, 0, 3, 0, 0, b'u', b's'],
    ] {
        let mut stream = shop.rig.connect(shop.tap.address).await;
        stream.write_all(begin).await?;
        let mut rest = Vec::new();
        tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await??;
    }
    ensure!(shop.tap.seen().is_empty(), "half a start-up was passed on");
    Ok(())
}

/// Half a statement is none, however long it takes, and however it ends.
#[tokio::test]
async fn half_a_message_goes_nowhere() -> Result<()> {
    let shop = Shop::new(LOGIN, "").await?;
    for text in ["INSERT INTO scratch (id) VALUES (501)", "SELECT 501"] {
        let mut wire = shop.connect().await;
        wire.login_as(TRUST).await?;
        let whole = query(text);
        wire.send(&whole[..whole.len() - 1]).await?;
        wire.shut().await?;
        while wire.next().await?.is_some() {}
    }
    ensure!(!shop.tap.saw("501"), "a part was passed on");
    Ok(())
}

/// As with the server itself: what was asked for is answered, and then it ends.
#[tokio::test]
async fn a_workload_that_only_listens_gets_its_answer() -> Result<()> {
    let shop = Shop::new(LOGIN, "").await?;
    let sql = "SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) n";
    let mut all = Vec::new();
    for mut wire in [shop.direct().await?, shop.connect().await] {
        wire.login_as(TRUST).await?;
        wire.heard.clear();
        wire.send(&query(sql)).await?;
        wire.shut().await?;
        while wire.next().await?.is_some() {}
        all.push(wire.heard);
    }
    ensure!(all[0] == all[1], "{} bytes, not {}", all[1].len(), all[0].len());
    Ok(())
}

/// A workload that does not read stops the server, not the agent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_that_does_not_read_costs_no_memory() -> Result<()> {
    let shop = Shop::new(LOGIN, "").await?;
    let before = e2e::daemon::resident(std::process::id())?;
    let mut stalled = Vec::new();
    for _ in 0..4 {
        let mut wire = shop.connect().await;
        wire.login_as(TRUST).await?;
        wire.send(&query(
            "SELECT n, repeat('x', 1000) FROM generate_series(1, 1000000) n",
        ))
        .await?;
        stalled.push(wire);
    }
    // Until the server waits for somebody to read: it is in the state ClientWrite.
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'";
    while shop.postgres.admin(waits)?.trim() != "4" {
        tokio::task::yield_now().await;
    }
    let more = e2e::daemon::resident(std::process::id())?.saturating_sub(before);
    ensure!(more < 32 << 20, "{} MiB more", more >> 20);
    // Others go on meanwhile.
    let mut wire = shop.connect().await;
    wire.login_as(TRUST).await?;
    ensure!(wire.query("SELECT 1").await?.value()? == "1");
    drop(stalled);
    // Their end reaches the server.
    let left = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%1000000%' AND pid <> pg_backend_pid()";
    let began = std::time::Instant::now();
    while shop.postgres.admin(left)?.trim() != "0" {
        ensure!(began.elapsed() < e2e::wait::DEADLINE, "they still run");
        tokio::task::yield_now().await;
    }
    Ok(())
}
