//! The agent's own UNIX sockets, to which connects of workloads are redirected: one for each path that they ask for, so
//! that which it was needs no asking.
//!
//! Who connected is the kernel's word (`SO_PEERPIDFD`): the process that called connect(2), even where another has its
//! number by now. One that has ended before it could be looked at is turned away, as is whoever is in no workload.

use std::{
    collections::HashMap,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    os::{fd::AsFd as _, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::mpsc,
    task::AbortHandle,
};

use crate::{
    model::{CgroupId, Origin, OriginalDst, Transport},
    redirect::{Control, RedirectError, Redirected, Redirector, UnixDestination, cgroup, sys},
};

/// Connections that may wait for the accept loop; then the listeners' own queues hold.
const WAITING: usize = 64;

/// A path that is redirected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixRedirect {
    /// What workloads ask for, and as what it is carried.
    pub destination: UnixDestination,
    /// The upstream's port.
    pub port: u16,
}

/// The listeners, by the path that workloads ask for.
pub struct UnixListeners {
    directory: PathBuf,
    control: Control,
    send: mpsc::Sender<Redirected>,
    open: HashMap<PathBuf, (UnixRedirect, AbortHandle)>,
}

/// Where their connections arrive.
pub struct UnixRedirector(mpsc::Receiver<Redirected>);

impl Redirector for UnixRedirector {
    fn next_connection(&mut self) -> BoxFuture<'_, Result<Redirected, RedirectError>> {
        Box::pin(async { self.0.recv().await.ok_or(RedirectError::Stopped) })
    }
}

impl UnixListeners {
    /// No listeners yet, in a directory that is made when it is missing.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(directory: PathBuf, control: Control) -> Result<(Self, UnixRedirector), RedirectError> {
        let failed = failed(&directory);
        fs::create_dir_all(&directory).map_err(&failed)?;
        // Whoever is let through by the kernel must get here; what else may is turned away.
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).map_err(&failed)?;
        let (send, receive) = mpsc::channel(WAITING);
        let listeners = Self {
            directory,
            control,
            send,
            open: HashMap::new(),
        };
        Ok((listeners, UnixRedirector(receive)))
    }

    /// The path of the listener for what a workload asks for: the same in every run.
    #[must_use]
    pub fn path(&self, asked: &Path) -> PathBuf {
        use std::os::unix::ffi::OsStrExt as _;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, asked.as_os_str().as_bytes());
        let name = hex::encode(digest.as_ref().get(..8).unwrap_or_default());
        self.directory.join(name)
    }

    /// Listens for exactly these. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When one cannot be made; those before it are there.
    pub fn set(&mut self, redirects: &[UnixRedirect]) -> Result<(), RedirectError> {
        self.open.retain(|_, (open, task)| {
            let stays = redirects.contains(open);
            if !stays {
                task.abort();
            }
            stays
        });
        for redirect in redirects {
            let asked = &redirect.destination.path;
            if self.open.contains_key(asked) {
                continue;
            }
            let at = self.path(asked);
            let failed = failed(&at);
            match fs::remove_file(&at) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
            let listener = UnixListener::bind(&at).map_err(&failed)?;
            fs::set_permissions(&at, fs::Permissions::from_mode(0o666)).map_err(&failed)?;
            let task = tokio::spawn(accept(
                listener,
                redirect.clone(),
                self.control.clone(),
                self.send.clone(),
            ));
            self.open
                .insert(asked.clone(), (redirect.clone(), task.abort_handle()));
        }
        Ok(())
    }
}

impl Drop for UnixListeners {
    fn drop(&mut self) {
        for (_, task) in self.open.values() {
            task.abort();
        }
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> RedirectError + use<> {
    let path = path.to_path_buf();
    move |source| RedirectError::UnixListen {
        path: path.clone(),
        source,
    }
}

async fn accept(
    listener: UnixListener,
    redirect: UnixRedirect,
    control: Control,
    send: mpsc::Sender<Redirected>,
) {
    let destination = Arc::new(redirect.destination);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept on a UNIX socket");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let origin = match origin(&stream, &control) {
            Ok(origin) => origin,
            Err(why) => {
                tracing::debug!(path = %destination.path.display(), "turned away: {why}");
                continue;
            }
        };
        let redirected = Redirected {
            namespace: None,
            stream: Box::new(stream),
            origin,
            original_dst: OriginalDst(SocketAddr::from((Ipv4Addr::UNSPECIFIED, redirect.port))),
            transport: Transport::Unix,
            unix: Some(Arc::clone(&destination)),
        };
        if send.send(redirected).await.is_err() {
            return;
        }
    }
}

/// Who connected; an error says why it is nobody.
fn origin(stream: &UnixStream, control: &Control) -> Result<Origin, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let pidfd = sys::peer::pidfd(stream).map_err(|error| said(&error))?;
    let credentials = stream.peer_cred().map_err(|error| said(&error))?;
    let pid = credentials
        .pid()
        .and_then(|pid| u32::try_from(pid).ok())
        .filter(|pid| *pid > 0)
        .ok_or("its process is not to be seen from here")?;
    let below = cgroup::of_process(&pid.to_string()).map_err(|error| said(&error))?;
    let start_ns = start_ns(pid).ok_or("its process is gone")?;
    // Last: if it lives now, it was the one that was read above.
    let mut look = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    if poll(&mut look, PollTimeout::ZERO).map_err(|error| said(&error))? != 0 {
        return Err("its process has ended".into());
    }
    let own = control.mount().join(below.trim_start_matches('/'));
    let tagged = control
        .tagged()
        .into_iter()
        .filter(|(_, directory)| own.starts_with(directory))
        .max_by_key(|(_, directory)| directory.components().count())
        .map(|(id, _)| id)
        .ok_or("it is in no workload")?;
    Ok(Origin {
        tagged,
        cgroup: cgroup::id(&own).unwrap_or(CgroupId(0)),
        pid,
        tid: pid,
        uid: credentials.uid(),
        gid: credentials.gid(),
        start_ns,
        netns: 0,
        socket: 0,
    })
}

/// When a process started, nanoseconds since boot, to a clock tick: field 22 of proc_pid_stat(5).
fn start_ns(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 = fields.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    let per_second = u64::try_from(per_second).ok().filter(|ticks| *ticks > 0)?;
    ticks.checked_mul(1_000_000_000 / per_second)
}
