//! sqlx: statements are described before they are run, cached, and streamed.

use anyhow::Result;
use futures_util::TryStreamExt as _;
use sqlx::{
    Column as _, ConnectOptions as _, Connection as _, Error, Executor as _, PgConnection, Row as _,
    TypeInfo as _, ValueRef as _,
    postgres::{PgArguments, PgConnectOptions, PgDatabaseError, PgRow, PgSslMode},
    query::Query,
};

use super::{Options, say};

fn show(rows: &[PgRow]) -> Vec<String> {
    let cell = |row: &PgRow, n: usize| {
        let column = row.column(n);
        let (name, kind) = (column.name(), column.type_info().name());
        match row.try_get_raw(n) {
            Ok(value) if value.is_null() => format!("{name} {kind} NULL"),
            Ok(value) => match value.as_bytes() {
                Ok(raw) => format!("{name} {kind} {}", raw.escape_ascii()),
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        }
    };
    let line = |row: &PgRow| {
        (0..row.len())
            .map(|n| cell(row, n))
            .collect::<Vec<_>>()
            .join(", ")
    };
    rows.iter().map(line).collect()
}

fn failure(error: &Error) -> Vec<String> {
    match error
        .as_database_error()
        .and_then(|e| e.try_downcast_ref::<PgDatabaseError>())
    {
        Some(e) => vec![
            format!("sqlstate {}", e.code()),
            format!("{:?}", e.severity()),
            e.message().to_owned(),
            e.hint().unwrap_or_default().to_owned(),
        ],
        None => vec![error.to_string()],
    }
}

async fn query(connection: &mut PgConnection, step: &str, query: Query<'_, sqlx::Postgres, PgArguments>) {
    match query.fetch_all(connection).await {
        Ok(rows) => say(step, show(&rows)),
        Err(error) => say(step, failure(&error)),
    }
}

async fn execute(connection: &mut PgConnection, step: &str, query: Query<'_, sqlx::Postgres, PgArguments>) {
    match query.execute(connection).await {
        Ok(done) => say(step, done.rows_affected()),
        Err(error) => say(step, failure(&error)),
    }
}

pub async fn run(options: &Options) -> Result<()> {
    let mut connection = PgConnectOptions::new_without_pgpass()
        .host(&options.host)
        .port(options.port)
        .username(&options.user)
        .password(&options.password)
        .database(&options.database)
        .ssl_mode(PgSslMode::Disable)
        .connect()
        .await?;
    let connection = &mut connection;
    connection.execute("DELETE FROM scratch").await?;
    let customers =
        "SELECT id, name, balance, data, tags, raw, born FROM customers WHERE id <= 3 ORDER BY id";
    query(connection, "query", sqlx::query(customers)).await;
    query(
        connection,
        "types",
        sqlx::query("SELECT * FROM types ORDER BY id"),
    )
    .await;
    for n in [7i64, 8] {
        let order = sqlx::query("SELECT * FROM orders WHERE id = $1").bind(n);
        query(connection, "prepared", order).await;
    }
    for n in [1, 2] {
        let secret = sqlx::query("SELECT ssn, note_secret, name FROM customers WHERE id = $1").bind(n);
        query(connection, "masked prepared", secret).await;
    }
    let masked = "SELECT id, ssn AS x, note_secret || '!' AS y FROM customers WHERE id <= 2 ORDER BY id";
    query(connection, "masked", sqlx::query(masked)).await;
    // Not prepared, and more than one.
    let several: Vec<_> = sqlx::raw_sql("SELECT 1; SELECT ssn FROM customers WHERE id = 1")
        .fetch_all(&mut *connection)
        .await?;
    say("masked simple", show(&several));
    transaction(connection).await?;
    copy(connection).await?;
    for sql in [
        "SELECT 1/0",
        "SELECT * FROM nowhere",
        "INSERT INTO orders (id) VALUES (1)",
    ] {
        execute(connection, "error", sqlx::query(sql)).await;
    }
    denials(connection).await?;
    Ok(connection.ping().await?)
}

async fn transaction(connection: &mut PgConnection) -> Result<()> {
    let mut transaction = connection.begin().await?;
    let insert = "INSERT INTO scratch (id, t, a, b) VALUES ($1, $2, $3, $4)";
    for n in 0..20 {
        let each = sqlx::query(insert)
            .bind(n)
            .bind("té\t\\x")
            .bind(vec![Some(n), None])
            .bind([0u8, 255].as_slice());
        each.execute(&mut *transaction).await?;
    }
    let read = sqlx::query("SELECT * FROM scratch ORDER BY id LIMIT 2");
    query(&mut transaction, "own write", read).await;
    let mut savepoint = transaction.begin().await?;
    let again = sqlx::query("INSERT INTO scratch (id) VALUES (1)");
    execute(&mut savepoint, "fails", again).await;
    savepoint.rollback().await?;
    transaction.rollback().await?;
    let count = sqlx::query("SELECT count(*) FROM scratch");
    query(connection, "rolled back", count).await;
    Ok(())
}

async fn copy(connection: &mut PgConnection) -> Result<()> {
    for sql in [
        "COPY orders TO STDOUT",
        "COPY (SELECT id, ssn, note_secret FROM customers ORDER BY id) TO STDOUT (FORMAT csv)",
    ] {
        let mut data = Vec::new();
        let mut out = connection.copy_out_raw(sql).await?;
        while let Some(piece) = out.try_next().await? {
            data.extend_from_slice(&piece);
        }
        drop(out);
        say(sql, data.escape_ascii().to_string());
    }
    let mut into = connection.copy_in_raw("COPY scratch (id, t) FROM STDIN").await?;
    let lines: String = (0..1000).map(|n| format!("{n}\trow {n}\n")).collect();
    into.send(lines.as_bytes()).await?;
    say("copy in", into.finish().await?);
    let count = sqlx::query("SELECT count(*), sum(length(t)) FROM scratch");
    query(connection, "copied", count).await;
    let mut into = connection.copy_in_raw("COPY scratch (id, t) FROM STDIN").await?;
    into.send(b"1000\tmore\n".as_slice()).await?;
    into.abort("not today").await?;
    execute(connection, "deleted", sqlx::query("DELETE FROM scratch")).await;
    Ok(())
}

async fn denials(connection: &mut PgConnection) -> Result<()> {
    let pid = async |connection: &mut PgConnection| {
        let query = sqlx::query_scalar::<_, i32>("SELECT pg_backend_pid()");
        query.fetch_one(connection).await
    };
    let before = pid(connection).await?;
    let delete = "DELETE FROM orders WHERE id = $1";
    for _ in 0..2 {
        execute(connection, "denied prepared", sqlx::query(delete).bind(0i64)).await;
    }
    match connection
        .execute("SELECT 1; DELETE FROM orders WHERE id = 0")
        .await
    {
        Ok(_) => say("denied in a string of two", "done"),
        Err(error) => say("denied in a string of two", failure(&error)),
    }
    let mut transaction = connection.begin().await?;
    execute(
        &mut transaction,
        "denied in a transaction",
        sqlx::query(delete).bind(0i64),
    )
    .await;
    transaction.rollback().await?;
    say("the same connection", before == pid(connection).await?);
    let count = sqlx::query("SELECT count(*) FROM orders");
    query(connection, "goes on", count).await;
    Ok(())
}
