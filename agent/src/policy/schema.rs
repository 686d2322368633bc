//! The schema in this program, taken apart once.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::LazyLock,
};

use cedar_policy::{Entity, EntityTypeName, EntityUid};

use super::{
    PolicyError,
    shape::{self, Members},
};

/// Its text.
pub const TEXT: &str = include_str!("../../../policies/schema.cedarschema");

/// The action that asks whether a data class may be seen.
pub const REVEAL: &str = "reveal";

/// The schema, taken apart.
pub struct Schema {
    /// For Cedar's own validator.
    pub cedar: cedar_policy::Schema,
    /// Every action that a request can be made for.
    pub actions: BTreeMap<Box<str>, Action>,
    /// Every entity type.
    pub types: BTreeMap<Box<str>, EntityTypeName>,
    /// Context members that are records.
    pub records: BTreeSet<Box<str>>,
}

/// An action.
pub struct Action {
    /// Its name for Cedar.
    pub uid: EntityUid,
    /// Itself and the groups it is in.
    pub within: HashSet<EntityUid>,
    /// The entity, where it is in a group: one that is in none does not have to exist for Cedar.
    pub entity: Option<Entity>,
    /// Types of resources it can be asked of.
    pub resources: BTreeSet<Box<str>>,
    /// Its context.
    pub context: Members,
}

static SCHEMA: LazyLock<Result<Schema, String>> = LazyLock::new(|| take_apart(TEXT));

/// The schema.
///
/// # Errors
/// When the schema in this program is wrong; a test sees to it that it is not.
pub fn schema() -> Result<&'static Schema, PolicyError> {
    SCHEMA.as_ref().map_err(|e| PolicyError::Schema(e.clone()))
}

fn take_apart(text: &str) -> Result<Schema, String> {
    let (cedar, _) = cedar_policy::Schema::from_cedarschema_str(text).map_err(|e| e.to_string())?;
    let (fragment, _) =
        cedar_policy::SchemaFragment::from_cedarschema_str(text).map_err(|e| e.to_string())?;
    let json = fragment.to_json_value().map_err(|e| e.to_string())?;
    let entities = cedar.action_entities().map_err(|e| e.to_string())?;
    let (mut actions, mut records) = (BTreeMap::<Box<str>, Action>::new(), BTreeSet::new());
    for env in cedar.request_envs() {
        let uid = env.action().clone();
        let name: Box<str> = uid.id().unescaped().into();
        let resource = env.resource().to_string().into_boxed_str();
        if let Some(action) = actions.get_mut(&name) {
            action.resources.insert(resource);
            continue;
        }
        let context = shape::context(&json[""], &name)?;
        shape::records(&context, &mut records);
        let mut within: HashSet<_> = entities.ancestors(&uid).into_iter().flatten().cloned().collect();
        let entity = entities.get(&uid).filter(|_| !within.is_empty()).cloned();
        within.insert(uid.clone());
        let action = Action {
            uid,
            within,
            entity,
            resources: BTreeSet::from([resource]),
            context,
        };
        actions.insert(name, action);
    }
    let types = cedar
        .entity_types()
        .map(|t| (t.to_string().into_boxed_str(), t.clone()))
        .collect();
    Ok(Schema {
        cedar,
        actions,
        types,
        records,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::shape::Shape, *};

    #[test]
    fn the_schema_is_understood() {
        let schema = schema().unwrap();
        assert_eq!(
            schema.actions.keys().map(|k| &**k).collect::<Vec<_>>(),
            [
                "aws:call",
                "dns:query",
                "exec:run",
                "http:request",
                "reveal",
                "sql:cancel",
                "sql:connect",
                "sql:statement",
                "tcp:connect"
            ]
        );
        let http = &schema.actions["http:request"].context;
        assert_eq!(http["time"].shape, Shape::Time);
        assert!(!http["approval"].required);
        let Shape::Record(record) = &http["http"].shape else {
            panic!("{http:?}");
        };
        assert!(record["method"].required && !record["query"].required);
        assert!(schema.actions["http:request"].entity.is_none());
        assert_eq!(schema.actions["tcp:connect"].within.len(), 2);
        assert!(schema.records.contains("http") && schema.records.contains("process"));
        assert!(schema.types.contains_key("HttpEndpoint"));
        // Questions for `reveal` are asked with the operation's own action entity, so it needs none.
        assert!(schema.actions[REVEAL].entity.is_none());
        // `reveal` sees what the operation sees: decisions are remembered under what the operation's context holds.
        for (name, action) in &schema.actions {
            for (member, of) in &action.context {
                assert_eq!(
                    schema.actions[REVEAL].context.get(member).map(|m| &m.shape),
                    Some(&of.shape),
                    "{name} {member}"
                );
            }
        }
    }
}
