//! tokio-postgres: everything is prepared and binary, and pipelined where futures are joined.

use std::{error::Error as StdError, pin::pin, time::Duration};

use anyhow::{Context as _, Result};
use futures_util::TryStreamExt as _;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::{
    AsyncMessage, Client, Error, NoTls, Row,
    binary_copy::BinaryCopyInWriter,
    types::{FromSql, ToSql, Type},
};

use super::{Options, say};

async fn connect(options: &Options) -> Result<(Client, UnboundedReceiver<AsyncMessage>)> {
    let (client, mut connection) = tokio_postgres::Config::new()
        .host(&options.host)
        .port(options.port)
        .user(&options.user)
        .password(&options.password)
        .dbname(&options.database)
        .connect(NoTls)
        .await?;
    let (tell, heard) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            let _nobody_listens = tell.send(message);
        }
    });
    Ok((client, heard))
}

/// A value as it was sent.
struct Raw(Option<Vec<u8>>);

impl FromSql<'_> for Raw {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(Some(raw.to_vec())))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn show(rows: &[Row]) -> Vec<String> {
    let cell = |row: &Row, n: usize| {
        let column = &row.columns()[n];
        let (name, kind) = (column.name(), column.type_().name());
        match row.get::<_, Raw>(n).0 {
            Some(raw) => format!("{name} {kind} {}", raw.escape_ascii()),
            None => format!("{name} {kind} NULL"),
        }
    };
    let line = |row: &Row| {
        (0..row.len())
            .map(|n| cell(row, n))
            .collect::<Vec<_>>()
            .join(", ")
    };
    rows.iter().map(line).collect()
}

/// What an error of the server's says.
fn failure(error: &Error) -> Vec<String> {
    match error.as_db_error() {
        Some(e) => vec![
            format!("sqlstate {}", e.code().code()),
            e.severity().to_owned(),
            e.message().to_owned(),
            e.hint().unwrap_or_default().to_owned(),
        ],
        None => vec![error.to_string()],
    }
}

async fn query(client: &Client, step: &str, sql: &str, parameters: &[&(dyn ToSql + Sync)]) {
    match client.query(sql, parameters).await {
        Ok(rows) => say(step, show(&rows)),
        Err(error) => say(step, failure(&error)),
    }
}

async fn execute(client: &Client, step: &str, sql: &str, parameters: &[&(dyn ToSql + Sync)]) {
    match client.execute(sql, parameters).await {
        Ok(rows) => say(step, rows),
        Err(error) => say(step, failure(&error)),
    }
}

pub async fn run(options: &Options) -> Result<()> {
    let (mut client, mut heard) = connect(options).await?;
    client.execute("DELETE FROM scratch", &[]).await?;
    queries(&client).await?;
    transaction(&mut client).await?;
    copy(&client).await?;
    cancel(&client, options, &mut heard).await?;
    errors(&mut client).await
}

/// Reads a result row by row, or what COPY sends, and says how many bytes of values there were.
pub async fn drain(options: &Options, sql: &str) -> Result<()> {
    let (client, _unheard) = connect(options).await?;
    let mut bytes = 0;
    if sql.starts_with("COPY") {
        let mut out = pin!(client.copy_out(sql).await?);
        while let Some(piece) = out.as_mut().try_next().await? {
            bytes += piece.len();
        }
    } else {
        let no_parameters: [&str; 0] = [];
        let mut rows = pin!(client.query_raw(sql, no_parameters).await?);
        while let Some(row) = rows.as_mut().try_next().await? {
            bytes += (0..row.len())
                .filter_map(|n| row.get::<_, Raw>(n).0)
                .map(|raw| raw.len())
                .sum::<usize>();
        }
    }
    println!("{bytes}");
    Ok(())
}

async fn queries(client: &Client) -> Result<()> {
    let customers =
        "SELECT id, name, balance, data, tags, raw, born FROM customers WHERE id <= 3 ORDER BY id";
    query(client, "query", customers, &[]).await;
    query(client, "types", "SELECT * FROM types ORDER BY id", &[]).await;
    let order = client.prepare("SELECT * FROM orders WHERE id = $1").await?;
    for n in [7i64, 8] {
        say("prepared", show(&client.query(&order, &[&n]).await?));
    }
    let secret = client
        .prepare("SELECT ssn, note_secret, name FROM customers WHERE id = $1")
        .await?;
    for n in [1, 2] {
        say("masked prepared", show(&client.query(&secret, &[&n]).await?));
    }
    let masked = "SELECT id, ssn AS x, note_secret || '!' AS y FROM customers WHERE id <= 2 ORDER BY id";
    query(client, "masked", masked, &[]).await;
    let row = "SELECT to_jsonb(c) FROM customers c WHERE id = 1";
    query(client, "masked row", row, &[]).await;
    // Pipelined: all are sent before the first is answered.
    let (a, b, c) = tokio::try_join!(
        client.query(&order, &[&1i64]),
        client.query(&secret, &[&1]),
        client.query(&order, &[&2i64]),
    )?;
    say("pipelined", [show(&a), show(&b), show(&c)]);
    let (a, b, c) = tokio::join!(
        client.query(&order, &[&1i64]),
        client.query("SELECT 1/0", &[]),
        client.query(&order, &[&2i64]),
    );
    say(
        "around an error",
        (show(&a?), b.err().map(|e| failure(&e)), show(&c?)),
    );
    match client
        .simple_query("SELECT 1; SELECT ssn FROM customers WHERE id = 1")
        .await
    {
        Ok(messages) => {
            let rows = messages.iter().filter_map(|m| match m {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            });
            say("masked simple", rows.collect::<Vec<_>>());
        }
        Err(error) => say("masked simple", failure(&error)),
    }
    Ok(())
}

async fn transaction(client: &mut Client) -> Result<()> {
    let mut transaction = client.transaction().await?;
    let insert = "INSERT INTO scratch (id, t, a, b) VALUES ($1, $2, $3, $4)";
    let array = vec![Some(1), None];
    transaction
        .execute(insert, &[&1, &"té\t\\x", &array, &[0u8, 255].as_slice()])
        .await?;
    say(
        "own write",
        show(&transaction.query("SELECT * FROM scratch", &[]).await?),
    );
    let savepoint = transaction.transaction().await?;
    let again = savepoint
        .execute("INSERT INTO scratch (id) VALUES (1)", &[])
        .await;
    say("fails", again.err().map(|e| failure(&e)));
    savepoint.rollback().await?;
    // A portal that is run in parts.
    let portal = transaction
        .bind("SELECT id, ssn FROM customers ORDER BY id", &[])
        .await?;
    loop {
        let rows = transaction.query_portal(&portal, 15).await?;
        if rows.is_empty() {
            break;
        }
        say("masked in parts", show(&rows));
    }
    transaction.rollback().await?;
    query(client, "rolled back", "SELECT count(*) FROM scratch", &[]).await;
    Ok(())
}

async fn copy(client: &Client) -> Result<()> {
    for sql in [
        "COPY orders TO STDOUT",
        "COPY orders TO STDOUT (FORMAT binary)",
        "COPY (SELECT id, ssn, note_secret FROM customers ORDER BY id) TO STDOUT (FORMAT csv)",
    ] {
        let mut out = pin!(client.copy_out(sql).await?);
        let mut data = Vec::new();
        while let Some(piece) = out.as_mut().try_next().await? {
            data.extend_from_slice(&piece);
        }
        say(sql, data.escape_ascii().to_string());
    }
    let sink = client
        .copy_in("COPY scratch (id, t) FROM STDIN (FORMAT binary)")
        .await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &[Type::INT4, Type::TEXT]));
    for n in 0..1000 {
        writer.as_mut().write(&[&n, &format!("row {n}")]).await?;
    }
    say("copy in", writer.finish().await?);
    query(
        client,
        "copied",
        "SELECT count(*), sum(length(t)) FROM scratch",
        &[],
    )
    .await;
    execute(client, "deleted", "DELETE FROM scratch", &[]).await;
    Ok(())
}

async fn cancel(
    client: &Client,
    options: &Options,
    heard: &mut UnboundedReceiver<AsyncMessage>,
) -> Result<()> {
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    let (other, _unheard) = connect(options).await?;
    let token = client.cancel_token();
    let cancelling = async {
        let running = "SELECT count(*) FROM pg_stat_activity \
             WHERE pid = $1 AND state = 'active' AND query LIKE '%pg_sleep%'";
        while other.query_one(running, &[&pid]).await?.get::<_, i64>(0) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        token.cancel_query(NoTls).await
    };
    let (slept, cancelled) = tokio::join!(client.query("SELECT pg_sleep(60)", &[]), cancelling);
    cancelled?;
    say("cancelled", slept.err().map(|e| failure(&e)));
    query(client, "goes on", "SELECT 1", &[]).await;
    client.batch_execute("LISTEN events").await?;
    other.batch_execute("NOTIFY events, 'it happened'").await?;
    loop {
        let next = tokio::time::timeout(Duration::from_secs(20), heard.recv()).await?;
        if let AsyncMessage::Notification(n) = next.context("the connection ended")? {
            say("notified", (n.channel(), n.payload()));
            return Ok(());
        }
    }
}

async fn errors(client: &mut Client) -> Result<()> {
    for sql in [
        "SELECT 1/0",
        "SELECT * FROM nowhere",
        "INSERT INTO orders (id) VALUES (1)",
    ] {
        execute(client, "error", sql, &[]).await;
    }
    let before: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    execute(client, "denied", "DELETE FROM orders WHERE id = 0", &[]).await;
    execute(
        client,
        "denied with parameters",
        "DELETE FROM orders WHERE id = $1",
        &[&0i64],
    )
    .await;
    match client
        .batch_execute("SELECT 1; DELETE FROM orders WHERE id = 0")
        .await
    {
        Ok(()) => say("denied in a string of two", "done"),
        Err(error) => say("denied in a string of two", failure(&error)),
    }
    let (a, b, c) = tokio::join!(
        client.query("SELECT count(*) FROM orders", &[]),
        client.execute("DELETE FROM orders WHERE id = 0", &[]),
        client.query("SELECT count(*) FROM orders", &[]),
    );
    say("around a denial", (show(&a?), show(&c?)));
    match b {
        Ok(rows) => say("denied in a pipeline", rows),
        Err(error) => say("denied in a pipeline", failure(&error)),
    }
    let transaction = client.transaction().await?;
    match transaction.execute("DELETE FROM orders WHERE id = 0", &[]).await {
        Ok(rows) => say("denied in a transaction", rows),
        Err(error) => say("denied in a transaction", failure(&error)),
    }
    transaction.rollback().await?;
    let after: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    say("the same connection", before == after);
    query(client, "goes on", "SELECT count(*) FROM orders", &[]).await;
    Ok(())
}
