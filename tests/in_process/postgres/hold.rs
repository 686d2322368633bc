//! Statements that wait for a human: the connection stays as it is, and the server hears of nothing before the yes.

use anyhow::{Context as _, Result, ensure};
use e2e::postgres::APP;
use portcullis::approval::{Approvals, State};
use tokio::io::AsyncWriteExt as _;

use super::{
    Shop,
    wire::{Extended, Wire, cancel, query},
};
use crate::people::{APPROVALS, human, no, open, waiting, yes};

/// Deletes are held, the ones of scratch for a moment only.
const POLICY: &str = r#"
@id("all") permit(principal, action, resource);
@id("deletes") @reason("deleting is for people") @approval("dba") @hold("20s")
forbid(principal, action == Action::"sql:statement", resource)
when { context.sql.verbs.contains("delete") }
unless { context has approval };
@id("scratch") @approval("dba") @hold("150ms")
forbid(principal, action == Action::"sql:statement", resource)
when { context.sql.writes.contains("public.scratch") }
unless { context has approval };
"#;

async fn shop() -> Result<(Shop, Wire)> {
    let shop = Shop::under(
        POLICY,
        "login = \"pass-through\"\nserver_name = \"localhost\"\n",
        APPROVALS,
    )
    .await?;
    let mut wire = shop.connect().await;
    let login = wire.login_as(APP).await?;
    ensure!(login.state() == 'I', "{login:?}");
    Ok((shop, wire))
}

fn approvals(shop: &Shop) -> Approvals {
    shop.rig.core.front.shared.approvals.clone()
}

/// The notice that says what is waited for.
async fn noticed(wire: &mut Wire) -> Result<String> {
    let notice = wire.next().await?.context("the connection ended")?;
    ensure!(notice.tag == b'N', "{notice:?}");
    let text = notice.fields().get(&'M').cloned().unwrap_or_default();
    ensure!(text.contains("held for approval by dba"), "{text}");
    Ok(text)
}

fn heard(shop: &Shop, text: &str) -> bool {
    let seen = shop.tap.seen();
    seen.windows(text.len()).any(|w| w == text.as_bytes())
}

#[tokio::test]
async fn a_held_statement_runs_once_it_is_approved() -> Result<()> {
    let (shop, mut wire) = shop().await?;
    let sql = "DELETE FROM orders WHERE id = 1";
    wire.send(&query(sql)).await?;
    let text = noticed(&mut wire).await?;
    let approvals = approvals(&shop);
    let request = open(&approvals, 1).await?.remove(0);
    ensure!(text.contains(&request.id.to_string()), "{text}");
    ensure!(
        request.summary.starts_with("delete on public.orders in "),
        "{request:?}"
    );
    ensure!(request.message.as_deref() == Some("deleting is for people"));
    ensure!(!heard(&shop, sql), "the server has heard of it");
    approvals
        .answer(request.id, &human("ann", &["dba"]), yes())
        .await?;
    let answer = wire.answer().await?;
    ensure!(answer.tags() == "CZ", "{answer:?}");
    let row =
        "SELECT decision || ' ' || reason || ' ' || approver FROM operations WHERE approver IS NOT NULL";
    ensure!(shop.rig.await_rows(row).await? == ["allow approval_granted ann"]);
    let order = "SELECT json_extract(body, '$.event') FROM entry WHERE json_extract(body, '$.kind') = 'approval' ORDER BY seq";
    ensure!(shop.rig.rows(order)? == ["requested", "approved"]);
    // What it took is on record before the server heard of it, and once is once.
    wire.send(&query(sql)).await?;
    noticed(&mut wire).await?;
    approvals
        .answer(open(&approvals, 1).await?[0].id, &human("bob", &["dba"]), no())
        .await?;
    let answer = wire.answer().await?;
    ensure!(answer.sqlstate() == "42501", "{answer:?}");
    let words = &answer.error().context("no error")?[&'M'];
    ensure!(words.contains("bob: not in office hours"), "{words}");
    ensure!(wire.query("SELECT 1").await?.value()? == "1");
    Ok(())
}

#[tokio::test]
async fn a_late_yes_serves_the_retry_of_exactly_that() -> Result<()> {
    let (shop, mut wire) = shop().await?;
    let approvals = approvals(&shop);
    let sql = "INSERT INTO scratch (id) VALUES (901)";
    let late = wire.query(sql).await?;
    ensure!(late.error().is_some(), "{late:?}");
    let error = late.error().context("no error")?;
    ensure!(error[&'D'].contains("reason=approval_timeout"), "{error:?}");
    ensure!(error[&'H'].contains("retry the operation unchanged"), "{error:?}");
    let request = open(&approvals, 1).await?.remove(0);
    approvals
        .answer(request.id, &human("ann", &["dba"]), yes())
        .await?;
    // Another value in the same statement is another operation.
    let other = wire.query("INSERT INTO scratch (id) VALUES (902)").await?;
    ensure!(other.error().is_some(), "{other:?}");
    // From another connection, too: it is the operation that was approved.
    let mut again = shop.connect().await;
    again.login_as(APP).await?;
    ensure!(again.query(sql).await?.tags() == "CZ");
    ensure!(again.query(sql).await?.error().is_some(), "once is once");
    Ok(())
}

#[tokio::test]
async fn parameters_are_shown_and_bound() -> Result<()> {
    let (shop, mut wire) = shop().await?;
    let approvals = approvals(&shop);
    let delete = |name: &str, id: &str| {
        Extended::default()
            .parse(
                name,
                "DELETE FROM orders WHERE id = $1 AND 'ann@example.com' <> $2",
                &[],
            )
            .bind("", name, &[Some(id), Some("bob@example.com")], &[])
            .execute("", 0)
            .sync()
    };
    wire.send(&delete("first", "1")).await?;
    noticed(&mut wire).await?;
    let request = open(&approvals, 1).await?.remove(0);
    ensure!(request.payload.contains("$1 = \"1\""), "{}", request.payload);
    ensure!(!format!("{request:?}").contains("@example.com"), "{request:?}");
    // Gone while it is held: the request stays.
    drop(wire);
    waiting(&approvals, request.id, 0).await?;
    approvals
        .answer(request.id, &human("ann", &["dba"]), yes())
        .await?;
    let mut wire = shop.connect().await;
    wire.login_as(APP).await?;
    wire.send(&delete("second", "2")).await?;
    noticed(&mut wire).await?;
    approvals
        .answer(open(&approvals, 1).await?[0].id, &human("ann", &["dba"]), no())
        .await?;
    ensure!(wire.answer().await?.sqlstate() == "42501");
    // Another name of the statement does not make it another one.
    wire.send(&delete("third", "1")).await?;
    let answer = wire.answer().await?;
    ensure!(answer.tags() == "12CZ", "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn what_came_before_is_answered_while_it_waits() -> Result<()> {
    let (shop, mut wire) = shop().await?;
    let approvals = approvals(&shop);
    let before = Extended::default()
        .parse("", "SELECT 'before'", &[])
        .bind("", "", &[], &[])
        .execute("", 0)
        .sync();
    wire.send(&before).await?;
    wire.send(&query("DELETE FROM orders WHERE id = 3")).await?;
    let answer = wire.answer().await?;
    ensure!(answer.value()? == "before", "{answer:?}");
    noticed(&mut wire).await?;
    approvals
        .answer(open(&approvals, 1).await?[0].id, &human("ann", &["dba"]), yes())
        .await?;
    ensure!(wire.answer().await?.tags() == "CZ");
    Ok(())
}

#[tokio::test]
async fn a_no_inside_a_transaction_fails_it() -> Result<()> {
    let (shop, mut wire) = shop().await?;
    let approvals = approvals(&shop);
    wire.query("BEGIN").await?;
    wire.query("UPDATE customers SET name = 'changed' WHERE id = 1")
        .await?;
    wire.send(&query("DELETE FROM orders WHERE id = 4")).await?;
    noticed(&mut wire).await?;
    approvals
        .answer(open(&approvals, 1).await?[0].id, &human("ann", &["dba"]), no())
        .await?;
    let answer = wire.answer().await?;
    ensure!(answer.state() == 'E', "{answer:?}");
    wire.query("ROLLBACK").await?;
    ensure!(
        wire.query("SELECT count(*) FROM customers WHERE name = 'changed'")
            .await?
            .value()?
            == "0"
    );
    Ok(())
}

#[tokio::test]
async fn each_held_statement_of_a_message_is_asked_about() -> Result<()> {
    let (shop, mut wire) = shop().await?;
    let approvals = approvals(&shop);
    let sql = "DELETE FROM orders WHERE id = 5; SELECT 1; DELETE FROM orders WHERE id = 6";
    wire.send(&query(sql)).await?;
    let text = noticed(&mut wire).await?;
    let open_now = open(&approvals, 2).await?;
    ensure!(
        open_now.iter().all(|r| text.contains(&r.id.to_string())),
        "{text}"
    );
    approvals
        .answer(open_now[1].id, &human("ann", &["dba"]), yes())
        .await?;
    ensure!(!heard(&shop, "orders WHERE id = 5"), "one of two is not enough");
    approvals
        .answer(open_now[0].id, &human("ann", &["dba"]), yes())
        .await?;
    ensure!(wire.answer().await?.tags() == "CTDCCZ");
    wire.send(&query(sql)).await?;
    noticed(&mut wire).await?;
    approvals
        .answer(open(&approvals, 2).await?[1].id, &human("ann", &["dba"]), no())
        .await?;
    ensure!(wire.answer().await?.sqlstate() == "42501", "one no is enough");
    let batch = "SELECT count(*) FROM operations WHERE reason = 'batch_denied'";
    ensure!(shop.rig.await_rows(batch).await? == ["2"]);
    Ok(())
}

#[tokio::test]
async fn a_cancel_request_ends_the_wait() -> Result<()> {
    let (shop, mut wire) = shop().await?;
    let approvals = approvals(&shop);
    let key = wire.key.clone().context("no key")?;
    wire.send(&query("DELETE FROM orders WHERE id = 7")).await?;
    noticed(&mut wire).await?;
    let request = open(&approvals, 1).await?.remove(0);
    let mut other = shop.rig.connect(shop.tap.address).await;
    other.write_all(&cancel(&key)).await?;
    let answer = wire.answer().await?;
    ensure!(answer.sqlstate() == "57014", "{answer:?}");
    ensure!(wire.query("SELECT 1").await?.value()? == "1");
    waiting(&approvals, request.id, 0).await?;
    let left = approvals.get(request.id).context("it is gone")?;
    ensure!(left.state == State::Open, "{left:?}");
    Ok(())
}

#[tokio::test]
async fn an_agent_that_stops_says_so() -> Result<()> {
    let (shop, mut wire) = shop().await?;
    let approvals = approvals(&shop);
    wire.send(&query("DELETE FROM orders WHERE id = 8")).await?;
    noticed(&mut wire).await?;
    let request = open(&approvals, 1).await?.remove(0);
    approvals.stop();
    let answer = wire.answer().await?;
    ensure!(
        answer.error().context("no error")?[&'D'].contains("reason=draining"),
        "{answer:?}"
    );
    let ended = approvals.get(request.id).context("it is gone")?;
    ensure!(ended.state == State::Lapsed, "{ended:?}");
    Ok(())
}
