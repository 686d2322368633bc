//! Leaving the cgroup, and the system calls that the guard watches: each is really tried.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    time::Instant,
};

use portcullis::redirect::{Control, bpf::Outcome, guard};
use portcullis_abi::{Tag, guard::flag};

use crate::guard::{Cgroup, DEADLINE, Pins, count, healthy, isolated};

/// The hostile program, built once.
pub fn program() -> &'static Path {
    static BUILT: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    &BUILT.get_or_init(|| built("guard")).1
}

/// Builds one of the hostile programs, by its name: it lives as long as its directory.
pub fn built(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    let source = format!("{}/redirect/hostile/{name}.c", env!("CARGO_MANIFEST_DIR"));
    let built = Command::new("cc")
        .args(["-O1", "-o"])
        .arg(&path)
        .arg(source)
        .status();
    assert!(built.unwrap().success());
    (dir, path)
}

/// What became of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub enum Attempt {
    Killed,
    Said(String),
}

pub fn judge(output: &Output) -> Attempt {
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match output.status.signal() {
        Some(9) if said.is_empty() => Attempt::Killed,
        _ => Attempt::Said(format!("{said} {:?}", output.status.code())),
    }
}

/// Tries one thing in `cgroup`.
pub fn attempt(cgroup: &Path, words: &[&str]) -> Attempt {
    let output = Command::new(program()).arg(cgroup).args(words).output().unwrap();
    judge(&output)
}

fn allowed(attempt: &Attempt) -> bool {
    matches!(attempt, Attempt::Said(said) if said.starts_with("ok"))
}

/// Killed; or refused, where the host has security hooks.
fn refused(attempt: &Attempt) -> bool {
    match attempt {
        Attempt::Killed => true,
        Attempt::Said(said) => said.starts_with("err EPERM"),
    }
}

/// A process that waits in a cgroup, or in none of ours.
struct Waiting(Child);

impl Waiting {
    fn new(cgroup: Option<&Path>) -> Self {
        let mut child = Command::new(program())
            .arg(cgroup.unwrap_or(Path::new("")))
            .arg("wait")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.starts_with("ready"));
        // It has said so, and is about to read: a call that it begins later would be one of those that are watched.
        let reads = |call: String| call.starts_with("0 0x0 ");
        let call = format!("/proc/{}/syscall", child.id());
        let began = Instant::now();
        while !std::fs::read_to_string(&call).is_ok_and(reads) {
            assert!(began.elapsed() < DEADLINE, "it does not wait");
            std::thread::yield_now();
        }
        Self(child)
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }

    /// Lets it go on: what becomes of it.
    fn go_on(mut self) -> Option<i32> {
        let _gone = self.0.stdin.take().unwrap().write_all(b"x");
        self.0.wait().unwrap().signal()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// What was told next, beside that the attempts came in.
async fn told(events: &mut guard::GuardEvents) -> portcullis_abi::guard::GuardEvent {
    loop {
        let event = tokio::time::timeout(DEADLINE, events.next()).await;
        let event = event.unwrap().unwrap();
        if guard::outcome(&event) != Some(Outcome::ProcessArrived) {
            return event;
        }
    }
}

#[test]
fn whoever_leaves_the_cgroup_does_not_get_far() {
    isolated(|| async {
        let (pins, cgroup, outside) = (Pins::new(), Cgroup::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let mut events = control.guard_events().unwrap().unwrap();
        let out = outside.0.to_str().unwrap();
        for (n, way) in ["leave", "push-child", "clone-into"].into_iter().enumerate() {
            assert_eq!(attempt(&cgroup.0, &[way, out]), Attempt::Killed, "{way}");
            assert_eq!(count(&control, id, Outcome::EscapeKilled), n as u64 + 1, "{way}");
            let event = told(&mut events).await;
            assert_eq!(
                (event.tagged, event.to),
                (id.0, portcullis::redirect::cgroup::id(&outside.0).unwrap().0)
            );
            assert_eq!(event.by == event.pid, way == "leave", "{way}");
        }
        assert_eq!(count(&control, id, Outcome::EscapeMoved), 1);
        // Nor one that somebody outside started within, and not outside of it.
        let words = ["clone-into", cgroup.0.to_str().unwrap(), out];
        let Attempt::Said(said) = attempt(Path::new(""), &words) else {
            panic!("who started it is nobody's")
        };
        assert!(!said.contains("child runs"), "{said}");
        assert_eq!(count(&control, id, Outcome::EscapeKilled), 4);
        // Deeper is not out.
        let inner = Cgroup::below(&cgroup.0, "inner");
        assert!(allowed(&attempt(
            &cgroup.0,
            &["leave", inner.0.to_str().unwrap()]
        )));
        // Nor is anybody else's way from one cgroup to another concerned.
        assert!(allowed(&attempt(
            &outside.0,
            &[
                "leave",
                inner.0.parent().unwrap().parent().unwrap().to_str().unwrap()
            ]
        )));
        assert_eq!(count(&control, id, Outcome::EscapeKilled), 4);
        healthy(&control);
    });
}

#[test]
fn whoever_is_moved_away_is_counted_and_ended_where_that_is_wanted() {
    isolated(|| async {
        let (pins, cgroup, outside) = (Pins::new(), Cgroup::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        // It is there before the tag.
        let early = Waiting::new(Some(&cgroup.0));
        let id = control.tag(&cgroup.0).unwrap();
        let late = Waiting::new(Some(&cgroup.0));
        let mut events = control.guard_events().unwrap().unwrap();
        for (n, process) in [early, late].into_iter().enumerate() {
            std::fs::write(outside.0.join("cgroup.procs"), process.pid()).unwrap();
            assert_eq!(count(&control, id, Outcome::EscapeMoved), n as u64 + 1);
            let event = told(&mut events).await;
            assert_eq!((event.pid, event.by), (process.0.id(), std::process::id()));
            assert_eq!(process.go_on(), None);
        }
        control
            .tag_as(
                &cgroup.0,
                Tag {
                    flags: flag::MOVED_ENDS,
                },
            )
            .unwrap();
        let process = Waiting::new(Some(&cgroup.0));
        std::fs::write(outside.0.join("cgroup.procs"), process.pid()).unwrap();
        assert_eq!(process.go_on(), Some(9));
        assert_eq!(count(&control, id, Outcome::EscapeKilled), 0);
        // An untagged cgroup may be left again.
        let free = Waiting::new(Some(&cgroup.0));
        control.untag(id).unwrap();
        std::fs::write(outside.0.join("cgroup.procs"), free.pid()).unwrap();
        assert_eq!(free.go_on(), None);
        healthy(&control);
    });
}

#[test]
fn sockets_of_other_families_end_their_maker() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let attempts: [&[&str]; 9] = [
            &["socket", "17"],      // AF_PACKET
            &["socket", "40"],      // AF_VSOCK
            &["socket", "44"],      // AF_XDP
            &["socket", "38", "5"], // AF_ALG
            &["socketpair", "30"],  // AF_TIPC
            &["int80-socket", "17"],
            &["int80-socketcall", "17"],
            &["x32-socket", "17"],
            &["share-descriptors"],
        ];
        // A kernel without x32 has no such door: hooks are not asked, while the tracepoint sees numbers that mean nothing.
        let is_none =
            |attempt: &Attempt| matches!(attempt, Attempt::Said(said) if said.starts_with("err ENOSYS"));
        let without_x32 = is_none(&attempt(Path::new(""), &["x32-socket", "17"]));
        let mut denied = 0;
        for words in attempts {
            let attempt = attempt(&cgroup.0, words);
            let absent = without_x32 && words[0] == "x32-socket" && is_none(&attempt);
            assert!(absent || refused(&attempt), "{words:?}: {attempt:?}");
            denied += u64::from(!absent);
            assert_eq!(count(&control, id, Outcome::FamilyDenied), denied, "{words:?}");
        }
        for words in [
            &["socket", "1", "1"][..],
            &["socket", "16"],
            &["socketpair", "1"],
            &["int80-getpid"],
        ] {
            let attempt = attempt(&cgroup.0, words);
            assert!(allowed(&attempt), "{words:?}: {attempt:?}");
        }
        // Whoever is no workload makes what it likes.
        assert!(allowed(&attempt(Path::new(""), &["socket", "17"])));
        control
            .tag_as(
                &cgroup.0,
                Tag {
                    flags: flag::FAMILIES,
                },
            )
            .unwrap();
        assert!(allowed(&attempt(&cgroup.0, &["socket", "17"])));
        healthy(&control);
    });
}

#[test]
fn io_uring_ends_its_user() {
    isolated(io_uring);
}

pub async fn io_uring() {
    let (pins, cgroup) = (Pins::new(), Cgroup::new());
    let (_agent, control) = pins.start();
    let id = control.tag(&cgroup.0).unwrap();
    for (n, word) in ["io-uring-setup", "io-uring-enter", "io-uring-register"]
        .into_iter()
        .enumerate()
    {
        assert_eq!(attempt(&cgroup.0, &[word]), Attempt::Killed, "{word}");
        assert_eq!(count(&control, id, Outcome::IoUringDenied), n as u64 + 1);
    }
    control
        .tag_as(
            &cgroup.0,
            Tag {
                flags: flag::IO_URING,
            },
        )
        .unwrap();
    assert!(allowed(&attempt(&cgroup.0, &["io-uring-setup"])));
    healthy(&control);
}

#[test]
fn processes_outside_cannot_be_traced_and_those_within_can() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let target = Waiting::new(None);
        for (n, word) in ["attach", "seize", "vm-read", "getfd"].into_iter().enumerate() {
            let attempt = attempt(&cgroup.0, &[word, &target.pid()]);
            assert!(refused(&attempt), "{word}: {attempt:?}");
            assert_eq!(count(&control, id, Outcome::TraceDenied), n as u64 + 1);
        }
        let within = Waiting::new(Some(&cgroup.0));
        for words in [
            &["attach", &within.pid()][..],
            &["vm-read", &within.pid()],
            &["attach-child"],
            &["vm-read-child"],
            &["vm-read-inner"],
        ] {
            let attempt = attempt(&cgroup.0, words);
            // The memory that is asked for need not be there in another program.
            let reached =
                allowed(&attempt) || matches!(&attempt, Attempt::Said(said) if said.contains("EFAULT"));
            assert!(reached, "{words:?}: {attempt:?}");
        }
        // A number that nobody has: no hook is asked of nobody.
        let nobody = attempt(&cgroup.0, &["attach", "4194303"]);
        let none = matches!(&nobody, Attempt::Said(said) if said.starts_with("err ESRCH"));
        assert!(none || nobody == Attempt::Killed, "{nobody:?}");
        control.tag_as(&cgroup.0, Tag { flags: flag::TRACE }).unwrap();
        assert!(allowed(&attempt(&cgroup.0, &["attach", &target.pid()])));
        healthy(&control);
    });
}

/// Takes off what an attempt has mounted before it was killed for it.
struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _nothing_there = nix::mount::umount2(self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn what_paths_mean_is_changed_by_the_host_alone() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        let _unmount = Unmount(dir.path());
        // In a user namespace of its own anybody may mount.
        assert!(refused(&attempt(&cgroup.0, &["own-mount", path])));
        assert_eq!(count(&control, id, Outcome::MountDenied), 1);
        // What starts a container mounts in the container's cgroup.
        assert!(allowed(&attempt(&cgroup.0, &["chroot", "/"])));
        control
            .tag_as(
                &cgroup.0,
                Tag {
                    flags: flag::MOUNT_STRICT,
                },
            )
            .unwrap();
        let attempts: [&[&str]; 4] = [
            &["mount", path],
            &["chroot", "/"],
            &["pivot-root", "/"],
            &["setns", "/proc/self/ns/mnt"],
        ];
        for (n, words) in attempts.iter().enumerate() {
            let attempt = attempt(&cgroup.0, words);
            assert!(refused(&attempt), "{words:?}: {attempt:?}");
            assert_eq!(
                count(&control, id, Outcome::MountDenied),
                n as u64 + 2,
                "{words:?}"
            );
        }
        // CLONE_NEWNET
        assert!(allowed(&attempt(
            &cgroup.0,
            &["setns", "/proc/self/ns/net", "0x40000000"]
        )));
        control.tag_as(&cgroup.0, Tag { flags: flag::MOUNT }).unwrap();
        assert!(allowed(&attempt(&cgroup.0, &["own-mount", path])));
        healthy(&control);
    });
}

/// What the tracepoint costs whoever is no workload, per system call.
#[test]
fn other_processes_pay_little() {
    isolated(|| async {
        let time = || {
            let Attempt::Said(said) = attempt(Path::new(""), &["time", "1000000"]) else {
                panic!()
            };
            said.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
        };
        let least = |n: u32| (0..n).map(|_| time()).min().unwrap();
        let before = least(5);
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        let idle = least(5);
        control.tag(&cgroup.0).unwrap();
        let after = least(5);
        println!(
            "a system call takes {before} ns, {idle} ns beside an agent, {after} ns where something is tagged"
        );
        assert!(after < before + 1000, "{before} ns before, {after} ns after");
    });
}

/// The guard of system calls, by its pin and by what the agent says of it.
fn watched(pins: &Pins, control: &Control) -> bool {
    let all = control.attached().unwrap();
    let said = all.iter().find(|program| program.program == "sys_enter");
    let there = pins.host_link("sys_enter").exists();
    assert_eq!(said.map(|program| program.ok), there.then_some(true), "{all:?}");
    there
}

#[test]
fn system_calls_are_watched_while_something_is_tagged_and_from_before_that() {
    isolated(|| async {
        let (pins, cgroup, other) = (Pins::new(), Cgroup::new(), Cgroup::new());
        let (agent, control) = pins.start();
        assert!(!watched(&pins, &control), "nothing is tagged");
        // Where the guard cannot be attached nothing is tagged: it comes first.
        let pin = pins.host_link("sys_enter");
        std::fs::create_dir(&pin).unwrap();
        assert!(control.tag(&cgroup.0).is_err());
        assert!(control.tagged().is_empty());
        assert!(allowed(&attempt(&cgroup.0, &["socket", "17"])));
        assert!(
            control.members().unwrap().is_empty(),
            "it is nobody's in the kernel, too"
        );
        std::fs::remove_dir(&pin).unwrap();

        let id = control.tag(&cgroup.0).unwrap();
        assert!(watched(&pins, &control));
        assert_eq!(attempt(&cgroup.0, &["io-uring-setup"]), Attempt::Killed);
        let second = control.tag(&other.0).unwrap();
        control.untag(id).unwrap();
        assert!(watched(&pins, &control), "another is tagged");
        // The next agent finds it, and puts its own in that place.
        drop((agent, control));
        let (agent, control) = pins.start();
        assert!(watched(&pins, &control));
        assert_eq!(attempt(&other.0, &["io-uring-setup"]), Attempt::Killed);
        // As of an agent that ended when it had untagged the last, and not let go yet.
        std::fs::hard_link(&pin, pins.0.join("left")).unwrap();
        control.untag(second).unwrap();
        assert!(!watched(&pins, &control));
        std::fs::rename(pins.0.join("left"), &pin).unwrap();
        drop((agent, control));
        let (_agent, control) = pins.start();
        assert!(!watched(&pins, &control));
        healthy(&control);
    });
}

#[test]
fn who_must_end_ends_when_its_tag_has_gone_too() {
    isolated(|| async {
        let (pins, cgroup, outside) = (Pins::new(), Cgroup::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        let flags = flag::MOVED_ENDS;
        let id = control.tag_as(&cgroup.0, Tag { flags }).unwrap();
        let process = Waiting::new(Some(&cgroup.0));
        std::fs::write(outside.0.join("cgroup.procs"), process.pid()).unwrap();
        control.untag(id).unwrap();
        let pin = pins.host_link("sys_enter");
        assert!(pin.exists(), "somebody has to end yet");
        assert_eq!(process.go_on(), Some(9));
        crate::guard::until("the guard to be let go", || {
            control.let_go().unwrap();
            !pin.exists()
        })
        .await;
        healthy(&control);
    });
}
