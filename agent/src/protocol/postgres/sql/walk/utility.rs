//! Statements that are no queries.

use pg_query::{NodeEnum as K, protobuf as pb};

use super::{Part as _, Parts as _, Role, Walker, qualified, strings};
use crate::protocol::postgres::sql::{Access, act, settings, verbs};

impl<'a> Walker<'a> {
    /// What a statement does beyond its verb, and what hangs below it.
    pub(super) fn utility(&mut self, kind: &'a K) {
        match kind {
            K::CopyStmt(s) => self.copy(s),
            K::ExplainStmt(s) => self.explain(s),
            K::PrepareStmt(s) => self.reading(|w| s.parts(w)),
            K::ExecuteStmt(s) => {
                self.facts.executes.insert(s.name.as_str().into());
                self.incomplete("prepared");
                self.reading(|w| s.parts(w));
            }
            K::FetchStmt(s) => {
                self.facts.cursors.insert(s.portalname.as_str().into());
                self.incomplete("cursor");
                s.parts(self);
            }
            K::LockStmt(s) => {
                // ACCESS SHARE is what every SELECT takes; pg_dump asks for it by name.
                let share = s.mode == pg_query::LockMode::AccessShareLock as i32;
                self.reaches(if share { Access::Read } else { Access::Write });
                self.with_role(if share { Role::Read } else { Role::Write }, |w| s.parts(w));
            }
            K::VariableSetStmt(s) => {
                self.reaches(set_access(s));
                s.parts(self);
            }
            K::CallStmt(s) => self.procedure(s),
            K::DoStmt(s) => {
                self.incomplete("do_block");
                s.parts(self);
            }
            K::DeclareCursorStmt(s) => self.reading(|w| s.parts(w)),
            K::CreateTableAsStmt(s) => s.parts(self),
            _ => {
                let access = verbs::command(kind).map_or(Access::Admin, |(_, access)| access);
                let role = if access == Access::Admin {
                    Role::Write
                } else {
                    Role::Read
                };
                self.with_role(role, |w| w.below(kind));
                self.objects(kind);
            }
        }
    }

    fn copy(&mut self, s: &'a pb::CopyStmt) {
        let pb::CopyStmt {
            relation,
            query,
            attlist: _,
            is_from,
            is_program,
            filename,
            options,
            where_clause,
        } = s;
        let (verb, access, role) = if *is_from {
            ("insert", Access::Write, Role::Write)
        } else {
            ("select", Access::Read, Role::Read)
        };
        if query.is_none() {
            self.verb(verb, access);
        }
        if *is_program || !filename.is_empty() {
            self.reaches(Access::Admin);
        }
        self.with_role(role, |w| relation.visit(w));
        self.reading(|w| {
            query.visit(w);
            options.visit(w);
            where_clause.visit(w);
        });
        if !act::copy_of(s).understood {
            self.incomplete("copy_option");
        }
    }

    /// EXPLAIN without ANALYZE runs nothing: it reaches no further than reading, though its verbs are seen.
    fn explain(&mut self, s: &'a pb::ExplainStmt) {
        s.options.visit(self);
        if act::analyzes(s) {
            s.query.visit(self);
            return;
        }
        let mut inner = Walker::new();
        inner.depth = self.depth;
        s.query.visit(&mut inner);
        let mut facts = inner.facts;
        facts.reads.append(&mut facts.writes);
        facts.access = Access::Read;
        self.facts.merge(&facts);
    }

    fn procedure(&mut self, s: &'a pb::CallStmt) {
        self.incomplete("call");
        if let Some(call) = &s.funccall {
            self.facts.functions.extend(qualified(&strings(&call.funcname)));
            call.parts(self);
        }
        s.funcexpr.visit(self);
        s.outargs.visit(self);
    }
}

fn set_access(s: &pb::VariableSetStmt) -> Access {
    use pb::VariableSetKind as V;
    let name = s.name.to_ascii_lowercase();
    match V::try_from(s.kind) {
        // RESET ALL leaves the role alone.
        Ok(V::VarResetAll) => Access::Read,
        // SET TRANSACTION, SET SESSION CHARACTERISTICS.
        Ok(V::VarSetMulti) => Access::Read,
        _ => settings::access(&name),
    }
}
