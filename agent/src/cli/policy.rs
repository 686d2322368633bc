//! `portcullis policy check | test | explain`.

mod lookup;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use comfy_table::{Table, presets};
use serde_json::json;

use crate::{
    config::Config,
    model::ClassTable,
    policy::{AwsCall, ExplainedPolicy, Explanation, PolicySet, Question, examples},
    protocol::postgres,
};

/// Check, test and explain policy.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Parse and validate policies; exits 1 when the daemon would refuse them.
    Check(Check),
    /// Run the examples beside the policies; exits 1 when one comes out otherwise than it says.
    Test(Test),
    /// Decide one operation, and say which policies decided and with which inputs.
    Explain(Box<Explain>),
}

#[derive(Clone, Debug, clap::Args)]
struct Check {
    /// Policy directories, taken together [default: those of the configuration].
    dirs: Vec<PathBuf>,
    /// Exit 1 on warnings too.
    #[arg(long)]
    deny_warnings: bool,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, clap::Args)]
struct Test {
    /// Policy directories, taken together, each with its `examples/` [default: those of the configuration].
    dirs: Vec<PathBuf>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, clap::Args)]
struct Explain {
    /// Policy directories, taken together [default: those of the configuration].
    #[arg(long = "dir", value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// A file with one question: the keys of an example without `name` and `expect`, TOML or JSON. Options given
    /// beside it count before it.
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    /// The workload's name.
    #[arg(long)]
    workload: Option<String>,
    /// A group that it is in; can be given several times.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<Arc<str>>,
    /// HTTP method [default: GET].
    #[arg(long)]
    method: Option<String>,
    /// HTTP URL.
    #[arg(long, conflicts_with_all = ["connect", "database"])]
    url: Option<String>,
    /// A database; without `--sql` the login is decided.
    #[arg(long, value_name = "SERVER/DATABASE", conflicts_with = "connect")]
    database: Option<String>,
    /// The role asked for in the login [default: postgres].
    #[arg(long, requires = "database")]
    role: Option<Arc<str>>,
    /// SQL, decided statement by statement as far as its text alone tells.
    #[arg(long, requires = "database")]
    sql: Option<String>,
    /// A call to AWS, as IAM calls it: `s3:GetObject`.
    #[arg(long, value_name = "SERVICE:OPERATION", conflicts_with_all = ["url", "connect", "database"])]
    aws: Option<String>,
    /// What it names: `bucket/key`, a table, a function.
    #[arg(long, requires = "aws")]
    resource: Option<String>,
    #[command(flatten)]
    dns: lookup::Args,
    /// Address and port of a connection whose protocol is not understood.
    #[arg(long, value_name = "ADDRESS:PORT")]
    connect: Option<SocketAddr>,
    /// The executable.
    #[arg(long)]
    exe: Option<PathBuf>,
    /// The process's user id.
    #[arg(long)]
    uid: Option<u32>,
    /// When, RFC 3339 [default: now].
    #[arg(long)]
    time: Option<String>,
    /// A data class to ask about; can be given several times [default: those that policies or the configuration name].
    #[arg(long = "class", value_name = "CLASS")]
    classes: Vec<String>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When directories or files cannot be read, or the output cannot be written.
pub fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match &args.command {
        Command::Check(args) => check(args, config, &mut out),
        Command::Test(args) => test(args, config, &mut out),
        Command::Explain(args) => explain(args, config, &mut out),
    }
}

fn dirs<'a>(given: &'a [PathBuf], config: &'a Config) -> &'a [PathBuf] {
    if given.is_empty() {
        &config.policy.dirs
    } else {
        given
    }
}

fn exit(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn check(args: &Check, config: &Config, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let dirs = dirs(&args.dirs, config);
    let set = match PolicySet::load(dirs) {
        Ok(set) => set,
        Err(error) if args.json => {
            let (text, problems) = (error.to_string(), error.problems());
            writeln!(
                out,
                "{:#}",
                json!({ "valid": false, "error": text, "problems": problems })
            )?;
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => {
            writeln!(out, "{error}")?;
            let count = error.problems().len().max(1);
            writeln!(out, "\nnot valid: {}", counted(count, "error"))?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let (warnings, policies) = (set.warnings(), set.rules().len());
    if args.json {
        let body = json!({ "valid": true, "policies": policies, "hash": set.hash(), "dirs": dirs, "warnings": warnings });
        writeln!(out, "{body:#}")?;
    } else {
        for warning in warnings {
            writeln!(out, "warning: {warning}")?;
        }
        writeln!(
            out,
            "valid: {}, {}, set {}",
            match policies {
                1 => "1 policy".into(),
                n => format!("{n} policies"),
            },
            counted(warnings.len(), "warning"),
            set.hash()
        )?;
        if policies == 0 {
            let why = if dirs.is_empty() {
                "no directory is configured ([policy] dirs)"
            } else {
                "the directories hold no *.cedar file with a policy"
            };
            writeln!(out, "Without policies EVERYTHING IS DENIED: {why}.")?;
        }
    }
    Ok(exit(warnings.is_empty() || !args.deny_warnings))
}

fn counted(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

fn test(args: &Test, config: &Config, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let dirs = dirs(&args.dirs, config);
    let set = PolicySet::load(dirs)?;
    let mut results = Vec::new();
    for dir in dirs {
        for example in examples(dir)? {
            let differences = example.run(&set);
            results.push((example, differences));
        }
    }
    let failed = results.iter().filter(|(_, d)| !d.is_empty()).count();
    if args.json {
        let all: Vec<_> = results
            .iter()
            .map(|(e, d)| json!({ "file": e.file, "name": e.name, "passed": d.is_empty(), "differences": d }))
            .collect();
        let body = json!({ "examples": all, "failed": failed, "policy_set": set.hash() });
        writeln!(out, "{body:#}")?;
    } else {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["", "example", "expected", "file"]);
        for (example, differences) in &results {
            let mut name = example.name.clone();
            differences.iter().for_each(|d| name += &format!("\n  {d}"));
            let mark = if differences.is_empty() { "ok" } else { "FAILED" };
            let file = example.file.display().to_string();
            table.add_row([mark, &name, &example.expect.decision, &file]);
        }
        writeln!(out, "{table}")?;
        writeln!(out, "{}, {failed} failed", counted(results.len(), "example"))?;
    }
    Ok(exit(failed == 0))
}

fn explain(args: &Explain, config: &Config, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let set = PolicySet::load(dirs(&args.dirs, config))?;
    let mut question = match &args.request {
        Some(path) => question(path)?,
        None => Question::default(),
    };
    question.time = args.time.clone().or(question.time).or_else(|| {
        let now = crate::clock::Clock::System.now_ns();
        Some(crate::model::Rfc3339(now).to_string())
    });
    if let Some(workload) = &args.workload {
        question.workload.clone_from(workload);
    }
    if let Some(method) = &args.method {
        question.method.clone_from(method);
    }
    if !args.groups.is_empty() {
        question.groups.clone_from(&args.groups);
    }
    question.url = args.url.clone().or(question.url);
    question.connect = args.connect.or(question.connect);
    question.exe = args.exe.clone().or(question.exe);
    question.uid = args.uid.unwrap_or(question.uid);
    question.database = args.database.clone().or(question.database);
    question.role = args.role.clone().or(question.role);
    if let Some(call) = &args.aws {
        question.aws = Some(AwsCall::new(call, args.resource.as_deref()));
    }
    question.dns = args.dns.lookup().or(question.dns);
    if let Some(lookup) = &question.dns {
        lookup::is_decided(lookup)?;
    }
    let classes = classes(&args.classes, config, &set)?;
    let mut explanations = Vec::new();
    for (title, question) in questions(question, args.sql.as_deref())? {
        explanations.push((title, set.explain(&question.ask()?.query(&classes))));
    }
    match &*explanations {
        [(_, one)] if args.json => writeln!(out, "{}", serde_json::to_string_pretty(one)?)?,
        all if args.json => {
            let all: Vec<_> = all.iter().map(|(_, e)| e).collect();
            writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        }
        all => {
            for (title, explanation) in all {
                if all.len() > 1 {
                    writeln!(out, "--- {title}")?;
                }
                print(explanation, out)?;
            }
            if args.sql.is_some() {
                writeln!(out, "\n{}", postgres::explain::ASSUMED)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The question for each statement of an SQL text, with a title; without one the question itself.
fn questions(question: Question, sql: Option<&str>) -> anyhow::Result<Vec<(String, Question)>> {
    let Some(sql) = sql else {
        return Ok(vec![(String::new(), question)]);
    };
    let (_, database) = question
        .database
        .as_deref()
        .and_then(|d| d.split_once('/'))
        .unwrap_or_default();
    let records = postgres::explain::explain(sql, database, question.role())
        .context("the statement is refused, whatever policy says")?;
    if records.is_empty() {
        bail!("--sql holds no statement");
    }
    let count = records.len();
    let one = |(at, record)| {
        let question = Question {
            sql: None,
            understood: Some(record),
            ..question.clone()
        };
        (format!("statement {} of {count}", at + 1), question)
    };
    Ok(records.into_iter().enumerate().map(one).collect())
}

fn question(path: &Path) -> anyhow::Result<Question> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    if path.extension().is_some_and(|e| e == "json") {
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    } else {
        toml::from_str(&text).with_context(|| path.display().to_string())
    }
}

fn classes(given: &[String], config: &Config, set: &PolicySet) -> anyhow::Result<ClassTable> {
    let mut names: BTreeSet<String> = given.iter().cloned().collect();
    if names.is_empty() {
        names.extend(config.mask.class.iter().map(|c| c.name.clone()));
        names.extend(config.mask.field.iter().map(|f| f.class.clone()));
        names.extend(config.mask.enable.iter().cloned());
        names.extend(set.classes().map(String::from));
    }
    ClassTable::new(names.into_iter().map(Arc::from))
        .with_context(|| format!("at most {} data classes", ClassTable::MAX))
}

fn print(explanation: &Explanation, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(
        out,
        "{} ({})",
        explanation.decision.to_uppercase(),
        explanation.reason
    )?;
    if let Some(message) = &explanation.message {
        writeln!(out, "  {message}")?;
    }
    policies(out, "decided by", &explanation.policies)?;
    policies(
        out,
        "in scope, but the condition does not hold",
        &explanation.considered,
    )?;
    for (title, words) in [
        ("controls", &*explanation.controls),
        ("approval by", &*explanation.approval),
        ("masked", &explanation.masked),
        ("revealed", &explanation.revealed),
    ] {
        if !words.is_empty() {
            writeln!(out, "\n{title}: {}", words.join(", "))?;
        }
    }
    writeln!(out, "\ninputs: {:#}", explanation.inputs)?;
    writeln!(out, "\npolicy set: {}", explanation.policy_set)?;
    Ok(())
}

fn policies(out: &mut impl Write, title: &str, policies: &[ExplainedPolicy]) -> anyhow::Result<()> {
    if !policies.is_empty() {
        writeln!(out, "\n{title}:")?;
    }
    for policy in policies {
        writeln!(
            out,
            "  {} '{}' at {}:{}",
            policy.effect,
            policy.id,
            policy.file.display(),
            policy.line
        )?;
        for line in policy.text.lines() {
            writeln!(out, "    {line}")?;
        }
    }
    Ok(())
}
