//! Relations and schemas that DDL names otherwise than by a relation's node.

use pg_query::{NodeEnum as K, protobuf as pb};

use super::{Walker, qualified, strings};
use crate::protocol::postgres::sql::Name;

use pb::ObjectType as O;

impl<'a> Walker<'a> {
    pub(super) fn objects(&mut self, kind: &'a K) {
        match kind {
            K::DropStmt(s) => {
                for object in &s.objects {
                    self.object(s.remove_type, Some(object));
                }
            }
            K::CommentStmt(s) => self.object(s.objtype, s.object.as_deref()),
            K::SecLabelStmt(s) => self.object(s.objtype, s.object.as_deref()),
            K::AlterOwnerStmt(s) => self.object(s.object_type, s.object.as_deref()),
            K::AlterExtensionContentsStmt(s) => self.object(s.objtype, s.object.as_deref()),
            K::RenameStmt(s) if s.rename_type == O::ObjectSchema as i32 => {
                self.schema(&s.subname);
                self.schema(&s.newname);
            }
            K::RenameStmt(s) => self.object(s.rename_type, s.object.as_deref()),
            K::AlterObjectSchemaStmt(s) => {
                self.object(s.object_type, s.object.as_deref());
                self.schema(&s.newschema);
            }
            K::GrantStmt(s) => self.grant(s),
            K::CreateSchemaStmt(s) => self.schema(&s.schemaname),
            K::ImportForeignSchemaStmt(s) => self.schema(&s.local_schema),
            K::ReindexStmt(s) if s.kind == pb::ReindexObjectType::ReindexObjectSchema as i32 => {
                self.schema(&s.name);
            }
            _ => {}
        }
    }

    fn grant(&mut self, s: &'a pb::GrantStmt) {
        let schemas = s.targtype == pb::GrantTargetType::AclTargetAllInSchema as i32
            || s.objtype == O::ObjectSchema as i32;
        if schemas {
            for schema in strings(&s.objects) {
                self.schema(schema);
            }
        }
    }

    /// All that a schema holds.
    fn schema(&mut self, name: &str) {
        if !name.is_empty() {
            self.facts.writes.insert(Name::new(Some(name), "*"));
        }
    }

    fn object(&mut self, kind: i32, object: Option<&'a pb::Node>) {
        let names = match object.and_then(|o| o.node.as_ref()) {
            Some(K::List(list)) => strings(&list.items),
            Some(K::String(name)) => vec![name.sval.as_str()],
            _ => return,
        };
        let relation = match O::try_from(kind) {
            Ok(
                O::ObjectTable
                | O::ObjectView
                | O::ObjectMatview
                | O::ObjectSequence
                | O::ObjectIndex
                | O::ObjectForeignTable,
            ) => &names[..],
            // Their own name comes after the relation's.
            Ok(
                O::ObjectColumn | O::ObjectTabconstraint | O::ObjectTrigger | O::ObjectRule | O::ObjectPolicy,
            ) => names.split_last().map_or(&[][..], |(_, relation)| relation),
            Ok(O::ObjectSchema) => {
                for name in names {
                    self.schema(name);
                }
                return;
            }
            _ => return,
        };
        self.facts.writes.extend(qualified(relation));
    }
}
