//! What is no socket and older than the tag: it gets around the hooks, or at processes outside, and ends who has it.

use std::{
    io::Read as _,
    net::TcpListener,
    time::{Duration, Instant},
};

use portcullis::config::Brought;
use portcullis_abi::{Tag, guard::flag};

use crate::{
    guard::{DEADLINE, healthy, isolated},
    older_rig::{Python, Rig, only},
};

/// Makes what it is told, says which process has it, and that it lives when it is asked.
const BESIDE: &str = "
import ctypes, os, socket, struct, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
def call(*a):
    r = libc.syscall(*a)
    if r < 0: raise OSError(ctypes.get_errno(), str(a))
    return r
libc.mmap.restype = ctypes.c_void_p
def memory(flags, fd=-1): return libc.mmap(None, ctypes.c_size_t(4096), 3, flags, fd, ctypes.c_long(0))
def ring(flags=0):
    p = ctypes.create_string_buffer(120)
    struct.pack_into('<II', p, 8, flags, 10000)
    # IORING_SETUP_NO_MMAP: in memory that is its own
    if flags & 0x4000:
        struct.pack_into('<Q', p, 72, memory(0x22))
        struct.pack_into('<Q', p, 112, memory(0x22))
    return call(425, 4, p)
def perf():
    p = ctypes.create_string_buffer(128)
    struct.pack_into('<IIQ', p, 0, 1, 128, 0)
    return call(298, p, 0, -1, -1, 8)
def mapped(flags):
    r = ring(flags)
    memory(1, r)
    return r
def registered(flags=0):
    s = socket.create_connection(('127.0.0.1', int(sys.argv[2])))
    r = ring(flags)
    call(427, r, 2, (ctypes.c_int * 1)(s.fileno()), 1)
    s.close()
    print('connected', flush=True)
def inherited():
    ring(2)
    if os.fork():
        os.wait()
        sys.exit()
def listener():
    code = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000))
    program = ctypes.create_string_buffer(struct.pack('HxxxxxxQ', 1, ctypes.addressof(code)))
    call(317, 1, 8, program)
def bpf():
    p = ctypes.create_string_buffer(64)
    struct.pack_into('<IIII', p, 0, 2, 4, 8, 1)
    call(321, 0, p, 64)
def tun():
    import fcntl
    fd = os.open('/dev/net/tun', os.O_RDWR)
    fcntl.ioctl(fd, 0x400454ca, struct.pack('16sH22x', b'held%d', 0x1001))
def rdma():
    # No adapter is needed to have a descriptor that only names one (O_PATH).
    name = '/dev/portcullis-%d' % os.getpid()
    os.mknod(name, 0o20600, os.makedev(231, 192))
    try: os.open(name, 0o10000000)
    finally: os.unlink(name)
def sandboxed():
    if libc.unshare(0x50000000): raise OSError(ctypes.get_errno(), 'unshare')
    tun()
def plain(make):
    make()
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
def trace():
    child = os.fork()
    if not child:
        os.read(0, 0)
        while True: threading.Event().wait()
    # PTRACE_SEIZE, PTRACE_O_EXITKILL
    if libc.ptrace(0x4206, child, 0, 0x100000): raise OSError(ctypes.get_errno(), 'ptrace')
def thread(make):
    ready = threading.Event()
    def run():
        if libc.unshare(0x400): raise OSError(ctypes.get_errno(), 'unshare')
        make()
        ready.set()
        threading.Event().wait()
    threading.Thread(target=run, daemon=True).start()
    ready.wait()
kinds = {
    'ring': ring,
    'ring of a thread': lambda: thread(ring),
    'polled ring': lambda: mapped(2),
    'mapped ring': lambda: os.close(mapped(0)),
    # IORING_SETUP_REGISTERED_FD_ONLY: without a descriptor
    'hidden ring': lambda: ring(0xc002),
    'registered': registered,
    'inherited': inherited,
    'perf': perf,
    'userfaultfd': lambda: call(323, 0o2000000),
    'seccomp': listener,
    'own memory': lambda: os.open('/proc/self/mem', os.O_RDWR),
    'memory outside': lambda: os.open('/proc/%d/mem' % os.getppid(), os.O_RDWR),
    'trace': trace,
    'pidfd': lambda: os.pidfd_open(os.getppid()),
    'bpf': bpf,
    'bpf of nobody': lambda: plain(bpf),
    'tun': tun,
    'tun of nobody': lambda: plain(tun),
    'tun in a sandbox': sandboxed,
    'rdma': rdma,
    'nothing': lambda: None,
}
kinds[sys.argv[1]]()
print(os.getpid(), flush=True)
sys.stdin.buffer.raw.read(1)
print('alive', flush=True)
";

/// What was made, as it is told of; nothing where it is harmless.
const MADE: &[(&str, Option<&str>)] = &[
    ("ring", Some("io_uring")),
    ("ring of a thread", Some("io_uring")),
    ("polled ring", Some("io_uring")),
    ("mapped ring", Some("io_uring")),
    ("hidden ring", Some("io_uring")),
    ("perf", Some("perf_event")),
    ("userfaultfd", Some("userfaultfd")),
    ("seccomp", Some("seccomp notify")),
    ("own memory", None),
    ("memory outside", Some("mem")),
    ("trace", Some("ptrace")),
    // Asked about when it is used.
    ("pidfd", None),
    // Who may make them himself.
    ("bpf", None),
    ("tun", None),
    ("bpf of nobody", Some("bpf")),
    ("tun of nobody", Some("tun")),
    ("tun in a sandbox", None),
    ("rdma", Some("rdma")),
    ("nothing", None),
];

/// What of it this kernel has: a ring without a mapping or a descriptor of its own comes with Linux 6.5.
fn of_this_kernel() -> impl Iterator<Item = &'static (&'static str, Option<&'static str>)> {
    let host = nix::sys::utsname::uname().unwrap();
    let release = host.release().to_string_lossy().into_owned();
    let mut numbers = release.split('.').map_while(|number| number.parse::<u32>().ok());
    let is_old = (numbers.next().unwrap(), numbers.next().unwrap()) < (6, 5);
    MADE.iter()
        .filter(move |(what, _)| !is_old || *what != "hidden ring")
}

fn made(what: &str) -> (Python, u32) {
    let mut python = Python::new(BESIDE, &[what]);
    let said = python.line();
    let pid = said.parse();
    (
        python,
        pid.unwrap_or_else(|_| panic!("{what} cannot be made: {said}")),
    )
}

#[test]
fn who_comes_in_with_it_is_ended() {
    isolated(|| async {
        let (rig, id) = Rig::tagged();
        for (what, kind) in of_this_kernel() {
            let (mut python, pid) = made(what);
            rig.move_in(pid);
            let began = Instant::now();
            let looked = rig.arrived(id, Brought::End);
            let took = began.elapsed();
            let Some(kind) = kind else {
                assert_eq!((looked.processes.len(), looked.passing.len()), (0, 0), "{what}");
                python.go_on();
                assert_eq!(python.line(), "alive", "{what}");
                continue;
            };
            let settled = only(&looked.processes);
            assert_eq!(
                (settled.pid, settled.destroyed, settled.ended),
                (pid, 0, true),
                "{what}"
            );
            let kinds: Vec<&str> = settled.sockets.iter().map(|one| one.kind.as_str()).collect();
            assert!(kinds.iter().all(|told| told == kind), "{what}: {kinds:?}");
            assert_eq!(settled.left, kinds.len() as u64);
            assert_eq!(python.line(), "", "{what}");
            println!("{what}: {took:?}");
        }
        healthy(&rig.control);
    });
}

#[test]
fn who_has_it_at_a_first_tag_is_ended() {
    isolated(|| async {
        let rig = Rig::new();
        let mut all: Vec<_> = of_this_kernel()
            .map(|(what, kind)| {
                let (python, pid) = made(what);
                rig.move_in(pid);
                (*what, python, pid, kind.is_some())
            })
            .collect();
        let (_, looked) = rig.tag();
        for (what, python, pid, is_ended) in &mut all {
            let found = looked.processes.iter().find(|settled| settled.pid == *pid);
            assert_eq!(found.is_some_and(|settled| settled.ended), *is_ended, "{what}");
            python.go_on();
            assert_eq!(python.line(), if *is_ended { "" } else { "alive" }, "{what}");
        }
    });
}

/// As configured: what the guard lets a workload make it may have, and `brought` says the rest.
#[test]
fn what_the_guard_allows_may_be_had() {
    isolated(|| async {
        let (rig, id) = Rig::tagged();
        let (mut left, pid) = made("perf");
        rig.move_in(pid);
        for brought in [Brought::Allow, Brought::Reset] {
            let looked = rig.arrived(id, brought);
            let settled = only(&looked.processes);
            assert_eq!((settled.pid, settled.left, settled.ended), (pid, 1, false));
            assert_eq!(
                (settled.sockets[0].made.as_str(), &settled.error),
                ("unknown", &None)
            );
        }
        left.go_on();
        assert_eq!(left.line(), "alive");
        let may_be_had = |flags, all: &[&str]| {
            rig.control.tag_as(&rig.cgroup.0, Tag { flags }).unwrap();
            for what in all {
                let (mut python, pid) = made(what);
                rig.move_in(pid);
                assert_eq!(rig.arrived(id, Brought::End).processes, [], "{what}");
                python.go_on();
                assert_eq!(python.line(), "alive", "{what}");
            }
        };
        may_be_had(
            flag::TRACE,
            &["perf", "userfaultfd", "seccomp", "memory outside", "trace"],
        );
        may_be_had(flag::DEVICES, &["rdma", "tun of nobody"]);
        may_be_had(flag::IO_URING, &["ring", "polled ring", "ring of a thread"]);
        // What uses it is not seen.
        let (mut mapped, pid) = made("mapped ring");
        rig.move_in(pid);
        let looked = rig.arrived(id, Brought::End);
        assert_eq!((only(&looked.processes).pid, mapped.line()), (pid, String::new()));
        // It works as a process outside, which has it as well.
        let (mut inherited, pid) = made("inherited");
        rig.move_in(pid);
        let looked = rig.arrived(id, Brought::End);
        assert!(
            looked.passing.contains(&pid) && looked.processes.is_empty(),
            "{looked:?}"
        );
        let looked = rig.late(id, &[pid]);
        assert_eq!(
            (only(&looked.processes).ended, inherited.line()),
            (true, String::new())
        );
    });
}

/// No descriptor is left of the socket, and no list says who has it.
#[test]
fn a_socket_that_only_a_ring_has_ends_with_the_process() {
    isolated(|| async {
        let (rig, id) = Rig::tagged();
        for flags in [0, flag::IO_URING] {
            rig.control.tag_as(&rig.cgroup.0, Tag { flags }).unwrap();
            let server = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = server.local_addr().unwrap().port().to_string();
            let mut python = Python::new(BESIDE, &["registered", &port]);
            let (mut peer, _) = server.accept().unwrap();
            assert_eq!(python.line(), "connected");
            let pid: u32 = python.line().parse().unwrap();
            peer.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            assert!(peer.read(&mut [0]).is_err(), "it is closed");
            rig.move_in(pid);
            let looked = rig.arrived(id, Brought::End);
            let settled = only(&looked.processes);
            assert_eq!((settled.pid, settled.ended), (pid, true));
            assert_eq!(settled.sockets[0].kind, "io_uring");
            peer.set_read_timeout(Some(DEADLINE)).unwrap();
            assert!(peer.read(&mut [0]).is_ok_and(|read| read == 0), "it is open");
        }
    });
}

/// Sends itself what it is told, and receives it when it is asked to.
const FLIGHT: &str = "
import os, socket, sys
mine, its = socket.socketpair()
if sys.argv[1] == 'socket':
    s = socket.socket()
    socket.send_fds(mine, [b'x'], [s.fileno()])
    s.close()
else:
    socket.send_fds(mine, [b'x'], [1])
print(os.getpid(), flush=True)
sys.stdin.buffer.raw.read(1)
_, fds, _, _ = socket.recv_fds(its, 1, 1)
if sys.argv[1] != 'socket': os.close(fds[0])
print('received', flush=True)
sys.stdin.buffer.raw.read(1)
print('alive', flush=True)
";

#[test]
fn what_is_in_flight_is_waited_for_and_looked_at_when_it_is_received() {
    isolated(|| async {
        let (rig, id) = Rig::tagged();
        for (what, is_ended) in [("socket", true), ("output", false)] {
            let mut python = Python::new(FLIGHT, &[what]);
            let pid: u32 = python.line().parse().unwrap();
            rig.move_in(pid);
            let looked = rig.came(id, &[pid]);
            assert!(
                looked.passing.contains(&pid) && looked.processes.is_empty(),
                "{looked:?}"
            );
            python.go_on();
            assert_eq!(python.line(), "received");
            let looked = rig.came(id, &[pid]);
            assert!(looked.passing.is_empty(), "{looked:?}");
            assert_eq!(
                looked.processes.iter().any(|one| one.pid == pid && one.ended),
                is_ended
            );
            python.go_on();
            assert_eq!(python.line(), if is_ended { "" } else { "alive" });
        }
        healthy(&rig.control);
    });
}

#[test]
fn who_does_not_receive_what_is_in_flight_is_ended() {
    isolated(|| async {
        let rig = Rig::new();
        let mut python = Python::new(FLIGHT, &["output"]);
        let pid: u32 = python.line().parse().unwrap();
        rig.move_in(pid);
        let (id, looked) = rig.tag();
        assert!(
            looked.passing.contains(&pid) && looked.processes.is_empty(),
            "{looked:?}"
        );
        // Not of others that came in since: a workload may send to itself what it likes.
        assert_eq!(rig.arrived(id, Brought::End).processes, []);
        let looked = rig.late(id, &[pid]);
        let settled = only(&looked.processes);
        assert_eq!((settled.pid, settled.ended), (pid, true));
        assert_eq!(settled.sockets[0].kind, "in flight");
        assert_eq!(python.line(), "");
    });
}
