//! `portcullis run`: a command inside a fresh tagged cgroup, enforced before it can open a socket.
//!
//! The parent stays outside as root: it makes and tags the cgroup, waits until the daemon confirms that it is
//! enforced, and starts itself again as `portcullis enter`, which becomes the command. Without the confirmation
//! nothing is started.

use std::{
    env,
    ffi::OsString,
    fs, io,
    os::unix::{fs::DirBuilderExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    sys::{
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd, siginfo},
    },
    unistd::{self, Pid},
};
use serde::{Deserialize, Serialize};

use super::{
    cgroup::{self, FreshCgroup},
    control::{self, Control},
    enter,
    trust::{Sources, TrustPlan},
};
use crate::{config::Config, model::WorkloadName, tls};

/// How long leftovers are given to die.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// Arguments of `portcullis run`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The exit status is the command's own; 128+N when signal N ended it; 125 when it was not \
    started because something here failed, 126 when it cannot be executed, 127 when it was not found.\n\
    Descriptors above standard error are closed, and what is still running when the command ends is killed.\n\
    Java, Firefox and Chromium keep certificates in stores of their own, to which the host CA is not added."
)]
pub struct Args {
    /// The workload, as [[workload]] in the configuration names it.
    #[arg(long, value_name = "NAME", value_parser = WorkloadName::new)]
    workload: WorkloadName,
    /// Make the cgroup below this one (a path below the cgroup2 mount).
    #[arg(long, value_name = "PATH", default_value = cgroup::PARENT)]
    cgroup_parent: String,
    /// Become this user (a name or a number), with no way back.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// The command and its arguments.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

#[derive(Serialize)]
struct TagRequest<'a> {
    cgroup: &'a str,
    workload: &'a WorkloadName,
}

#[derive(Deserialize)]
struct Tagged {
    cgroup_id: u64,
}

/// Runs the command and gives its exit status. Call it from the main thread, outside of any runtime.
#[must_use]
pub fn run(args: &Args, config: anyhow::Result<Config>) -> ExitCode {
    match config.and_then(|config| supervise(args, &config)) {
        Ok(status) => status,
        Err(why) => {
            eprintln!(
                "portcullis run: {}\nThe command was not started.",
                control::chain(&why)
            );
            ExitCode::from(enter::FAILED)
        }
    }
}

/// Everything that one run leaves behind if it is not cleaned up; it is, on every way out.
struct Traces {
    control: Control,
    workload: WorkloadName,
    cgroup: Option<FreshCgroup>,
    tagged: bool,
    files: Option<PathBuf>,
}

fn supervise(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    if !unistd::geteuid().is_root() {
        anyhow::bail!("only root can tag a cgroup; use --user to run the command as somebody else");
    }
    let user = args.user.as_deref().map(find_user).transpose()?;
    let signals = Signals::block()?;
    let mut traces = Traces {
        control: Control::new(&config.host.run_dir),
        workload: args.workload.clone(),
        cgroup: None,
        tagged: false,
        files: None,
    };
    let (plan, environment) = prepare(args, config, user, &mut traces)?;
    if let Some(signal) = signals.pending()? {
        anyhow::bail!("stopped by {signal}");
    }
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("enter")
        .arg("--plan")
        .arg(&plan)
        .arg("--")
        .args(&args.command)
        .envs(environment);
    let mut child = command.spawn().context("cannot start /proc/self/exe")?;
    let status = signals.forward_until_end(&mut child)?;
    drop(traces);
    Ok(ExitCode::from(status_code(status)))
}

/// Makes everything the command needs; what is made is noted in `traces` first. Gives the plan's file and variables.
fn prepare(
    args: &Args,
    config: &Config,
    user: Option<(enter::User, PathBuf)>,
    traces: &mut Traces,
) -> anyhow::Result<(PathBuf, Vec<(OsString, OsString)>)> {
    let run_dir = &config.host.run_dir;
    let ca_file = config.host.data_dir.join(tls::CERT_FILE);
    let cgroup = FreshCgroup::create(&cgroup::mount_point()?, &args.cgroup_parent, &args.workload)
        .context("cannot make a cgroup")?;
    let (path, id, procs) = (cgroup.path.clone(), cgroup.id, cgroup.procs());
    traces.cgroup = Some(cgroup);
    let request = TagRequest {
        cgroup: &path,
        workload: &args.workload,
    };
    let tagged: Tagged = control::block_on(traces.control.post("/v1/tag", &request))??;
    traces.tagged = true;
    if tagged.cgroup_id != id.0 {
        anyhow::bail!(
            "the daemon enforces cgroup {}, not {} ({path})",
            tagged.cgroup_id,
            id.0
        );
    }
    let ca_pem = fs::read_to_string(&ca_file).with_context(|| {
        format!(
            "{}: the daemon makes the host CA when it first starts; is [host] data_dir the same?",
            ca_file.display()
        )
    })?;
    let trust = TrustPlan::new(&Sources {
        root: Path::new("/"),
        ca_pem: &ca_pem,
        seen_at: run_dir,
        env: &|name| env::var_os(name),
    })
    .context("cannot prepare the CA bundles")?;
    for warning in &trust.warnings {
        eprintln!("portcullis run: warning: {warning}");
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    let files = run_dir.join("run").join(name);
    let seen = files.join("seen");
    // Root alone gets here; the workload sees `seen` where it is mounted.
    fs::DirBuilder::new().mode(0o700).recursive(true).create(&files)?;
    traces.files = Some(files.clone());
    make_seen(&seen)?;
    let mut environment = trust.env.clone();
    environment.push(("PORTCULLIS_WORKLOAD".into(), args.workload.as_str().into()));
    if let Some((user, home)) = &user {
        environment.push(("HOME".into(), home.into()));
        environment.extend(["USER", "LOGNAME"].map(|n| (n.into(), OsString::from(&user.name))));
    }
    let mounts = trust.make(&seen).context("cannot write the CA bundles")?;
    let plan = enter::Plan {
        cgroup: path,
        procs,
        mounts,
        user: user.map(|(user, _)| user),
    };
    let file = files.join("plan.json");
    fs::write(&file, serde_json::to_vec(&plan)?)?;
    Ok((file, environment))
}

/// The directory that the workload will see, readable whatever the umask.
fn make_seen(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir)?;
    fs::set_permissions(
        dir,
        <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755),
    )
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Some(cgroup) = &self.cgroup {
            let left = cgroup.count();
            if left > 0 {
                eprintln!(
                    "portcullis run: {left} process(es) of '{}' still running: killed",
                    self.workload
                );
            }
            if cgroup.kill_all(KILL_LIMIT) {
                self.untag(cgroup);
                if let Err(e) = cgroup.remove() {
                    eprintln!("portcullis run: cannot remove {}: {e}", cgroup.dir.display());
                }
            } else {
                eprintln!(
                    "portcullis run: {} is not empty and stays tagged",
                    cgroup.dir.display()
                );
            }
        }
        if let Some(files) = &self.files {
            let _ = fs::remove_dir_all(files);
        }
    }
}

impl Traces {
    /// Only once it is empty. That it goes away says the same to the daemon, so a failure here changes nothing.
    fn untag(&self, cgroup: &FreshCgroup) {
        if self.tagged {
            let request = TagRequest {
                cgroup: &cgroup.path,
                workload: &self.workload,
            };
            let control = self.control.clone().with_timeout(Duration::from_secs(5));
            let answer = control::block_on(control.post::<serde_json::Value>("/v1/untag", &request));
            if let Ok(Err(e)) = answer {
                tracing::debug!("untag: {e}");
            }
        }
    }
}

/// A user by name or number, and the home directory.
fn find_user(text: &str) -> anyhow::Result<(enter::User, PathBuf)> {
    let found = match text.parse() {
        Ok(number) => unistd::User::from_uid(unistd::Uid::from_raw(number))?,
        Err(_) => unistd::User::from_name(text)?,
    };
    let found = found.with_context(|| format!("there is no user '{text}'"))?;
    let user = enter::User {
        name: found.name,
        uid: found.uid.as_raw(),
        gid: found.gid.as_raw(),
    };
    Ok((user, found.dir))
}

/// The exit status as shells give it.
fn status_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|s| 128 + s));
    code.and_then(|c| u8::try_from(c).ok()).unwrap_or(enter::FAILED)
}

/// Signals for the command, read from a descriptor. Blocked from before the command starts, so none is lost;
/// `enter` unblocks them, and one that was ignored (nohup) stays ignored there.
struct Signals {
    set: SigSet,
    fd: SignalFd,
}

const FORWARDED: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];
/// `si_code` of a signal that the kernel made, not a process: Ctrl-C.
const SI_KERNEL: i32 = 0x80;

impl Signals {
    fn block() -> anyhow::Result<Self> {
        let mut set = SigSet::empty();
        set.extend(FORWARDED);
        set.add(Signal::SIGCHLD);
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { set, fd })
    }

    /// A signal that came before the command was started.
    fn pending(&self) -> anyhow::Result<Option<Signal>> {
        let now = SignalFd::with_flags(&self.set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        while let Some(info) = now.read_signal()? {
            if let Some(signal) = number(&info).filter(|s| *s != Signal::SIGCHLD) {
                return Ok(Some(signal));
            }
        }
        Ok(None)
    }

    /// Passes signals on until the command has ended.
    fn forward_until_end(&self, child: &mut Child) -> anyhow::Result<ExitStatus> {
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            let Some(info) = self.fd.read_signal()? else {
                continue;
            };
            let Some(signal) = number(&info) else { continue };
            // The terminal sent Ctrl-C and Ctrl-\ to the command as well, which is in the same process group.
            let from_terminal =
                info.ssi_code == SI_KERNEL && matches!(signal, Signal::SIGINT | Signal::SIGQUIT);
            if signal != Signal::SIGCHLD && !from_terminal {
                let _ = kill(pid, signal);
            }
        }
    }
}

fn number(info: &siginfo) -> Option<Signal> {
    Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()
}
