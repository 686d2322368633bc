//! Which policies can apply at all: found by looking up, so that the cost does not grow with their number.
//!
//! Cedar evaluates every policy of a set. So the set is cut at load by action, and by the entities that the scope
//! names: a policy for `Group::"a"` on `HttpHost::"b"` lies in the bucket (a, b), and a question looks only into the
//! buckets of its own principal, groups, resource and parents. A policy that is left out has a scope that does not
//! match, and Cedar evaluates the scope first, so it can neither apply nor fail. What stays linear are policies that
//! name neither a principal nor a resource in their scope.

use std::collections::{BTreeMap, HashMap};

use cedar_policy::{
    ActionConstraint, Entity, EntityId, EntityTypeName, EntityUid, PolicySet as Cedar, PrincipalConstraint,
    ResourceConstraint,
};

use super::{PolicyError, classes::Classes, rule::Rule, schema::Schema};

/// An entity that policies name, as a small number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(u32);

impl Key {
    /// The scope does not name anything.
    pub const ANY: Self = Self(0);

    /// For a cache key.
    #[must_use]
    pub fn bytes(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }
}

/// All entities that policies name, by type and id. Two that no policy names cannot be told apart by any policy.
#[derive(Debug, Default)]
pub struct Names {
    /// Some ten at most: looking through them is quicker than hashing.
    types: Vec<Type>,
    next: u32,
}

#[derive(Debug)]
struct Type {
    text: Box<str>,
    name: EntityTypeName,
    key: Key,
    ids: HashMap<Box<str>, (Key, EntityUid)>,
}

impl Names {
    /// Of the schema's types, without any entity yet.
    #[must_use]
    pub fn new(schema: &Schema) -> Self {
        let mut names = Self::default();
        for (text, name) in &schema.types {
            let key = names.fresh();
            let (name, ids) = (name.clone(), HashMap::new());
            let text = text.clone();
            names.types.push(Type { text, name, key, ids });
        }
        names
    }

    fn fresh(&mut self) -> Key {
        self.next += 1;
        Key(self.next)
    }

    /// Adds an entity that a policy names.
    pub fn add(&mut self, uid: &EntityUid) {
        let key = Key(self.next + 1);
        let kind = uid.type_name().to_string();
        if let Some(kind) = self.types.iter_mut().find(|t| *t.text == *kind) {
            let id = uid.id().unescaped();
            if !kind.ids.contains_key(id) {
                kind.ids.insert(id.into(), (key, uid.clone()));
                self.next += 1;
            }
        }
    }

    /// The key of a type, where the schema has it.
    #[must_use]
    pub fn kind(&self, kind: &str) -> Option<Key> {
        self.of(kind).map(|t| t.key)
    }

    /// The entity, where a policy names it.
    #[must_use]
    pub fn get(&self, kind: &str, id: &str) -> Option<&(Key, EntityUid)> {
        let ids = &self.of(kind)?.ids;
        if ids.is_empty() { None } else { ids.get(id) }
    }

    fn of(&self, kind: &str) -> Option<&Type> {
        self.types.iter().find(|t| *t.text == *kind)
    }

    /// Cedar's name of any entity of the schema's types.
    #[must_use]
    pub fn uid(&self, kind: &str, id: &str) -> Option<EntityUid> {
        let kind = self.of(kind)?;
        match kind.ids.get(id) {
            Some((_, uid)) => Some(uid.clone()),
            None => Some(EntityUid::from_type_name_and_id(
                kind.name.clone(),
                EntityId::new(id),
            )),
        }
    }

    fn key(&self, uid: &EntityUid) -> Option<Key> {
        self.get(&uid.type_name().to_string(), uid.id().unescaped())
            .map(|(key, _)| *key)
    }
}

/// Policies of one action with the same scope.
#[derive(Debug, Default)]
pub struct Bucket {
    /// Those that permit.
    pub permits: Option<Cedar>,
    /// Those that forbid.
    pub forbids: Option<Cedar>,
    /// For `reveal`: the data classes that the permits can be about.
    pub classes: Classes,
}

/// One action's policies.
pub struct Index {
    /// The action.
    pub uid: EntityUid,
    /// Its entity, where it has to exist.
    pub entity: Option<Entity>,
    buckets: HashMap<(Key, Key), Bucket>,
}

impl Index {
    /// All buckets.
    pub fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.buckets.values()
    }

    /// The buckets for any of these principals with any of these resources.
    pub fn select<'a>(
        &'a self,
        principals: &'a [Key],
        resources: &'a [Key],
    ) -> impl Iterator<Item = &'a Bucket> {
        principals
            .iter()
            .flat_map(move |p| resources.iter().filter_map(move |r| self.buckets.get(&(*p, *r))))
    }
}

/// Cuts the rules by action and scope.
///
/// # Errors
/// When Cedar refuses a policy that it has parsed before, which it does not.
pub fn build(
    schema: &Schema,
    names: &Names,
    rules: &[Rule],
) -> Result<BTreeMap<Box<str>, Index>, PolicyError> {
    let mut indexes = BTreeMap::new();
    for (name, action) in &schema.actions {
        let mut buckets = HashMap::<_, Bucket>::new();
        for rule in rules {
            let applies = match rule.policy.action_constraint() {
                ActionConstraint::Any => true,
                ActionConstraint::Eq(uid) => uid == action.uid,
                ActionConstraint::In(uids) => uids.iter().any(|u| action.within.contains(u)),
            };
            if !applies {
                continue;
            }
            let bucket = buckets.entry(scope(names, rule)).or_default();
            let side = if rule.permits() {
                bucket.classes.add(rule);
                &mut bucket.permits
            } else {
                &mut bucket.forbids
            };
            side.get_or_insert_default()
                .add(rule.policy.clone())
                .map_err(|e| PolicyError::Schema(e.to_string()))?;
        }
        let (uid, entity) = (action.uid.clone(), action.entity.clone());
        indexes.insert(name.clone(), Index { uid, entity, buckets });
    }
    Ok(indexes)
}

/// The bucket of a rule. An entity without key cannot be: all that rules name have been added. Should it be
/// nevertheless, the rule is looked at for every question.
fn scope(names: &Names, rule: &Rule) -> (Key, Key) {
    let principal = match rule.policy.principal_constraint() {
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
        PrincipalConstraint::In(uid) | PrincipalConstraint::Eq(uid) | PrincipalConstraint::IsIn(_, uid) => {
            names.key(&uid)
        }
    };
    let resource = match rule.policy.resource_constraint() {
        ResourceConstraint::Any => None,
        ResourceConstraint::Is(kind) => names.kind(&kind.to_string()),
        ResourceConstraint::In(uid) | ResourceConstraint::Eq(uid) | ResourceConstraint::IsIn(_, uid) => {
            names.key(&uid)
        }
    };
    (principal.unwrap_or(Key::ANY), resource.unwrap_or(Key::ANY))
}
