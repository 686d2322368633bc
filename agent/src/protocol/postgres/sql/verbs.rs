//! The verb of each kind of statement, and how far it reaches.
//!
//! | access | what |
//! | --- | --- |
//! | read | SELECT, VALUES, TABLE, SHOW, EXPLAIN that runs nothing; COPY TO STDOUT; BEGIN, COMMIT, ROLLBACK, savepoints; SET and RESET of harmless variables; DECLARE, FETCH, MOVE, CLOSE; PREPARE, EXECUTE, DEALLOCATE (and what they hold); LISTEN, UNLISTEN; DISCARD; LOCK in ACCESS SHARE mode |
//! | write | INSERT, UPDATE, DELETE, MERGE, COPY FROM STDIN; SELECT FOR UPDATE and its like, LOCK (both keep others from changing rows, and PostgreSQL wants the rights of a writer for them); NOTIFY; CALL; PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED; SET of a variable with a dot (row security policies read them); functions of `effects` that write |
//! | admin | everything that creates, alters, drops, grants, comments, truncates or maintains; SELECT INTO and CREATE TABLE AS, temporary tables as well (their names come before all others); COPY with a file or program of the server; SET ROLE, SET SESSION AUTHORIZATION and every variable that is not known to be harmless; DO; LOAD, CHECKPOINT, ALTER SYSTEM; rows of system relations; functions of `effects` that reach as far |

use pg_query::{NodeEnum as K, protobuf as pb};

use super::Access::{self, Admin, Read, Write};

/// All verbs, which policies name.
#[cfg(test)]
pub(super) const VERBS: &[&str] = &[
    "alter",
    "analyze",
    "begin",
    "call",
    "checkpoint",
    "close",
    "cluster",
    "comment",
    "commit",
    "commit_prepared",
    "copy",
    "create",
    "deallocate",
    "declare",
    "delete",
    "discard",
    "do",
    "drop",
    "execute",
    "explain",
    "fetch",
    "grant",
    "import",
    "insert",
    "listen",
    "load",
    "lock",
    "merge",
    "move",
    "notify",
    "prepare",
    "prepare_transaction",
    "reassign",
    "refresh",
    "reindex",
    "release",
    "reset",
    "revoke",
    "rollback",
    "rollback_prepared",
    "savepoint",
    "security_label",
    "select",
    "set",
    "show",
    "truncate",
    "unlisten",
    "update",
    "vacuum",
];

/// The verb of a statement that is not a query, and the least that it reaches; `None` for what is no statement.
pub(super) fn command(kind: &K) -> Option<(&'static str, Access)> {
    Some(match kind {
        K::CopyStmt(_) => ("copy", Read),
        K::ExplainStmt(_) => ("explain", Read),
        K::PrepareStmt(_) => ("prepare", Read),
        K::ExecuteStmt(_) => ("execute", Read),
        K::DeallocateStmt(_) => ("deallocate", Read),
        K::DeclareCursorStmt(_) => ("declare", Read),
        K::FetchStmt(s) if s.ismove => ("move", Read),
        K::FetchStmt(_) => ("fetch", Read),
        K::ClosePortalStmt(_) => ("close", Read),
        K::VariableShowStmt(_) => ("show", Read),
        K::VariableSetStmt(s) if is_reset(s) => ("reset", Read),
        K::VariableSetStmt(_) | K::ConstraintsSetStmt(_) => ("set", Read),
        K::DiscardStmt(_) => ("discard", Read),
        K::ListenStmt(_) => ("listen", Read),
        K::UnlistenStmt(_) => ("unlisten", Read),
        K::NotifyStmt(_) => ("notify", Write),
        K::LockStmt(_) => ("lock", Read),
        K::CallStmt(_) => ("call", Write),
        K::DoStmt(_) => ("do", Admin),
        K::TransactionStmt(s) => transaction(s),
        K::LoadStmt(_) => ("load", Admin),
        K::CheckPointStmt(_) => ("checkpoint", Admin),
        K::VacuumStmt(s) if s.is_vacuumcmd => ("vacuum", Admin),
        K::VacuumStmt(_) => ("analyze", Admin),
        K::ClusterStmt(_) => ("cluster", Admin),
        K::ReindexStmt(_) => ("reindex", Admin),
        K::RefreshMatViewStmt(_) => ("refresh", Admin),
        K::TruncateStmt(_) => ("truncate", Admin),
        K::CommentStmt(_) => ("comment", Admin),
        K::SecLabelStmt(_) => ("security_label", Admin),
        K::ImportForeignSchemaStmt(_) => ("import", Admin),
        K::ReassignOwnedStmt(_) => ("reassign", Admin),
        K::GrantStmt(s) if !s.is_grant => ("revoke", Admin),
        K::GrantRoleStmt(s) if !s.is_grant => ("revoke", Admin),
        K::GrantStmt(_) | K::GrantRoleStmt(_) => ("grant", Admin),
        _ => return definition(kind).map(|verb| (verb, Admin)),
    })
}

fn is_reset(s: &pb::VariableSetStmt) -> bool {
    s.kind == pb::VariableSetKind::VarReset as i32 || s.kind == pb::VariableSetKind::VarResetAll as i32
}

fn transaction(s: &pb::TransactionStmt) -> (&'static str, Access) {
    use pb::TransactionStmtKind as T;
    match T::try_from(s.kind) {
        Ok(T::TransStmtBegin | T::TransStmtStart) => ("begin", Read),
        Ok(T::TransStmtCommit) => ("commit", Read),
        Ok(T::TransStmtRollback | T::TransStmtRollbackTo) => ("rollback", Read),
        Ok(T::TransStmtSavepoint) => ("savepoint", Read),
        Ok(T::TransStmtRelease) => ("release", Read),
        Ok(T::TransStmtPrepare) => ("prepare_transaction", Write),
        Ok(T::TransStmtCommitPrepared) => ("commit_prepared", Write),
        Ok(T::TransStmtRollbackPrepared) => ("rollback_prepared", Write),
        Ok(T::Undefined) | Err(_) => ("commit", Admin),
    }
}

fn definition(kind: &K) -> Option<&'static str> {
    Some(match kind {
        K::CreateSchemaStmt(_)
        | K::CreateStmt(_)
        | K::CreateTableAsStmt(_)
        | K::CreateTableSpaceStmt(_)
        | K::CreateExtensionStmt(_)
        | K::CreateFdwStmt(_)
        | K::CreateForeignServerStmt(_)
        | K::CreateForeignTableStmt(_)
        | K::CreateUserMappingStmt(_)
        | K::CreatePolicyStmt(_)
        | K::CreateAmStmt(_)
        | K::CreateTrigStmt(_)
        | K::CreateEventTrigStmt(_)
        | K::CreatePlangStmt(_)
        | K::CreateRoleStmt(_)
        | K::CreateSeqStmt(_)
        | K::DefineStmt(_)
        | K::CreateDomainStmt(_)
        | K::CreateOpClassStmt(_)
        | K::CreateOpFamilyStmt(_)
        | K::IndexStmt(_)
        | K::CreateStatsStmt(_)
        | K::CreateFunctionStmt(_)
        | K::RuleStmt(_)
        | K::CompositeTypeStmt(_)
        | K::CreateEnumStmt(_)
        | K::CreateRangeStmt(_)
        | K::ViewStmt(_)
        | K::CreatedbStmt(_)
        | K::CreateConversionStmt(_)
        | K::CreateCastStmt(_)
        | K::CreateTransformStmt(_)
        | K::CreatePublicationStmt(_)
        | K::CreateSubscriptionStmt(_) => "create",
        K::AlterTableStmt(_)
        | K::ReplicaIdentityStmt(_)
        | K::AlterCollationStmt(_)
        | K::AlterDomainStmt(_)
        | K::AlterDefaultPrivilegesStmt(_)
        | K::AlterTableSpaceOptionsStmt(_)
        | K::AlterTableMoveAllStmt(_)
        | K::AlterExtensionStmt(_)
        | K::AlterExtensionContentsStmt(_)
        | K::AlterFdwStmt(_)
        | K::AlterForeignServerStmt(_)
        | K::AlterUserMappingStmt(_)
        | K::AlterPolicyStmt(_)
        | K::AlterEventTrigStmt(_)
        | K::AlterRoleStmt(_)
        | K::AlterRoleSetStmt(_)
        | K::AlterSeqStmt(_)
        | K::AlterOpFamilyStmt(_)
        | K::AlterStatsStmt(_)
        | K::AlterFunctionStmt(_)
        | K::RenameStmt(_)
        | K::AlterObjectDependsStmt(_)
        | K::AlterObjectSchemaStmt(_)
        | K::AlterOwnerStmt(_)
        | K::AlterOperatorStmt(_)
        | K::AlterTypeStmt(_)
        | K::AlterEnumStmt(_)
        | K::AlterDatabaseStmt(_)
        | K::AlterDatabaseRefreshCollStmt(_)
        | K::AlterDatabaseSetStmt(_)
        | K::AlterSystemStmt(_)
        | K::AlterTsdictionaryStmt(_)
        | K::AlterTsconfigurationStmt(_)
        | K::AlterPublicationStmt(_)
        | K::AlterSubscriptionStmt(_) => "alter",
        K::DropStmt(_)
        | K::DropTableSpaceStmt(_)
        | K::DropUserMappingStmt(_)
        | K::DropRoleStmt(_)
        | K::DropdbStmt(_)
        | K::DropOwnedStmt(_)
        | K::DropSubscriptionStmt(_) => "drop",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_sorted() {
        assert!(VERBS.is_sorted());
    }
}
