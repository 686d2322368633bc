//! Two Rust drivers, tokio-postgres and sqlx: what they get, as JSON lines. Runs as the workload.

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
    let [_, driver, options] = arguments.as_slice() else {
        bail!("usage: postgres-workload DRIVER OPTIONS");
    };
    let options: Options = serde_json::from_str(options)?;
    match driver.as_str() {
        "tokio-postgres" => with_tokio_postgres::run(&options).await,
        "sqlx" => with_sqlx::run(&options).await,
        other => bail!("no driver is called {other}"),
    }
}

/// One line of the transcript.
pub fn say(step: &str, is: impl Serialize) {
    println!("{}", serde_json::json!({ "step": step, "is": is }));
}
