//! What following and deciding programs costs: short processes one after another, compilations, and connect(2), in a
//! tagged cgroup and outside of it, beside a host without an agent.
//!
//! With the agent standing still, the kernel's part is told from the agent's, which needs a processor, too.
//! Programs on tracepoints see every process of the host, so that what is outside pays, too, if less. Verdicts are
//! remembered before what is enforced is measured: each program is run until the kernel asks nobody.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::{
    child::Said,
    nginx::Nginx,
    site::{Options, POLICY, Site},
    wait::{DEADLINE, wait_until},
    world::{UPSTREAM, World},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use super::{
    Rounds,
    programs::{self, Ran},
};

/// Depends on the file alone, so that the kernel may remember it.
const INSTALLED: &str = r#"
@id("run-installed")
permit (principal, action == Action::"exec:run", resource)
when { context.exec.path like "/usr/*" || context.exec.path like "*/bench" };
"#;
const CASES: [&str; 4] = [
    "short processes",
    "compilations",
    "connect(2)",
    "connect(2) with pauses",
];
/// From here on the cases are of connects.
const FIRST_CONNECT: usize = 2;
const STOPPED: &str = "agent stopped";
const MODES: [&str; 3] = ["off", "audit", "enforce"];
/// Connects of one round: few enough that the agent is not what is measured by them.
const CONNECTS: u32 = 300;
/// The programs that a connect and its close meet.
const HOOKS: [&str; 6] = [
    "sock_create",
    "connect4",
    "workload_ops",
    "agent_ops",
    "egress",
    "ingress",
];
/// Programs that are named, those that took the longest first.
const NAMED: usize = 12;
/// Enough of a program for a compiler to do what it does with each.
const SOURCE: &str = "#include <stdio.h>\n#include <string.h>\n#include <stdlib.h>\n\
    int main(int argc, char **argv) { char *s = strdup(argv[argc - 1]); puts(s); free(s); return 0; }\n";

/// What to do, started by `exec` in the right cgroup.
#[derive(Clone, clap::Args)]
pub struct Act {
    #[arg(long)]
    case: String,
    #[arg(long)]
    seconds: f64,
    #[arg(long)]
    connect: SocketAddr,
    /// Where compilers read and write.
    #[arg(long)]
    dir: PathBuf,
}

/// What came of it, as the one line of output.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Acted {
    /// Of them in a second.
    rate: f64,
    /// Microseconds of one, in the middle.
    p50_us: f64,
    p99_us: f64,
}

pub fn act(act: &Act) -> Result<()> {
    let mut took = Vec::new();
    let began = Instant::now();
    let case = CASES.iter().position(|case| *case == act.case);
    let most = if case >= Some(FIRST_CONNECT) {
        CONNECTS
    } else {
        u32::MAX
    };
    for _ in 0..most {
        if began.elapsed().as_secs_f64() >= act.seconds {
            break;
        }
        let one = Instant::now();
        match case {
            Some(0) => run(&mut Command::new("/usr/bin/true"))?,
            Some(1) => run(Command::new("/usr/bin/cc")
                .args(["-O1", "-c", "-o", "out.o", "in.c"])
                .current_dir(&act.dir))?,
            Some(connect) => {
                let stream = TcpStream::connect(act.connect).context("connect")?;
                took.push(one.elapsed());
                drop(stream);
                if connect > FIRST_CONNECT {
                    // What is done with one connection does not fall on the next, and caches have gone cold.
                    std::thread::sleep(Duration::from_millis(3));
                }
                continue;
            }
            None => bail!("there is no {}", act.case),
        }
        took.push(one.elapsed());
    }
    let seconds: f64 = took.iter().map(Duration::as_secs_f64).sum();
    took.sort_unstable();
    let at = |part: usize| {
        took.get(took.len() * part / 100)
            .map_or(0.0, |d| d.as_secs_f64() * 1e6)
    };
    let acted = Acted {
        rate: took.len() as f64 / seconds.max(1e-9),
        p50_us: at(50),
        p99_us: at(99),
    };
    println!("{}", serde_json::to_string(&acted)?);
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().context("run")?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// Who does it, and in what place.
type Place = (String, &'static str);

pub fn exec(rounds: &Rounds) -> Result<()> {
    let cases: Vec<&'static str> = CASES.into_iter().filter(|c| c.contains(&rounds.case)).collect();
    let mut all: BTreeMap<(&'static str, Place), Vec<Acted>> = BTreeMap::new();
    let mut hooks = BTreeMap::new();
    for round in 1..=rounds.rounds {
        let mut put = |case, place: Place, acted| all.entry((case, place)).or_default().push(acted);
        World::enter(|world| {
            let _nginx = alone(world)?;
            for &case in &cases {
                eprintln!("round {round} of {}: no agent: {case}", rounds.rounds);
                let plain = acting(world.host(own()?), world, case, rounds.seconds)?;
                put(case, (String::new(), "no agent"), plain);
            }
            Ok(())
        })?;
        for mode in MODES {
            with_site(mode, |site| {
                for &case in &cases {
                    eprintln!("round {round} of {}: exec = {mode}: {case}", rounds.rounds);
                    let outside = acting(site.world.host(own()?), site.world, case, rounds.seconds)?;
                    put(case, (mode.into(), "untagged"), outside);
                    if mode == "enforce" {
                        remembered(site, case)?;
                    }
                    let tagged = || acting(site.workload().tagged(own()?), site.world, case, rounds.seconds);
                    put(case, (mode.into(), "tagged"), tagged()?);
                    // A connect that nobody accepts is another thing.
                    if CASES[FIRST_CONNECT..].contains(&case) {
                        let (_, programs) = programs::counted(tagged)?;
                        hooks.insert((case, mode), programs);
                    } else {
                        put(case, (mode.into(), STOPPED), stopped(site, tagged)?);
                    }
                }
                Ok(())
            })?;
        }
    }
    let all: BTreeMap<_, _> = all
        .into_iter()
        .map(|(key, acted)| (key, median(&acted)))
        .collect();
    print(&cases, &all);
    for ((case, mode), programs) in &hooks {
        print_hooks(case, mode, programs);
    }
    let json: Vec<_> = all
        .iter()
        .map(|((case, (mode, place)), acted)| serde_json::json!({ "case": case, "exec": mode, "place": place, "acted": acted }))
        .collect();
    super::run::write(rounds, &json.into())
}

fn own() -> Result<PathBuf> {
    Ok(std::env::current_exe()?)
}

/// The upstream alone, with nothing behind it: connects are all it gets.
fn alone(world: &World) -> Result<Nginx> {
    Nginx::upstream(world, Path::new("/nonexistent"))
}

/// Each site has a world of its own.
fn with_site(mode: &'static str, test: impl FnOnce(&Site<'_>) -> Result<()> + Send) -> Result<()> {
    World::enter(|world| {
        let options = Options {
            exec: mode,
            policy: format!("{POLICY}{INSTALLED}"),
            ..Options::default()
        };
        let mut site = Site::start(world, &format!("bench-exec-{mode}"), &options)?;
        test(&site).map_err(|e| e.context(site.daemon.log()))?;
        site.daemon.stop()
    })
}

/// Does it while the agent stands still: what is left is the kernel's part. Its events fit into their buffer.
fn stopped(site: &Site<'_>, act: impl FnOnce() -> Result<Acted>) -> Result<Acted> {
    let pid = Pid::from_raw(i32::try_from(site.daemon.pid().context("no daemon")?)?);
    kill(pid, Signal::SIGSTOP)?;
    let acted = act();
    kill(pid, Signal::SIGCONT)?;
    acted
}

/// Runs the programs until all that a workload's are is what the kernel remembers.
fn remembered(site: &Site<'_>, case: &str) -> Result<()> {
    wait_until("the verdicts to be remembered", DEADLINE, || {
        let before = held(site);
        let acted = acting(
            site.workload().tagged(own().unwrap_or_default()),
            site.world,
            case,
            0.2,
        );
        acted.is_ok() && before.is_some() && held(site) == before
    })
}

/// How many execs were held so far.
fn held(site: &Site<'_>) -> Option<u64> {
    let said = Said::by(&mut site.daemon.command(&["status", "--json"]).ok()?).ok()?;
    let status: serde_json::Value = serde_json::from_str(&said.out).ok()?;
    let counters = status.pointer("/tags/0/counters")?;
    Some(
        counters
            .get("exec_held")
            .and_then(serde_json::Value::as_u64)
            .unwrap_or_default(),
    )
}

fn acting(mut command: Command, world: &World, case: &str, seconds: f64) -> Result<Acted> {
    std::fs::write(world.path("in.c"), SOURCE)?;
    command.args(["act", "--case", case, "--seconds", &seconds.to_string()]);
    command
        .args(["--connect", &format!("{UPSTREAM}:443")])
        .arg("--dir")
        .arg(world.dir());
    let said = Said::by(&mut command)?.ok()?;
    serde_json::from_str(&said).with_context(|| said.clone())
}

fn median(all: &[Acted]) -> Acted {
    let middle = |of: fn(&Acted) -> f64| {
        let mut values: Vec<f64> = all.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    Acted {
        rate: middle(|a| a.rate),
        p50_us: middle(|a| a.p50_us),
        p99_us: middle(|a| a.p99_us),
    }
}

fn print(cases: &[&'static str], all: &BTreeMap<(&'static str, Place), Acted>) {
    for case in cases {
        println!("\n{case}");
        println!(
            "  {:<28} {:>10} {:>10} {:>10} {:>12} {:>12}",
            "", "a second", "p50 us", "p99 us", "x untagged", "x no agent"
        );
        let get = |mode: &str, place| all.get(&(*case, (mode.to_owned(), place))).copied();
        let Some(none) = get("", "no agent") else { continue };
        let line = |name: &str, acted: Acted, untagged: Acted| {
            println!(
                "  {name:<28} {:>10.0} {:>10.1} {:>10.1} {:>11.3}x {:>11.3}x",
                acted.rate,
                acted.p50_us,
                acted.p99_us,
                acted.p50_us / untagged.p50_us,
                acted.p50_us / none.p50_us
            );
        };
        line("no agent", none, none);
        for mode in MODES {
            if let (Some(outside), Some(inside)) = (get(mode, "untagged"), get(mode, "tagged")) {
                line(&format!("exec = {mode}, untagged"), outside, outside);
                line(&format!("exec = {mode}, tagged"), inside, outside);
                if let Some(alone) = get(mode, STOPPED) {
                    line(&format!("exec = {mode}, {STOPPED}"), alone, outside);
                }
            }
        }
    }
}

/// What of connect(2) and the close(2) behind it is the programs' own. Those on tracepoints run for the whole host, the
/// load generator's own waiting included: they are told apart.
fn print_hooks(case: &str, mode: &str, programs: &BTreeMap<String, Ran>) {
    let each = |ran: &Ran| ran.took.as_secs_f64() * 1e6 / f64::from(CONNECTS);
    let of_connects = |name: &str| HOOKS.contains(&name);
    let own = programs.iter().filter(|(name, _)| of_connects(name));
    let whole: f64 = own.map(|(_, ran)| each(ran)).sum();
    println!("\n{case}, exec = {mode}: the programs of sockets took {whole:.2} us of each");
    let mut longest: Vec<_> = programs.iter().collect();
    longest.sort_by_key(|(_, ran)| std::cmp::Reverse(ran.took));
    for (name, ran) in longest.into_iter().take(NAMED) {
        let times = f64::from(u32::try_from(ran.times).unwrap_or(u32::MAX)) / f64::from(CONNECTS);
        let whose = if of_connects(name) { "" } else { ", of the host" };
        println!("  {name:<20} {times:>7.2} times {:>7.2} us{whose}", each(ran));
    }
}
