//! Programs of workloads: none missed, none mistaken, and none run that may not.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use nix::errno::Errno;
use portcullis::{
    model::CgroupId,
    redirect::{
        Control, EXEC_AUDIT, EXEC_ENFORCE, Executed, Found, Happened, Kind, Processes, Program, Switches,
        bpf::Outcome,
    },
};

use crate::guard::{Cgroup, DEADLINE, Pins, Workload, count, healthy, isolated, times};

/// A directory of a test's own.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("portcullis-exec-{}-{n}", std::process::id()));
        std::fs::create_dir_all(path.join("made")).unwrap();
        Self(path)
    }

    /// Waits until a file has not changed for so long that what is said of it is remembered.
    pub fn settle(path: &Path) {
        let changed = std::fs::metadata(path).unwrap().modified().unwrap();
        while changed.elapsed().unwrap_or_default() < Duration::from_millis(1_100) {
            std::thread::yield_now();
        }
    }

    /// A copy of a program.
    pub fn copy(&self, of: &str, name: &str) -> PathBuf {
        let to = self.0.join(name);
        std::fs::copy(of, &to).unwrap();
        to
    }

    pub fn made(&self) -> usize {
        std::fs::read_dir(self.0.join("made")).unwrap().count()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

pub fn tag(control: &Control, cgroup: &Path, flags: u64) -> CgroupId {
    control.tag_as(cgroup, Switches { flags }).unwrap()
}

pub async fn next(processes: &Processes) -> Happened {
    tokio::time::timeout(DEADLINE, processes.next())
        .await
        .expect("nothing happened")
}

/// The next exec, whatever else happens.
pub async fn executed(processes: &Processes) -> Executed {
    loop {
        if let Happened::Executed(executed) = next(processes).await {
            return *executed;
        }
    }
}

/// What a workload answers, while this thread goes on.
pub fn asking(mut workload: Workload, command: String) -> tokio::task::JoinHandle<(Workload, String)> {
    tokio::task::spawn_blocking(move || {
        let answer = workload.ask(&command);
        (workload, answer)
    })
}

/// Lets everything run but what is like `bad`, and has the kernel remember both; until `done`.
async fn decide(processes: &Processes, bad: &Path, done: &Arc<AtomicU32>) {
    while done.load(Ordering::Acquire) == 0 {
        let Ok(happened) = tokio::time::timeout(Duration::from_millis(20), processes.next()).await else {
            continue;
        };
        let Happened::Executed(executed) = happened else {
            continue;
        };
        if !executed.held {
            continue;
        }
        let program = processes.identify(&executed, || {}).await.program;
        let allow = program.path.as_deref().is_none_or(|path| path != bad);
        processes.remember(
            &executed,
            &program,
            allow,
            (processes.generation(), DEADLINE * 10),
        );
        if allow {
            processes.release(&executed);
        } else {
            processes.kill(&executed);
        }
    }
}

#[test]
fn what_is_denied_never_runs_an_instruction() {
    isolated(denied);
}

pub async fn denied() {
    let (pins, cgroup, scratch) = (Pins::new(), Cgroup::new(), Scratch::new());
    let (_agent, control) = pins.start();
    let bad = scratch.copy("/bin/sh", "bad");
    let good = scratch.copy("/bin/sh", "good");
    Scratch::settle(&good);
    let workload = Workload::new(&cgroup.0);
    let id = tag(&control, &cgroup.0, EXEC_AUDIT | EXEC_ENFORCE);
    let processes = control.processes();
    let done = Arc::new(AtomicU32::new(0));
    let made = scratch.0.join("made/x");
    let (ended, command) = (
        Arc::clone(&done),
        format!("run 1000 {} -c :>$0$1 {}", bad.display(), made.display()),
    );
    let other = format!(
        "run 1 {} -c :>$0$1 {}",
        good.display(),
        scratch.0.join("made/good").display()
    );
    let asked = tokio::spawn(async move {
        let (workload, denied) = asking(workload, command).await.unwrap();
        let (_workload, allowed) = asking(workload, other).await.unwrap();
        ended.store(1, Ordering::Release);
        (denied, allowed)
    });
    decide(&processes, &bad, &done).await;
    let (denied, allowed) = asked.await.unwrap();
    assert_eq!(denied, "ok 1000xsignal:_9_(SIGKILL)");
    assert_eq!(allowed, "ok 1xexit_status:_0");
    // Each makes a file of its own, as its first act.
    assert!(scratch.0.join("made/good0").exists());
    assert_eq!(scratch.made(), 1, "something that was denied ran");
    let (held, by_kernel) = (
        count(&control, id, Outcome::ExecHeld),
        count(&control, id, Outcome::ExecDenied),
    );
    assert_eq!(count(&control, id, Outcome::ExecLost), 0);
    assert!(
        by_kernel > 900,
        "{by_kernel} by a remembered verdict, {held} asked about"
    );
    healthy(&control);
}

#[test]
fn twenty_thousand_short_processes_are_told_of_one_by_one() {
    isolated(|| async {
        let all = times(20_000) as usize;
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        let workload = Workload::new(&cgroup.0);
        let parent = workload.pid();
        let id = tag(&control, &cgroup.0, EXEC_AUDIT);
        let processes = control.processes();
        let asked = asking(workload, format!("run {all} /bin/true"));
        let (mut seen, mut running, mut ended) = (BTreeSet::new(), BTreeMap::new(), 0);
        while ended < all {
            match next(&processes).await {
                Happened::Executed(executed) => {
                    assert_eq!(executed.parent.0, parent);
                    assert!(executed.args_complete && !executed.held);
                    let number: usize = executed.args[1].to_str().unwrap().parse().unwrap();
                    assert!(seen.insert(number), "{number} twice");
                    assert!(running.insert(executed.process, executed.at_ns).is_none());
                }
                Happened::Exited {
                    process,
                    at_ns,
                    status,
                } => {
                    let began = running.remove(&process).expect("an end without a beginning");
                    assert!(at_ns >= began);
                    assert_eq!(status, 0);
                    ended += 1;
                }
                Happened::Forked { .. } | Happened::Left { .. } => {}
            }
        }
        assert_eq!(asked.await.unwrap().1, format!("ok {all}xexit_status:_0"));
        assert_eq!(seen, (0..all).collect());
        assert_eq!(count(&control, id, Outcome::ExecAllowed), all as u64);
        assert_eq!(count(&control, id, Outcome::ExecLost), 0);
        healthy(&control);
    });
}

/// Executes a file by its descriptor, by ways of /proc that only the process itself can go, and by a name of 300 bytes.
const BY: &str = "
import os, sys
how, path = sys.argv[1:3]
fd = os.open(path, os.O_RDONLY)
if how == 'memfd':
    content, fd = os.read(fd, 1 << 24), os.memfd_create('x', 0)
    os.write(fd, content)
os.set_inheritable(fd, True)
name = {
    'own': f'/proc/self/fd/{fd}',
    'root': f'/proc/{os.getpid()}/root{path}',
    'long': '/' * (300 - len(path)) + path,
}.get(how, fd)
os.execve(name, ['x'], {})
";

/// An interpreter of the host for files of this test's, by binfmt_misc: what has `.pclPID` at its end is given to echo(1).
struct Interpreted {
    mount: PathBuf,
    name: String,
}

impl Interpreted {
    /// `None` where the kernel has no such thing.
    fn new(scratch: &Scratch) -> Option<Self> {
        let (mount, name) = (scratch.0.join("misc"), format!("pcl{}", std::process::id()));
        std::fs::create_dir(&mount).unwrap();
        if let Err(error) = nix::mount::mount(
            None::<&str>,
            &mount,
            Some("binfmt_misc"),
            nix::mount::MsFlags::empty(),
            None::<&str>,
        ) {
            assert_eq!(error, Errno::ENODEV, "binfmt_misc");
            println!("not on this kernel: binfmt_misc");
            return None;
        }
        let this = Self { mount, name };
        let line = format!(":{0}:E::{0}::/bin/echo:", this.name);
        std::fs::write(this.mount.join("register"), line).unwrap();
        Some(this)
    }
}

impl Drop for Interpreted {
    fn drop(&mut self) {
        let _gone = std::fs::write(self.mount.join(&self.name), "-1");
        let _gone = nix::mount::umount2(&self.mount, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn what_runs_is_told_by_what_it_is() {
    isolated(told);
}

pub async fn told() {
    let (pins, cgroup, scratch) = (Pins::new(), Cgroup::new(), Scratch::new());
    let (_agent, control) = pins.start();
    let bad = scratch.copy("/bin/true", "bad");
    std::fs::hard_link(&bad, scratch.0.join("linked")).unwrap();
    std::fs::copy(&bad, scratch.0.join("renamed")).unwrap();
    let script = scratch.copy("/bin/true", "script");
    std::fs::write(&script, "#!/bin/sh -e\nexit 0\n").unwrap();
    let loader = std::fs::canonicalize("/lib64/ld-linux-x86-64.so.2").unwrap();
    let other_loader = scratch.copy(loader.to_str().unwrap(), "innocent");
    let mut workload = Workload::new(&cgroup.0);
    tag(&control, &cgroup.0, EXEC_AUDIT | EXEC_ENFORCE);
    let processes = control.processes();
    let hash = hex_of(&bad);
    std::fs::write(scratch.0.join("by.py"), BY).unwrap();
    let by = scratch.0.join("by.py").display().to_string();
    let at = |name: &str| scratch.0.join(name).display().to_string();
    let hostile = crate::escapes::program();
    for copy in ["good", "evil"] {
        scratch.copy("/bin/true", copy);
    }
    let refuses = !control.unavailable().iter().any(|one| one.program == "lsm_mount");
    let cases = [
        (at("bad"), "path"),
        (at("linked"), "path"),
        (at("renamed"), "path"),
        (format!("/usr/bin/python3 {by} fexecve {}", at("bad")), "path"),
        (format!("/usr/bin/python3 {by} memfd {}", at("bad")), "memfd"),
        (at("script"), "script"),
        (
            format!("/usr/bin/python3 {by} fexecve {}", at("script")),
            "script",
        ),
        (format!("/usr/bin/python3 {by} own {}", at("script")), "script"),
        (format!("/usr/bin/python3 {by} root {}", at("script")), "unread"),
        (format!("/usr/bin/python3 {by} long {}", at("script")), "unread"),
        (format!("/usr/bin/python3 {by} own {}", at("bad")), "path"),
        (format!("/usr/bin/python3 {by} root {}", at("bad")), "path"),
        (format!("{} {}", loader.display(), at("bad")), "loader"),
        (format!("{} {}", other_loader.display(), at("bad")), "loader"),
        (
            format!(
                "{} {} mounted-exec {} {}",
                hostile.display(),
                cgroup.0.display(),
                at("evil"),
                at("good")
            ),
            if refuses { "path" } else { "elsewhere" },
        ),
    ];
    let interpreted = Interpreted::new(&scratch);
    let of_host = interpreted.as_ref().map(|one| {
        let path = scratch.copy("/bin/true", &format!("binary.{}", one.name));
        (path.display().to_string(), "interpreted")
    });
    for (command, wanted) in cases.into_iter().chain(of_host) {
        let asked = asking(workload, format!("run 1 {command}"));
        // The last program of the process is the one in question.
        let found = loop {
            let executed = executed(&processes).await;
            let found = processes.identify(&executed, || {}).await;
            assert!(executed.held && found.cwd.is_some() && !executed.file.made_up);
            processes.release(&executed);
            let starts_it = found
                .program
                .path
                .as_ref()
                .is_some_and(|p| p.to_string_lossy().contains("python3") || ***p == *hostile);
            if !starts_it {
                break found;
            }
        };
        check(&command, wanted, &hash, &script, found);
        workload = asked.await.unwrap().0;
    }
    healthy(&control);
}

fn check(command: &str, wanted: &str, hash: &str, script: &Path, found: Found) {
    let Found {
        program, kind, given, ..
    } = found;
    let same = |program: &Program| program.sha256.as_deref() == Some(hash);
    match wanted {
        "path" => assert!(
            same(&program) && kind == Kind::Program && program.host && !program.memfd,
            "{command}: {program:?}"
        ),
        "memfd" => assert!(
            same(&program) && program.memfd && !program.host,
            "{command}: {program:?}"
        ),
        // At the path of another file, which is there for the host.
        "elsewhere" => assert!(
            same(&program) && !program.host && program.path.as_ref().is_some_and(|p| p.ends_with("good")),
            "{command}: {program:?}"
        ),
        // What is run is a copy of the same program, by another.
        "interpreted" => {
            assert_eq!(kind, Kind::Script, "{command}: {program:?}");
            assert!(same(&given) && !same(&program), "{command}: {given:?}");
        }
        "unread" => {
            assert_eq!(kind, Kind::Script, "{command}: {program:?}");
            assert_eq!(given.sha256, None, "{command}: {given:?}");
        }
        "script" => {
            assert_eq!(kind, Kind::Script, "{command}: {program:?}");
            assert_eq!(given.sha256.as_deref(), Some(&*hex_of(script)));
            assert!(
                program
                    .path
                    .as_ref()
                    .is_some_and(|p| p.to_string_lossy().contains("sh"))
            );
        }
        _ => {
            assert_eq!(kind, Kind::Loader, "{command}: {program:?}");
            assert!(same(&given), "{command}: {given:?}");
        }
    }
}

fn hex_of(path: &Path) -> String {
    let output = std::process::Command::new("sha256sum")
        .arg(path)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}
