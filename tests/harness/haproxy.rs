//! Debian's haproxy as a plain TCP relay: the least that anything in the middle can do.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};

use crate::{
    child::Process,
    wait::{DEADLINE, wait_until},
    world::World,
};

/// A running haproxy.
pub struct Haproxy(Process);

impl Haproxy {
    /// Passes bytes between 127.0.0.1:`port` on the host and `to`.
    ///
    /// # Errors
    /// When haproxy is missing or does not start.
    pub fn relay(world: &World, port: u16, to: SocketAddr) -> Result<Self> {
        let program = "/usr/sbin/haproxy";
        if !Path::new(program).exists() {
            bail!("{program} is missing: `cargo xtask setup` installs it");
        }
        let file = world.path("haproxy.cfg");
        let config = format!(
            "global\n  maxconn 1000\n\
             defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
             listen relay\n  bind 127.0.0.1:{port}\n  server upstream {to}\n"
        );
        fs::write(&file, config)?;
        let mut command = world.host(program);
        // In the foreground.
        command.args(["-db", "-f"]).arg(&file);
        let haproxy = Self(Process::start("haproxy", world.dir(), &mut command)?);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        wait_until("haproxy to listen", DEADLINE, || {
            std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
        })
        .with_context(|| haproxy.0.log())?;
        Ok(haproxy)
    }

    /// Its process id; its threads are in one process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }
}
