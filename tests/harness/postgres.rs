//! Debian's PostgreSQL 15: a cluster of the test's own, with the same data in it each time.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::Signal,
    unistd::{Uid, User},
};
use tempfile::TempDir;

use crate::{
    child::{Process, Said},
    pki::Authority,
    wait::{DEADLINE, wait_until},
    world::{NAME, UPSTREAM, UPSTREAM_V6, World, dying},
};

/// Where Debian keeps the programs.
pub const BIN: &str = "/usr/lib/postgresql/15/bin";
/// The database with the fixtures.
pub const DATABASE: &str = "shop";
/// An empty one, for pgbench.
pub const BENCH: &str = "bench";

/// A role, and its password where it has one.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// Its name.
    pub name: &'static str,
    /// Its password; no workload may ever see it.
    pub password: &'static str,
}

/// Logs in by SCRAM-SHA-256, over TLS also -PLUS; owns everything.
pub const APP: Role = role("app", "Kx7.upstream-only.Qm2");
/// Logs in by MD5.
pub const MD5: Role = role("app_md5", "Hd4.upstream-only.Tz9");
/// Logs in by a password in clear text.
pub const CLEAR: Role = role("app_clear", "Vb1.upstream-only.Rw5");
/// Logs in by a client certificate with its name, over TLS only.
pub const CERT: Role = role("app_cert", "");
/// Logs in by saying so.
pub const TRUST: Role = role("app_trust", "");
/// May replicate; logs in by SCRAM-SHA-256.
pub const REPLICATOR: Role = role("replicator", APP.password);

const fn role(name: &'static str, password: &'static str) -> Role {
    Role { name, password }
}

/// Values of customers.ssn and customers.note_secret.
pub const SECRETS: [&str; 4] = ["219-09-9999", "457-55-5462", "rosebud-1", "rosebud-2"];

/// `local` is the tests' own way in.
const HBA: &str = "\
local   all          all                     trust
hostssl all          app_cert   all          cert
host    all          app_cert   all          reject
host    all          app_trust  all          trust
host    all          app_md5    all          md5
host    all          app_clear  all          password
host    replication  all        all          scram-sha-256
host    all          all        all          scram-sha-256
";

/// `ALTER SYSTEM` and a reload change them.
const SETTINGS: &str = "\
# What is in the middle is tested and measured, not this disk.
fsync = off
full_page_writes = off
max_wal_size = 1GB
shared_buffers = 256MB
max_connections = 120
ssl = on
ssl_cert_file = 'server.pem'
ssl_key_file = 'server.key'
ssl_ca_file = 'roots.pem'
timezone = UTC
log_timezone = UTC
log_statement = all
log_connections = on
log_line_prefix = '[%p %u@%d] '
";

/// A running cluster; ends when dropped.
pub struct Postgres {
    process: Process,
    dir: TempDir,
    address: SocketAddr,
}

impl Postgres {
    /// On the world's upstream, port 5432, over both IP versions.
    ///
    /// # Errors
    /// When it is missing or does not start; with its log.
    pub fn upstream(world: &World) -> Result<Self> {
        let cluster = Cluster::make(world.authority(), &[NAME, UPSTREAM, UPSTREAM_V6])?;
        let listen = format!("{UPSTREAM},{UPSTREAM_V6}");
        let process = cluster.start(world.upstream("setpriv"), &listen, 5432)?;
        cluster.fill(process, SocketAddr::new(UPSTREAM.parse()?, 5432))
    }

    /// On a free port of 127.0.0.1, for tests that need no world; also without root. To be called on the test's own
    /// thread: the cluster ends with the thread that started it.
    ///
    /// # Errors
    /// When it is missing or does not start; with its log.
    pub fn local(authority: &Authority) -> Result<Self> {
        let mut last = None;
        // The port may be taken between being found free and being used.
        for _ in 0..3 {
            let cluster = Cluster::make(authority, &["localhost", "127.0.0.1"])?;
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
            match cluster.start(dying("setpriv"), "127.0.0.1", free.port()) {
                Ok(process) => return cluster.fill(process, free),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no attempt was made")?)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The directory of its UNIX socket.
    #[must_use]
    pub fn socket_dir(&self) -> PathBuf {
        socket_dir(&self.dir)
    }

    /// A command of PostgreSQL's, connected as the superuser by the socket, past everything.
    #[must_use]
    pub fn command(&self, program: &str, database: &str) -> Command {
        let mut command = Command::new(Path::new(BIN).join(program));
        command.env("PGHOST", socket_dir(&self.dir));
        command.env("PGPORT", self.address.port().to_string());
        command.env("PGUSER", "postgres").env("PGDATABASE", database);
        command
    }

    /// What a statement gives to the superuser, a line for each row.
    ///
    /// # Errors
    /// When it fails.
    pub fn admin(&self, sql: &str) -> Result<String> {
        self.admin_in(DATABASE, sql)
    }

    /// The same in another database.
    ///
    /// # Errors
    /// When it fails.
    pub fn admin_in(&self, database: &str, sql: &str) -> Result<String> {
        let mut psql = self.command("psql", database);
        let said = Said::by(psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql]))?;
        said.ok().with_context(|| sql.to_owned())
    }

    /// Its log: every connection, every statement, every error.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Whether it was ever asked to run something that contains this text.
    #[must_use]
    pub fn saw(&self, text: &str) -> bool {
        self.log().contains(text)
    }

    /// The postmaster's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends the postmaster a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// kill -9 of the postmaster and all that serve connections.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill9(&mut self) -> Result<()> {
        let pid = self.process.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        // First the postmaster: it would see a killed child and tell the others to end in order.
        self.process.kill9();
        for child in children.split_whitespace() {
            let _ended_by_itself =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.parse()?), Signal::SIGKILL);
        }
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // An immediate shutdown takes the children along; killed, it would leave them to find out.
        let _ended_already = self.process.signal(Signal::SIGQUIT);
        let _killed_otherwise = self.process.wait(Duration::from_secs(10));
    }
}

fn socket_dir(dir: &TempDir) -> PathBuf {
    dir.path().join("s")
}

/// A cluster that has been made and does not run yet.
struct Cluster {
    dir: TempDir,
    /// Whom to become: PostgreSQL refuses to be root. None when this is not root.
    user: Option<User>,
}

impl Cluster {
    fn make(authority: &Authority, names: &[&str]) -> Result<Self> {
        if !Path::new(BIN).join("postgres").exists() {
            bail!("{BIN}/postgres is missing: `cargo xtask setup` installs it");
        }
        let user = if Uid::effective().is_root() {
            Some(User::from_name("postgres")?.context("there is no user postgres")?)
        } else {
            None
        };
        // Not in the world's directory, which only root may enter. Short: paths of sockets have 107 bytes.
        let prefix = format!("{}{}-pg", crate::cgroup::PREFIX, std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir_in("/tmp")?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711))?;
        let cluster = Self { dir, user };
        for name in ["d", "s"] {
            let path = cluster.dir.path().join(name);
            fs::create_dir(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
            cluster.give(&path)?;
        }
        let mut initdb = cluster.become_user(dying("setpriv"), "initdb");
        initdb.arg("-D").arg(cluster.data()).args([
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--username=postgres",
            "--auth=trust",
            // Small files, so that making and removing it is quick.
            "--wal-segsize=1",
        ]);
        Said::by(&mut initdb)?.ok().context("initdb")?;
        let leaf = authority.leaf(names)?;
        cluster.write("pg_hba.conf", HBA)?;
        cluster.write("postgresql.conf", SETTINGS)?;
        cluster.write("server.pem", &leaf.chain)?;
        cluster.write("server.key", &leaf.key)?;
        cluster.write("roots.pem", authority.pem())?;
        Ok(cluster)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("d")
    }

    fn give(&self, path: &Path) -> Result<()> {
        if let Some(user) = &self.user {
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        Ok(())
    }

    /// A file in the data directory that only the server may read.
    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.data().join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        self.give(&path)
    }

    /// `setpriv` with another one inside that becomes the user; the signal at the parent's death is forgotten with a
    /// change of user, so it is asked for again.
    fn become_user(&self, mut setpriv: Command, program: &str) -> Command {
        setpriv.args(["--pdeathsig", "KILL"]);
        if let Some(user) = &self.user {
            setpriv.args(["--reuid", &user.uid.to_string(), "--regid", &user.gid.to_string()]);
            setpriv.arg("--clear-groups");
        }
        setpriv.arg("--").arg(Path::new(BIN).join(program));
        setpriv.env("LC_ALL", "C.UTF-8").current_dir("/");
        setpriv
    }

    fn start(&self, setpriv: Command, listen: &str, port: u16) -> Result<Process> {
        let mut command = self.become_user(setpriv, "postgres");
        command.arg("-D").arg(self.data());
        let sockets = format!("unix_socket_directories={}", socket_dir(&self.dir).display());
        for setting in [
            format!("listen_addresses={listen}"),
            format!("port={port}"),
            sockets,
        ] {
            command.arg("-c").arg(setting);
        }
        let mut process = Process::start("postgres", self.dir.path(), &mut command)?;
        let mut ended = None;
        let waited = wait_until("PostgreSQL to be ready", DEADLINE, || {
            ended = process.ended();
            ended.is_some()
                || process
                    .log()
                    .contains("database system is ready to accept connections")
        });
        if let Some(status) = ended {
            bail!("PostgreSQL ended with {status}; its log:\n{}", process.log());
        }
        waited.with_context(|| process.log())?;
        Ok(process)
    }

    fn fill(self, process: Process, address: SocketAddr) -> Result<Postgres> {
        let postgres = Postgres {
            process,
            dir: self.dir,
            address,
        };
        let fixture = postgres.dir.path().join("fixture.sql");
        fs::write(&fixture, include_str!("postgres/fixture.sql"))?;
        let mut psql = postgres.command("psql", "postgres");
        psql.args(["-Xq", "-v", "ON_ERROR_STOP=1", "-f"]).arg(&fixture);
        for (name, role) in [
            ("app_password", APP),
            ("clear_password", CLEAR),
            ("md5_password", MD5),
        ] {
            psql.arg("-v").arg(format!("{name}={}", role.password));
        }
        Said::by(&mut psql)?.ok().context("the fixtures")?;
        Ok(postgres)
    }
}
