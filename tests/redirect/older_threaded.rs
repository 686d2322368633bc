//! Threaded cgroups below a tagged one: a process whose threads are in more than one.

use std::fs;

use crate::{
    guard::{Cgroup, healthy, isolated, next},
    older_rig::{Python, Rig, only},
};

/// A thread of its own goes into the threaded cgroup, connects there, and does more when it is told to.
const THREAD: &str = "
import errno, os, socket, sys, threading
def run():
    open(sys.argv[1] + '/cgroup.threads', 'w').write(str(threading.get_native_id()))
    s = socket.create_connection(('127.0.0.1', int(sys.argv[2])))
    print(os.getpid(), flush=True)
    for line in sys.stdin:
        try:
            if line == 'say\\n': s.sendall(b'after')
            if line == 'connect\\n': socket.create_connection(('203.0.113.9', 80))
            if line == 'packet\\n': socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            print('ok', flush=True)
        except OSError as e: print(errno.errorcode[e.errno], flush=True)
thread = threading.Thread(target=run)
open(sys.argv[1] + '/../cgroup.procs', 'w').write('0')
thread.start()
thread.join()
";

#[test]
fn threads_in_a_cgroup_of_their_own_are_the_workloads() {
    isolated(|| async {
        let mut rig = Rig::new();
        let threaded = Cgroup::below(&rig.cgroup.0, "threads");
        fs::write(threaded.0.join("cgroup.type"), "threaded").unwrap();
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port().to_string();
        let mut python = Python::new(THREAD, &[threaded.0.to_str().unwrap(), &port]);
        let pid: u32 = python.line().parse().unwrap();
        assert!(fs::read_to_string(threaded.0.join("cgroup.procs")).is_err());
        let (id, looked) = rig.tag();
        let settled = only(&looked.processes);
        assert_eq!((settled.pid, settled.destroyed, settled.ended), (pid, 1, false));
        assert_eq!(settled.sockets[0].made, "inside");
        python.say("say");
        assert_eq!(python.line(), "ECONNABORTED");
        // Guarded.
        python.say("connect");
        assert_eq!(python.line(), "ok");
        let redirected = next(&mut rig.agent).await;
        assert_eq!(redirected.original_dst.0.to_string(), "203.0.113.9:80");
        assert_eq!((redirected.origin.tagged, redirected.origin.pid), (id, pid));
        assert_ne!(redirected.origin.cgroup, id);
        python.say("packet");
        let answer = python.line();
        assert!(matches!(answer.as_str(), "" | "EPERM"), "{answer}");
        healthy(&rig.control);
    });
}
