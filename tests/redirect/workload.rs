//! What runs inside a tagged cgroup: does what it is told on standard input, one line each, and says how it went.
//!
//! `ok ...` or `err ERRNO-NAME` is the answer to each line.

use std::{
    io::{self, BufRead as _, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use nix::{
    errno::Errno,
    sched::CloneFlags,
    setsockopt_impl, sockopt_impl,
    sys::stat::{Mode, SFlag, makedev, mknod},
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

sockopt_impl!(
    /// `IP_OPTIONS`, four bytes of them.
    IpOptions,
    SetOnly,
    libc::IPPROTO_IP,
    libc::IP_OPTIONS,
    [u8; 4]
);

fn main() -> anyhow::Result<()> {
    let mut state = State::default();
    // Line by line, without the lock: `hammer` reads one itself.
    for line in std::iter::from_fn(|| line().transpose()) {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        match state.run(&words) {
            Ok(answer) => println!("ok {answer}"),
            Err(error) => println!("err {}", name(&error)),
        }
        io::stdout().flush()?;
    }
    Ok(())
}

fn line() -> io::Result<Option<String>> {
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line)?;
    Ok((read > 0).then(|| line.trim_end().to_owned()))
}

/// `EPERM`, or the error's words where the kernel did not refuse.
fn name(error: &anyhow::Error) -> String {
    match error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::raw_os_error)
    {
        Some(code) => format!("{:?}", Errno::from_raw(code)),
        None => error.to_string(),
    }
}

#[derive(Default)]
struct State {
    tcp: Option<TcpStream>,
    udp: Option<UdpSocket>,
    listener: Option<TcpListener>,
    kept: Option<Socket>,
}

impl State {
    // A table: one arm for each thing that it can do.
    #[allow(clippy::too_many_lines)]
    fn run(&mut self, words: &[&str]) -> anyhow::Result<String> {
        match words {
            ["join", cgroup] => {
                std::fs::write(format!("{cgroup}/cgroup.procs"), "0")?;
                Ok(std::process::id().to_string())
            }
            ["tcp", address] => {
                let stream = TcpStream::connect(address.parse::<SocketAddr>()?)?;
                let answer = format!("{} {}", stream.peer_addr()?, stream.local_addr()?);
                self.tcp = Some(stream);
                Ok(answer)
            }
            ["tcp-from", source, address] => {
                let address = address.parse::<SocketAddr>()?;
                let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
                socket.bind(&source.parse::<SocketAddr>()?.into())?;
                socket.connect_timeout(&address.into(), Duration::from_secs(5))?;
                self.tcp = Some(socket.into());
                Ok(String::new())
            }
            // Made here, used wherever this process is then.
            ["tcp-keep"] => {
                self.kept = Some(Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?);
                Ok(String::new())
            }
            ["tcp-kept", address] => {
                let socket = self.kept.take().context("not kept")?;
                socket.connect(&address.parse::<SocketAddr>()?.into())?;
                Ok(String::new())
            }
            // A socket bound to a device before its connect.
            ["tcp-device", device, address] => {
                let address = address.parse::<SocketAddr>()?;
                let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
                socket.bind_device(Some(device.as_bytes()))?;
                socket.connect_timeout(&address.into(), Duration::from_secs(5))?;
                let peer = socket.peer_addr()?.as_socket();
                self.tcp = Some(socket.into());
                Ok(format!("{peer:?}"))
            }
            // Gives up after 200 ms, where std's connect would wait for minutes.
            ["tcp-brief", address] => {
                TcpStream::connect_timeout(&address.parse()?, Duration::from_millis(200))?;
                Ok(String::new())
            }
            ["say", text] => {
                self.open()?.write_all(text.as_bytes())?;
                Ok(String::new())
            }
            ["hear"] => {
                let mut text = String::new();
                self.open()?.read_to_string(&mut text)?;
                Ok(text)
            }
            ["udp-connect", address] => {
                let socket = udp(address)?;
                socket.connect(address)?;
                Ok(socket.peer_addr()?.to_string())
            }
            ["udp-send", address] => {
                let sent = udp(address)?.send_to(b"x", address)?;
                Ok(sent.to_string())
            }
            ["udp-device", device, address] => {
                let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
                socket.bind_device(Some(device.as_bytes()))?;
                let sent = socket.send_to(b"x", &address.parse::<SocketAddr>()?.into())?;
                Ok(sent.to_string())
            }
            // One socket for as many as are asked from it.
            ["udp-ask", address, text] => {
                if self.udp.is_none() {
                    self.udp = Some(udp(address)?);
                }
                let socket = self.udp.as_ref().context("made above")?;
                Ok(socket.send_to(text.as_bytes(), address)?.to_string())
            }
            ["udp-say", text] => {
                let socket = self.udp.as_ref().context("not kept")?;
                Ok(socket.send(text.as_bytes())?.to_string())
            }
            ["udp-hear"] => {
                let socket = self.udp.as_ref().context("not kept")?;
                socket.set_read_timeout(Some(Duration::from_secs(10)))?;
                let mut buffer = [0; 512];
                let (length, from) = socket.recv_from(&mut buffer)?;
                Ok(format!("{} {from}", String::from_utf8_lossy(&buffer[..length])))
            }
            // A mark of its own choice on everything that the socket sends.
            ["udp-mark", mark, address] => {
                let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
                socket.set_mark(mark.parse()?)?;
                let sent = socket.send_to(b"marked", &address.parse::<SocketAddr>()?.into())?;
                Ok(sent.to_string())
            }
            ["udp-drop"] => {
                self.udp = None;
                Ok(String::new())
            }
            ["bind", kind, address] => {
                let address = address.parse::<SocketAddr>()?;
                let kind = if *kind == "tcp" { Type::STREAM } else { Type::DGRAM };
                Socket::new(Domain::for_address(address), kind, None)?.bind(&address.into())?;
                Ok(String::new())
            }
            ["listen", address] => {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                self.listener = Some(listener);
                Ok(String::new())
            }
            ["accept"] => {
                let (stream, from) = self.listener.as_ref().context("not listening")?.accept()?;
                stream.set_nonblocking(false)?;
                self.tcp = Some(stream);
                Ok(from.to_string())
            }
            // A network namespace of its own, with loopback up.
            ["unshare"] => {
                nix::sched::unshare(CloneFlags::CLONE_NEWNET)?;
                let up = std::process::Command::new("ip")
                    .args(["link", "set", "lo", "up"])
                    .status()?;
                Ok(up.to_string())
            }
            ["udp-threads", count] => udp_threads(count.parse()?),
            ["udp-many", count, address] => udp_many(count.parse()?, address),
            // Connected now, used later.
            ["udp-keep", address] => {
                let socket = udp(address)?;
                socket.connect(address)?;
                self.udp = Some(socket);
                Ok(String::new())
            }
            ["udp-kept"] => Ok(self.udp.as_ref().context("not kept")?.send(b"x")?.to_string()),
            // With an IP option (RFC 791 "no operation", padded): no longer a plain header.
            ["udp-options", address] => {
                let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
                nix::sys::socket::setsockopt(&socket, IpOptions, &[1, 1, 1, 0])?;
                let sent = socket.send_to(b"x", &address.parse::<SocketAddr>()?.into())?;
                Ok(sent.to_string())
            }
            ["ping", address] => {
                let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
                let echo = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
                let sent = socket.send_to(&echo, &address.parse::<SocketAddr>()?.into())?;
                Ok(sent.to_string())
            }
            ["socket", domain, kind, protocol] => {
                let (domain, kind): (i32, i32) = (domain.parse()?, kind.parse()?);
                let protocol: i32 = protocol.parse()?;
                Socket::new(domain.into(), kind.into(), Some(protocol.into()))?;
                Ok(String::new())
            }
            ["open", path] => {
                std::fs::File::open(path)?;
                Ok(String::new())
            }
            ["make-node", path, major, minor] => {
                let device = makedev(major.parse()?, minor.parse()?);
                mknod(*path, SFlag::S_IFCHR, Mode::S_IRWXU, device).map_err(io::Error::from)?;
                Ok(String::new())
            }
            // A user namespace, where this one is root, and a network namespace of that.
            ["sandbox"] => {
                let new = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET;
                nix::sched::unshare(new).map_err(io::Error::from)?;
                std::fs::write("/proc/self/uid_map", "0 0 1")?;
                Ok(String::new())
            }
            // Runs a program so often, by several threads, each time with its number as the last argument.
            ["run", count, rest @ ..] => run(count.parse()?, rest),
            // A process, a thread and a program that do nothing but wait for the end of this one's input.
            ["child"] => Ok(spawn("cat")?.to_string()),
            ["thread"] => {
                let (send, receive) = std::sync::mpsc::channel();
                std::thread::spawn(move || {
                    let _nobody = send.send(nix::unistd::gettid());
                    std::thread::park();
                });
                Ok(receive.recv()?.to_string())
            }
            ["kill", pid] => {
                let status = std::process::Command::new("kill").args(["-9", pid]).status()?;
                Ok(status.to_string())
            }
            ["storm", from, count] => storm(from.parse()?, count.parse()?),
            ["hammer", address] => hammer(address.parse()?),
            ["time", count, address] => time(count.parse()?, address.parse()?),
            _ => Err(anyhow!("no such command")),
        }
    }

    fn open(&mut self) -> anyhow::Result<&mut TcpStream> {
        self.tcp.as_mut().context("not connected")
    }
}

/// How often each end was seen.
fn run(count: usize, words: &[&str]) -> anyhow::Result<String> {
    let (program, words) = words.split_first().context("no program")?;
    let next = std::sync::atomic::AtomicUsize::new(0);
    let ends = std::sync::Mutex::new(std::collections::BTreeMap::<String, usize>::new());
    std::thread::scope(|scope| {
        for _ in 0..4.min(count) {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if n >= count {
                        return;
                    }
                    let ended = std::process::Command::new(program)
                        .args(words)
                        .arg(n.to_string())
                        .status();
                    let end = ended.map_or_else(|e| e.to_string(), |status| status.to_string());
                    let mut ends = ends.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    *ends.entry(end.replace(' ', "_")).or_default() += 1;
                }
            });
        }
    });
    let ends = ends
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(ends
        .iter()
        .map(|(end, n)| format!("{n}x{end}"))
        .collect::<Vec<_>>()
        .join(" "))
}

/// Starts a program whose input stays open as long as this process has not ended.
fn spawn(program: &str) -> anyhow::Result<u32> {
    let mut child = std::process::Command::new(program)
        .stdin(std::process::Stdio::piped())
        .spawn()?;
    let id = child.id();
    let stdin = child.stdin.take();
    std::thread::spawn(move || {
        let _ended = child.wait();
        drop(stdin);
    });
    Ok(id)
}

fn udp(to: &str) -> anyhow::Result<UdpSocket> {
    let any = if to.parse::<SocketAddr>()?.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    Ok(UdpSocket::bind(any)?)
}

/// Four threads ask resolvers of their own by one socket, at the same time; each datagram says whom it asks.
fn udp_threads(count: u8) -> anyhow::Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let socket = &socket;
                scope.spawn(move || -> io::Result<()> {
                    for i in 0..count {
                        let address = SocketAddr::from(([127, 9, thread, i], 53));
                        socket.send_to(address.to_string().as_bytes(), address)?;
                    }
                    Ok(())
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        Ok(String::new())
    })
}

/// A socket for each question, connected, and gone at once; each datagram says from which process it is.
fn udp_many(count: u32, address: &str) -> anyhow::Result<String> {
    for _ in 0..count {
        let socket = udp(address)?;
        socket.connect(address)?;
        socket.send(std::process::id().to_string().as_bytes())?;
    }
    Ok(String::new())
}

/// Connects `count` times, each to a destination of its own, which it writes into the connection before it resets it.
fn storm(from: u32, count: u32) -> anyhow::Result<String> {
    let mut refused = 0_u32;
    for i in from..from + count {
        let [_, a, b, c] = i.to_be_bytes();
        let port = u16::try_from(1000 + u64::from(i) * 7919 % 60_000)?;
        let address = SocketAddr::from(([127, a + 1, b, c], port));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        if let Err(error) = socket.connect(&SockAddr::from(address)) {
            // Every port is in use until the agent accepts again: that is the point.
            if error.raw_os_error() == Some(Errno::EADDRNOTAVAIL as i32) {
                refused += 1;
                continue;
            }
            return Err(error.into());
        }
        (&socket).write_all(&[127, a + 1, b, c])?;
        (&socket).write_all(&port.to_be_bytes())?;
        socket.set_linger(Some(Duration::ZERO))?;
    }
    Ok(refused.to_string())
}

/// The median time of a connect, nanoseconds.
fn time(count: usize, to: SocketAddr) -> anyhow::Result<String> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        let start = Instant::now();
        socket.connect(&to.into())?;
        times.push(start.elapsed());
        socket.set_linger(Some(Duration::ZERO))?;
    }
    times.sort_unstable();
    let median = times.get(count / 2).context("none")?;
    Ok(median.as_nanos().to_string())
}

/// Connects until the next line on standard input: how many were taken, and how many refused.
fn hammer(to: SocketAddr) -> anyhow::Result<String> {
    let end = std::thread::spawn(|| io::stdin().lock().read_line(&mut String::new()));
    let (mut taken, mut refused) = (0_u32, 0_u32);
    while !end.is_finished() {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        match socket.connect(&to.into()) {
            Ok(()) => taken += 1,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => refused += 1,
            // The agent ended between the handshake and the accept.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => refused += 1,
            Err(error) => return Err(error.into()),
        }
        socket.set_linger(Some(Duration::ZERO))?;
    }
    Ok(format!("{taken} {refused}"))
}
