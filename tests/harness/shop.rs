//! A site with a database: a real cluster upstream, where the workload may do everything but delete orders, and sees
//! neither customers.ssn nor customers.note_secret.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::Result;

use crate::{
    postgres::{APP, Postgres},
    site::{Options, Site},
    world::{UPSTREAM, UPSTREAM_V6, World},
};

/// The policy: connect, run everything but `DELETE FROM orders`, see everything but two data classes.
pub const POLICY: &str = include_str!("postgres/policy.cedar");

/// What the masked columns' values are replaced with.
pub const MASKED_SSN: &str = "[masked:us_ssn]";
/// The same for customers.note_secret.
pub const MASKED_NOTE: &str = "[masked:note]";

/// Everything, running.
pub struct Shop<'w> {
    /// The rest of it: daemon, issuer, workload.
    pub site: Site<'w>,
    /// The database.
    pub postgres: Postgres,
}

impl<'w> Shop<'w> {
    /// Starts everything. Over IPv4 the agent logs in as `app`, whatever the workload presents; over IPv6 the workload
    /// logs in by itself.
    ///
    /// # Errors
    /// When anything does not start; with its log.
    pub fn start(world: &'w World, name: &str, durability: &'static str) -> Result<Self> {
        let postgres = Postgres::upstream(world)?;
        let password = world.path("shop.password");
        fs::write(&password, APP.password)?;
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
        let options = Options {
            durability,
            policy: POLICY.into(),
            config: format!(
                r#"
[[credential]]
name = "shop-app"
file = "{password}"

[[upstream]]
name = "shop-db"
protocol = "postgres"
host = "{UPSTREAM}"
server_name = "{UPSTREAM}"
port = 5432
login = "brokered"
user = "{user}"
credential = "shop-app"

[[upstream]]
name = "shop-direct"
protocol = "postgres"
host = "{UPSTREAM_V6}"
port = 5432

[[mask.field]]
class = "us_ssn"
column = ["customers.ssn", "wide.ssn"]

[[mask.field]]
class = "note"
column = ["customers.note_secret"]
"#,
                password = password.display(),
                user = APP.name,
            ),
            ..Options::default()
        };
        let site = Site::start(world, name, &options)?;
        Ok(Self { site, postgres })
    }
}
