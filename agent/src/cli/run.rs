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
    process::{Command, ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    fcntl::{Flock, FlockArg},
    unistd,
};
use serde::{Deserialize, Serialize};

use super::{
    cgroup::{self, FreshCgroup},
    control::{self, Control},
    enter,
    signals::Signals,
    trust::{Sources, TrustPlan},
};
use crate::{config::Config, model::WorkloadName, tls};

/// The plan's file name, for `enter`.
const PLAN: &str = "plan.json";
/// How long leftovers are given to die.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// Arguments of `portcullis run`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The exit status is the command's own; 128+N when signal N ended it; 125 when it was not \
    started because something here failed, 126 when it cannot be executed, 127 when it was not found.\n\
    Descriptors above standard error are closed, and what is still running when the command ends is killed.\n\
    The command runs with no_new_privs and a seccomp filter: set-user-id and set-group-id programs and file capabilities \
    (su, sudo, ping) raise nothing, and what the kernel's guard would end a process for fails with EPERM. What \
    [[workload]] guard allows, the filter leaves alone.\n\
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
    files: Option<(PathBuf, Flock<fs::File>)>,
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
    let plan = enter::Plan {
        cgroup: path,
        procs,
        mounts: Vec::new(),
        user: None,
        guard: switches(config, &args.workload),
    };
    lay_out(config, plan, user, traces)
}

/// Writes the bundles and the plan below `[host] run_dir`.
fn lay_out(
    config: &Config,
    mut plan: enter::Plan,
    user: Option<(enter::User, PathBuf)>,
    traces: &mut Traces,
) -> anyhow::Result<(PathBuf, Vec<(OsString, OsString)>)> {
    let run_dir = &config.host.run_dir;
    let ca_file = config.host.data_dir.join(tls::CERT_FILE);
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
    let all = run_dir.join("run");
    // Root alone gets here; the workload sees `seen` where it is mounted.
    fs::DirBuilder::new().mode(0o700).recursive(true).create(&all)?;
    sweep(&all);
    let files = all.join(plan.cgroup.rsplit('/').next().unwrap_or_default());
    fs::create_dir(&files)?;
    traces.files = Some((files.clone(), lock(&files)?));
    let seen = files.join("seen");
    make_seen(&seen)?;
    plan.mounts = trust.make(&seen).context("cannot write the CA bundles")?;
    let mut environment = trust.env;
    environment.push(("PORTCULLIS_WORKLOAD".into(), traces.workload.as_str().into()));
    if let Some((user, home)) = user {
        environment.push(("HOME".into(), home.into()));
        environment.extend(["USER", "LOGNAME"].map(|n| (n.into(), OsString::from(&user.name))));
        plan.user = Some(user);
    }
    let file = files.join(PLAN);
    fs::write(&file, serde_json::to_vec(&plan)?)?;
    Ok((file, environment))
}

/// The lock that says that a run still uses its files.
fn lock(dir: &Path) -> io::Result<Flock<fs::File>> {
    Flock::lock(fs::File::open(dir)?, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| e.into())
}

/// Removes what runs left that were killed themselves. One without a plan may be starting, and is left.
fn sweep(all: &Path) {
    for dir in fs::read_dir(all)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|e| e.path())
    {
        let Ok(Ok(plan)) = fs::read(dir.join(PLAN)).map(|text| serde_json::from_slice::<enter::Plan>(&text))
        else {
            continue;
        };
        if let Ok(_held) = lock(&dir) {
            let cgroup = FreshCgroup::left_behind(&plan.procs, plan.cgroup);
            // Where the command goes on without its parent, it keeps what it needs.
            if cgroup.is_none_or(|cgroup| cgroup.is_empty() && cgroup.remove().is_ok()) {
                let _ = fs::remove_dir_all(&dir);
            }
        }
    }
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
        if let Some((files, _)) = &self.files {
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

/// What the configuration opens for the workload.
fn switches(config: &Config, workload: &WorkloadName) -> u64 {
    let found = config.workload.iter().find(|w| w.name == *workload);
    found.map(|w| w.guard.flags()).unwrap_or_default()
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
