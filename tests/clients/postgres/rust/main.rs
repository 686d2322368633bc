//! Two Rust drivers, tokio-postgres and sqlx: what they get, as JSON lines; and what reads a result and drops it. Runs
//! as the workload.

// Its output is for a test, which fails when it ends early.
#![allow(missing_docs)]

mod with_sqlx;
mod with_tokio_postgres;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// Where to connect. In the clear: TLS is what the other clients show.
#[derive(Deserialize)]
pub struct Options {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    pub database: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let arguments: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    let options = |text| serde_json::from_str(text);
    match arguments.as_slice() {
        ["tokio-postgres", text] => with_tokio_postgres::run(&options(text)?).await,
        ["sqlx", text] => with_sqlx::run(&options(text)?).await,
        ["drain", text, sql] => with_tokio_postgres::drain(&options(text)?, sql).await,
        _ => bail!("usage: postgres-workload tokio-postgres|sqlx OPTIONS, or drain OPTIONS SQL"),
    }
}

/// One line of the transcript.
pub fn say(step: &str, is: impl Serialize) {
    println!("{}", serde_json::json!({ "step": step, "is": is }));
}
