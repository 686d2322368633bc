//! Built-in functions and relations that need to be known by name.

/// Functions whose arguments only choose what is computed of them, beyond the aggregates of `sql`.
pub(super) fn is_ranking(name: &str) -> bool {
    matches!(
        name,
        "row_number" | "rank" | "dense_rank" | "percent_rank" | "cume_dist" | "ntile"
    )
}

/// Built-in and extensions' compiled functions that read relations, files or servers which their arguments only name.
pub(super) fn reads_anything(name: &str) -> bool {
    const WHOLE: &[&str] = &[
        "lo_get",
        "loread",
        "lo_export",
        "lo_import",
        "pg_stat_file",
        "pg_current_logfile",
        "ts_stat",
        "ts_rewrite",
        "xpath_table",
        "connectby",
        "get_raw_page",
        "page_header",
        "heap_page_items",
        "heap_page_item_attrs",
        "tuple_data_split",
        "fsm_page_contents",
        "verify_heapam",
        "cursor_to_xml",
        "cursor_to_xmlschema",
        "pg_mcv_list_items",
        "pg_show_all_file_settings",
        "pg_hba_file_rules",
    ];
    const BEGIN: &[&str] = &[
        "query_to_",
        "table_to_",
        "schema_to_",
        "database_to_",
        "dblink",
        "crosstab",
        "pg_read_",
        "pg_ls_",
        "pg_logical_slot_",
        "pg_get_wal_",
        "bt_page_",
        "brin_page_",
        "brin_revmap_",
        "gin_page_",
        "gin_leafpage_",
        "gist_page_",
        "hash_page_",
        "http_",
    ];
    WHOLE.contains(&name) || BEGIN.iter().any(|b| name.starts_with(b))
}

/// Extensions' volatile set-returning functions that give no values of relations.
pub(super) fn is_harmless_set(name: &str) -> bool {
    name.starts_with("pg_stat_statements") || name.starts_with("pg_buffercache")
}

/// System relations' columns that hold values of other relations' columns.
pub(super) fn holds_values(schema: &str, relation: &str, column: &str) -> bool {
    match (schema, relation) {
        ("pg_toast", _) | ("pg_catalog", "pg_largeobject") => true,
        ("pg_catalog", "pg_statistic") => column.starts_with("stavalues"),
        ("pg_catalog", "pg_stats" | "pg_stats_ext" | "pg_stats_ext_exprs") => {
            matches!(
                column,
                "most_common_vals" | "most_common_elems" | "histogram_bounds" | "range_bounds_histogram"
            )
        }
        ("pg_catalog", "pg_statistic_ext_data") => column.starts_with("stx") && column.len() > 6,
        ("pg_catalog", "pg_attribute") => column == "attmissingval",
        _ => false,
    }
}

/// The columns that every table has and that hold none of its values.
pub(super) fn is_system_column(name: &str) -> bool {
    matches!(name, "ctid" | "xmin" | "xmax" | "cmin" | "cmax" | "tableoid")
}

/// Functions of PostgreSQL's that make a row of the type that their first argument has.
pub(super) fn makes_rows(function: &str) -> bool {
    matches!(
        function,
        "json_populate_record"
            | "json_populate_recordset"
            | "jsonb_populate_record"
            | "jsonb_populate_recordset"
    )
}
