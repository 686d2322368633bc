//! Calls of functions and operators.

use pg_query::{NodeEnum as K, protobuf as pb};

use super::{Parts as _, Walker, qualified, strings};
use crate::protocol::postgres::sql::{
    Access, Name,
    effects::{Effect, effect},
    is_pure, pure, settings,
};

const CATALOG: &str = "pg_catalog";

impl<'a> Walker<'a> {
    pub(super) fn call(&mut self, f: &'a pb::FuncCall) {
        match qualified(&strings(&f.funcname)) {
            Some(name) => {
                self.effect_of(&name, &f.args);
                self.facts.functions.insert(name);
            }
            None => self.incomplete("unknown_node"),
        }
        self.deeper(|w| f.parts(w));
    }

    fn effect_of(&mut self, name: &Name, args: &'a [pb::Node]) {
        if is_pure(name) {
            return;
        }
        let built_in = name.schema.as_deref().is_none_or(|s| s == CATALOG);
        match effect(&name.name).filter(|_| built_in) {
            None => self.incomplete("unknown_function"),
            Some(Effect::Reaches(access)) => self.reaches(access),
            Some(Effect::LargeObject(access)) => {
                let objects = Name::new(Some(CATALOG), "pg_largeobject");
                if access > Access::Read {
                    self.facts.writes.insert(objects.clone());
                }
                self.facts.reads.insert(objects);
                self.reaches(access);
            }
            Some(Effect::Sequence) => {
                self.reaches(Access::Write);
                match args.first().and_then(literal).and_then(relation_in) {
                    Some(sequence) => {
                        self.facts.writes.insert(sequence);
                    }
                    None => self.incomplete("unknown_function"),
                }
            }
            Some(Effect::Setting) => match args.first().and_then(literal) {
                Some(variable) => {
                    self.verb("set", settings::access(&variable.to_ascii_lowercase()));
                }
                None => {
                    self.reaches(Access::Admin);
                    self.incomplete("unknown_function");
                }
            },
            Some(Effect::Dynamic) => self.incomplete("dynamic_execute"),
        }
    }

    /// An operator is a function: one that is not built in may do anything.
    pub(super) fn operator(&mut self, name: &'a [pb::Node]) {
        let known = match *strings(name) {
            [] => name.is_empty(),
            [operator] => pure::is_operator(operator),
            [.., schema, operator] => schema == CATALOG && pure::is_operator(operator),
        };
        if !known {
            self.incomplete("unknown_operator");
        }
    }

    /// TABLESAMPLE names a function.
    pub(super) fn sampling(&mut self, s: &'a pb::RangeTableSample) {
        let known = match *strings(&s.method) {
            [method] | [CATALOG, method] => matches!(method, "bernoulli" | "system"),
            _ => false,
        };
        if !known {
            self.facts.functions.extend(qualified(&strings(&s.method)));
            self.incomplete("unknown_function");
        }
    }
}

/// The text of a string literal, also one that is cast.
fn literal(node: &pb::Node) -> Option<&str> {
    let mut node = node;
    // The tree is bounded, and each step goes down.
    loop {
        match node.node.as_ref()? {
            K::TypeCast(cast) => node = cast.arg.as_deref()?,
            K::AConst(pb::AConst {
                val: Some(pb::a_const::Val::Sval(s)),
                ..
            }) => return Some(&s.sval),
            _ => return None,
        }
    }
}

/// A relation's name in a string, as `regclass` reads it: folded unless quoted, at most one dot. `None` when in doubt.
fn relation_in(text: &str) -> Option<Name> {
    let mut parts: Vec<String> = Vec::new();
    let mut rest = text.trim();
    loop {
        let part;
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"')?;
            part = quoted.get(..end)?.to_owned();
            rest = quoted.get(end + 1..)?;
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            let word = rest.get(..end)?;
            if word.is_empty() || !word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return None;
            }
            // Digits alone are an OID.
            if word.starts_with(|c: char| c.is_ascii_digit()) {
                return None;
            }
            part = word.to_ascii_lowercase();
            rest = rest.get(end..)?;
        }
        if part.is_empty() || part.len() > 63 {
            return None;
        }
        parts.push(part);
        if rest.is_empty() {
            break;
        }
        rest = rest.strip_prefix('.')?;
    }
    match &parts[..] {
        [name] => Some(Name::new(None, name)),
        [schema, name] => Some(Name::new(Some(schema), name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_strings() {
        let name = |text| relation_in(text).map(|n| n.to_string());
        assert_eq!(name("App.Seq").as_deref(), Some("app.seq"));
        assert_eq!(name("\"App\".seq").as_deref(), Some("App.seq"));
        for unclear in ["", "16384", "a b", "a.", "\"a\"\"b\"", "a.b.c", "\"a", "é"] {
            assert_eq!(relation_in(unclear), None, "{unclear}");
        }
    }
}
