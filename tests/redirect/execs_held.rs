//! Programs that are held: they stay where they are until somebody has decided, whatever else happens.

use std::path::Path;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use portcullis::redirect::{EXEC_AUDIT, EXEC_ENFORCE, Executed, Happened, Processes};

use crate::{
    execs::{Scratch, asking, executed, next, tag},
    guard::{Cgroup, Pins, Workload, healthy, isolated, until},
};

/// A program that makes a directory with its first instructions and its first system call, and needs nothing else: no
/// loader, no library.
fn at_once(scratch: &Scratch) -> std::path::PathBuf {
    let mut code = vec![
        0xb8, 83, 0, 0, 0, // mov eax, SYS_mkdir
        0x48, 0x8d, 0x3d, 16, 0, 0, 0, // lea rdi, [rip + 16]
        0xbe, 0xed, 0x01, 0, 0, // mov esi, 0755
        0x0f, 0x05, // syscall
        0x31, 0xff, // xor edi, edi
        0xb8, 60, 0, 0, 0, // mov eax, SYS_exit
        0x0f, 0x05, // syscall
    ];
    code.extend(scratch.0.join("made/x").as_os_str().as_encoded_bytes());
    code.push(0);
    // elf(5): the header of the file, and that of one segment, which is all of it.
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(16, 0);
    elf.extend([2_u16, 62].iter().flat_map(|n| n.to_le_bytes()));
    elf.extend(1_u32.to_le_bytes());
    elf.extend([0x40_0078_u64, 64, 0].iter().flat_map(|n| n.to_le_bytes()));
    elf.extend(0_u32.to_le_bytes());
    elf.extend([64_u16, 56, 1, 0, 0, 0].iter().flat_map(|n| n.to_le_bytes()));
    elf.extend([1_u32, 5].iter().flat_map(|n| n.to_le_bytes()));
    let size = u64::try_from(120 + code.len()).unwrap();
    let words = [0, 0x40_0000, 0x40_0000, size, size, 0x1000];
    elf.extend(words.iter().flat_map(|n| n.to_le_bytes()));
    elf.extend(code);
    let path = scratch.copy("/bin/true", "at-once");
    std::fs::write(&path, elf).unwrap();
    path
}

fn pid(of: &Executed) -> Pid {
    Pid::from_raw(i32::try_from(of.process.0).unwrap())
}

/// Whether a process is stopped (proc_pid_stat(5)).
fn is_stopped(of: &Executed) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", of.process.0)).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| rest.starts_with(" T"))
}

#[test]
fn a_held_process_that_another_one_wakes_ends_before_its_first_instruction() {
    isolated(|| async {
        let (pins, cgroup, scratch) = (Pins::new(), Cgroup::new(), Scratch::new());
        let (_agent, control) = pins.start();
        let program = at_once(&scratch);
        let mut workload = Workload::new(&cgroup.0);
        tag(&control, &cgroup.0, EXEC_AUDIT | EXEC_ENFORCE);
        let processes = control.processes();
        let command = format!("run 1 {}", program.display());
        for round in 0..50 {
            let asked = asking(workload, command.clone());
            let held = executed(&processes).await;
            assert!(held.held);
            // As any process of the same user could, also when it has just been told of and does not sleep yet.
            if round % 2 == 0 {
                until("it to be stopped", || is_stopped(&held)).await;
            }
            kill(pid(&held), Signal::SIGCONT).unwrap();
            let answer;
            (workload, answer) = asked.await.unwrap();
            assert_eq!(answer, "ok 1xsignal:_9_(SIGKILL)");
            assert_eq!(scratch.made(), 0, "it made a system call");
            assert!(!processes.release(&held), "it is held no longer");
        }
        // And one that is let run does.
        let asked = asking(workload, command);
        let held = executed(&processes).await;
        assert!(processes.release(&held));
        assert_eq!(asked.await.unwrap().1, "ok 1xexit_status:_0");
        assert_eq!(scratch.made(), 1);
        healthy(&control);
    });
}

#[test]
fn held_processes_are_watched_where_something_is_enforced_and_nowhere_else() {
    isolated(|| async {
        let (pins, cgroup, other, scratch) = (Pins::new(), Cgroup::new(), Cgroup::new(), Scratch::new());
        let (agent, control) = pins.start();
        let pin = pins.host_link("held_runs");
        let said = |control: &portcullis::redirect::Control| {
            let all = control.attached().unwrap();
            all.into_iter().find(|p| p.program == "held_runs").map(|p| p.ok)
        };
        tag(&control, &other.0, EXEC_AUDIT);
        assert!(said(&control).is_none() && !pin.exists());
        let workload = Workload::new(&cgroup.0);
        let id = tag(&control, &cgroup.0, EXEC_AUDIT | EXEC_ENFORCE);
        assert_eq!(said(&control), Some(true));
        std::fs::remove_file(&pin).unwrap();
        assert_eq!(said(&control), Some(false), "its loss is seen");
        drop((agent, control));
        let (_agent, control) = pins.start();
        assert_eq!(said(&control), Some(true), "the next agent puts it back");

        // As long as one is held it stays, whatever is enforced.
        let processes = control.processes();
        let program = scratch.copy("/bin/sh", "held");
        let asked = asking(workload, format!("run 1 {} /dev/null", program.display()));
        let held = executed(&processes).await;
        assert!(held.held);
        control.untag(id).unwrap();
        assert!(pin.exists());
        processes.kill(&held);
        assert_eq!(asked.await.unwrap().1, "ok 1xsignal:_9_(SIGKILL)");
        until("it to be let go", || {
            control.let_go().unwrap();
            !pin.exists()
        })
        .await;
        assert!(said(&control).is_none());
        healthy(&control);
    });
}

#[test]
fn what_is_held_when_the_agent_ends_stays_held_and_is_decided_by_the_next() {
    isolated(|| async {
        let (pins, cgroup, scratch) = (Pins::new(), Cgroup::new(), Scratch::new());
        let (agent, control) = pins.start();
        let program = at_once(&scratch);
        let workload = Workload::new(&cgroup.0);
        tag(&control, &cgroup.0, EXEC_AUDIT | EXEC_ENFORCE);
        let command = format!("run 1 {}", program.display());
        // Of one the first agent has heard, and has not decided.
        let heard = asking(workload, command.clone());
        let first = executed(&control.processes()).await;
        until("it to be stopped", || is_stopped(&first)).await;
        drop((agent, control));
        // The other is held while there is none.
        let unheard = asking(Workload::new(&cgroup.0), command);
        until("the second to be held", || stopped_like(&program) == 2).await;

        let (_agent, control) = pins.start();
        let processes = control.processes();
        assert!(is_stopped(&first));
        assert_eq!(processes.end_orphans(), 1, "what nobody will hear of again");
        assert_eq!(heard.await.unwrap().1, "ok 1xsignal:_9_(SIGKILL)");
        assert_eq!(scratch.made(), 0);
        let second = executed(&processes).await;
        assert!(second.held && is_stopped(&second));
        assert!(processes.release(&second));
        assert_eq!(unheard.await.unwrap().1, "ok 1xexit_status:_0");
        assert_eq!(scratch.made(), 1);
        healthy(&control);
    });
}

/// How many stopped processes run a program.
fn stopped_like(program: &Path) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    all.filter(|entry| {
        std::fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == program)
            && std::fs::read_to_string(entry.path().join("stat")).is_ok_and(|stat| {
                stat.rsplit_once(')')
                    .is_some_and(|(_, rest)| rest.starts_with(" T"))
            })
    })
    .count()
}

/// Lets everything run, until a program has ended as the last of so many that were to run: what executed.
async fn all_run(processes: &Processes, most: usize) -> (Vec<Executed>, Vec<(u32, u64)>) {
    let (mut ran, mut ended) = (Vec::new(), Vec::new());
    while ended.len() < most {
        match next(processes).await {
            Happened::Executed(executed) => {
                assert!(executed.held && processes.release(&executed));
                ran.push(*executed);
            }
            Happened::Exited { process, status, .. } => {
                assert_eq!(status, 0);
                ended.push(process);
            }
            Happened::Forked { .. } | Happened::Left { .. } => {}
        }
    }
    (ran, ended)
}

fn names(ran: &[Executed]) -> Vec<&str> {
    ran.iter()
        .map(|executed| executed.name.to_str().unwrap())
        .collect()
}

#[test]
fn threads_that_execute_and_children_that_share_memory_are_told_and_held_as_others() {
    isolated(|| async {
        let (pins, cgroup, scratch) = (Pins::new(), Cgroup::new(), Scratch::new());
        let (_agent, control) = pins.start();
        let workload = Workload::new(&cgroup.0);
        let id = tag(&control, &cgroup.0, EXEC_AUDIT | EXEC_ENFORCE);
        let processes = control.processes();
        let script = |name: &str, text: &str| {
            let path = scratch.0.join(name);
            std::fs::write(&path, text).unwrap();
            format!("run 1 /usr/bin/python3 {}", path.display())
        };
        // A thread that is not the first takes over its process, and others of it end.
        let thread = script(
            "thread.py",
            "import os,threading,time\nthreading.Thread(target=time.sleep,args=(60,)).start()\n\
             threading.Thread(target=os.execv,args=('/bin/true',['true'])).start()\ntime.sleep(60)\n",
        );
        let asked = asking(workload, thread);
        let (ran, ended) = all_run(&processes, 1).await;
        let (workload, answer) = asked.await.unwrap();
        assert_eq!(answer, "ok 1xexit_status:_0");
        assert_eq!(names(&ran), ["/usr/bin/python3", "/bin/true"]);
        assert_eq!(ran[0].process, ran[1].process, "it is the same process");
        assert!(ran[1].execs > ran[0].execs);
        assert_eq!(ended, [ran[0].process], "which ends once");
        assert!(!control.members().unwrap().contains_key(&ran[0].process.0));

        // posix_spawn(3) is CLONE_VM | CLONE_VFORK; subprocess uses vfork(2) itself.
        let spawn = script(
            "spawn.py",
            "import os,subprocess\np=os.posix_spawn('/bin/true',['true'],{})\n\
             assert os.waitstatus_to_exitcode(os.waitpid(p,0)[1])==0\n\
             assert subprocess.run(['/bin/echo'],stdout=2).returncode==0\n",
        );
        let asked = asking(workload, spawn);
        let (ran, ended) = all_run(&processes, 3).await;
        assert_eq!(asked.await.unwrap().1, "ok 1xexit_status:_0");
        assert_eq!(names(&ran), ["/usr/bin/python3", "/bin/true", "/bin/echo"]);
        let python = ran[0].process;
        assert_eq!((ran[1].parent, ran[2].parent), (python, python));
        assert_eq!(ended, [ran[1].process, ran[2].process, python]);
        assert_eq!(
            crate::guard::count(&control, id, portcullis::redirect::bpf::Outcome::ExecHeld),
            5
        );
        healthy(&control);
    });
}
