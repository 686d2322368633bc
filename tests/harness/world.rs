//! A host in miniature: this thread in network and mount namespaces of its own, an upstream in another, a veth between.
//!
//! Nothing of the machine's own network can be reached from it, and nothing has to be cleaned up: namespaces go with
//! the last process in them, and every process that is started here dies with the thread that started it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use tempfile::TempDir;

use crate::{
    child::{Process, Said},
    pki::Authority,
};

/// The host's address towards the upstream.
pub const HOST: &str = "192.0.2.1";
/// The upstream's address.
pub const UPSTREAM: &str = "192.0.2.2";
/// The same over IPv6.
pub const UPSTREAM_V6: &str = "2001:db8::2";
/// The upstream's name, in the host's /etc/hosts.
pub const NAME: &str = "api.internal";

/// The two namespaces, a directory, and the certification authority that signs the upstream's certificate.
pub struct World {
    dir: TempDir,
    upstream: Process,
    authority: Authority,
    /// For servers inside this process; its threads are in the host's namespaces.
    runtime: tokio::runtime::Runtime,
}

impl World {
    /// Makes a world on a thread of its own and runs `inside` there.
    ///
    /// # Errors
    /// Without root, and those of `inside`.
    pub fn enter<T: Send>(inside: impl FnOnce(&World) -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| inside(&World::make()?));
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    fn make() -> Result<Self> {
        let flags = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
        unshare(flags).context("this needs root: unshare(CLONE_NEWNET | CLONE_NEWNS)")?;
        let none = None::<&Path>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("private mounts")?;
        // Short, as socket paths below it may have 107 bytes.
        let prefix = format!("{}{}-", crate::cgroup::PREFIX, std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir_in("/tmp")?;
        let mut command = dying("unshare");
        command.args(["--net", "sleep", "infinity"]);
        let upstream = Process::start("upstream", dir.path(), &mut command)?;
        wait_for_namespace(upstream.pid())?;
        link(upstream.pid())?;
        let authority = Authority::new("Example Corp Internal CA")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let world = Self {
            dir,
            upstream,
            authority,
            runtime,
        };
        world.own_file(
            "/etc/hosts",
            &format!("127.0.0.1 localhost\n::1 localhost\n{UPSTREAM} {NAME}\n"),
        )?;
        // As an admin would have added the company's own authority with update-ca-certificates.
        let bundle = "/etc/ssl/certs/ca-certificates.crt";
        let roots = fs::read_to_string(bundle).with_context(|| bundle.to_owned())?;
        world.own_file(bundle, &format!("{roots}{}", world.authority.pem()))?;
        Ok(world)
    }

    /// What the host's resolv.conf(5) says.
    ///
    /// # Errors
    /// When it cannot be put in its place.
    pub fn resolvers(&self, text: &str) -> Result<()> {
        self.own_file("/etc/resolv.conf", text)
    }

    /// Puts a file of this world's own in a system file's place; nobody outside sees it.
    fn own_file(&self, path: &str, text: &str) -> Result<()> {
        let own = self.dir().join(path.trim_start_matches('/').replace('/', "_"));
        fs::write(&own, text)?;
        let none = None::<&str>;
        mount(Some(&own), path, none, MsFlags::MS_BIND, none).with_context(|| format!("bind mount on {path}"))
    }

    /// A directory for everything, removed at the end.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The authority that signs the upstream's certificates.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Where servers inside this process run.
    #[must_use]
    pub fn runtime(&self) -> &tokio::runtime::Runtime {
        &self.runtime
    }

    /// A command on the host.
    #[must_use]
    pub fn host(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        dying(program)
    }

    /// A command on the host, in a cgroup from its first instruction on.
    #[must_use]
    pub fn host_in(&self, cgroup: &Path, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = dying("sh");
        command
            .args(["-c", r#"echo $$ > "$0/cgroup.procs" && exec "$@""#])
            .arg(cgroup)
            .arg(program);
        command
    }

    /// A command on the upstream.
    #[must_use]
    pub fn upstream(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = dying("nsenter");
        // Not `ip netns exec`: that mounts another /sys, without cgroup2 and bpffs.
        command
            .arg(format!("--net=/proc/{}/ns/net", self.upstream.pid()))
            .arg(program);
        command
    }

    /// A path in the world's directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }
}

/// A command that is killed when the thread that started it ends, however that comes.
pub(crate) fn dying(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program)
        .stdin(Stdio::null());
    command
}

fn wait_for_namespace(pid: u32) -> Result<()> {
    let own = fs::read_link("/proc/thread-self/ns/net")?;
    crate::wait::wait_until("the upstream's network namespace", crate::wait::DEADLINE, || {
        fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|there| there != own)
            && fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.trim() == "sleep")
    })
}

/// Loopback up on both sides, and a veth pair between them.
fn link(upstream: u32) -> Result<()> {
    let there = format!("nsenter --net=/proc/{upstream}/ns/net");
    for line in [
        "ip link set lo up".to_owned(),
        format!("ip link add up0 type veth peer name host0 netns {upstream}"),
        format!("ip addr add {HOST}/24 dev up0"),
        "ip addr add 2001:db8::1/64 dev up0 nodad".to_owned(),
        "ip link set up0 up".to_owned(),
        // So that a packet that should not leave has a way to leave, and is seen to be stopped.
        format!("ip route add default via {UPSTREAM}"),
        format!("{there} ip link set lo up"),
        format!("{there} ip addr add {UPSTREAM}/24 dev host0"),
        format!("{there} ip addr add {UPSTREAM_V6}/64 dev host0 nodad"),
        format!("{there} ip link set host0 up"),
    ] {
        let mut words = line.split(' ');
        let program = words.next().ok_or_else(|| anyhow!("an empty line"))?;
        let said = Said::by(Command::new(program).args(words))?;
        if said.code != 0 {
            bail!("{line}: {}", said.err);
        }
    }
    Ok(())
}
