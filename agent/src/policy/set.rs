//! A policy set: loaded, checked, and cut up for deciding. Immutable.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use aws_lc_rs::digest;
use cedar_policy::{ActionConstraint, PolicySet as Cedar, ValidationMode, Validator};

use super::{
    PolicyError, Problem,
    index::{self, Index, Names},
    rule::{self, Rule},
    schema::{self, Schema},
    shadow,
    shape::{Members, Mentions},
    source::{self, File},
};

/// Numbers sets over the whole process, so that what was decided under one set is never taken for another's.
static GENERATION: AtomicU64 = AtomicU64::new(1);

/// A policy set in the form that decides.
pub struct PolicySet {
    hash: Arc<str>,
    text: Arc<str>,
    generation: u64,
    rules: Vec<Rule>,
    warnings: Vec<Problem>,
    pub(super) schema: &'static Schema,
    pub(super) names: Names,
    pub(super) indexes: BTreeMap<Box<str>, Index>,
    pub(super) mentions: Mentions,
    /// Of each action, the part of its context that policies can see.
    pub(super) contexts: BTreeMap<Box<str>, Members>,
}

impl PolicySet {
    /// Loads the `*.cedar` files of some directories. No directory and no file is a set that denies everything.
    ///
    /// # Errors
    /// When something cannot be read, or a policy is wrong; then everything that is wrong is in the error.
    pub fn load(dirs: &[PathBuf]) -> Result<Self, PolicyError> {
        Self::new(&source::files(dirs)?)
    }

    /// The same of files that have been read, in their order.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn new(files: &[File]) -> Result<Self, PolicyError> {
        let schema = schema::schema()?;
        let text = text(files);
        let hash = hex::encode(digest::digest(&digest::SHA256, text.as_bytes())).into();
        let (rules, mut warnings) = rule::rules(files).map_err(PolicyError::Problems)?;
        validate(schema, &rules, &mut warnings)?;
        warnings.extend(shadow::shadowed(schema, &rules));

        let (mut names, mut mentions) = (Names::new(schema), Mentions::default());
        for rule in &rules {
            rule.policy
                .entity_literals()
                .iter()
                .for_each(|uid| names.add(uid));
            let json = rule
                .policy
                .to_json()
                .map_err(|e| PolicyError::Schema(e.to_string()))?;
            mentions.add(&json["conditions"], &schema.records);
        }
        warnings.extend(rules.iter().filter_map(never_lifted));
        warnings.extend(rules.iter().filter_map(reveals_by_the_way));
        let contexts = schema
            .actions
            .iter()
            .map(|(name, action)| (name.clone(), mentions.prune(&action.context)))
            .collect();
        Ok(Self {
            hash,
            text,
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
            indexes: index::build(schema, &names, &rules)?,
            rules,
            warnings,
            schema,
            names,
            mentions,
            contexts,
        })
    }

    /// Whether what this set says of an action depends on nothing but these members of the protocol's record, the
    /// resource, and who asks. An approval is never remembered, and so does not count.
    #[must_use]
    pub fn depends_only_on(&self, action: &str, protocol: &str, members: &[&str]) -> bool {
        let Some(seen) = self.contexts.get(action) else {
            return false;
        };
        seen.iter().all(|(name, member)| match &member.shape {
            _ if &**name == "approval" => true,
            super::shape::Shape::Record(inner) if &**name == protocol => {
                inner.keys().all(|m| members.contains(&&**m))
            }
            _ => false,
        })
    }

    /// The schema and all files as one text, for the record: its SHA-256 is the set's hash.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// SHA-256 of [`Self::text`], hex.
    #[must_use]
    pub fn hash(&self) -> &Arc<str> {
        &self.hash
    }

    /// A number that no other set in this process has; a later one has a greater.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// All policies, in order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Data classes that policies name to reveal.
    pub fn classes(&self) -> impl Iterator<Item = &str> {
        let buckets = self
            .indexes
            .get(schema::REVEAL)
            .into_iter()
            .flat_map(Index::buckets);
        buckets.flat_map(|b| b.classes.names())
    }

    /// What is not wrong, but probably not meant.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }
}

fn validate(schema: &Schema, rules: &[Rule], warnings: &mut Vec<Problem>) -> Result<(), PolicyError> {
    let all = Cedar::from_policies(rules.iter().map(|r| r.policy.clone()))
        .map_err(|e| PolicyError::Schema(e.to_string()))?;
    let result = Validator::new(schema.cedar.clone()).validate(&all, ValidationMode::Strict);
    let of = |id: &cedar_policy::PolicyId| place(id).and_then(|n| rules.get(n));
    let mut problems: Vec<_> = result
        .validation_errors()
        .filter_map(|e| Some(nearest_action(schema, of(e.policy_id())?.problem(e))))
        .collect();
    // An error that belongs to no policy must not be lost.
    if problems.is_empty() && !result.validation_passed() {
        return Err(PolicyError::Schema(result.to_string()));
    }
    if problems.is_empty() {
        warnings.extend(
            result
                .validation_warnings()
                .filter_map(|w| Some(of(w.policy_id())?.problem(w))),
        );
        Ok(())
    } else {
        problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        Err(PolicyError::Problems(problems))
    }
}

/// Cedar's own proposal for an unknown action goes by edit distance alone, and proposes `reveal` for `http:reqest`.
fn nearest_action(schema: &Schema, mut problem: Problem) -> Problem {
    let unknown = problem
        .message
        .split_once("unrecognized action `Action::\"")
        .and_then(|(_, rest)| rest.split_once('"'));
    if let Some((unknown, _)) = unknown {
        let score = |name: &str| strsim::jaro_winkler(unknown, name);
        let nearest = schema.actions.keys().max_by(|a, b| score(a).total_cmp(&score(b)));
        problem.help = nearest.map(|name| format!("did you mean `Action::\"{name}\"`?"));
    }
    problem
}

/// A policy's place in the set, which is its id inside Cedar.
pub(super) fn place(id: &cedar_policy::PolicyId) -> Option<usize> {
    let text: &str = id.as_ref();
    text.parse().ok()
}

/// A hold that no approval ends: its condition does not look at one.
fn never_lifted(rule: &Rule) -> Option<Problem> {
    if rule.approval.is_empty() {
        return None;
    }
    let json = rule.policy.to_json().ok()?;
    let mut mentions = Mentions::default();
    mentions.add(&json["conditions"], &std::collections::BTreeSet::new());
    (!mentions.has("approval")).then(|| {
        rule.note(
            "it holds the operation again after it was approved",
            Some("add `unless { context has approval }`"),
        )
    })
}

/// A permit for every action is one for `reveal` too.
fn reveals_by_the_way(rule: &Rule) -> Option<Problem> {
    let every = rule.policy.action_constraint() == ActionConstraint::Any;
    (rule.permits() && every).then(|| {
        rule.note(
            "it permits every action, `reveal` among them, so that nothing is masked where it applies",
            Some("name the actions: `action == Action::\"http:request\"`"),
        )
    })
}

/// A JSON array of [name, text] pairs, the schema first: no text can be taken for another file's name.
fn text(files: &[File]) -> Arc<str> {
    let mut parts = vec![("schema.cedarschema", schema::TEXT)];
    parts.extend(files.iter().map(|f| (&*f.name, f.text.as_str())));
    // Pairs of strings always serialise.
    serde_json::to_string(&parts).unwrap_or_default().into()
}
