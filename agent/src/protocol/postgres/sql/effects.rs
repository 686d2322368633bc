//! Built-in functions that are not pure, but whose effect is known.

use super::Access::{self, Admin, Read, Write};

/// What a call does beyond giving a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It reaches so far, and nothing else is to be known about it.
    Reaches(Access),
    /// It changes the sequence that its first argument names.
    Sequence,
    /// It sets the variable that its first argument names.
    Setting,
    /// It works with large objects.
    LargeObject(Access),
    /// It runs a query or reads a relation that an argument names.
    Dynamic,
}

use Effect::{Dynamic, LargeObject, Reaches, Sequence, Setting};

/// Sorted by name. What locks or waits keeps others, or a pooled connection, from working, and so counts as a write.
const EFFECTS: &[(&str, Effect)] = &[
    ("binary_upgrade_set_record_init_privs", Reaches(Admin)),
    ("brin_desummarize_range", Reaches(Admin)),
    ("brin_summarize_new_values", Reaches(Admin)),
    ("brin_summarize_range", Reaches(Admin)),
    ("cursor_to_xml", Dynamic),
    ("cursor_to_xmlschema", Dynamic),
    ("database_to_xml", Dynamic),
    ("database_to_xml_and_xmlschema", Dynamic),
    ("database_to_xmlschema", Dynamic),
    ("gin_clean_pending_list", Reaches(Admin)),
    ("lo_close", LargeObject(Read)),
    ("lo_creat", LargeObject(Write)),
    ("lo_create", LargeObject(Write)),
    ("lo_export", Reaches(Admin)),
    ("lo_from_bytea", LargeObject(Write)),
    ("lo_get", LargeObject(Read)),
    ("lo_import", Reaches(Admin)),
    ("lo_lseek", LargeObject(Read)),
    ("lo_lseek64", LargeObject(Read)),
    ("lo_open", LargeObject(Read)),
    ("lo_put", LargeObject(Write)),
    ("lo_tell", LargeObject(Read)),
    ("lo_tell64", LargeObject(Read)),
    ("lo_truncate", LargeObject(Write)),
    ("lo_truncate64", LargeObject(Write)),
    ("lo_unlink", LargeObject(Write)),
    ("loread", LargeObject(Read)),
    ("lowrite", LargeObject(Write)),
    ("nextval", Sequence),
    ("pg_advisory_lock", Reaches(Write)),
    ("pg_advisory_lock_shared", Reaches(Write)),
    ("pg_advisory_unlock", Reaches(Read)),
    ("pg_advisory_unlock_all", Reaches(Read)),
    ("pg_advisory_unlock_shared", Reaches(Read)),
    ("pg_advisory_xact_lock", Reaches(Write)),
    ("pg_advisory_xact_lock_shared", Reaches(Write)),
    ("pg_backup_start", Reaches(Admin)),
    ("pg_backup_stop", Reaches(Admin)),
    ("pg_cancel_backend", Reaches(Admin)),
    ("pg_copy_logical_replication_slot", Reaches(Admin)),
    ("pg_copy_physical_replication_slot", Reaches(Admin)),
    ("pg_create_logical_replication_slot", Reaches(Admin)),
    ("pg_create_physical_replication_slot", Reaches(Admin)),
    ("pg_create_restore_point", Reaches(Admin)),
    ("pg_current_logfile", Reaches(Admin)),
    ("pg_current_xact_id", Reaches(Write)),
    ("pg_drop_replication_slot", Reaches(Admin)),
    ("pg_export_snapshot", Reaches(Read)),
    ("pg_extension_config_dump", Reaches(Admin)),
    ("pg_get_sequence_data", Reaches(Read)),
    ("pg_hba_file_rules", Reaches(Admin)),
    ("pg_ident_file_mappings", Reaches(Admin)),
    ("pg_import_system_collations", Reaches(Admin)),
    ("pg_log_backend_memory_contexts", Reaches(Admin)),
    ("pg_logical_emit_message", Reaches(Admin)),
    ("pg_logical_slot_get_binary_changes", Reaches(Admin)),
    ("pg_logical_slot_get_changes", Reaches(Admin)),
    ("pg_logical_slot_peek_binary_changes", Reaches(Admin)),
    ("pg_logical_slot_peek_changes", Reaches(Admin)),
    ("pg_ls_archive_statusdir", Reaches(Admin)),
    ("pg_ls_dir", Reaches(Admin)),
    ("pg_ls_logdir", Reaches(Admin)),
    ("pg_ls_logicalmapdir", Reaches(Admin)),
    ("pg_ls_logicalsnapdir", Reaches(Admin)),
    ("pg_ls_replslotdir", Reaches(Admin)),
    ("pg_ls_tmpdir", Reaches(Admin)),
    ("pg_ls_waldir", Reaches(Admin)),
    ("pg_nextoid", Reaches(Admin)),
    ("pg_notify", Reaches(Write)),
    ("pg_promote", Reaches(Admin)),
    ("pg_read_binary_file", Reaches(Admin)),
    ("pg_read_file", Reaches(Admin)),
    ("pg_read_file_old", Reaches(Admin)),
    ("pg_reload_conf", Reaches(Admin)),
    ("pg_replication_origin_advance", Reaches(Admin)),
    ("pg_replication_origin_create", Reaches(Admin)),
    ("pg_replication_origin_drop", Reaches(Admin)),
    ("pg_replication_origin_session_reset", Reaches(Admin)),
    ("pg_replication_origin_session_setup", Reaches(Admin)),
    ("pg_replication_origin_xact_reset", Reaches(Admin)),
    ("pg_replication_origin_xact_setup", Reaches(Admin)),
    ("pg_replication_slot_advance", Reaches(Admin)),
    ("pg_rotate_logfile", Reaches(Admin)),
    ("pg_rotate_logfile_old", Reaches(Admin)),
    ("pg_sequence_last_value", Reaches(Read)),
    ("pg_show_all_file_settings", Reaches(Admin)),
    ("pg_sleep", Reaches(Write)),
    ("pg_sleep_for", Reaches(Write)),
    ("pg_sleep_until", Reaches(Write)),
    ("pg_start_backup", Reaches(Admin)),
    ("pg_stat_clear_snapshot", Reaches(Read)),
    ("pg_stat_file", Reaches(Admin)),
    ("pg_stat_force_next_flush", Reaches(Read)),
    ("pg_stat_reset", Reaches(Admin)),
    ("pg_stat_reset_replication_slot", Reaches(Admin)),
    ("pg_stat_reset_shared", Reaches(Admin)),
    ("pg_stat_reset_single_function_counters", Reaches(Admin)),
    ("pg_stat_reset_single_table_counters", Reaches(Admin)),
    ("pg_stat_reset_slru", Reaches(Admin)),
    ("pg_stat_reset_subscription_stats", Reaches(Admin)),
    ("pg_stop_backup", Reaches(Admin)),
    ("pg_switch_wal", Reaches(Admin)),
    ("pg_switch_xlog", Reaches(Admin)),
    ("pg_tablespace_databases", Reaches(Admin)),
    ("pg_terminate_backend", Reaches(Admin)),
    ("pg_try_advisory_lock", Reaches(Write)),
    ("pg_try_advisory_lock_shared", Reaches(Write)),
    ("pg_try_advisory_xact_lock", Reaches(Write)),
    ("pg_try_advisory_xact_lock_shared", Reaches(Write)),
    ("pg_wal_replay_pause", Reaches(Admin)),
    ("pg_wal_replay_resume", Reaches(Admin)),
    ("query_to_xml", Dynamic),
    ("query_to_xml_and_xmlschema", Dynamic),
    ("query_to_xmlschema", Dynamic),
    ("schema_to_xml", Dynamic),
    ("schema_to_xml_and_xmlschema", Dynamic),
    ("schema_to_xmlschema", Dynamic),
    ("set_config", Setting),
    ("setseed", Reaches(Read)),
    ("setval", Sequence),
    ("table_to_xml", Dynamic),
    ("table_to_xml_and_xmlschema", Dynamic),
    ("table_to_xmlschema", Dynamic),
    ("ts_rewrite", Dynamic),
    ("ts_stat", Dynamic),
    ("txid_current", Reaches(Write)),
];

/// The effect of a built-in function by its name in `pg_catalog`, if it is one of those that are known.
pub(super) fn effect(name: &str) -> Option<Effect> {
    let at = EFFECTS.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
    EFFECTS.get(at).map(|(_, effect)| *effect)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::postgres::sql::{Name, is_pure};

    #[test]
    fn effects_are_sorted_and_not_pure() {
        assert!(EFFECTS.is_sorted_by(|a, b| a.0 < b.0));
        for (name, effect) in EFFECTS {
            assert!(!is_pure(&Name::new(None, name)), "{name}");
            assert_eq!(super::effect(name), Some(*effect));
        }
    }
}
