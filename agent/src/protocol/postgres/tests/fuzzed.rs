//! The fuzz entry points with made-up messages.

use proptest::prelude::*;

use crate::protocol::postgres::fuzzing::{
    fuzz_postgres_codec, fuzz_postgres_sql, fuzz_postgres_value,
    session::{Sessions, seeds},
};

/// Words that statements are made of, well-formed and not.
fn words() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "SELECT ",
        "a",
        "t",
        " FROM ",
        ";",
        "--",
        "\n",
        "/*",
        "*/",
        "'",
        "\"",
        "$$",
        "$x$",
        "E'\\'",
        "(",
        ")",
        ",",
        " WITH w AS (",
        "DELETE FROM t ",
        " RETURNING *",
        "COPY t TO STDOUT ",
        "::text",
        "DO ",
        "::",
        "U&'\\0061'",
        "\\",
        "é",
        "PREPARE p AS ",
        "EXPLAIN ",
        "$1",
        "IN ",
        "=",
        " OR ",
        "BEGIN;",
        "\0",
    ]);
    prop::collection::vec(words, 0..16).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_text_is_read_the_same_twice(text in words()) {
        fuzz_postgres_sql(text.as_bytes());
    }

    #[test]
    fn any_bytes_do_no_harm(data in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz_postgres_codec(&data);
        fuzz_postgres_value(&data);
    }
}

#[test]
fn sessions_that_make_sense_keep_what_is_denied_from_the_server() {
    let mut sessions = Sessions::new().unwrap();
    for (at, seed) in seeds().iter().enumerate() {
        for random in [0, 1, u64::MAX] {
            assert_eq!(sessions.check(seed, random), Ok(()), "seed {at}");
        }
    }
}
