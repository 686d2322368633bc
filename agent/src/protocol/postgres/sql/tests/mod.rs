//! Statements, and what is understood of them.

mod evasions;
mod queries;
mod text;
mod utility;

use super::{Access, Act, INCOMPLETE, Kind, NotUnderstood, Statement, VERBS, understand};

/// What is expected of a statement; sets are written with spaces between their members, sorted.
struct Case {
    sql: &'static str,
    verbs: &'static str,
    reads: &'static str,
    writes: &'static str,
    calls: &'static str,
    access: Access,
    filtered: Option<bool>,
    incomplete: &'static str,
    act: &'static str,
}

fn case(sql: &'static str, verbs: &'static str) -> Case {
    Case {
        sql,
        verbs,
        reads: "",
        writes: "",
        calls: "",
        access: Access::Read,
        filtered: None,
        incomplete: "",
        act: "Plain",
    }
}

impl Case {
    fn reads(mut self, names: &'static str) -> Self {
        self.reads = names;
        self
    }

    fn writes(mut self, names: &'static str) -> Self {
        self.writes = names;
        if self.access == Access::Read {
            self.access = Access::Write;
        }
        self
    }

    fn calls(mut self, names: &'static str) -> Self {
        self.calls = names;
        self
    }

    fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    fn admin(self, act: &'static str) -> Self {
        self.access(Access::Admin).act(act)
    }

    fn filtered(mut self, has: bool) -> Self {
        self.filtered = Some(has);
        self
    }

    fn incomplete(mut self, words: &'static str) -> Self {
        self.incomplete = words;
        self
    }

    /// How the act's `Debug` begins.
    fn act(mut self, act: &'static str) -> Self {
        self.act = act;
        self
    }

    fn check(&self) {
        let found = only(self.sql);
        let facts = &found.facts;
        let join = |words: Vec<String>| words.join(" ");
        let names = |set: &std::collections::BTreeSet<super::Name>| {
            let mut names: Vec<_> = set.iter().map(ToString::to_string).collect();
            names.sort();
            join(names)
        };
        let words = |set: &super::Words| join(set.iter().map(ToString::to_string).collect());
        let at = self.sql;
        assert_eq!(words(&facts.verbs), self.verbs, "verbs of {at}");
        assert_eq!(names(&facts.reads), self.reads, "reads of {at}");
        assert_eq!(names(&facts.writes), self.writes, "writes of {at}");
        assert_eq!(names(&facts.functions), self.calls, "functions of {at}");
        assert_eq!(facts.access, self.access, "access of {at}");
        assert_eq!(facts.has_where, self.filtered, "has_where of {at}");
        assert_eq!(words(&facts.incomplete), self.incomplete, "incomplete of {at}");
        let act = format!("{:?}", found.act);
        assert!(act.starts_with(self.act), "act of {at}: {act}");
        assert!(facts.verbs.iter().all(|v| VERBS.contains(v)), "{at}");
        assert!(facts.incomplete.iter().all(|w| INCOMPLETE.contains(w)), "{at}");
    }
}

fn check(cases: &[Case]) {
    for case in cases {
        case.check();
    }
}

/// The only statement of a text.
fn only(sql: &str) -> Statement {
    let mut statements = understand(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    assert_eq!(statements.len(), 1, "{sql}");
    statements.pop().unwrap()
}

fn act(sql: &str) -> Act {
    only(sql).act
}

fn refused(sql: &str) -> NotUnderstood {
    understand(sql).map(|_| ()).expect_err(sql)
}

fn kind(sql: &str) -> Kind {
    refused(sql).kind
}
