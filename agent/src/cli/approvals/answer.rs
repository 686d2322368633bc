//! What changes something: answers, the end of a grant, break-glass.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    BreakGlass, Command,
    client::{AskError, Client},
    out, print,
};
use crate::{
    approval::{Answer, BreakGlassView, GrantView, Scope, View},
    console::text::one_line,
};

pub(super) async fn run(client: &Client, command: &Command) -> Result<(), AskError> {
    match command {
        Command::Approve {
            id,
            reason,
            waiting,
            grant,
            shape,
            json,
        } => {
            let scope = match (grant, shape) {
                (Some(time), Some(shape)) => Scope::Grant {
                    shape: *shape,
                    minutes: minutes(*time)?,
                },
                _ if *waiting => {
                    let view: View = client.get(&format!("/v1/approvals/{id}")).await?;
                    Scope::Waiting { count: view.waiting }
                }
                _ => Scope::Once,
            };
            answer(client, *id, true, reason, scope, *json).await
        }
        Command::Deny { id, reason, json } => answer(client, *id, false, reason, Scope::Once, *json).await,
        Command::EndGrant { id, reason } => {
            let path = format!("/v1/approvals/grants/{id}/end");
            let _: Value = client.post(&path, &json!({ "reason": reason })).await?;
            println!("grant {id} has ended");
            Ok(())
        }
        Command::BreakGlass(BreakGlass::Ask {
            workload,
            time,
            reason,
        }) => {
            let body = json!({ "workload": workload, "minutes": minutes(*time)?, "reason": reason });
            let asked: BreakGlassView = client.post("/v1/approvals/break-glass", &body).await?;
            println!(
                "asked; a second person of the group confirms it until {}:\n  portcullis approvals break-glass confirm {} --reason ...",
                asked.expires_at, asked.id
            );
            Ok(())
        }
        Command::BreakGlass(BreakGlass::Confirm { id, reason }) => {
            let path = format!("/v1/approvals/break-glass/{id}/confirm");
            let given: GrantView = client.post(&path, &json!({ "reason": reason })).await?;
            println!(
                "the glass is broken for {} until {}; end it with\n  portcullis approvals end-grant {} --reason ...",
                one_line(&given.workload),
                given.expires_at,
                given.id
            );
            Ok(())
        }
        Command::List { .. }
        | Command::Show { .. }
        | Command::Grants { .. }
        | Command::Login
        | Command::Logout => Err(AskError::Failed("this command changes nothing".into())),
    }
}

/// Whole minutes, at least one.
fn minutes(time: Duration) -> Result<u32, AskError> {
    let whole = time.as_secs() / 60;
    match u32::try_from(whole) {
        Ok(minutes) if minutes > 0 && whole * 60 == time.as_secs() => Ok(minutes),
        _ => Err(AskError::Failed(
            "a time is whole minutes, such as 30m or 2h".into(),
        )),
    }
}

async fn answer(
    client: &Client,
    id: Uuid,
    approve: bool,
    reason: &str,
    scope: Scope,
    json: bool,
) -> Result<(), AskError> {
    let answer = Answer {
        approve,
        reason: reason.into(),
        scope,
    };
    let path = format!("/v1/approvals/{id}/answer");
    let view: View = client.post(&path, &answer).await?;
    out(json, &view, print::stands)
}
