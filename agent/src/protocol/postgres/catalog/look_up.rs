//! The look-up: one statement with parameters, one row, one column of JSON.

use std::collections::BTreeSet;

use super::{super::sql::Name, Catalog};

/// What a catalog lacks to resolve a statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Relations by name.
    pub relations: BTreeSet<Name>,
    /// Relations by OID.
    pub oids: BTreeSet<u32>,
    /// Functions by name, without schema.
    pub functions: BTreeSet<Box<str>>,
    /// Types by OID.
    pub types: BTreeSet<u32>,
    /// Whether what every look-up tells (current schema, operators, casts) is needed.
    pub basics: bool,
}

impl Needs {
    /// Whether nothing is needed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A look-up to send: a statement and its parameters, all in text format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookUp {
    /// The statement; always the same, so it is prepared once.
    pub sql: &'static str,
    /// The parameters of Bind.
    pub params: Vec<Option<Vec<u8>>>,
}

impl Catalog {
    /// The look-up that answers what is needed. Hand its answer to [`Catalog::learn`].
    #[must_use]
    pub fn look_up(&self, needs: &Needs) -> LookUp {
        let params = [
            array(needs.relations.iter().map(|n| n.schema.as_deref().unwrap_or(""))),
            array(needs.relations.iter().map(|n| &*n.name)),
            numbers(&needs.oids),
            array(needs.functions.iter().map(|n| &**n)),
            numbers(&needs.types),
        ];
        LookUp {
            sql: SQL,
            params: params.into_iter().map(|p| Some(p.into_bytes())).collect(),
        }
    }
}

fn numbers(numbers: &BTreeSet<u32>) -> String {
    let list: Vec<String> = numbers.iter().map(u32::to_string).collect();
    format!("{{{}}}", list.join(","))
}

/// An array literal, every element quoted, so that no setting changes what it means.
fn array<'a>(elements: impl Iterator<Item = &'a str>) -> String {
    let mut out = String::from("{");
    for (i, element) in elements.enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push('"');
        for c in element.chars() {
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
        out.push('"');
    }
    out.push('}');
    out
}

/// See `look_up.sql`.
const SQL: &str = include_str!("look_up.sql");

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn names_are_quoted_whatever_is_in_them() {
        let needs = Needs {
            relations: [Name::new(None, "a\"b\\,{}"), Name::new(Some("NULL"), "é")].into(),
            oids: [1, 4_294_967_295].into(),
            ..Needs::default()
        };
        let look_up = Catalog::new(Instant::now()).look_up(&needs);
        let shown: Vec<String> = look_up
            .params
            .into_iter()
            .map(|p| String::from_utf8(p.unwrap()).unwrap())
            .collect();
        assert_eq!(
            shown,
            [
                r#"{"","NULL"}"#,
                r#"{"a\"b\\,{}","é"}"#,
                "{1,4294967295}",
                "{}",
                "{}"
            ]
        );
    }

    #[test]
    fn nothing_in_the_look_up_is_found_by_search_path() {
        // Every operator is written OPERATOR(pg_catalog...), every cast and function is qualified.
        let text: String = SQL
            .lines()
            .filter(|l| !l.trim_start().starts_with("--"))
            .map(|l| format!("{l}\n"))
            .collect();
        let without: String = text.split("OPERATOR(pg_catalog.").collect::<Vec<_>>().join("");
        let operators = regex_automata::meta::Regex::new(r" (?:=|<>|<|>|<=|>=|\|\||~|->>?) ").unwrap();
        let own = operators.find_iter(without.as_str()).count();
        assert_eq!(own, 0);
        for word in [
            " IN (",
            "::text",
            "::oid",
            "::name",
            " DISTINCT ",
            "::\"char\"",
            "CASE x",
        ] {
            assert!(!text.contains(word), "{word}");
        }
        let calls = regex_automata::meta::Regex::new(r"(?:^|[^.\w])([a-z_]+)\(").unwrap();
        let mut caps = calls.create_captures();
        for at in calls.find_iter(text.as_str()) {
            calls.captures(&text[at.range()], &mut caps);
            let name = &text[at.range()][caps.get_group(1).unwrap().range()];
            let known = [
                "asked", "wanted", "seeds", "types", "plain", "kin", "coalesce", "t", "s", "o", "q", "f",
            ];
            assert!(known.contains(&name), "{name}");
        }
    }

    #[test]
    fn answers_that_are_not_the_look_ups_teach_nothing() {
        let mut catalog = Catalog::new(Instant::now());
        let needs = Needs::default();
        for answer in [
            "",
            "null",
            "[]",
            "{\"names\": 1}",
            "{\"casts\": true, \"names\": [[\"\",\"t\",\"x\"]]}",
        ] {
            assert!(catalog.learn(&needs, answer.as_bytes()).is_err(), "{answer}");
        }
        assert!(catalog.learn(&needs, &vec![b' '; 9 << 20]).is_err());
        assert!(!catalog.has_learned());
        assert!(catalog.learn(&needs, b"{\"casts\": false}").is_ok());
        assert!(catalog.has_learned());
    }
}
