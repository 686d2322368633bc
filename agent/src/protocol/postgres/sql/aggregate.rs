//! Aggregates: whether their result carries values of their input or only says something about them.

/// What an aggregate's result has to do with the values that go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// It says something about them (count, sum, avg).
    Computing,
    /// It holds them (min, array_agg, string_agg).
    Carrying,
}

/// What a built-in aggregate's result has to do with its input; `None` when it is no built-in aggregate.
#[must_use]
pub fn aggregate(function: &str) -> Option<Aggregate> {
    match function {
        "count" | "sum" | "avg" => Some(Aggregate::Computing),
        "min" | "max" | "array_agg" | "string_agg" | "json_agg" => Some(Aggregate::Carrying),
        _ => None,
    }
}
