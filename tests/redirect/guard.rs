//! What a test needs of the host, and gives back: a network namespace, cgroups, pins, a workload.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, unshare};
use portcullis::{
    model::CgroupId,
    redirect::{
        self, BpfRedirector, Control, Options, RedirectError, Redirected, Redirector as _, bpf::Outcome,
        cgroup,
    },
};

/// How long anything may take before the test has failed.
pub const DEADLINE: Duration = Duration::from_secs(20);

const PREFIX: &str = "portcullis-test-";

/// How often a test repeats what it repeats `all` times: a part of it where the machine is emulated, and each time takes
/// thirty times as long (`PORTCULLIS_TEST_PART=10`, which `cargo xtask kernels` sets, is a tenth).
pub fn times(all: u32) -> u32 {
    let part = std::env::var("PORTCULLIS_TEST_PART").map_or(1, |part| part.parse().unwrap());
    all / part
}

/// Runs a test on a thread of its own in a network namespace of its own, with loopback up. Needs root.
pub fn isolated<F, Fut>(test: F)
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()>,
{
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root: unshare(CLONE_NEWNET)");
        ip("link set lo up");
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// ip(8) in the present namespace.
pub fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(
        status.as_ref().is_ok_and(std::process::ExitStatus::success),
        "ip {arguments}: {status:?}"
    );
}

/// A device that leads nowhere, with addresses and default routes: without it, a packet that is not for loopback would
/// fail for want of a route, and not because of the guard.
pub fn uplink() {
    ip("link add v0 type veth peer name v1");
    ip("link set v0 up");
    ip("link set v1 up");
    ip("addr add 192.0.2.1/24 dev v0");
    ip("route add default via 192.0.2.254");
    ip("neigh add 192.0.2.254 lladdr 02:00:00:00:00:01 dev v0");
    ip("addr add 2001:db8::1/64 dev v0 nodad");
    ip("route add default via 2001:db8::fe dev v0");
    ip("neigh add 2001:db8::fe lladdr 02:00:00:00:00:01 dev v0");
}

/// How often `outcome` happened.
pub fn count(control: &Control, id: CgroupId, outcome: Outcome) -> u64 {
    let counters = control.counters().unwrap();
    let found = counters.iter().find(|(found, _)| *found == id);
    found.expect("tagged").1.get(outcome)
}

/// No program failed anywhere.
pub fn healthy(control: &Control) {
    let errors = control.errors().unwrap();
    let failed: Vec<_> = errors.iter().filter(|(_, count)| *count > 0).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// The directory of this process's test cgroups; those of processes that are gone are removed first.
fn root() -> PathBuf {
    static CLEAN: Once = Once::new();
    let mount = cgroup::find_mount().expect("these tests need cgroup2");
    CLEAN.call_once(|| {
        for entry in fs::read_dir(&mount).unwrap().filter_map(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.strip_prefix(PREFIX).map(str::to_owned);
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                remove_tree(&entry.path());
            }
        }
    });
    mount.join(format!("{PREFIX}{}", std::process::id()))
}

/// rmdir(2) from the leaves up: a cgroup's files are not removed one by one.
fn remove_tree(directory: &Path) {
    let inner = fs::read_dir(directory).into_iter().flatten();
    for entry in inner.filter_map(Result::ok).filter(|e| e.path().is_dir()) {
        remove_tree(&entry.path());
    }
    let _left_for_the_next_run = fs::remove_dir(directory);
}

/// A cgroup, removed with what is below it.
pub struct Cgroup(pub PathBuf);

impl Cgroup {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("w{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Self::below(&root(), &name)
    }

    pub fn below(parent: &Path, name: &str) -> Self {
        let path = parent.join(name);
        fs::create_dir_all(&path).expect("these tests need root: mkdir of a cgroup");
        Self(path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove_tree(&self.0);
    }
}

/// Where an agent of one test pins, removed at the end; one port for all, as each test has its own loopback.
pub struct Pins(pub PathBuf);

impl Pins {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("/sys/fs/bpf/{PREFIX}{}-{n}", std::process::id()).into())
    }

    pub fn options(&self) -> Options {
        let mount = cgroup::find_mount().expect("these tests need cgroup2");
        let agent = root().join("agent");
        Options {
            pin_dir: self.0.clone(),
            port: 15_001,
            agent_cgroup: agent.strip_prefix(&mount).unwrap().display().to_string(),
            cgroup_mount: mount,
        }
    }

    /// Where one tag's link to a program is pinned.
    pub fn link(&self, id: CgroupId, program: &str) -> PathBuf {
        self.0.join(format!("tags/{}/link_{program}", id.0))
    }

    /// Where a link of the host is pinned.
    pub fn host_link(&self, program: &str) -> PathBuf {
        self.0.join(format!("link_{program}"))
    }

    /// Starts an agent. The port of one that has just ended may be held for a moment by a child that another test is
    /// starting: between fork and exec it has this process's descriptors.
    pub fn start(&self) -> (BpfRedirector, Control) {
        let start = Instant::now();
        loop {
            match BpfRedirector::start(&self.options()) {
                Err(RedirectError::PortUsed { .. }) if start.elapsed() < DEADLINE => {
                    std::thread::yield_now();
                }
                agent => {
                    let agent = agent.expect("these tests need root and eBPF");
                    let control = agent.control();
                    return (agent, control);
                }
            }
        }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        redirect::remove(&self.0).unwrap();
    }
}

/// The next connection, or the test has failed.
pub async fn next(agent: &mut BpfRedirector) -> Redirected {
    tokio::time::timeout(DEADLINE, agent.next_connection())
        .await
        .expect("no connection arrived")
        .unwrap()
}

/// A process in a cgroup, in the namespace of the thread that made it.
pub struct Workload {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Workload {
    pub fn new(cgroup: &Path) -> Self {
        let mut workload = Self::outside();
        workload.ask(&format!("join {}", cgroup.display()));
        workload
    }

    /// In a cgroup from the start, by a command that ends in running it, such as `ip netns exec NAME`.
    pub fn by(cgroup: &Path, command: &str) -> Self {
        let script = format!(
            "echo 0 > {}/cgroup.procs; exec {command} {}",
            cgroup.display(),
            env!("CARGO_BIN_EXE_redirect-workload")
        );
        Self::run(Command::new("sh").args(["-c", &script]))
    }

    pub fn outside() -> Self {
        Self::run(&mut Command::new(env!("CARGO_BIN_EXE_redirect-workload")))
    }

    fn run(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            stdin: child.stdin.take().unwrap(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn tell(&mut self, command: &str) {
        writeln!(self.stdin, "{command}").unwrap();
    }

    pub fn answer(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Does one thing until it is answered like this.
    pub fn until(&mut self, command: &str, wanted: &str) {
        let start = Instant::now();
        loop {
            let answer = self.ask(command);
            if answer == wanted {
                return;
            }
            assert!(
                start.elapsed() < DEADLINE,
                "{command}: {answer}, waited for {wanted}"
            );
            std::thread::yield_now();
        }
    }

    /// Does one thing, which must not wait for the agent: this thread may be the agent's.
    pub fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer()
    }
}

/// Does one thing while the agent's tasks run.
pub async fn ask(mut workload: Workload, command: &str) -> (Workload, String) {
    let command = command.to_owned();
    let done = tokio::task::spawn_blocking(move || {
        let answer = workload.ask(&command);
        (workload, answer)
    });
    done.await.unwrap()
}

/// Waits for something that the agent's tasks bring about.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < DEADLINE, "not yet: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A named network namespace, as `ip netns` makes them; deleted at the end.
pub struct Netns(pub String);

impl Netns {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let netns = Self(format!("{PREFIX}{}-{n}", std::process::id()));
        // The first one of a host makes the directory a mount, under which another's would be hidden.
        let lock = fs::File::create("/run/portcullis-test-netns.lock").unwrap();
        lock.lock().unwrap();
        ip(&format!("netns add {}", netns.0));
        netns
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _gone = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
