//! One policy, parsed, with what its annotations say.

use std::{path::PathBuf, sync::Arc, time::Duration};

use cedar_policy::{Effect, Policy, PolicyId, Template};

use super::{
    Problem,
    source::{File, Statement, line, statements},
};

/// The annotations that mean something here.
const ANNOTATIONS: [&str; 6] = ["id", "reason", "control", "approval", "quorum", "hold"];
/// The longest time that an operation can be held.
pub const LONGEST_HOLD: Duration = Duration::from_secs(24 * 3600);
/// The most approvers that one policy can ask for.
const LARGEST_QUORUM: u8 = 9;

/// One policy. Inside Cedar its id is its place in the set, so that no text has to be looked up to find it again.
#[derive(Debug)]
pub struct Rule {
    /// `@id`, or `FILE:LINE` where it has none.
    pub id: Arc<str>,
    /// The file.
    pub path: PathBuf,
    /// The line where it starts, from 1.
    pub line: usize,
    /// `@reason`.
    pub reason: Option<Arc<str>>,
    /// `@control`, at its commas.
    pub controls: Vec<Arc<str>>,
    /// `@approval`, at its commas: who may lift this `forbid`. Empty where nobody may.
    pub approval: Vec<Arc<str>>,
    /// `@quorum`: how many different approvers it takes.
    pub quorum: u8,
    /// `@hold`: how long an operation waits for them.
    pub hold: Option<Duration>,
    /// As written.
    pub text: String,
    /// As Cedar has it.
    pub policy: Policy,
    /// Line breaks in `text`, to turn an offset into a line of the file.
    file_line: usize,
}

impl Rule {
    /// Whether it is a `permit`.
    #[must_use]
    pub fn permits(&self) -> bool {
        self.policy.effect() == Effect::Permit
    }

    /// A problem with it, at the place that Cedar's diagnostic points to, or at its start.
    #[must_use]
    pub fn problem(&self, diagnostic: &dyn miette::Diagnostic) -> Problem {
        let inside = offset(diagnostic).map_or(0, |o| line(&self.text, o) - 1);
        Problem {
            file: self.path.clone(),
            line: self.file_line + inside,
            message: format!("policy '{}': {}", self.id, plain(diagnostic)),
            help: help(diagnostic),
        }
    }

    /// A problem with it as a whole.
    #[must_use]
    pub fn note(&self, message: &str, help: Option<&str>) -> Problem {
        Problem {
            file: self.path.clone(),
            line: self.line,
            message: format!("policy '{}': {message}", self.id),
            help: help.map(Into::into),
        }
    }
}

/// The rules of all files, or everything that is wrong with them; warnings beside.
///
/// # Errors
/// When a policy cannot be parsed, is a template, or has the id of another.
pub fn rules(files: &[File]) -> Result<(Vec<Rule>, Vec<Problem>), Vec<Problem>> {
    let (mut rules, mut warnings, mut problems) = (Vec::<Rule>::new(), Vec::new(), Vec::new());
    let mut places = std::collections::HashMap::<Arc<str>, (PathBuf, usize)>::new();
    for file in files {
        for statement in statements(&file.text) {
            match rule(file, statement, rules.len()) {
                Ok(rule) => {
                    if let Some((path, line)) = places.get(&rule.id) {
                        problems.push(rule.note(
                            &format!("its id is also that of {}:{line}", path.display()),
                            Some("give each policy an @id(\"...\") of its own"),
                        ));
                        continue;
                    }
                    places.insert(rule.id.clone(), (rule.path.clone(), rule.line));
                    annotations(&rule, &mut warnings, &mut problems);
                    rules.push(rule);
                }
                Err(problem) => problems.push(*problem),
            }
        }
    }
    if problems.is_empty() {
        Ok((rules, warnings))
    } else {
        Err(problems)
    }
}

fn rule(file: &File, statement: Statement<'_>, place: usize) -> Result<Rule, Box<Problem>> {
    let start = line(&file.text, statement.offset);
    let policy = Policy::parse(Some(PolicyId::new(place.to_string())), statement.text).map_err(|e| {
        let template = Template::parse(None, statement.text).is_ok();
        let (message, help) = if template {
            (
                "templates (?principal, ?resource) are not supported".into(),
                Some("write one policy for each principal and resource, or use groups".into()),
            )
        } else {
            (plain(&e), help(&e))
        };
        let at = statement.offset + offset(&e).unwrap_or(0);
        Box::new(Problem {
            file: file.path.clone(),
            line: line(&file.text, at).max(start),
            message,
            help,
        })
    })?;
    let id = match policy.annotation("id").map(str::trim) {
        Some(id) if !id.is_empty() => id.into(),
        _ => format!("{}:{start}", file.name).into(),
    };
    Ok(Rule {
        id,
        path: file.path.clone(),
        line: start,
        reason: policy
            .annotation("reason")
            .filter(|r| !r.is_empty())
            .map(Into::into),
        controls: list(policy.annotation("control")),
        approval: list(policy.annotation("approval")),
        quorum: policy.annotation("quorum").and_then(quorum).unwrap_or(1),
        hold: policy.annotation("hold").and_then(hold),
        text: statement.text.into(),
        policy,
        file_line: start,
    })
}

fn quorum(text: &str) -> Option<u8> {
    text.trim()
        .parse()
        .ok()
        .filter(|n| (1..=LARGEST_QUORUM).contains(n))
}

fn hold(text: &str) -> Option<Duration> {
    humantime::parse_duration(text.trim())
        .ok()
        .filter(|d| !d.is_zero() && *d <= LONGEST_HOLD)
}

fn list(annotation: Option<&str>) -> Vec<Arc<str>> {
    annotation
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .map(Into::into)
        .collect()
}

fn annotations(rule: &Rule, warnings: &mut Vec<Problem>, problems: &mut Vec<Problem>) {
    if rule.policy.annotation("id").is_none_or(|id| id.trim().is_empty()) {
        warnings.push(rule.note(
            "it has no @id, so that its id changes when lines above it do",
            Some("put @id(\"a-name\") before it"),
        ));
    }
    if rule.policy.annotation("approval").is_some() {
        if rule.permits() {
            problems.push(rule.note(
                "@approval means something on a forbid only",
                Some("to hold what this permits, add a forbid with @approval and `unless { context has approval }`"),
            ));
        } else if rule.approval.is_empty() {
            problems.push(rule.note(
                "@approval names no group",
                Some("write @approval(\"GROUP\"), or several with commas"),
            ));
        }
    }
    for name in ["quorum", "hold"] {
        let Some(text) = rule.policy.annotation(name) else {
            continue;
        };
        if rule.policy.annotation("approval").is_none() {
            problems.push(rule.note(
                &format!("@{name} means something beside @approval only"),
                Some("say who may approve: @approval(\"GROUP\")"),
            ));
        } else if name == "quorum" && quorum(text).is_none() {
            problems.push(rule.note(
                &format!("@quorum is '{text}'"),
                Some("it is how many different people must approve, from \"1\" to \"9\""),
            ));
        } else if name == "hold" && hold(text).is_none() {
            problems.push(rule.note(
                &format!("@hold is '{text}'"),
                Some("it is how long an operation waits for an answer, such as \"90s\" or \"10m\", at most \"24h\""),
            ));
        }
    }
    for (name, _) in rule.policy.annotations() {
        if !ANNOTATIONS.contains(&name) {
            let nearest = ANNOTATIONS
                .into_iter()
                .max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)))
                .unwrap_or_default();
            warnings.push(rule.note(
                &format!("@{name} means nothing here"),
                Some(&format!("the nearest that does is @{nearest}")),
            ));
        }
    }
}

/// Cedar's message without its own naming of the policy, which is a number here.
fn plain(diagnostic: &dyn miette::Diagnostic) -> String {
    unnamed(&diagnostic.to_string()).into()
}

fn unnamed(text: &str) -> &str {
    match text.strip_prefix("for policy `") {
        Some(rest) => rest.split_once("`, ").map_or(rest, |(_, message)| message),
        None => text,
    }
}

fn help(diagnostic: &dyn miette::Diagnostic) -> Option<String> {
    let help = diagnostic.help().map(|h| unnamed(&h.to_string()).to_owned());
    let label = diagnostic
        .labels()
        .and_then(|mut l| l.find_map(|l| l.label().map(String::from)));
    match (label, help) {
        (Some(label), Some(help)) => Some(format!("{label}; {help}")),
        (label, help) => label.or(help),
    }
}

fn offset(diagnostic: &dyn miette::Diagnostic) -> Option<usize> {
    diagnostic.labels()?.map(|l| l.offset()).min()
}
