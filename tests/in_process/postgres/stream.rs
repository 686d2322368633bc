//! What is neither masked nor denied is the same to the byte, however it is cut, however much it is.

use anyhow::{Result, ensure};
use bytes::BytesMut;
use e2e::{daemon::resident, postgres::TRUST};

use super::{
    Shop,
    wire::{Answer, Extended, Message, Wire, function_call, message, query},
};

const ALL_TYPES: &str = "SELECT * FROM types ORDER BY id";

/// Batches of messages, each ending where the server says that it is ready: simple queries.
fn simple() -> Vec<BytesMut> {
    let mut copy_in = query("COPY scratch (id, t) FROM STDIN");
    for line in ["1\tone\n", "2\ttwo", "\\n2\n3", "\tthree\n"] {
        copy_in.extend(message(b'd', line.as_bytes()));
    }
    copy_in.extend(message(b'c', b""));
    let mut failed_copy = query("COPY scratch (id, t) FROM STDIN");
    failed_copy.extend(message(b'd', b"no\tint\n"));
    failed_copy.extend(message(b'f', b"not now\0"));
    vec![
        query(""),
        query("SELECT 1"),
        query(" ; ;; SELECT 1; ; SELECT 'a' AS b, NULL;"),
        query(ALL_TYPES),
        query("SELECT id, name, balance, data, tags, raw, born FROM customers ORDER BY id"),
        query("SELECT 1/0"),
        query("SELECT 'é', U&'\\0441', E'\\x41' -- a comment\n"),
        query("SELECT nothing FROM nowhere"),
        query("SELEC 1"),
        query("SET application_name = 'somebody'; SHOW application_name"),
        query("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two' USING HINT = 'three'; END $$"),
        query("BEGIN; INSERT INTO scratch (id) VALUES (9); SELECT 1/0; SELECT 2"),
        query("SELECT 1"),
        query("ROLLBACK"),
        query("COPY orders TO STDOUT"),
        query("COPY (SELECT * FROM types ORDER BY id) TO STDOUT (FORMAT binary)"),
        query("COPY orders TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE *)"),
        copy_in,
        query("SELECT id, t FROM scratch ORDER BY id"),
        failed_copy,
        query("DELETE FROM scratch"),
        query("LISTEN here; NOTIFY here, 'hello'"),
        query("UNLISTEN *"),
        query(
            "PREPARE p (int) AS SELECT item FROM orders WHERE id = $1; EXECUTE p (3); EXECUTE p (4); DEALLOCATE p",
        ),
        query(
            "BEGIN; DECLARE c SCROLL CURSOR FOR SELECT id, item FROM orders ORDER BY id; FETCH 2 FROM c; MOVE 5 IN c",
        ),
        query("FETCH ALL FROM c; CLOSE c; COMMIT"),
        query("EXPLAIN (COSTS OFF) SELECT * FROM orders WHERE id = 1"),
        query("SHOW server_version; SHOW ALL"),
    ]
}

/// The same of the extended protocol.
fn extended() -> Vec<BytesMut> {
    let (int4, int8, text) = (23, 20, 25);
    let order = "SELECT * FROM orders WHERE id = $1";
    vec![
        // Everything described, in text and binary.
        Extended::default()
            .parse("", ALL_TYPES, &[])
            .describe(b'S', "")
            .bind("", "", &[], &[1])
            .describe(b'P', "")
            .execute("", 0)
            .bind("", "", &[], &[])
            .execute("", 1)
            .execute("", 0)
            .sync(),
        Extended::default()
            .parse("order", order, &[int8])
            .describe(b'S', "order")
            .sync(),
        Extended::default()
            .bind("a", "order", &[Some("7")], &[0, 1, 0, 1, 0, 1])
            .bind("b", "order", &[None], &[])
            .execute("a", 0)
            .execute("b", 0)
            .close(b'P', "a")
            .sync(),
        // A batch with an error in the middle: the rest is skipped, up to Sync.
        Extended::default()
            .bind("", "order", &[Some("8")], &[])
            .execute("", 0)
            .bind("", "order", &[Some("not a number")], &[])
            .execute("", 0)
            .bind("", "order", &[Some("9")], &[])
            .execute("", 0)
            .sync(),
        Extended::default()
            .close(b'S', "order")
            .close(b'S', "never there")
            .sync(),
        Extended::default().bind("", "order", &[Some("1")], &[]).sync(),
        Extended::default().execute("no portal", 0).sync(),
        Extended::default().describe(b'S', "no statement").sync(),
        Extended::default()
            .parse("", "SELECT $1 + $2, $3", &[int4, 0, text])
            .describe(b'S', "")
            .sync(),
        Extended::default()
            .parse("", "", &[])
            .bind("", "", &[], &[])
            .execute("", 0)
            .sync(),
        Extended::default().parse("", "SELECT 1; SELECT 2", &[]).sync(),
        Extended::default()
            .parse("", "INSERT INTO scratch (id) VALUES (1)", &[])
            .bind("", "", &[], &[])
            .execute("", 0)
            .parse("", "SELECT count(*) FROM scratch", &[])
            .bind("", "", &[], &[])
            .execute("", 0)
            .flush()
            .parse("", "DELETE FROM scratch", &[])
            .bind("", "", &[], &[])
            .execute("", 0)
            .sync(),
        Extended::default()
            .parse("", "COPY orders TO STDOUT", &[])
            .bind("", "", &[], &[])
            .execute("", 0)
            .sync(),
        Extended::default().sync(),
    ]
}

/// All of them, and function calls.
fn batches(shop: &Shop) -> Result<Vec<BytesMut>> {
    let oid: u32 = shop
        .postgres
        .admin("SELECT 'order_total(int)'::regprocedure::oid")?
        .trim()
        .parse()?;
    let mut all = simple();
    all.extend(extended());
    all.push(function_call(oid, &["2"]).as_slice().into());
    all.push(function_call(1, &["no such function"]).as_slice().into());
    Ok(all)
}

/// How many times the server will say that it is ready.
fn ready(batch: &[u8]) -> usize {
    let (mut at, mut count) = (0, 0);
    while at < batch.len() {
        let length =
            u32::from_be_bytes([batch[at + 1], batch[at + 2], batch[at + 3], batch[at + 4]]) as usize;
        count += usize::from(matches!(batch[at], b'Q' | b'S' | b'F'));
        at += 1 + length;
    }
    count
}

async fn transcript(wire: &mut Wire, batch: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<Answer>)> {
    wire.heard.clear();
    for part in batch.chunks(piece) {
        wire.send(part).await?;
        if piece < 100 {
            // Each piece is to arrive alone.
            tokio::task::yield_now().await;
        }
    }
    let mut answers = Vec::new();
    for _ in 0..ready(batch) {
        answers.push(wire.answer().await?);
    }
    Ok((std::mem::take(&mut wire.heard), answers))
}

/// The same to the byte, but for three things: errors that the agent says in the server's place, with the same SQLSTATE;
/// what code in the database said, in place of which stands that it did; and the backend's number in notifications.
fn alike(is: &Message, was: &Message) -> bool {
    if is.tag != was.tag {
        return false;
    }
    let by_agent = || {
        let (is, was) = (is.fields(), was.fields());
        let ours = is.get(&'R').is_some_and(|r| r == "portcullis");
        let hidden = is.get(&'M').is_some_and(|m| m.starts_with("[masked] "));
        (ours || hidden) && ['S', 'V', 'C'].iter().all(|f| is.get(f) == was.get(f))
    };
    match is.tag {
        b'A' => is.body[4..] == was.body[4..],
        b'E' | b'N' => is.body == was.body || by_agent(),
        _ => is.body == was.body,
    }
}

/// Answers, message by message.
fn same(is: &[Answer], was: &[Answer]) -> Result<()> {
    let messages = |all: &[Answer]| all.iter().flat_map(|a| a.0.clone()).collect::<Vec<_>>();
    let (is, was) = (messages(is), messages(was));
    for (n, (is, was)) in is.iter().zip(&was).enumerate() {
        ensure!(
            alike(is, was),
            "message {n}: {} {}\ninstead of\n{} {}",
            char::from(is.tag),
            is.body.escape_ascii(),
            char::from(was.tag),
            was.body.escape_ascii()
        );
    }
    ensure!(is.len() == was.len(), "{} messages, not {}", is.len(), was.len());
    Ok(())
}

async fn compare(piece: usize) -> Result<()> {
    let shop = Shop::new("login = \"pass-through\"\n", "").await?;
    let (mut direct, mut through) = (shop.direct().await?, shop.connect().await);
    direct.login_as(TRUST).await?;
    through.login_as(TRUST).await?;
    let batches = batches(&shop)?;
    // One after the other: they write to the same tables, and hear each other's notifications.
    let mut directly = Vec::new();
    for batch in &batches {
        directly.push(transcript(&mut direct, batch, 1 << 20).await?.1);
    }
    let mut wrong = Vec::new();
    for (batch, was) in batches.iter().zip(directly) {
        let shown = batch.escape_ascii();
        let (_, is) = transcript(&mut through, batch, piece).await?;
        if let Err(error) = same(&is, &was) {
            wrong.push(format!("{shown}\n{error}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn allowed_traffic_is_the_same_to_the_byte() -> Result<()> {
    compare(1 << 20).await
}

#[tokio::test]
async fn it_is_the_same_however_it_is_cut() -> Result<()> {
    for piece in [1, 3] {
        compare(piece).await?;
    }
    Ok(())
}

/// All of it at once, before anything is read.
#[tokio::test]
async fn pipelined_batches_are_answered_in_order() -> Result<()> {
    let shop = Shop::new("login = \"pass-through\"\n", "").await?;
    let (mut direct, mut through) = (shop.direct().await?, shop.connect().await);
    direct.login_as(TRUST).await?;
    through.login_as(TRUST).await?;
    // Not those in which the server waits for data: what follows would be taken for it.
    let all: Vec<BytesMut> = batches(&shop)?
        .into_iter()
        .filter(|b| !b.windows(10).any(|w| w == b"FROM STDIN") && !b.windows(6).any(|w| w == b"NOTIFY"))
        .collect();
    let all = all.concat();
    let (_, was) = transcript(&mut direct, &all, 1 << 20).await?;
    let (_, is) = transcript(&mut through, &all, 1 << 20).await?;
    same(&is, &was)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_result_takes_constant_memory() -> Result<()> {
    let shop = Shop::new("login = \"pass-through\"\n", "").await?;
    let mut wire = shop.connect().await;
    wire.keep = false;
    wire.login_as(TRUST).await?;
    // Read as fast as it comes, and with the detectors on.
    let row = "customer number 0123456789, in some town, with nothing to hide";
    for (what, sql) in [
        (
            "rows",
            format!("SELECT n, '{row}' || n, repeat('x', 900) FROM generate_series(1, 200000) n"),
        ),
        (
            "copy",
            format!(
                "COPY (SELECT n, '{row}' || n, repeat('x', 900) FROM generate_series(1, 200000) n) TO STDOUT"
            ),
        ),
    ] {
        // What is cached and pooled on the way is not what grows.
        wire.query("SELECT n, repeat('x', 900) FROM generate_series(1, 2000) n")
            .await?;
        let before = resident(std::process::id())?;
        wire.send(&query(&sql)).await?;
        let (mut peak, mut bytes) = (0, 0);
        for n in 0u64.. {
            let Some(message) = wire.next().await? else {
                anyhow::bail!("closed within the result");
            };
            bytes += message.body.len();
            ensure!(message.tag != b'E', "{:?}", message.fields());
            if n % 1000 == 0 {
                peak = peak.max(resident(std::process::id())?);
            }
            if message.tag == b'Z' {
                break;
            }
        }
        ensure!(bytes > 190_000_000, "{what}: only {bytes} bytes");
        let more = peak.saturating_sub(before);
        ensure!(more < 48 << 20, "{what}: {} MiB more", more >> 20);
    }
    Ok(())
}

#[tokio::test]
async fn large_rows_are_whole() -> Result<()> {
    let shop = Shop::new("login = \"pass-through\"\n", "").await?;
    let (mut direct, mut through) = (shop.direct().await?, shop.connect().await);
    direct.login_as(TRUST).await?;
    through.login_as(TRUST).await?;
    for sql in [
        "SELECT repeat('0123456789', 400000), repeat('x', 1000000)::bytea",
        "COPY (SELECT repeat('0123456789', 400000)) TO STDOUT",
    ] {
        let (was, _) = transcript(&mut direct, &query(sql), 1 << 20).await?;
        let (is, _) = transcript(&mut through, &query(sql), 1 << 20).await?;
        ensure!(
            is.len() > 4_000_000 && is == was,
            "{sql}: {} bytes, not {}",
            is.len(),
            was.len()
        );
    }
    // A secret in a large row does not get through because it is large.
    let sql = "SELECT repeat('0123456789', 100000) || ssn || repeat('x', 100000) FROM customers WHERE id = 1";
    let (is, _) = transcript(&mut through, &query(sql), 1 << 20).await?;
    ensure!(!is.windows(11).any(|w| w == b"219-09-9999"), "it shows");
    Ok(())
}
