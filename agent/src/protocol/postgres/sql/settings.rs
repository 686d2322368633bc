//! Variables: which a session may set without harm, and which change what names mean.

use super::Access;

/// Variables that change how results look, how long things may take or how they are planned, and nothing else.
const HARMLESS: &[&str] = &[
    "application_name",
    "array_nulls",
    "backend_flush_after",
    "backslash_quote",
    "bytea_output",
    "check_function_bodies",
    "client_connection_check_interval",
    "client_encoding",
    "client_min_messages",
    "commit_siblings",
    "constraint_exclusion",
    "cpu_index_tuple_cost",
    "cpu_operator_cost",
    "cpu_tuple_cost",
    "cursor_tuple_fraction",
    "datestyle",
    "debug_pretty_print",
    "default_statistics_target",
    "default_table_access_method",
    "default_tablespace",
    "default_text_search_config",
    "default_toast_compression",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "effective_cache_size",
    "effective_io_concurrency",
    "escape_string_warning",
    "exit_on_error",
    "extra_float_digits",
    "from_collapse_limit",
    "geqo",
    "geqo_effort",
    "geqo_generations",
    "geqo_pool_size",
    "geqo_seed",
    "geqo_selection_bias",
    "geqo_threshold",
    "gin_fuzzy_search_limit",
    "gin_pending_list_limit",
    "hash_mem_multiplier",
    "icu_validation_level",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "jit_above_cost",
    "jit_expressions",
    "jit_inline_above_cost",
    "jit_optimize_above_cost",
    "jit_tuple_deforming",
    "join_collapse_limit",
    "lc_messages",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lock_timeout",
    "logical_decoding_work_mem",
    "maintenance_io_concurrency",
    "maintenance_work_mem",
    "max_parallel_maintenance_workers",
    "max_parallel_workers",
    "max_parallel_workers_per_gather",
    "min_parallel_index_scan_size",
    "min_parallel_table_scan_size",
    "parallel_leader_participation",
    "parallel_setup_cost",
    "parallel_tuple_cost",
    "password_encryption",
    "plan_cache_mode",
    "quote_all_identifiers",
    "random_page_cost",
    "recursive_worktable_factor",
    "restrict_nonsystem_relation_kind",
    "row_security",
    "search_path",
    "seq_page_cost",
    "standard_conforming_strings",
    "statement_timeout",
    "stats_fetch_consistency",
    "synchronize_seqscans",
    "synchronous_commit",
    "tcp_keepalives_count",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_user_timeout",
    "temp_buffers",
    "temp_tablespaces",
    "timezone",
    "timezone_abbreviations",
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_read_only",
    "transaction_timeout",
    "transform_null_equals",
    "vacuum_cost_delay",
    "vacuum_cost_limit",
    "vacuum_cost_page_dirty",
    "vacuum_cost_page_hit",
    "vacuum_cost_page_miss",
    "work_mem",
    "xmlbinary",
    "xmloption",
];

/// Variables of those that change how later statements are read.
const MEANING: &[&str] = &[
    "backslash_quote",
    "client_encoding",
    "search_path",
    "standard_conforming_strings",
];

/// How far setting a variable (its name in lower case) reaches.
pub(super) fn access(name: &str) -> Access {
    if name.starts_with("enable_") || HARMLESS.binary_search(&name).is_ok() {
        Access::Read
    } else if name.contains('.') {
        // Row security policies and triggers of applications read such variables.
        Access::Write
    } else {
        Access::Admin
    }
}

/// Whether later statements can mean something else when a variable (its name in lower case) changes.
pub(super) fn changes_meaning(name: &str) -> bool {
    access(name) == Access::Admin || MEANING.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables() {
        assert!(HARMLESS.is_sorted());
        assert_eq!(access("statement_timeout"), Access::Read);
        assert_eq!(access("enable_seqscan"), Access::Read);
        assert_eq!(access("app.tenant"), Access::Write);
        for admin in [
            "role",
            "session_authorization",
            "session_replication_role",
            "log_statement",
            "no_such",
        ] {
            assert_eq!(access(admin), Access::Admin, "{admin}");
            assert!(changes_meaning(admin), "{admin}");
        }
        assert!(changes_meaning("search_path"));
        assert!(!changes_meaning("timezone"));
    }
}
