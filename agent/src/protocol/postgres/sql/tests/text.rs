//! Where statements stand, and any text at all.

use proptest::prelude::*;

use crate::protocol::postgres::sql::{understand, without_literals};

fn pieces(text: &str) -> Vec<&str> {
    understand(text)
        .unwrap()
        .iter()
        .map(|s| &text[s.text.clone()])
        .collect()
}

#[test]
fn where_statements_stand() {
    assert_eq!(pieces(""), [""; 0]);
    assert_eq!(pieces(" ;; -- nothing\n/* at all */ ;"), [""; 0]);
    assert_eq!(pieces("select 1"), ["select 1"]);
    assert_eq!(pieces("  select 1 ;"), ["select 1"]);
    assert_eq!(
        pieces("select ';'; select $$;$$;\n select \"é;\" ;select 4 "),
        ["select ';'", "select $$;$$", "select \"é;\"", "select 4"]
    );
    assert_eq!(
        pieces("/* a */ select 1; select 2 -- b"),
        ["select 1", "select 2 -- b"]
    );
    assert_eq!(
        pieces("create rule r as on insert to t do (select 1; select 2); select 3").len(),
        2
    );
    assert_eq!(
        pieces("create function f() returns int begin atomic select 1; select 2; end; select 3").len(),
        2
    );
}

#[test]
fn comments_only_are_no_statement() {
    for text in ["", " ", "\n\t", ";", "-- x", "/* x */", "/* /* */ */ ; -- y"] {
        assert!(understand(text).unwrap().is_empty(), "{text}");
    }
}

/// Words that make texts which get far into the grammar.
fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "select",
        "from",
        "where",
        "with",
        "as",
        "(",
        ")",
        ",",
        ";",
        "*",
        "t",
        "s.t",
        "1",
        "'x'",
        "$1",
        "=",
        "and",
        "delete",
        "insert into",
        "update",
        "set",
        "values",
        "returning",
        "union",
        "explain",
        "analyze",
        "prepare p as",
        "copy",
        "to stdout",
        "do",
        "$$",
        "create table",
        "drop",
        "table",
        "e'\\'",
        "\"",
        "/*",
        "*/",
        "--",
        "\n",
        "case",
        "when",
        "end",
        "begin",
        "declare c cursor for",
        "order by",
        "limit",
        "over",
        "f(",
        "::int",
        "for update",
    ]);
    prop::collection::vec(word, 0..24).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_has_an_answer(text in "\\PC{0,200}") {
        let _ = understand(&text);
        let _ = without_literals(&text);
    }

    #[test]
    fn any_words_have_an_answer(text in words()) {
        if let Ok(statements) = understand(&text) {
            for pair in statements.windows(2) {
                prop_assert!(pair[0].text.end < pair[1].text.start);
            }
            for statement in &statements {
                prop_assert!(!text[statement.text.clone()].is_empty());
                prop_assert!(!statement.facts.verbs.is_empty());
            }
        }
        let _ = without_literals(&text);
    }

    #[test]
    fn literals_never_stay(secret in "[a-z]{12}", n in 100_000_000..999_999_999_u32) {
        let text = format!(
            "select '{secret}', {n}, e'{secret}', $q${secret}$q$, u&'{secret}' /* {secret} */ -- {secret}\n from t"
        );
        let record = without_literals(&text).unwrap();
        prop_assert!(!record.contains(&secret) && !record.contains(&n.to_string()), "{record}");
    }
}
