//! Aggregates and window functions: whether their result carries values of their input or only says something about them.

/// What the result has to do with the values that go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// It says something about them: how many, their sum, their spread.
    Computing,
    /// It holds one or all of them.
    Carrying,
}

/// What the result of a built-in aggregate or window function has to do with its input; `None` when it is neither. The
/// name must be one of `pg_catalog`, which is for the caller to know.
#[must_use]
pub fn aggregate(function: &str) -> Option<Aggregate> {
    match function {
        "count" | "sum" | "avg" | "stddev" | "stddev_pop" | "stddev_samp" | "variance" | "var_pop"
        | "var_samp" | "corr" | "covar_pop" | "covar_samp" | "regr_avgx" | "regr_avgy" | "regr_count"
        | "regr_intercept" | "regr_r2" | "regr_slope" | "regr_sxx" | "regr_sxy" | "regr_syy" | "bool_and"
        | "bool_or" | "every" | "rank" | "dense_rank" | "percent_rank" | "cume_dist" | "row_number"
        | "ntile" => Some(Aggregate::Computing),
        // Of a single value, bits and percentiles are that value, and often so of many.
        "min"
        | "max"
        | "any_value"
        | "mode"
        | "percentile_cont"
        | "percentile_disc"
        | "bit_and"
        | "bit_or"
        | "bit_xor"
        | "array_agg"
        | "string_agg"
        | "xmlagg"
        | "range_agg"
        | "range_intersect_agg"
        | "json_agg"
        | "json_agg_strict"
        | "jsonb_agg"
        | "jsonb_agg_strict"
        | "json_object_agg"
        | "json_object_agg_strict"
        | "json_object_agg_unique"
        | "json_object_agg_unique_strict"
        | "jsonb_object_agg"
        | "jsonb_object_agg_strict"
        | "jsonb_object_agg_unique"
        | "jsonb_object_agg_unique_strict"
        | "first_value"
        | "last_value"
        | "nth_value"
        | "lag"
        | "lead" => Some(Aggregate::Carrying),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        assert_eq!(aggregate("count"), Some(Aggregate::Computing));
        assert_eq!(aggregate("string_agg"), Some(Aggregate::Carrying));
        assert_eq!(aggregate("lead"), Some(Aggregate::Carrying));
        assert_eq!(aggregate("lower"), None);
    }
}
